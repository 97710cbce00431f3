//! In what form next hops are taken: with the port of NIC hosts that an interface stands for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use super::links::Links;
use super::policy::{MAX_HOPS, Policy, Skip};
use fibcast_netlink::Hop;

/// What zebra writes in place of the IPv6 next hop of an IPv4 route, where it does not use next-hop objects: always with `RTNH_F_ONLINK`. Without
/// that flag it is a gateway like any other.
const UNNUMBERED: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// A next hop of a path. Sorted by all its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathHop {
    /// Where to send.
    pub gateway: Option<IpAddr>,
    /// Place of the port's name in [`Ports`].
    pub port: Option<u16>,
    /// Share of flows.
    pub weight: u16,
    /// Number of the interface on the sender's host; 0: none.
    pub interface: u32,
    /// The gateway is on the interface's link, whatever its subnets are.
    pub onlink: bool,
}

/// Finds ports by the numbers of interfaces.
#[derive(Debug, Default)]
pub struct Ports {
    /// Names of ports, which [`PathHop`] refers to by index.
    names: Vec<String>,
    by_interface: BTreeMap<String, u16>,
    /// What was found before.
    known: BTreeMap<u32, Option<u16>>,
    /// The state of interfaces, if the sender is on this host.
    pub links: Links,
}

impl Ports {
    /// The ports of a configuration.
    pub fn new(policy: &Policy) -> Self {
        let mut ports = Self::default();
        ports.follow(policy);
        ports
    }

    /// The ports of another configuration. Paths refer to names by index, so names that are not used any more keep their place.
    pub fn follow(&mut self, policy: &Policy) {
        self.by_interface.clear();
        self.known.clear();
        for (interface, name) in &policy.ports {
            let index = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
                self.names.push(name.clone());
                self.names.len() - 1
            });
            // A file has no more than some hundred lines of these.
            self.by_interface.insert(interface.clone(), u16::try_from(index).unwrap_or(u16::MAX));
        }
    }

    /// Forgets what numbers meant: interfaces come and go.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The name of a port.
    pub fn name(&self, index: u16) -> Option<&String> {
        self.names.get(usize::from(index))
    }

    fn find(&mut self, interface: u32) -> Option<u16> {
        if self.by_interface.is_empty() || interface == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&interface) {
            return *known;
        }
        let by_number = self.by_interface.get(&interface.to_string());
        let found = by_number.or_else(|| self.by_interface.get(&name_of(interface)?)).copied();
        self.known.insert(interface, found);
        found
    }

    /// The next hops that can be used, sorted, into `out`. An error where there is none.
    pub fn usable(&mut self, hops: &[Hop], out: &mut Vec<PathHop>) -> Result<(), Skip> {
        out.clear();
        if hops.len() > MAX_HOPS {
            return Err(Skip::TooManyHops);
        }
        let mut first = None;
        for hop in hops {
            // The same gateway by several interfaces: only the interface distinguishes its next hops.
            let several = hops
                .iter()
                .any(|other| !other.dead && other.gateway == hop.gateway && other.interface != hop.interface);
            match self.one(hop, several) {
                Ok(hop) => out.push(hop),
                Err(reason) => {
                    first.get_or_insert(reason);
                }
            }
        }
        if out.is_empty() {
            return Err(first.unwrap_or(Skip::NoGateway));
        }
        out.sort_unstable();
        Ok(())
    }

    /// Of a sorted list, the next hops whose interface is running, each once.
    pub fn in_use(&self, hops: &[PathHop]) -> Vec<PathHop> {
        let mut in_use: Vec<PathHop> = hops.iter().filter(|hop| self.links.is_alive(hop)).copied().collect();
        // Interfaces that are not in `ports` cannot be distinguished here; the neighbor keeps the share of both.
        in_use.dedup_by(|next, kept| {
            let same = (next.gateway, next.port) == (kept.gateway, kept.port);
            if same {
                kept.weight = kept.weight.saturating_add(next.weight);
            }
            same
        });
        in_use
    }

    fn one(&mut self, hop: &Hop, several: bool) -> Result<PathHop, Skip> {
        if hop.encapsulated {
            return Err(Skip::Encapsulated);
        }
        let gateway = match hop.gateway {
            _ if hop.dead => return Err(Skip::NoGateway),
            Some(IpAddr::V4(a)) if a == UNNUMBERED && hop.onlink => return Err(Skip::Unnumbered),
            Some(a) if a.is_unspecified() || a.is_multicast() || a.is_loopback() => {
                return Err(Skip::NoGateway);
            }
            gateway => gateway,
        };
        let needs_port = match gateway {
            None => Some(Skip::NoGateway),
            Some(IpAddr::V6(a)) if a.is_unicast_link_local() => Some(Skip::LinkLocal),
            Some(_) => None,
        };
        let port = match needs_port {
            // No subnet need have such a gateway: its interface says where it is.
            None if hop.onlink || several => self.find(hop.interface),
            // Others go to the port whose subnet holds them, so that the same route of two hosts is the same.
            None => None,
            Some(reason) => Some(self.find(hop.interface).ok_or(reason)?),
        };
        let (interface, onlink) = (hop.interface, hop.onlink);
        Ok(PathHop { gateway, port, weight: hop.weight.max(1), interface, onlink })
    }
}

fn name_of(interface: u32) -> Option<String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    rustix::net::netdevice::index_to_name(socket.as_fd(), interface).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(gateway: Option<&str>, interface: u32) -> Hop {
        Hop {
            gateway: gateway.map(|g| g.parse().unwrap()),
            interface,
            weight: 1,
            encapsulated: false,
            dead: false,
            onlink: false,
        }
    }

    fn ports(lines: &[(&str, &str)]) -> Ports {
        let ports = lines.iter().map(|(i, p)| ((*i).to_owned(), (*p).to_owned())).collect();
        Ports::new(&Policy { ports, ..Policy::default() })
    }

    #[test]
    fn hops_without_a_usable_gateway_are_left_out_and_a_route_without_a_hop_is_refused() {
        let mut ports = ports(&[("7", "p7")]);
        let mut out = Vec::new();
        for (hop, reason) in [
            (hop(None, 3), Skip::NoGateway),
            (hop(Some("fe80::1"), 3), Skip::LinkLocal),
            (Hop { onlink: true, ..hop(Some("169.254.0.1"), 3) }, Skip::Unnumbered),
            (hop(Some("0.0.0.0"), 3), Skip::NoGateway),
            (Hop { encapsulated: true, ..hop(Some("192.0.2.1"), 3) }, Skip::Encapsulated),
            (Hop { dead: true, ..hop(Some("192.0.2.1"), 3) }, Skip::NoGateway),
        ] {
            assert_eq!(ports.usable(&[hop], &mut out), Err(reason));
            assert_eq!(ports.usable(&[hop, self::hop(Some("192.0.2.9"), 3)], &mut out), Ok(()));
            assert_eq!(out.len(), 1);
        }
        assert_eq!(ports.usable(&[], &mut out), Err(Skip::NoGateway));
        assert_eq!(ports.usable(&[hop(Some("192.0.2.1"), 1); 257], &mut out), Err(Skip::TooManyHops));
    }

    #[test]
    fn interfaces_of_the_configuration_make_link_local_and_connected_routes_usable() {
        let mut ports = ports(&[("7", "p7"), ("lo", "loop")]);
        let mut out = Vec::new();
        ports.usable(&[hop(Some("fe80::1"), 7), hop(None, 1)], &mut out).unwrap();
        let names: Vec<_> = out.iter().map(|h| ports.name(h.port.unwrap()).unwrap().as_str()).collect();
        assert_eq!(names, ["loop", "p7"], "by number, and by name on this host");
        ports.usable(&[hop(Some("192.0.2.1"), 7)], &mut out).unwrap();
        assert_eq!(out[0].port, None, "a gateway is found by its subnet");
    }

    /// Gateway, port and weight of each next hop that is taken.
    fn taken(ports: &mut Ports, hops: &[Hop]) -> Vec<(String, Option<String>, u16)> {
        let mut out = Vec::new();
        ports.usable(hops, &mut out).unwrap();
        let name = |port: Option<u16>| port.and_then(|place| ports.name(place).cloned());
        let word = |hop: &PathHop| {
            (hop.gateway.map_or_else(String::new, |g| g.to_string()), name(hop.port), hop.weight)
        };
        ports.in_use(&out).iter().map(word).collect()
    }

    #[test]
    fn one_gateway_over_two_interfaces_is_two_next_hops() {
        let mut ports = ports(&[("7", "p7"), ("8", "p8")]);
        for gateway in ["3.3.3.3", "192.0.2.1", "2001:db8::3", "fe80::3"] {
            for onlink in [false, true] {
                let hop = |interface| Hop { onlink, ..hop(Some(gateway), interface) };
                let expected = ["p7", "p8"].map(|port| (gateway.to_owned(), Some(port.to_owned()), 1));
                assert_eq!(taken(&mut ports, &[hop(8), hop(7)]), expected, "{gateway}");
            }
        }
        // The second is not in use, so the first is found by its subnet.
        let dead = Hop { dead: true, ..hop(Some("192.0.2.1"), 8) };
        assert_eq!(
            taken(&mut ports, &[hop(Some("192.0.2.1"), 7), dead]),
            [("192.0.2.1".to_owned(), None, 1)]
        );
        // Two routes by interfaces alone, of which both have a share.
        let both = ["p7", "p8"].map(|port| (String::new(), Some(port.to_owned()), 1));
        assert_eq!(taken(&mut ports, &[hop(None, 7), hop(None, 8)]), both);
        // The same next hop twice is one with both shares.
        let twice = [
            ("3.3.3.3".to_owned(), Some("p7".to_owned()), 2),
            ("3.3.3.3".to_owned(), Some("p8".to_owned()), 1),
        ];
        let hops = [hop(Some("3.3.3.3"), 7), hop(Some("3.3.3.3"), 8), hop(Some("3.3.3.3"), 7)];
        assert_eq!(taken(&mut ports, &hops), twice);
    }

    #[test]
    fn an_on_link_gateway_keeps_its_interface_and_169_254_0_1_is_a_gateway_without_that_flag() {
        let mut ports = ports(&[("7", "p7")]);
        let onlink = |gateway| Hop { onlink: true, ..hop(Some(gateway), 7) };
        for gateway in ["3.3.3.3", "2001:db8::3"] {
            let expected = [(gateway.to_owned(), Some("p7".to_owned()), 1)];
            assert_eq!(taken(&mut ports, &[onlink(gateway)]), expected);
        }
        assert_eq!(taken(&mut ports, &[hop(Some("169.254.0.1"), 7)]), [("169.254.0.1".to_owned(), None, 1)]);
        // An interface that stands for no port: the hosts look for the gateway themselves.
        let elsewhere = Hop { interface: 9, ..onlink("3.3.3.3") };
        assert_eq!(taken(&mut ports, &[elsewhere]), [("3.3.3.3".to_owned(), None, 1)]);
    }

    #[test]
    fn the_same_neighbor_over_two_unknown_interfaces_is_one_hop_with_both_weights() {
        let mut out = Vec::new();
        let mut ports = ports(&[]);
        ports.usable(&[hop(Some("192.0.2.1"), 7), hop(Some("192.0.2.1"), 8)], &mut out).unwrap();
        assert_eq!(ports.in_use(&out).iter().map(|h| h.weight).collect::<Vec<_>>(), [2]);
    }
}
