//! Import filter of a source: prefix lists, prefix lengths, and a route limit that stops it.
//!
//! It applies where sources pass routes to the engine, so it works for every kind of source.
//!
//! ```toml
//! [[source]]
//! origin = "bgp"
//! max_prefixes = 1_200_000                        # one more stops the source; its routes stay
//! lengths = { ipv4 = [8, 24], ipv6 = [16, 48] }   # shortest and longest
//! filter = [
//!     { action = "deny", prefix = "10.0.0.0/8", le = 32 },
//!     { action = "deny", family = "ipv6", ge = 33 },
//! ]
//! ```
//!
//! Entries are in order, and the first match decides. An entry with `prefix` matches that prefix only; with `ge` or `le` it matches the
//! more specific prefixes with at least, at most that length, as in the prefix lists of routing daemons. An entry with `family` matches all
//! of its prefixes between `ge` and `le`. A prefix without match is accepted, unless an entry of its family allows something.

use std::collections::HashMap;

use fibcast_daemon::config::Step;
use fibcast_sync_proto::Family;
use ipnet::IpNet;
use serde::Deserialize;

use crate::source::RouteChange;

/// An entry of `filter` as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterKeys {
    /// Action for a matching prefix.
    pub action: Action,
    /// The prefix to match.
    pub prefix: Option<IpNet>,
    /// Or all prefixes of a family.
    pub family: Option<FamilyKey>,
    /// Shortest length.
    pub ge: Option<u8>,
    /// Longest length.
    pub le: Option<u8>,
}

/// `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Accept.
    Allow,
    /// Deny.
    Deny,
}

/// `family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FamilyKey {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// `lengths` as written: shortest and longest of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LengthKeys {
    /// Of IPv4.
    pub ipv4: Option<[u8; 2]>,
    /// Of IPv6.
    pub ipv6: Option<[u8; 2]>,
}

/// What is wrong with a filter, and the key relative to the source's.
#[derive(Debug, Clone)]
pub struct FilterError {
    /// Steps to the key.
    pub at: Vec<Step<'static>>,
    /// What was expected and found.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// For a family: its default route.
    within: IpNet,
    shortest: u8,
    longest: u8,
}

impl Rule {
    fn fits(&self, prefix: &IpNet) -> bool {
        (self.shortest..=self.longest).contains(&prefix.prefix_len()) && self.within.contains(prefix)
    }
}

/// Import filter of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    entries: Vec<Rule>,
    v4: Option<[u8; 2]>,
    v6: Option<[u8; 2]>,
    max_prefixes: Option<u64>,
}

impl Filter {
    /// Builds the filter from the configuration.
    ///
    /// # Errors
    /// [`FilterError`] with the key and the reason.
    pub fn new(
        entries: &[FilterKeys],
        lengths: &LengthKeys,
        max_prefixes: Option<u64>,
    ) -> Result<Self, FilterError> {
        if max_prefixes == Some(0) {
            let at = vec![Step::Key("max_prefixes")];
            return Err(FilterError { at, reason: "expected at least 1, found 0".to_owned() });
        }
        for (name, given, most) in [("ipv4", lengths.ipv4, 32), ("ipv6", lengths.ipv6, 128)] {
            let Some([shortest, longest]) = given else { continue };
            if shortest > longest || longest > most {
                let at = vec![Step::Key("lengths"), Step::Key(name)];
                let reason = format!(
                    "expected the shortest and the longest length, up to {most}, found [{shortest}, {longest}]"
                );
                return Err(FilterError { at, reason });
            }
        }
        let entry = |(at, keys): (usize, &FilterKeys)| {
            entry(keys).map_err(|(name, reason)| {
                let whole = [Step::Key("filter"), Step::At(at)].into_iter();
                FilterError { at: whole.chain(name.map(Step::Key)).collect(), reason }
            })
        };
        let entries = entries.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { entries, v4: lengths.ipv4, v6: lengths.ipv6, max_prefixes })
    }

    /// Whether a prefix is accepted.
    pub fn admits(&self, prefix: &IpNet) -> bool {
        let lengths = if matches!(prefix, IpNet::V4(_)) { self.v4 } else { self.v6 };
        if lengths.is_some_and(|[least, most]| !(least..=most).contains(&prefix.prefix_len())) {
            return false;
        }
        match self.entries.iter().find(|entry| entry.fits(prefix)) {
            Some(entry) => entry.allow,
            None => !self.entries.iter().any(|e| e.allow && family(&e.within) == family(prefix)),
        }
    }

    fn is_open(&self) -> bool {
        self.entries.is_empty() && self.v4.is_none() && self.v6.is_none()
    }
}

fn family(prefix: &IpNet) -> Family {
    if matches!(prefix, IpNet::V4(_)) { Family::V4 } else { Family::V6 }
}

/// Parses an entry. An error has the key and the reason.
fn entry(keys: &FilterKeys) -> Result<Rule, (Option<&'static str>, String)> {
    let (within, exact) = match (keys.prefix, keys.family) {
        (Some(_), Some(_)) => {
            return Err((Some("family"), "has no effect with a prefix, which has its family".to_owned()));
        }
        (None, None) => {
            return Err((
                None,
                "names no family: expected `prefix`, or `family` = \"ipv4\" or \"ipv6\"".to_owned(),
            ));
        }
        (Some(prefix), None) if prefix.trunc() != prefix => {
            let reason = format!(
                "expected a prefix without host bits, found {prefix}; did you mean {}?",
                prefix.trunc()
            );
            return Err((Some("prefix"), reason));
        }
        (Some(prefix), None) => (prefix, keys.ge.is_none() && keys.le.is_none()),
        (None, Some(FamilyKey::Ipv4)) => (IpNet::V4(ipnet::Ipv4Net::default()), false),
        (None, Some(FamilyKey::Ipv6)) => (IpNet::V6(ipnet::Ipv6Net::default()), false),
    };
    let (length, most) = (within.prefix_len(), within.max_prefix_len());
    let shortest = keys.ge.unwrap_or(length);
    let longest = if exact { length } else { keys.le.unwrap_or(most) };
    let range = |what: &str, found: u8| format!("expected a length from {what}, found {found}");
    if !(length..=most).contains(&shortest) {
        return Err((Some("ge"), range(&format!("{length} to {most}"), shortest)));
    }
    if !(length..=most).contains(&longest) {
        return Err((Some("le"), range(&format!("{length} to {most}"), longest)));
    }
    if shortest > longest {
        return Err((Some("ge"), format!("expected at most le, which is {longest}, found {shortest}")));
    }
    Ok(Rule { allow: keys.action == Action::Allow, within, shortest, longest })
}

/// The accepted part of a batch.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The changes.
    pub batch: Vec<RouteChange>,
    /// The source is stopped after them for this reason.
    pub stopped: Option<String>,
}

/// A filter with its counters.
#[derive(Debug)]
pub struct Gate {
    filter: Filter,
    /// Denied announcements.
    denied: u64,
    stopped: bool,
}

impl Gate {
    /// A gate with zero counters.
    pub fn new(filter: Filter) -> Self {
        Self { filter, denied: 0, stopped: false }
    }

    /// Number of announcements that the filter denied.
    pub fn denied(&self) -> u64 {
        self.denied
    }

    /// The route limit, if there is one.
    pub fn max_prefixes(&self) -> Option<u64> {
        self.filter.max_prefixes
    }

    /// Whether the source exceeded its limit, after which nothing passes.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Follows another filter; a source that was stopped is heard again.
    pub fn follow(&mut self, filter: Filter) {
        (self.filter, self.stopped) = (filter, false);
    }

    /// Filters a batch of a source that has this number of routes, of which `known` tells.
    pub fn admit(
        &mut self,
        routes: u64,
        known: impl Fn(u32, IpNet) -> bool,
        mut batch: Vec<RouteChange>,
    ) -> Admitted {
        if self.stopped {
            return Admitted::default();
        }
        if !self.filter.is_open() {
            // A denied prefix was never accepted, so there is nothing to withdraw.
            let (filter, denied) = (&self.filter, &mut self.denied);
            batch.retain(|change| {
                let in_ = filter.admits(&change.prefix);
                *denied += u64::from(!in_ && change.path.is_some());
                in_
            });
        }
        let Some(most) = self.filter.max_prefixes else { return Admitted { batch, stopped: None } };
        if routes + batch.len() as u64 <= most {
            return Admitted { batch, stopped: None };
        }
        let Some(cut) = first_beyond(most, routes, known, &batch) else {
            return Admitted { batch, stopped: None };
        };
        batch.truncate(cut);
        self.stopped = true;
        let reason = format!("stopped: it has more than {most} routes (max_prefixes)");
        Admitted { batch, stopped: Some(reason) }
    }
}

/// Index of the first change in a batch that exceeds `most` routes.
fn first_beyond(
    most: u64,
    mut routes: u64,
    known: impl Fn(u32, IpNet) -> bool,
    batch: &[RouteChange],
) -> Option<usize> {
    let mut there: HashMap<(u32, IpNet), bool> = HashMap::new();
    for (at, change) in batch.iter().enumerate() {
        let (vrf, prefix) = (change.vrf, change.prefix);
        let before = there.entry((vrf, prefix)).or_insert_with(|| known(vrf, prefix));
        let after = change.path.is_some();
        routes = routes + u64::from(after) - u64::from(*before);
        *before = after;
        if routes > most {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::commit_source;
    use crate::source::Group;
    use fibcast_sync_proto::{GroupValue, Key, OriginId, Table};

    fn net(s: &str) -> IpNet {
        s.parse().unwrap()
    }

    fn keys(action: Action, prefix: Option<&str>, ge: Option<u8>, le: Option<u8>) -> FilterKeys {
        FilterKeys { action, prefix: prefix.map(net), family: None, ge, le }
    }

    fn filter(entries: &[FilterKeys]) -> Filter {
        Filter::new(entries, &LengthKeys::default(), None).unwrap()
    }

    fn announce(prefix: &str) -> RouteChange {
        RouteChange { vrf: 0, prefix: net(prefix), path: Some((Group::new(GroupValue::Blackhole), 0)) }
    }

    fn withdraw(prefix: &str) -> RouteChange {
        RouteChange { path: None, ..announce(prefix) }
    }

    fn passes(filter: &Filter, prefixes: &[&str]) -> Vec<bool> {
        prefixes.iter().map(|p| filter.admits(&net(p))).collect()
    }

    #[test]
    fn entry_without_a_range_fits_its_prefix_alone_and_one_with_a_range_what_lies_in_it() {
        let f = filter(&[
            keys(Action::Deny, Some("10.0.0.0/8"), None, None),
            keys(Action::Deny, Some("192.168.0.0/16"), Some(24), None),
            keys(Action::Deny, Some("2001:db8::/32"), None, Some(48)),
        ]);
        let prefixes = ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16", "192.168.7.0/24", "192.168.7.1/32"];
        assert_eq!(passes(&f, &prefixes), [false, true, true, false, false]);
        let prefixes = ["2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::/64", "2001::/16"];
        assert_eq!(passes(&f, &prefixes), [false, false, true, true]);
    }

    #[test]
    fn first_entry_that_fits_decides_and_an_allow_list_lets_nothing_else_of_its_family_in() {
        let f = filter(&[
            keys(Action::Deny, Some("10.9.0.0/16"), None, Some(32)),
            keys(Action::Allow, Some("10.0.0.0/8"), None, Some(24)),
        ]);
        let prefixes = ["10.9.1.0/24", "10.8.1.0/24", "10.8.1.0/25", "11.0.0.0/8", "2001:db8::/32"];
        assert_eq!(passes(&f, &prefixes), [false, true, false, false, true]);
    }

    #[test]
    fn lengths_and_families_are_kept_apart() {
        let lengths = LengthKeys { ipv4: Some([8, 24]), ipv6: None };
        let family = FilterKeys {
            action: Action::Deny,
            prefix: None,
            family: Some(FamilyKey::Ipv6),
            ge: Some(49),
            le: None,
        };
        let f = Filter::new(&[family], &lengths, None).unwrap();
        let prefixes = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/25", "::/0", "2001:db8::/48", "2001:db8::/49"];
        assert_eq!(passes(&f, &prefixes), [false, true, false, true, true, false]);
    }

    #[test]
    fn denied_announcements_are_counted_and_withdrawals_of_them_vanish() {
        let mut gate = Gate::new(filter(&[keys(Action::Deny, Some("10.0.0.0/8"), None, None)]));
        let batch = vec![announce("10.0.0.0/8"), withdraw("10.0.0.0/8"), announce("10.1.0.0/16")];
        let admitted = gate.admit(0, |_, _| false, batch);
        assert_eq!((admitted.batch.len(), admitted.stopped, gate.denied()), (1, None, 1));
    }

    #[test]
    fn one_route_too_many_stops_the_source_and_what_it_had_stays() {
        let (id, mut table) = (OriginId(1), Table::new(1));
        let mut gate = Gate::new(Filter::new(&[], &LengthKeys::default(), Some(2)).unwrap());
        let mut say = |gate: &mut Gate, batch: Vec<RouteChange>| {
            let known = |vrf, prefix| table.get(&Key::RibRoute { origin: id, vrf, prefix }).is_some();
            let admitted = gate.admit(table.counts().routes(), known, batch);
            commit_source(&mut table, id, 1, &admitted.batch).unwrap();
            (table.counts().routes(), admitted.stopped)
        };
        assert_eq!(say(&mut gate, vec![announce("10.0.0.0/8"), announce("11.0.0.0/8")]), (2, None));
        // The same prefixes again, and a replacement, are not more routes.
        let again = vec![announce("10.0.0.0/8"), withdraw("11.0.0.0/8"), announce("12.0.0.0/8")];
        assert_eq!(say(&mut gate, again), (2, None));
        let (routes, stopped) = say(&mut gate, vec![announce("10.0.0.0/8"), announce("13.0.0.0/8")]);
        assert_eq!(
            (routes, stopped.unwrap().as_str()),
            (2, "stopped: it has more than 2 routes (max_prefixes)")
        );
        assert_eq!(say(&mut gate, vec![withdraw("10.0.0.0/8")]), (2, None), "it is heard no more");
        assert!(gate.is_stopped());
        gate.follow(Filter::new(&[], &LengthKeys::default(), Some(3)).unwrap());
        assert_eq!(say(&mut gate, vec![announce("13.0.0.0/8")]), (3, None), "until the limit is another");
    }
}
