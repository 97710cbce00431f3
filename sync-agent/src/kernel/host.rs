//! What the kernel knows of the host itself, as far as next hops depend on it: its own addresses (table `local`) and the way to gateways
//! that are on no connected network (table `main`).

use std::collections::HashMap;
use std::net::IpAddr;

use fibcast_netlink::{Dumped, Family, Hop, Route, Socket, Target};
use ipnet::IpNet;

/// `RT_TABLE_MAIN`.
pub(super) const MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`.
const LOCAL_TABLE: u32 = 255;
/// `RTN_LOCAL`.
const LOCAL: Target = Target::Other(2);

/// How often a dump that a change interrupted is begun again.
const TRIES: u32 = 10;

/// How packets get to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The kernel finds it, or refuses the route: the address is on a connected network, or nothing is known of it.
    Direct,
    /// Through these gateways, with interface and weight.
    Through(Vec<(IpAddr, u32, u16)>),
}

/// Routes of a table by prefix, the best one of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Routes {
    all: HashMap<IpNet, Best>,
    /// Prefix lengths in use, for both families.
    lengths: [u128; 2],
    /// Length 128 has no bit of its own.
    host_routes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Best {
    metric: u32,
    local: bool,
    hops: Vec<Hop>,
}

impl Routes {
    fn add(&mut self, route: &Route) {
        // Not for every packet to the prefix.
        if route.tos != 0 || route.source != 0 {
            return;
        }
        let hops: Vec<Hop> = route.hops.iter().filter(|hop| !hop.dead).copied().collect();
        if hops.is_empty() && !route.hops.is_empty() {
            return;
        }
        let best = Best { metric: route.metric, local: route.target == LOCAL, hops };
        let length = route.prefix.prefix_len();
        match self.lengths.get_mut(usize::from(route.prefix.addr().is_ipv6())) {
            Some(lengths) if length < 128 => *lengths |= 1 << length,
            _ => self.host_routes = true,
        }
        let place = self.all.entry(route.prefix).or_insert_with(|| best.clone());
        if best.metric < place.metric {
            *place = best;
        }
    }

    /// The longest match, with the length of its prefix.
    fn find(&self, address: IpAddr) -> Option<(u8, &Best)> {
        let v6 = address.is_ipv6();
        let lengths = self.lengths.get(usize::from(v6)).copied().unwrap_or_default();
        let host = (v6 && self.host_routes).then_some(128);
        let others = (0..128u8).rev().filter(|length| lengths & (1 << length) != 0);
        host.into_iter().chain(others).find_map(|length| {
            let prefix = IpNet::new(address, length).ok()?.trunc();
            Some((length, self.all.get(&prefix)?))
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Host {
    main: Routes,
    local: Routes,
}

impl Host {
    /// Reads both tables.
    ///
    /// # Errors
    /// The system's error.
    pub fn read(socket: &mut Socket) -> std::io::Result<Self> {
        Ok(Self { main: read(socket, MAIN)?, local: read(socket, LOCAL_TABLE)? })
    }

    /// For tests.
    #[cfg(test)]
    pub fn of(main: &[Route], own: &[(&str, u32)]) -> Self {
        let mut host = Self::default();
        main.iter().for_each(|route| host.main.add(route));
        for (prefix, interface) in own {
            let hops = vec![Hop::new(None, *interface, 1)];
            let route = Route { prefix: prefix.parse().unwrap(), target: LOCAL, hops, ..Route::default() };
            host.local.add(&route);
        }
        host
    }

    /// Whether a gateway is an address of this host. An IPv6 link-local address is one on its interface only.
    pub fn is_own(&self, gateway: IpAddr, interface: u32) -> bool {
        let Some((_, best)) = self.local.find(gateway).filter(|(_, best)| best.local) else { return false };
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !link_local || best.hops.iter().any(|hop| hop.interface == interface)
    }

    /// How packets get to a gateway; by a default route only if that is wanted: it would make every gateway look reachable.
    pub fn way(&self, gateway: IpAddr, by_default: bool) -> Way {
        let Some((length, best)) = self.main.find(gateway) else { return Way::Direct };
        if length == 0 && !by_default {
            return Way::Direct;
        }
        let through = |hop: &Hop| {
            (!hop.encapsulated && hop.interface != 0).then_some((hop.gateway?, hop.interface, hop.weight))
        };
        match best.hops.iter().map(through).collect::<Option<Vec<_>>>() {
            Some(hops) if !hops.is_empty() => Way::Through(hops),
            // A next hop without a gateway is a connected network; the kernel refuses what leads nowhere.
            _ => Way::Direct,
        }
    }
}

fn read(socket: &mut Socket, table: u32) -> std::io::Result<Routes> {
    for _ in 0..TRIES {
        let mut routes = Routes::default();
        let mut whole = true;
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut route = Route::default();
            let dumped = socket.dump_of(
                |writer, sequence| Route::dump(writer, sequence, family, table, 0),
                |message| {
                    if route.read(message) == Ok(true) && route.table == table {
                        routes.add(&route);
                    }
                },
            );
            match dumped {
                Ok(outcome) => whole &= outcome == Dumped::Whole,
                // A table without routes does not exist.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if whole {
            return Ok(routes);
        }
    }
    Err(std::io::Error::other("the table changes too fast to be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, metric: u32, hops: &[(Option<&str>, u32)]) -> Route {
        let hop = |(gateway, interface): &(Option<&str>, u32)| {
            Hop::new(gateway.map(|g| g.parse().unwrap()), *interface, 1)
        };
        Route {
            prefix: prefix.parse().unwrap(),
            metric,
            hops: hops.iter().map(hop).collect(),
            ..Route::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_match_of_the_lowest_metric_shows_the_way() {
        let host = Host::of(
            &[
                route("0.0.0.0/0", 0, &[(Some("10.0.0.9"), 2)]),
                route("192.0.2.0/24", 20, &[(Some("10.0.0.3"), 2)]),
                route("192.0.2.0/24", 10, &[(Some("10.0.0.1"), 2), (Some("10.0.0.2"), 2)]),
                route("10.0.0.0/24", 0, &[(None, 2)]),
                route("2001:db8::7/128", 0, &[(Some("fe80::1"), 3)]),
            ],
            &[],
        );
        let through = |list: &[(&str, u32)]| {
            Way::Through(list.iter().map(|(gateway, interface)| (address(gateway), *interface, 1)).collect())
        };
        assert_eq!(host.way(address("192.0.2.7"), false), through(&[("10.0.0.1", 2), ("10.0.0.2", 2)]));
        assert_eq!(host.way(address("10.0.0.7"), true), Way::Direct);
        assert_eq!(host.way(address("203.0.113.1"), false), Way::Direct);
        assert_eq!(host.way(address("203.0.113.1"), true), through(&[("10.0.0.9", 2)]));
        assert_eq!(host.way(address("2001:db8::7"), false), through(&[("fe80::1", 3)]));
        assert_eq!(host.way(address("2001:db8::8"), true), Way::Direct);
    }

    #[test]
    fn what_the_kernel_does_not_use_shows_no_way() {
        let mut dead = route("192.0.2.0/24", 0, &[(Some("10.0.0.1"), 2)]);
        dead.hops[0].dead = true;
        let mut tunnel = route("198.51.100.0/24", 0, &[(Some("10.0.0.1"), 2)]);
        tunnel.hops[0].encapsulated = true;
        let with_source = Route { source: 24, ..route("203.0.113.0/24", 0, &[(Some("10.0.0.1"), 2)]) };
        let host = Host::of(&[dead, tunnel, with_source], &[]);
        for gateway in ["192.0.2.7", "198.51.100.7", "203.0.113.7"] {
            assert_eq!(host.way(address(gateway), true), Way::Direct, "{gateway}");
        }
    }

    #[test]
    fn own_addresses_are_those_of_the_table_local() {
        let host = Host::of(
            &[],
            &[("127.0.0.0/8", 1), ("192.0.2.1/32", 2), ("2001:db8::1/128", 2), ("fe80::1/128", 2)],
        );
        for (gateway, interface, own) in [
            ("127.0.0.1", 0, true),
            ("192.0.2.1", 0, true),
            ("192.0.2.2", 0, false),
            ("2001:db8::1", 0, true),
            ("fe80::1", 2, true),
            ("fe80::1", 3, false),
        ] {
            assert_eq!(host.is_own(address(gateway), interface), own, "{gateway} {interface}");
        }
    }
}
