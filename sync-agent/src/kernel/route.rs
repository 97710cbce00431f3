//! A route as the kernel stores it.

use std::net::IpAddr;

use fibcast_netlink::{Hop, Route, Special, Target, Writer, kind};
use fibcast_sync_proto::{GroupValue, HopValue};
use ipnet::IpNet;

use super::PROTOCOL;

// Attributes of `linux/rtnetlink.h`.
const DESTINATION: u16 = 1;
const OUTPUT: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
const VIA: u16 = 18;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Routes to the host itself are maintained by the kernel.
    Local,
    /// A next hop names a port that is not an interface of this host.
    Port(String),
    /// A next hop has neither a gateway nor a port.
    NoGateway,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Local => f.write_str("a route to the host itself"),
            Unfit::Port(port) => write!(f, "next hop's port {port} is no interface of this host"),
            Unfit::NoGateway => f.write_str("a next hop has neither gateway nor port"),
        }
    }
}

impl Lead {
    /// Converts a group. `interface` finds an interface index by name.
    pub fn of(group: &GroupValue, interface: &dyn Fn(&str) -> Option<u32>) -> Result<Self, Unfit> {
        Ok(match group {
            GroupValue::Blackhole => Lead::Special(Special::Blackhole),
            GroupValue::Unreachable => Lead::Special(Special::Unreachable),
            GroupValue::Prohibit => Lead::Special(Special::Prohibit),
            GroupValue::Local => return Err(Unfit::Local),
            GroupValue::Hops(hops) => {
                let heaviest = hops.iter().map(|h| u32::from(h.weight)).max().unwrap_or(1).max(1);
                let hop = |hop: &HopValue| {
                    let port = hop.port.as_deref();
                    let output = match port {
                        None if hop.gateway.is_none() => return Err(Unfit::NoGateway),
                        None => 0,
                        Some(name) => interface(name).ok_or_else(|| Unfit::Port(name.to_owned()))?,
                    };
                    // Weights that do not fit one byte are scaled, none of them to zero.
                    let weight = match u32::from(hop.weight) {
                        weight if heaviest <= MAX_WEIGHT => weight,
                        weight => weight * MAX_WEIGHT / heaviest,
                    };
                    Ok((hop.gateway, output, weight.clamp(1, MAX_WEIGHT) as u16))
                };
                let mut hops = hops.iter().map(hop).collect::<Result<Vec<_>, _>>()?;
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

    /// Whether IPv6 can replace one by the other in one step: only among routes with gateways, or among those without.
    pub fn is_like(&self, other: &Lead) -> bool {
        matches!(self, Lead::Special(_)) == matches!(other, Lead::Special(_))
    }
}

/// Writes a route, or its deletion if there is no target.
pub(super) fn write(
    writer: &mut Writer,
    flags: u16,
    sequence: u32,
    (table, prefix, metric): (u32, IpNet, u32),
    lead: Option<&Lead>,
) {
    let family = if matches!(prefix, IpNet::V4(_)) { 2 } else { 10 };
    let rtm_type = match lead {
        None => 0,
        Some(Lead::Special(special)) => *special as u8,
        Some(Lead::Hops(_)) => 1,
    };
    let small = u8::try_from(table).unwrap_or(0);
    let kind = if lead.is_some() { kind::NEW_ROUTE } else { kind::DEL_ROUTE };
    // RT_SCOPE_NOWHERE in a deletion matches every scope.
    let direct = matches!(lead, Some(Lead::Hops(hops)) if hops.iter().any(|(gateway, ..)| gateway.is_none()));
    let scope = match (lead, direct) {
        (None, _) => 255,
        (Some(_), true) => 253,
        (Some(_), false) => 0,
    };
    writer.begin(
        kind,
        flags,
        sequence,
        &[family, prefix.prefix_len(), 0, 0, small, PROTOCOL, scope, rtm_type, 0, 0, 0, 0],
    );
    writer.address(DESTINATION, prefix.addr());
    writer.number(TABLE, table);
    writer.number(PRIORITY, metric);
    match lead {
        Some(Lead::Hops(hops)) => match hops.as_slice() {
            [(gateway, output, _)] => hop(writer, family, *gateway, *output),
            hops => {
                let list = writer.open(&MULTIPATH.to_ne_bytes());
                for (gateway, output, weight) in hops {
                    let share = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
                    let at = writer.open(&[&[0, share][..], &output.to_ne_bytes()].concat());
                    hop(writer, family, *gateway, 0);
                    writer.close(at);
                }
                writer.close(list);
            }
        },
        Some(Lead::Special(_)) | None => {}
    }
    writer.end();
}

fn hop(writer: &mut Writer, family: u8, gateway: Option<IpAddr>, output: u32) {
    match gateway {
        Some(IpAddr::V6(address)) if family == 2 => {
            // RFC 8950.
            writer.attribute(VIA, &[&10u16.to_ne_bytes()[..], &address.octets()].concat());
        }
        Some(address) => writer.address(GATEWAY, address),
        None => {}
    }
    if output != 0 {
        writer.number(OUTPUT, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_netlink::Messages;

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
            let lead = Lead::of(&group, &|_| None).unwrap();
            let mut writer = Writer::default();
            write(&mut writer, 0, 1, (70_000, prefix.parse().unwrap(), 1024), Some(&lead));
            let route = read(&writer);
            assert_eq!((route.prefix, route.table, route.metric), (prefix.parse().unwrap(), 70_000, 1024));
            assert_eq!(route.protocol, PROTOCOL);
            assert_eq!(Lead::read(&route), Some(lead), "{prefix}");
        }
    }

    #[test]
    fn weights_beyond_a_byte_are_scaled_and_none_vanishes() {
        let group = hops(&[("192.0.2.1", 1), ("192.0.2.2", 1024), ("192.0.2.3", 512)]);
        let Ok(Lead::Hops(hops)) = Lead::of(&group, &|_| None) else { panic!() };
        assert_eq!(hops.iter().map(|h| h.2).collect::<Vec<_>>(), [1, 256, 128]);
    }

    #[test]
    fn a_port_is_an_interface_of_the_host_or_the_group_is_unfit() {
        let hop = HopValue { gateway: None, port: Some("p0".into()), weight: 1 };
        let group = GroupValue::Hops(vec![hop]);
        assert_eq!(Lead::of(&group, &|_| Some(4)), Ok(Lead::Hops(vec![(None, 4, 1)])));
        assert_eq!(Lead::of(&group, &|_| None), Err(Unfit::Port("p0".into())));
        assert_eq!(Lead::of(&GroupValue::Local, &|_| None), Err(Unfit::Local));
    }
}
