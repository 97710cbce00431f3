//! A route as the kernel stores it.

use std::net::IpAddr;

use fibcast_netlink::{Hop, PROTOCOL, Route, Special, Target};
use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;

use super::resolver::{Place, Resolver};

/// `RT_SCOPE_NOWHERE`.
const ANY_SCOPE: u8 = 255;
/// `RT_SCOPE_LINK`.
const LINK_SCOPE: u8 = 253;

/// Largest weight: `rtnh_hops` has one byte.
const MAX_WEIGHT: u32 = 256;

/// Target of a route in the kernel, comparable independently of the order of next hops.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lead {
    Special(Special),
    /// Gateway, interface index (0: chosen by the kernel), weight. Sorted.
    Hops(Vec<(Option<IpAddr>, u32, u16)>),
}

/// Why a group cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Unfit {
    /// Routes to the host itself are maintained by the kernel.
    Local,
    /// A next hop names a port that is not an interface of this host.
    Port(String),
    /// A next hop has neither a gateway nor a port.
    NoGateway,
    /// The gateway is an address of this host.
    OwnAddress(IpAddr),
    /// An IPv6 route cannot have this gateway, which `next_hop` says.
    Family(IpAddr),
    /// `next_hop` wants the server's address, and none is known yet.
    NoServer,
}

impl Unfit {
    /// It is told once for all routes that share it: the cause is not the route.
    pub fn is_shared(&self) -> bool {
        matches!(self, Unfit::OwnAddress(_) | Unfit::Family(_) | Unfit::NoServer)
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Local => f.write_str("a route to the host itself"),
            Unfit::Port(port) => write!(f, "next hop's port {port} is no interface of this host"),
            Unfit::NoGateway => f.write_str("a next hop has neither gateway nor port"),
            Unfit::OwnAddress(gateway) => write!(f, "gateway {gateway} is an address of this host"),
            Unfit::Family(gateway) => {
                write!(f, "an IPv6 route cannot have the gateway {gateway} of [kernel] next_hop")
            }
            Unfit::NoServer => f.write_str("[kernel] next_hop is the server, and there is none yet"),
        }
    }
}

impl Lead {
    /// Converts a group for routes of this kind.
    pub fn of(group: &GroupValue, place: Place, resolver: &Resolver) -> Result<Self, Unfit> {
        Ok(match group {
            GroupValue::Blackhole => Lead::Special(Special::Blackhole),
            GroupValue::Unreachable => Lead::Special(Special::Unreachable),
            GroupValue::Prohibit => Lead::Special(Special::Prohibit),
            GroupValue::Local => return Err(Unfit::Local),
            GroupValue::Hops(hops) => {
                let hops = resolver.hops(hops, place)?;
                let heaviest = hops.iter().map(|hop| hop.2).max().unwrap_or(1).max(1);
                let scaled = |weight: u32| match weight {
                    weight if heaviest <= MAX_WEIGHT => weight,
                    // Weights that do not fit one byte are scaled, none of them to zero.
                    weight => (u64::from(weight) * u64::from(MAX_WEIGHT) / u64::from(heaviest)) as u32,
                };
                let hop =
                    |(gateway, output, weight)| (gateway, output, scaled(weight).clamp(1, MAX_WEIGHT) as u16);
                let mut hops: Vec<_> = hops.into_iter().map(hop).collect();
                // The kernel reports weight 1 for a single next hop.
                if let [(_, _, weight)] = hops.as_mut_slice() {
                    *weight = 1;
                }
                hops.sort_unstable();
                Lead::Hops(hops)
            }
        })
    }

    /// Target of a route read from the kernel; none if we do not write such routes.
    pub fn read(route: &Route) -> Option<Self> {
        match route.target {
            Target::Special(special) => Some(Lead::Special(special)),
            Target::Hops => {
                let hop = |hop: &Hop| (hop.gateway, hop.interface, hop.weight);
                let mut hops: Vec<_> = route.hops.iter().map(hop).collect();
                hops.sort_unstable();
                Some(Lead::Hops(hops))
            }
            Target::Object(_) | Target::Other(_) => None,
        }
    }

    /// Whether the kernel has the wanted target. It fills in the interface if none was given.
    pub fn is_met_by(&self, found: &Lead) -> bool {
        match (self, found) {
            (Lead::Hops(wanted), Lead::Hops(found)) => {
                wanted.len() == found.len()
                    && wanted.iter().all(|(gateway, output, weight)| {
                        found
                            .iter()
                            .any(|(g, o, w)| g == gateway && w == weight && (*output == 0 || o == output))
                    })
            }
            (wanted, found) => wanted == found,
        }
    }

    /// Without next hops. IPv6 replaces a route in one step only among those with gateways, or among those without.
    pub fn is_special(&self) -> bool {
        matches!(self, Lead::Special(_))
    }
}

/// A gateway with a port is on that port's link, as in a dataplane; without this flag the kernel refuses it where no subnet has it. Link-local
/// gateways are on the link in any case.
fn is_onlink(gateway: Option<IpAddr>, interface: u32) -> bool {
    interface != 0
        && gateway.is_some_and(|gateway| !matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local()))
}

/// A route as it is to be written; without a lead, what deletes it whatever it leads to.
pub(super) fn route((table, prefix, metric): (u32, IpNet, u32), lead: Option<&Lead>) -> Route {
    let (target, hops) = match lead {
        Some(Lead::Special(special)) => (Target::Special(*special), Vec::new()),
        Some(Lead::Hops(hops)) => {
            let hop = |&(gateway, interface, weight): &(Option<IpAddr>, u32, u16)| Hop {
                onlink: is_onlink(gateway, interface),
                ..Hop::new(gateway, interface, weight)
            };
            (Target::Hops, hops.iter().map(hop).collect())
        }
        None => (Target::Hops, Vec::new()),
    };
    let scope = match lead {
        None => ANY_SCOPE,
        Some(_) if hops.iter().any(|hop| hop.gateway.is_none()) => LINK_SCOPE,
        Some(_) => 0,
    };
    Route { prefix, table, protocol: PROTOCOL, metric, scope, target, hops, ..Route::default() }
}

#[cfg(test)]
mod tests {
    use super::super::resolver::tests::plain;
    use super::*;
    use fibcast_netlink::{Messages, Writer, kind};
    use fibcast_sync_proto::HopValue;

    const V4: Place = Place { v6: false, vrf: false };

    fn read(writer: &Writer) -> Route {
        let mut route = Route::default();
        let message = Messages::new(writer.bytes()).next().unwrap().unwrap();
        assert!(route.read(&message).unwrap());
        route
    }

    fn hops(list: &[(&str, u16)]) -> GroupValue {
        let hop = |(gateway, weight): &(&str, u16)| HopValue {
            gateway: Some(gateway.parse().unwrap()),
            port: None,
            weight: *weight,
        };
        GroupValue::Hops(list.iter().map(hop).collect())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for (prefix, group) in [
            ("10.0.0.0/8", hops(&[("192.0.2.1", 1)])),
            ("0.0.0.0/0", hops(&[("192.0.2.1", 1), ("192.0.2.2", 3)])),
            ("10.0.0.0/8", hops(&[("2001:db8::1", 1)])),
            ("10.0.0.0/8", hops(&[("2001:db8::1", 1), ("192.0.2.1", 2)])),
            ("2001:db8::/32", hops(&[("2001:db8::1", 1), ("2001:db8::2", 256)])),
            ("::/0", GroupValue::Blackhole),
            ("10.0.0.0/8", GroupValue::Unreachable),
            ("10.0.0.0/8", GroupValue::Prohibit),
        ] {
            let lead = Lead::of(&group, V4, &plain(|_| None)).unwrap();
            let mut writer = Writer::default();
            let at = (70_000, prefix.parse().unwrap(), 1024);
            super::route(at, Some(&lead)).write(&mut writer, kind::NEW_ROUTE, 0, 1);
            let route = read(&writer);
            assert_eq!((route.prefix, route.table, route.metric), (prefix.parse().unwrap(), 70_000, 1024));
            assert_eq!(route.protocol, PROTOCOL);
            assert_eq!(Lead::read(&route), Some(lead), "{prefix}");
        }
    }

    #[test]
    fn a_gateway_with_a_port_is_on_the_link_and_one_gateway_on_two_ports_is_two_next_hops() {
        let hop = |gateway: &str, port: Option<&str>| HopValue {
            gateway: Some(gateway.parse().unwrap()),
            port: port.map(str::to_owned),
            weight: 1,
        };
        let resolver = plain(|name: &str| name.strip_prefix('p').and_then(|number| number.parse().ok()));
        for (prefix, hops, onlink) in [
            ("203.0.113.0/24", vec![hop("3.3.3.3", Some("p4")), hop("3.3.3.3", Some("p5"))], [true, true]),
            (
                "2001:db8:f::/48",
                vec![hop("2001:db8::3", Some("p4")), hop("2001:db8::3", Some("p5"))],
                [true, true],
            ),
            ("203.0.113.0/24", vec![hop("192.0.2.1", None), hop("3.3.3.3", Some("p5"))], [true, false]),
            ("2001:db8:f::/48", vec![hop("fe80::1", Some("p4")), hop("fe80::1", Some("p5"))], [false, false]),
        ] {
            let lead = Lead::of(&GroupValue::Hops(hops), V4, &resolver).unwrap();
            let mut writer = Writer::default();
            let at = (254, prefix.parse().unwrap(), 0);
            super::route(at, Some(&lead)).write(&mut writer, kind::NEW_ROUTE, 0, 1);
            let found = read(&writer);
            assert_eq!(found.hops.iter().map(|hop| hop.onlink).collect::<Vec<_>>(), onlink, "{prefix}");
            assert_eq!(Lead::read(&found), Some(lead));
        }
    }

    #[test]
    fn weights_beyond_a_byte_are_scaled_and_none_vanishes() {
        let group = hops(&[("192.0.2.1", 1), ("192.0.2.2", 1024), ("192.0.2.3", 512)]);
        let Ok(Lead::Hops(hops)) = Lead::of(&group, V4, &plain(|_| None)) else { panic!() };
        assert_eq!(hops.iter().map(|h| h.2).collect::<Vec<_>>(), [1, 256, 128]);
    }

    #[test]
    fn a_port_is_an_interface_of_the_host_or_the_group_is_unfit() {
        let hop = HopValue { gateway: None, port: Some("p0".into()), weight: 1 };
        let group = GroupValue::Hops(vec![hop]);
        assert_eq!(Lead::of(&group, V4, &plain(|_| Some(4))), Ok(Lead::Hops(vec![(None, 4, 1)])));
        assert_eq!(Lead::of(&group, V4, &plain(|_| None)), Err(Unfit::Port("p0".into())));
        assert_eq!(Lead::of(&GroupValue::Local, V4, &plain(|_| None)), Err(Unfit::Local));
    }
}
