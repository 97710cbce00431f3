//! Pages of a table of routes for operators: each is bounded in what it looks at and in what it returns, since the thread that owns the table has
//! a protocol to follow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_control::routes::{Family, RoutePlace, RouteQuery, RouteRequest};
use fibcast_control::tables::{Route, RouteList};
use ipnet::IpNet;

/// Most destinations on a page.
const LISTED: usize = 2048;
/// Most routes that are looked at for a page.
const VISITED: usize = 8192;

/// A table that operators may look at.
pub trait RouteTable {
    /// The group of a route.
    type Label: Copy;

    /// Its VRFs in order.
    fn vrfs(&self) -> impl Iterator<Item = u32>;

    /// Number of routes in all VRFs.
    fn total(&self) -> u64;

    /// The route of exactly this prefix.
    fn get(&self, vrf: u32, prefix: IpNet) -> Option<Self::Label>;

    /// The route of a packet to this address.
    fn longest_match(&self, vrf: u32, address: IpAddr) -> Option<(IpNet, Self::Label)>;

    /// The routes of a VRF after a prefix in order: IPv4 before IPv6, by address, the shorter prefix first.
    fn after(&self, vrf: u32, prefix: Option<IpNet>) -> impl Iterator<Item = (IpNet, Self::Label)>;

    /// Whether a group has a next hop with this gateway.
    fn has_gateway(&self, label: Self::Label, gateway: IpAddr) -> bool;

    /// Whether a route is from this origin.
    fn is_from(&self, vrf: u32, prefix: IpNet, origin: &str) -> bool;

    /// What is shown of a destination.
    fn show(&self, vrf: u32, prefix: IpNet, label: Self::Label) -> Vec<Route>;
}

/// The page that a request asks for.
pub fn page<T: RouteTable>(table: &T, request: &RouteRequest) -> RouteList {
    let mut page =
        Page { table, request, visited: 0, list: RouteList { total: table.total(), ..RouteList::default() } };
    let only = request.filter.vrf;
    let vrfs = table.vrfs().filter(|vrf| only.is_none_or(|only| only == *vrf));
    let begin = request.after.map_or(0, |after| after.vrf);
    for vrf in vrfs.filter(|vrf| *vrf >= begin) {
        // A VRF has one of these at most, which is on the page before.
        let listed = request.after.is_some_and(|after| after.vrf == vrf);
        let one = match request.query {
            RouteQuery::Prefix(prefix) => {
                let prefix = prefix.trunc();
                table.get(vrf, prefix).map(|label| (prefix, label))
            }
            RouteQuery::Address(address) => table.longest_match(vrf, address),
            RouteQuery::All | RouteQuery::Orlonger(_) | RouteQuery::LongerThan(_) => {
                if page.walk(vrf) {
                    break;
                }
                continue;
            }
        };
        if let Some((prefix, label)) = one.filter(|(prefix, _)| !listed && page.is_of_family(prefix))
            && page.visit(vrf, prefix, label)
        {
            break;
        }
    }
    page.list
}

struct Page<'r, T> {
    table: &'r T,
    request: &'r RouteRequest,
    visited: usize,
    list: RouteList,
}

impl<T: RouteTable> Page<'_, T> {
    fn is_of_family(&self, prefix: &IpNet) -> bool {
        self.request.filter.family.is_none_or(|family| (family == Family::Ipv4) == prefix.addr().is_ipv4())
    }

    /// What the walk through a VRF stays within, and whether that itself is part of it; none: everything.
    fn within(&self) -> Option<(IpNet, bool)> {
        let all = |family| match family {
            Family::Ipv4 => IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            Family::Ipv6 => IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        match self.request.query {
            RouteQuery::Orlonger(prefix) => Some((prefix.trunc(), true)),
            RouteQuery::LongerThan(prefix) => Some((prefix.trunc(), false)),
            _ => self.request.filter.family.and_then(|family| Some((all(family).ok()?, true))),
        }
    }

    /// Looks at the routes of a VRF, from where the page begins. True: the page is full, and there may be more.
    fn walk(&mut self, vrf: u32) -> bool {
        let mut after = self.request.after.filter(|after| after.vrf == vrf).map(|after| after.prefix);
        let within = self.within();
        if within.is_some_and(|(range, _)| !self.is_of_family(&range)) {
            return false;
        }
        if let Some((range, itself)) = within
            && after.is_none_or(|after| order(&after) < order(&range))
        {
            after = Some(range);
            if itself
                && let Some(label) = self.table.get(vrf, range)
                && self.visit(vrf, range, label)
            {
                return true;
            }
        }
        let table = self.table;
        for (prefix, label) in table.after(vrf, after) {
            // They are next to each other in the order.
            if within.is_some_and(|(range, _)| !range.contains(&prefix)) {
                break;
            }
            if self.visit(vrf, prefix, label) {
                return true;
            }
        }
        false
    }

    /// Looks at a route. True: the page is full.
    fn visit(&mut self, vrf: u32, prefix: IpNet, label: T::Label) -> bool {
        self.visited += 1;
        let filter = &self.request.filter;
        let matches = filter.next_hop.is_none_or(|gateway| self.table.has_gateway(label, gateway))
            && filter.origin.as_ref().is_none_or(|origin| self.table.is_from(vrf, prefix, origin));
        let limit = self.request.limit.min(LISTED) as u64;
        if matches {
            self.list.matched += 1;
            if limit > 0 {
                self.list.routes.extend(self.table.show(vrf, prefix, label));
            }
        }
        let full = self.visited >= VISITED || (limit > 0 && self.list.matched >= limit);
        if full {
            self.list.next = Some(RoutePlace { vrf, prefix });
        }
        full
    }
}

/// By family, address and length.
fn order(prefix: &IpNet) -> (bool, IpAddr, u8) {
    (prefix.addr().is_ipv6(), prefix.network(), prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    use fibcast_control::routes::RouteFilter;

    use super::*;

    type Place = (u32, (bool, IpAddr, u8));

    /// Prefixes with the last byte of their gateway.
    #[derive(Default)]
    struct Plain(BTreeMap<Place, (IpNet, u8)>);

    impl RouteTable for Plain {
        type Label = u8;

        fn vrfs(&self) -> impl Iterator<Item = u32> {
            let mut vrfs: Vec<u32> = self.0.keys().map(|(vrf, _)| *vrf).collect();
            vrfs.dedup();
            vrfs.into_iter()
        }

        fn total(&self) -> u64 {
            self.0.len() as u64
        }

        fn get(&self, vrf: u32, prefix: IpNet) -> Option<u8> {
            self.0.get(&(vrf, order(&prefix))).map(|(_, label)| *label)
        }

        fn longest_match(&self, vrf: u32, address: IpAddr) -> Option<(IpNet, u8)> {
            let of_vrf =
                self.0.iter().filter(|((of, _), (prefix, _))| *of == vrf && prefix.contains(&address));
            of_vrf.map(|(_, found)| *found).max_by_key(|(prefix, _)| prefix.prefix_len())
        }

        fn after(&self, vrf: u32, prefix: Option<IpNet>) -> impl Iterator<Item = (IpNet, u8)> {
            let first = prefix.map_or((false, Ipv4Addr::UNSPECIFIED.into(), 0), |prefix| order(&prefix));
            let whole = prefix.is_none().then(|| self.0.get(&(vrf, first))).flatten();
            let rest = self.0.range((Excluded((vrf, first)), Unbounded));
            whole
                .copied()
                .into_iter()
                .chain(rest.take_while(move |((of, _), _)| *of == vrf).map(|(_, found)| *found))
        }

        fn has_gateway(&self, label: u8, gateway: IpAddr) -> bool {
            gateway == IpAddr::from([192, 0, 2, label])
        }

        fn is_from(&self, _: u32, _: IpNet, origin: &str) -> bool {
            origin == "bgp"
        }

        fn show(&self, vrf: u32, prefix: IpNet, label: u8) -> Vec<Route> {
            vec![Route { vrf, prefix, label: label.to_string(), ..Route::default() }]
        }
    }

    fn table(routes: &[(u32, &str, u8)]) -> Plain {
        let entry = |(vrf, prefix, label): &(u32, &str, u8)| {
            let prefix: IpNet = prefix.parse().unwrap();
            ((*vrf, order(&prefix)), (prefix, *label))
        };
        Plain(routes.iter().map(entry).collect())
    }

    fn small() -> Plain {
        table(&[
            (0, "0.0.0.0/0", 1),
            (0, "10.0.0.0/8", 1),
            (0, "10.0.0.0/16", 2),
            (0, "10.255.255.0/24", 1),
            (0, "11.0.0.0/8", 2),
            (0, "::/0", 1),
            (0, "2001:db8::/32", 2),
            (7, "10.0.0.0/9", 1),
            (7, "2001:db8::/48", 1),
        ])
    }

    /// All pages of a request, each with this limit: what is listed, and how many matched.
    fn all(table: &Plain, limit: usize, query: &str, filter: RouteFilter) -> (Vec<String>, u64) {
        let net = |text: &str| text.parse().unwrap();
        let query = match query.split_once(' ') {
            Some(("orlonger", prefix)) => RouteQuery::Orlonger(net(prefix)),
            Some(("longer", prefix)) => RouteQuery::LongerThan(net(prefix)),
            Some(("prefix", prefix)) => RouteQuery::Prefix(net(prefix)),
            Some(("address", address)) => RouteQuery::Address(address.parse().unwrap()),
            _ => RouteQuery::All,
        };
        let mut request = RouteRequest { query, limit, filter, ..RouteRequest::default() };
        let (mut shown, mut matched) = (Vec::new(), 0);
        loop {
            let list = page(table, &request);
            assert!(limit == 0 || list.matched <= limit as u64);
            matched += list.matched;
            shown.extend(list.routes.iter().map(|route| format!("{} {}", route.vrf, route.prefix)));
            request.after = list.next;
            if request.after.is_none() {
                return (shown, matched);
            }
        }
    }

    fn open() -> RouteFilter {
        RouteFilter::default()
    }

    #[test]
    fn pages_of_any_size_have_all_routes_once_and_in_order() {
        let table = small();
        let whole: Vec<String> =
            table.0.iter().map(|((vrf, _), (prefix, _))| format!("{vrf} {prefix}")).collect();
        for limit in 1..12 {
            assert_eq!(all(&table, limit, "all", open()), (whole.clone(), 9), "{limit}");
        }
        assert_eq!(all(&table, 0, "all", open()), (vec![], 9), "counted only");
    }

    #[test]
    fn longer_prefixes_are_those_within_with_or_without_itself() {
        let table = small();
        for limit in [1, 2, 100] {
            let shown = |query: &str| all(&table, limit, query, open()).0;
            let within = ["0 10.0.0.0/16", "0 10.255.255.0/24", "7 10.0.0.0/9"];
            assert_eq!(shown("longer 10.0.0.0/8"), within);
            assert_eq!(shown("orlonger 10.0.0.0/8"), [&["0 10.0.0.0/8"], &within[..]].concat());
            assert_eq!(shown("orlonger 10.0.0.0/15"), ["0 10.0.0.0/16"], "without a route of its own");
            assert_eq!(shown("orlonger 0.0.0.0/0").len(), 6, "no IPv6");
            assert_eq!(shown("longer ::/0"), ["0 2001:db8::/32", "7 2001:db8::/48"]);
            assert_eq!(shown("orlonger 12.0.0.0/8"), [""; 0]);
        }
    }

    #[test]
    fn filters_are_all_to_be_passed() {
        let table = small();
        let shown = |query: &str, filter: RouteFilter| all(&table, 2, query, filter).0;
        let ipv6 = || RouteFilter { family: Some(Family::Ipv6), ..open() };
        assert_eq!(shown("all", ipv6()), ["0 ::/0", "0 2001:db8::/32", "7 2001:db8::/48"]);
        assert_eq!(shown("all", RouteFilter { vrf: Some(7), ..ipv6() }), ["7 2001:db8::/48"]);
        assert_eq!(shown("orlonger 10.0.0.0/8", ipv6()), [""; 0]);
        assert_eq!(shown("prefix 10.0.0.0/8", ipv6()), [""; 0]);
        let gateway = |last: u8| RouteFilter { next_hop: Some([192, 0, 2, last].into()), ..open() };
        assert_eq!(shown("all", gateway(2)), ["0 10.0.0.0/16", "0 11.0.0.0/8", "0 2001:db8::/32"]);
        assert_eq!(shown("longer 10.0.0.0/8", gateway(2)), ["0 10.0.0.0/16"]);
        let of = |origin: &str| RouteFilter { origin: Some(origin.into()), ..open() };
        assert_eq!((shown("all", of("bgp")).len(), shown("all", of("ospf")).len()), (9, 0));
        for limit in [1, 2] {
            let shown = all(&table, limit, "address 10.0.7.1", open());
            assert_eq!(shown, (vec!["0 10.0.0.0/16".into(), "7 10.0.0.0/9".into()], 2));
        }
        assert_eq!(shown("address 10.0.7.1", gateway(1)), ["7 10.0.0.0/9"]);
    }

    #[test]
    fn a_page_looks_at_few_routes_whatever_is_looked_for() {
        let mut table = Plain::default();
        for number in 0..40_000u32 {
            let prefix = IpNet::new(Ipv4Addr::from(number << 8).into(), 24).unwrap();
            table.0.insert((0, order(&prefix)), (prefix, 1));
        }
        let filter = RouteFilter { next_hop: Some([192, 0, 2, 2].into()), ..open() };
        let request = RouteRequest { filter, ..RouteRequest::default() };
        let list = page(&table, &request);
        assert_eq!((list.matched, list.routes.len(), list.total), (0, 0, 40_000));
        let seen = RoutePlace { vrf: 0, prefix: "0.31.255.0/24".parse().unwrap() };
        assert_eq!(list.next, Some(seen), "{VISITED} routes");
        let list = page(&table, &RouteRequest { limit: usize::MAX, ..RouteRequest::default() });
        assert_eq!(list.routes.len(), LISTED);
        assert_eq!(all(&table, 0, "all", request.filter).1, 0);
    }
}
