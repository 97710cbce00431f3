//! Routes of others in our tables: counted, never touched. One that the kernel prefers to ours for the same prefix *shadows* it: packets take
//! that one, whatever the table says, and nothing of ours looks wrong.
//!
//! Among routes of one prefix the kernel takes those for the packet's TOS first, then the lowest metric, then the first of the list
//! (`fib_find_alias` in `net/ipv4/fib_trie.c`); for IPv6 those for the packet's source first (`fib6_node_lookup_1` in `net/ipv6/ip6_fib.c`).
//! A dump has that order. Routes of connected subnets and own addresses, which the kernel makes itself, come first in every router, and are
//! no fault. More specific routes of others are no fault either: they are other destinations.

use std::collections::HashMap;

use fibcast_netlink::protocol::{self, protocol_name};
use fibcast_netlink::{PROTOCOL, Route};

use super::table::{RouteKey, Table};

/// Prefixes with routes of others that are remembered; those beyond are counted, and do not shadow.
const MOST: usize = 65_536;

/// Whether a route is one that we write: any other is somebody else's, also one with our protocol number and another metric.
pub(super) fn is_ours(route: &Route, metric: u32) -> bool {
    (route.protocol, route.metric, route.tos, route.source) == (PROTOCOL, metric, 0, 0)
}

/// A route of somebody else that comes before ours, or has its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ForeignRoute {
    protocol: u8,
    metric: u32,
    tos: u8,
    source: u8,
    /// Interface of its first next hop; 0: none.
    pub interface: u32,
    /// The kernel prefers one of them wherever ours is.
    preferred: bool,
    /// One of them has the metric of ours, so that ours cannot be added.
    occupies: bool,
}

/// What one reading of the tables finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    count: u64,
    others: HashMap<RouteKey, ForeignRoute>,
}

impl Found {
    /// A route that is not ours; `behind`: the dump had ours before it. `metric` is that of ours.
    pub fn add(&mut self, key: RouteKey, route: &Route, metric: u32, behind: bool) {
        self.count += 1;
        if route.protocol == protocol::KERNEL {
            return;
        }
        let preferred = route.tos != 0 || route.source != 0 || route.metric < metric;
        let occupies = !preferred && route.metric == metric && !behind;
        if !preferred && !occupies {
            return;
        }
        if let Some(first) = self.others.get_mut(&key) {
            // The text names the first one.
            first.preferred |= preferred;
            first.occupies |= occupies;
        } else if self.others.len() < MOST {
            let interface = route.hops.first().map_or(0, |hop| hop.interface);
            let Route { protocol, metric, tos, source, .. } = *route;
            let other = ForeignRoute { protocol, metric, tos, source, interface, preferred, occupies };
            self.others.insert(key, other);
        }
    }

    /// Whether a route of somebody else has the place of ours: replacing would delete that one.
    pub fn occupies(&self, key: &RouteKey) -> bool {
        self.others.get(key).is_some_and(|other| other.occupies)
    }

    /// The reading may have left out some of IPv6: what was known stays until one that is complete.
    pub fn keep(&mut self, before: &Foreign) {
        for (key, other) in before.found.others.iter().filter(|(key, _)| key.1.addr().is_ipv6()) {
            self.others.entry(*key).or_insert(*other);
        }
    }
}

/// A change that is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// This route is shadowed by another one.
    Shadowed(RouteKey, ForeignRoute),
    /// And not any more.
    Over(RouteKey),
}

/// The routes of others that are known, and those of ours that they shadow.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    found: Found,
    shadowed: HashMap<RouteKey, ForeignRoute>,
}

impl Foreign {
    /// What a reading of the tables found takes the place of what was known.
    pub fn replace(&mut self, found: Found) {
        self.found = found;
    }

    /// Whether a route of somebody else has the place of ours: replacing would delete that one.
    pub fn occupies(&self, key: &RouteKey) -> bool {
        self.found.occupies(key)
    }

    /// Routes of others in our tables.
    pub fn count(&self) -> u64 {
        self.found.count
    }

    /// Routes of ours that others shadow, with one of them.
    pub fn shadowed(&self) -> (u64, Option<(RouteKey, ForeignRoute)>) {
        let least = self.shadowed.iter().min_by_key(|(key, _)| **key);
        (self.shadowed.len() as u64, least.map(|(key, other)| (*key, *other)))
    }

    /// The routes of ours that others shadow.
    pub fn all_shadowed(&self) -> &HashMap<RouteKey, ForeignRoute> {
        &self.shadowed
    }

    /// Whether there is nothing that [`Foreign::judge`] could tell.
    pub fn is_quiet(&self) -> bool {
        self.found.others.is_empty() && self.shadowed.is_empty()
    }

    /// The routes that a reading may have changed something for.
    pub fn keys(&self) -> Vec<RouteKey> {
        let over = self.shadowed.keys().filter(|key| !self.found.others.contains_key(*key));
        self.found.others.keys().chain(over).copied().collect()
    }

    /// Compares with what the table wants and the kernel has of ours. What has the place of ours while ours is not there was refused, which
    /// is reported elsewhere.
    pub fn judge(&mut self, key: RouteKey, table: &Table) -> Option<News> {
        let wanted = table.wanted(&key).is_some();
        let other = self.found.others.get(&key);
        let now = other.filter(|other| wanted && (other.preferred || table.is_there(&key))).copied();
        if now == self.shadowed.get(&key).copied() {
            return None;
        }
        match now {
            Some(other) => {
                self.shadowed.insert(key, other);
                Some(News::Shadowed(key, other))
            }
            None => {
                self.shadowed.remove(&key);
                Some(News::Over(key))
            }
        }
    }
}

impl ForeignRoute {
    /// The other route in words, with the command that removes it; `table` is the kernel's, `device` the name of its interface.
    pub fn describe(&self, (_, prefix): RouteKey, table: u32, device: Option<&str>) -> String {
        let name = protocol_name(self.protocol);
        let device = device.map_or(String::new(), |device| format!(", dev {device}"));
        let only = match (self.tos, self.source) {
            (0, 0) => String::new(),
            (tos, 0) => format!(", for packets with TOS {tos:#x}"),
            (_, length) => format!(", for packets from a source prefix of {length} bits"),
        };
        let family = if prefix.addr().is_ipv6() { "-6 " } else { "" };
        let tos = if self.tos == 0 { String::new() } else { format!(" tos {:#x}", self.tos) };
        let metric = self.metric;
        format!(
            "a route of protocol {name}, metric {metric}{device}{only} (to remove it: ip {family}route del {prefix}{tos} table {table} proto {name} metric {metric})"
        )
    }
}

#[cfg(test)]
mod tests {
    use fibcast_netlink::Hop;
    use fibcast_sync_proto::{Change, GroupValue, Key, Label, Value};

    use super::*;

    const METRIC: u32 = 1024;

    fn key(prefix: &str) -> RouteKey {
        (0, prefix.parse().unwrap())
    }

    /// A table with this route, written to the kernel.
    fn table(prefix: &str) -> Table {
        let (label, key) = (Label(5), key(prefix));
        let group = Change::Put(Key::Group(label), Value::Group(GroupValue::Blackhole));
        let route = Change::Put(Key::Route { vrf: key.0, prefix: key.1 }, Value::Route(label));
        let mut table = Table::default();
        table.change(vec![group, route], true, &super::super::resolver::tests::plain(|_| None));
        table.done(&key);
        table
    }

    fn foreign(prefix: &str, protocol: u8, metric: u32) -> Route {
        let hops = vec![Hop::new(None, 7, 1)];
        Route { prefix: prefix.parse().unwrap(), protocol, metric, hops, ..Route::default() }
    }

    fn judge(known: &mut Foreign, table: &Table) -> Vec<News> {
        known.keys().into_iter().filter_map(|key| known.judge(key, table)).collect()
    }

    /// What a reading with these routes, of which `behind` come behind ours, tells of a table with `prefix`.
    fn news(prefix: &str, routes: &[(Route, bool)]) -> Vec<News> {
        let (mut known, mut found) = (Foreign::default(), Found::default());
        for (route, behind) in routes {
            found.add((0, route.prefix), route, METRIC, *behind);
        }
        known.replace(found);
        assert_eq!(known.count(), routes.len() as u64);
        let news = judge(&mut known, &table(prefix));
        assert!(judge(&mut known, &table(prefix)).is_empty(), "reported twice");
        known.replace(Found::default());
        assert_eq!(known.is_quiet(), news.is_empty());
        let over = judge(&mut known, &table(prefix));
        assert_eq!(over.len(), news.len());
        assert!(over.iter().all(|news| matches!(news, News::Over(_))), "{over:?}");
        news
    }

    #[test]
    fn a_route_that_the_kernel_prefers_shadows_ours() {
        for prefix in ["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0", "::/0"] {
            for (what, route, behind) in [
                ("lower metric", foreign(prefix, 4, 10), false),
                ("metric 0", foreign(prefix, 11, 0), false),
                ("another TOS", Route { tos: 16, ..foreign(prefix, 4, 2_000) }, true),
                ("a source prefix", Route { source: 48, ..foreign(prefix, 4, 2_000) }, true),
                ("equal metric, before ours", foreign(prefix, 4, METRIC), false),
                ("our protocol number, another metric", foreign(prefix, PROTOCOL, 10), false),
                (
                    "throw",
                    Route { target: fibcast_netlink::Target::Other(9), ..foreign(prefix, 4, 1) },
                    false,
                ),
            ] {
                let found = news(prefix, &[(route, behind)]);
                assert!(matches!(found.as_slice(), [News::Shadowed(..)]), "{prefix}, {what}: {found:?}");
            }
        }
    }

    #[test]
    fn what_the_kernel_does_not_prefer_is_counted_and_no_fault() {
        let prefix = "10.0.0.0/8";
        for (what, route, behind) in [
            ("higher metric", foreign(prefix, 4, 2_000), true),
            ("equal metric, behind ours", foreign(prefix, 4, METRIC), true),
            ("more specific", foreign("10.1.0.0/16", 4, 0), false),
            ("less specific", foreign("0.0.0.0/0", 4, 0), false),
            ("a connected subnet", foreign(prefix, protocol::KERNEL, 0), false),
        ] {
            assert_eq!(news(prefix, &[(route, behind)]), [], "{what}");
        }
    }

    #[test]
    fn one_line_for_each_of_our_routes_names_the_first_of_the_others() {
        let prefix = "2001:db8::/32";
        let routes = [(foreign(prefix, 4, 10), false), (foreign(prefix, 12, METRIC), false)];
        let mut found = Found::default();
        routes.iter().for_each(|(route, behind)| found.add(key(prefix), route, METRIC, *behind));
        let mut known = Foreign::default();
        known.replace(found);
        assert!(known.occupies(&key(prefix)), "and the second one has the place of ours");
        let [News::Shadowed(at, other)] = judge(&mut known, &table(prefix))[..] else { panic!("one") };
        let text = other.describe(at, 200, Some("eth0"));
        assert!(text.contains("protocol static, metric 10, dev eth0"), "{text}");
        assert!(text.contains("ip -6 route del 2001:db8::/32 table 200 proto static metric 10"), "{text}");
        assert_eq!(known.shadowed().0, 1);
    }

    #[test]
    fn a_withdrawn_route_is_shadowed_no_more_and_a_refused_one_is_told_as_refused() {
        let prefix = "10.0.0.0/8";
        let (mut known, mut found) = (Foreign::default(), Found::default());
        found.add(key(prefix), &foreign(prefix, 4, METRIC), METRIC, false);
        known.replace(found);
        let mut refused = table(prefix);
        refused.failed(&key(prefix), false);
        assert_eq!(judge(&mut known, &refused), []);
        assert_eq!(judge(&mut known, &table(prefix)).len(), 1);
        let mut empty = table(prefix);
        empty.change(Vec::new(), true, &super::super::resolver::tests::plain(|_| None));
        assert_eq!(judge(&mut known, &empty), [News::Over(key(prefix))]);
        assert_eq!(known.shadowed(), (0, None));
    }

    #[test]
    fn a_reading_of_ipv6_with_gaps_ends_no_alarm() {
        let prefix = "2001:db8::/32";
        let (mut known, mut found) = (Foreign::default(), Found::default());
        found.add(key(prefix), &foreign(prefix, 4, 1), METRIC, false);
        known.replace(found);
        judge(&mut known, &table(prefix));
        let mut gaps = Found::default();
        gaps.keep(&known);
        known.replace(gaps);
        assert_eq!(judge(&mut known, &table(prefix)), []);
        assert_eq!(known.shadowed().0, 1);
    }

    #[test]
    fn a_table_full_of_routes_of_others_takes_bounded_memory() {
        let mut found = Found::default();
        for n in 0..MOST as u32 + 1_000 {
            let prefix = ipnet::Ipv4Net::new((n << 8).into(), 24).unwrap().into();
            found.add((0, prefix), &Route { prefix, ..foreign("10.0.0.0/8", 4, 1) }, METRIC, false);
        }
        assert_eq!((found.others.len(), found.count), (MOST, MOST as u64 + 1_000));
    }
}
