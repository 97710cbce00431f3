//! From the next hops of the table to those of this host's kernel: `[kernel] next_hop`, ports by name, own addresses, and gateways that are
//! reached through others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use fibcast_sync_proto::HopValue;
use ipnet::IpNet;

use super::host::{Host, Way};
use super::next_hop::{NextHop, NextHops};
use super::route::Unfit;
use super::table::RouteKey;

/// Gateway, interface index (0: chosen by the kernel), weight.
pub(super) type Via = (Option<IpAddr>, u32, u32);

/// Number of kinds of routes with the same next hops: see [`Place::number`].
pub(super) const PLACES: usize = 4;

/// What the next hops of a group depend on beside the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The route is for IPv6 packets.
    pub v6: bool,
    /// The route is in a VRF of its own, whose addresses and connected networks are in other tables than the host's.
    pub vrf: bool,
}

impl Place {
    pub fn of((vrf, prefix): &RouteKey) -> Self {
        Self { v6: matches!(prefix, IpNet::V6(_)), vrf: *vrf != 0 }
    }

    pub fn all() -> [Self; PLACES] {
        [(false, false), (true, false), (false, true), (true, true)].map(|(v6, vrf)| Self { v6, vrf })
    }

    /// Its place in [`Self::all`].
    pub fn number(self) -> usize {
        usize::from(self.v6) + 2 * usize::from(self.vrf)
    }
}

/// See the module's documentation.
pub(super) struct Resolver {
    pub next_hop: NextHops,
    /// The server that the agent is synchronised with, or was last.
    pub server: Option<SocketAddr>,
    pub host: Host,
    /// Index of an interface by its name.
    pub interface: fn(&str) -> Option<u32>,
}

impl Resolver {
    /// The next hops of a route that is to have these.
    ///
    /// # Errors
    /// Why this host cannot have the route.
    pub fn hops(&self, hops: &[HopValue], place: Place) -> Result<Vec<Via>, Unfit> {
        let next_hop = if place.v6 { self.next_hop.ipv6 } else { self.next_hop.ipv4 };
        let (gateway, interface) = match (next_hop, self.server) {
            (NextHop::Keep, _) => return self.kept(hops, place),
            (NextHop::Address(gateway), _) => (gateway, 0),
            (NextHop::Server, None) => return Err(Unfit::NoServer),
            (NextHop::Server, Some(server)) => {
                // A link-local address comes with its interface.
                let scope = if let SocketAddr::V6(v6) = server { v6.scope_id() } else { 0 };
                (server.ip().to_canonical(), scope)
            }
        };
        if place.v6 && gateway.is_ipv4() {
            return Err(Unfit::Family(gateway));
        }
        // The server, and a gateway that the operator names, are the host's matter in whatever VRF the route is.
        self.refuse_own(gateway, interface)?;
        Ok(merged(self.through(gateway, interface, 1, true)))
    }

    fn kept(&self, hops: &[HopValue], place: Place) -> Result<Vec<Via>, Unfit> {
        let mut all = Vec::with_capacity(hops.len());
        for hop in hops {
            let interface = match hop.port.as_deref() {
                None if hop.gateway.is_none() => return Err(Unfit::NoGateway),
                None => 0,
                Some(name) => (self.interface)(name).ok_or_else(|| Unfit::Port(name.to_owned()))?,
            };
            let weight = u32::from(hop.weight);
            match hop.gateway {
                Some(gateway) if !place.vrf => {
                    self.refuse_own(gateway, interface)?;
                    all.extend(self.through(gateway, interface, weight, false));
                }
                gateway => all.push((gateway, interface, weight)),
            }
        }
        Ok(merged(all))
    }

    fn refuse_own(&self, gateway: IpAddr, interface: u32) -> Result<(), Unfit> {
        if self.host.is_own(gateway, interface) { Err(Unfit::OwnAddress(gateway)) } else { Ok(()) }
    }

    /// A gateway, or those through which it is reached.
    fn through(&self, gateway: IpAddr, interface: u32, weight: u32, by_default: bool) -> Vec<Via> {
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if interface != 0 || link_local {
            return vec![(Some(gateway), interface, weight)];
        }
        match self.host.way(gateway, by_default) {
            Way::Direct => vec![(Some(gateway), 0, weight)],
            Way::Through(list) => {
                let next = |(gateway, interface, more): (IpAddr, u32, u16)| {
                    (Some(gateway), interface, weight.saturating_mul(u32::from(more)))
                };
                list.into_iter().map(next).collect()
            }
        }
    }
}

/// Several gateways may be reached through the same one, and IPv6 takes no next hop twice.
fn merged(all: Vec<Via>) -> Vec<Via> {
    let mut sums: BTreeMap<(Option<IpAddr>, u32), u32> = BTreeMap::new();
    for (gateway, interface, weight) in all {
        let sum = sums.entry((gateway, interface)).or_default();
        *sum = sum.saturating_add(weight);
    }
    sums.into_iter().map(|((gateway, interface), weight)| (gateway, interface, weight)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use fibcast_netlink::{Hop, Route};

    use super::*;

    /// Without `next_hop`, on a host of which nothing is known but its interfaces.
    pub fn plain(interface: fn(&str) -> Option<u32>) -> Resolver {
        Resolver { next_hop: NextHops::default(), server: None, host: Host::default(), interface }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A host on 10.0.0.0/24 with a router, 10.0.0.1, to 192.0.2.0/24 and by default.
    fn host() -> Host {
        let route = |prefix: &str, gateway: Option<&str>| {
            let hops = vec![Hop::new(gateway.map(address), 2, 1)];
            Route { prefix: prefix.parse().unwrap(), hops, ..Route::default() }
        };
        let main = [
            route("10.0.0.0/24", None),
            route("192.0.2.0/24", Some("10.0.0.1")),
            route("0.0.0.0/0", Some("10.0.0.1")),
        ];
        Host::of(&main, &[("10.0.0.2/32", 2)])
    }

    fn hop(gateway: &str) -> HopValue {
        HopValue { gateway: Some(address(gateway)), port: None, weight: 1 }
    }

    const V4: Place = Place { v6: false, vrf: false };
    const V6: Place = Place { v6: true, vrf: false };

    #[test]
    fn gateways_beyond_a_router_become_the_router_with_the_sum_of_their_weights() {
        let resolver = Resolver { host: host(), ..plain(|_| None) };
        let hops = resolver.hops(&[hop("192.0.2.7"), hop("192.0.2.8"), hop("10.0.0.7")], V4).unwrap();
        assert_eq!(hops, [(Some(address("10.0.0.1")), 2, 2), (Some(address("10.0.0.7")), 0, 1)]);
        // Not by the default route, or no gateway would ever be missing.
        assert_eq!(resolver.hops(&[hop("203.0.113.1")], V4).unwrap(), [(Some(address("203.0.113.1")), 0, 1)]);
    }

    #[test]
    fn a_gateway_that_is_the_host_itself_is_refused_except_where_a_vrf_has_addresses_of_its_own() {
        let resolver = Resolver { host: host(), ..plain(|_| None) };
        let hops = [hop("10.0.0.7"), hop("10.0.0.2")];
        assert_eq!(resolver.hops(&hops, V4), Err(Unfit::OwnAddress(address("10.0.0.2"))));
        assert!(resolver.hops(&hops, Place { vrf: true, ..V4 }).is_ok());
    }

    #[test]
    fn the_server_takes_the_place_of_all_next_hops() {
        let next_hop = NextHops { ipv4: NextHop::Server, ipv6: NextHop::Server };
        let mut resolver = Resolver { host: host(), next_hop, ..plain(|_| None) };
        let hops = [hop("192.0.2.7"), hop("203.0.113.1")];
        assert_eq!(resolver.hops(&hops, V4), Err(Unfit::NoServer));
        for (server, expected) in [
            ("10.0.0.7:7830", ("10.0.0.7", 0)),
            ("192.0.2.7:7830", ("10.0.0.1", 2)),
            ("[::ffff:10.0.0.7]:7830", ("10.0.0.7", 0)),
            // Whoever is synchronised with it can reach it, if only by the default route.
            ("203.0.113.9:7830", ("10.0.0.1", 2)),
            ("[fe80::1%4]:7830", ("fe80::1", 4)),
        ] {
            resolver.server = Some(server.parse().unwrap());
            assert_eq!(resolver.hops(&hops, V4), Ok(vec![(Some(address(expected.0)), expected.1, 1)]));
        }
        resolver.server = Some("10.0.0.7:7830".parse().unwrap());
        assert_eq!(resolver.hops(&hops, V6), Err(Unfit::Family(address("10.0.0.7"))));
        resolver.server = Some("127.0.0.1:7830".parse().unwrap());
        assert!(resolver.hops(&hops, V4).is_ok(), "unknown addresses are the kernel's matter");
        resolver.server = Some("10.0.0.2:7830".parse().unwrap());
        assert_eq!(resolver.hops(&hops, V4), Err(Unfit::OwnAddress(address("10.0.0.2"))));
    }

    #[test]
    fn each_family_has_its_own_next_hop() {
        let next_hop = NextHops { ipv4: NextHop::Address(address("192.0.2.9")), ipv6: NextHop::Keep };
        let resolver = Resolver { host: host(), next_hop, ..plain(|_| None) };
        assert_eq!(resolver.hops(&[hop("203.0.113.1")], V4), Ok(vec![(Some(address("10.0.0.1")), 2, 1)]));
        assert_eq!(resolver.hops(&[hop("2001:db8::1")], V6), Ok(vec![(Some(address("2001:db8::1")), 0, 1)]));
    }
}
