//! Capture filters in the style of pcap-filter(7): primitives joined by `and` and `or`, negated by `not`, grouped by parentheses.
//!
//! Primitives: `ip`, `ip6`, `arp`, `icmp`, `icmp6`, `tcp`, `udp`; `host ADDRESS`, `net PREFIX`, `port NUMBER`, each of the last three
//! optionally after `src` or `dst`. As there, `not` binds strongest, and `and` and `or` have the same precedence and associate to the left:
//! `udp or tcp and port 53` is `(udp or tcp) and port 53`. An empty filter matches every packet.

mod parse;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::ethernet::{self, Frame};
use crate::packet::{ipv4, ipv6, take};

/// A parsed filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// None: every packet matches.
    root: Option<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Primitive(Primitive),
    Not(Box<Node>),
    /// From left to right.
    Chain(Box<Node>, Vec<(Join, Node)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Any,
    Source,
    Destination,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Primitive {
    EtherType(u16),
    Protocol(u8),
    Net(Side, IpNet),
    Port(Side, u16),
}

/// Header fields that primitives compare.
#[derive(Debug, Default)]
struct Fields {
    ethertype: u16,
    addresses: Option<(IpAddr, IpAddr)>,
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
}

impl Filter {
    /// Whether a frame matches.
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.root.as_ref().is_none_or(|root| root.matches(&see(frame)))
    }
}

impl Node {
    fn matches(&self, seen: &Fields) -> bool {
        match self {
            Node::Primitive(primitive) => primitive.matches(seen),
            Node::Not(node) => !node.matches(seen),
            Node::Chain(first, rest) => {
                rest.iter().fold(first.matches(seen), |so_far, (join, node)| match join {
                    Join::And => so_far && node.matches(seen),
                    Join::Or => so_far || node.matches(seen),
                })
            }
        }
    }
}

impl Primitive {
    fn matches(self, seen: &Fields) -> bool {
        fn either<T>(side: Side, pair: Option<(T, T)>, asked: impl Fn(T) -> bool) -> bool {
            pair.is_some_and(|(source, destination)| match side {
                Side::Source => asked(source),
                Side::Destination => asked(destination),
                Side::Any => asked(source) || asked(destination),
            })
        }
        match self {
            Primitive::EtherType(kind) => seen.ethertype == kind,
            Primitive::Protocol(protocol) => seen.protocol == Some(protocol),
            Primitive::Net(side, net) => either(side, seen.addresses, |address| net.contains(&address)),
            Primitive::Port(side, port) => either(side, seen.ports, |found| found == port),
        }
    }
}

fn see(frame: &[u8]) -> Fields {
    let Ok(view) = Frame::new_checked(frame) else { return Fields::default() };
    let tagged = view.ethertype() == ethernet::VLAN;
    let (ethertype, bytes) = match (tagged, view.payload()) {
        (true, [_, _, high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]), rest),
        (_, payload) => (view.ethertype(), payload),
    };
    let mut seen = Fields { ethertype, ..Fields::default() };
    let payload = match ethertype {
        ethernet::IPV4 => match ipv4::Ipv4Header::new_checked(bytes, usize::from(u16::MAX)) {
            Ok(header) => {
                seen.addresses = Some((header.source().into(), header.destination().into()));
                seen.protocol = Some(header.protocol());
                if header.fragment_offset() == 0 { header.payload() } else { &[] }
            }
            Err(_) => &[],
        },
        ethernet::IPV6 => match ipv6::Ipv6Header::new_checked(bytes, usize::MAX) {
            Ok(header) => {
                seen.addresses = Some((header.source().into(), header.destination().into()));
                seen.protocol = Some(header.next_header());
                header.payload()
            }
            Err(_) => &[],
        },
        _ => &[],
    };
    if matches!(seen.protocol, Some(6 | 17 | 132)) {
        seen.ports = take::<4>(payload, 0)
            .map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;
    use crate::packet::ethernet::Mac;
    use proptest::prelude::*;

    /// UDP 10.0.0.1:1000 to 10.0.0.2:53.
    fn udp() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let field = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&field.to_be_bytes());
        bytes.extend([3, 232, 0, 53, 0, 8, 0, 0]);
        ethernet::build(Mac([2; 6]), Mac([4; 6]), ethernet::IPV4, &bytes)
    }

    #[test]
    fn each_primitive_matches_its_field() {
        for (filter, wanted) in [
            ("", true),
            ("ip", true),
            ("ip6", false),
            ("not arp and udp", true),
            ("tcp", false),
            ("host 10.0.0.2", true),
            ("src host 10.0.0.2", false),
            ("dst net 10.0.0.0/24 and port 53", true),
            ("src port 53", false),
            ("not src port 53 and not host 10.9.9.9", true),
            ("net 2001:db8::/32", false),
            ("tcp or udp", true),
            ("tcp or arp", false),
            ("(tcp or udp) and not (port 54 or arp)", true),
            ("not (udp and port 53)", false),
            ("not not udp", true),
            // Equal precedence, from left to right.
            ("udp or tcp and port 54", false),
            ("udp or (tcp and port 54)", true),
            ("tcp and port 54 or udp", true),
            ("!tcp && (port 53||port 54)", true),
        ] {
            assert_eq!(filter.parse::<Filter>().unwrap().matches(&udp()), wanted, "{filter}");
        }
    }

    #[test]
    fn a_tag_does_not_hide_a_packet() {
        let mut frame = udp();
        frame.splice(12..12, [0x81, 0, 0, 5]);
        assert!("udp and port 53".parse::<Filter>().unwrap().matches(&frame));
    }

    proptest! {
        #[test]
        fn any_bytes_are_asked_about(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for filter in ["udp and port 53", "host ::1", "arp", "not (ip or ip6) or tcp"] {
                let _ = filter.parse::<Filter>().unwrap().matches(&bytes);
            }
        }
    }
}
