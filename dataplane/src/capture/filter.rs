//! Capture filters in the style of pcap-filter(7): primitives joined by `and`, each optionally negated by `not`.
//!
//! Primitives: `ip`, `ip6`, `arp`, `icmp`, `icmp6`, `tcp`, `udp`; `host ADDRESS`, `net PREFIX`, `port NUMBER`, each of the last three
//! optionally after `src` or `dst`. An empty filter matches every packet.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::packet::ethernet::{self, Frame};
use crate::packet::{ipv4, ipv6, take};

/// A parsed filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    primitives: Vec<(bool, Primitive)>,
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
        if self.primitives.is_empty() {
            return true;
        }
        let seen = see(frame);
        self.primitives.iter().all(|(wanted, primitive)| primitive.matches(&seen) == *wanted)
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

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let mut primitives = Vec::new();
        let mut words = text.split_whitespace().peekable();
        while words.peek().is_some() {
            let mut wanted = true;
            while words.next_if_eq(&"not").is_some() {
                wanted = !wanted;
            }
            let side = match words.peek() {
                Some(&"src") => Side::Source,
                Some(&"dst") => Side::Destination,
                _ => Side::Any,
            };
            if side != Side::Any {
                words.next();
            }
            let word = words.next().ok_or("the filter ends where a primitive was expected")?;
            let mut value = |what: &str| words.next().ok_or(format!("expected {what} after {word:?}"));
            let primitive = match word {
                "ip" => Primitive::EtherType(ethernet::IPV4),
                "ip6" => Primitive::EtherType(ethernet::IPV6),
                "arp" => Primitive::EtherType(ethernet::ARP),
                "icmp" => Primitive::Protocol(1),
                "tcp" => Primitive::Protocol(6),
                "udp" => Primitive::Protocol(17),
                "icmp6" => Primitive::Protocol(58),
                "host" | "net" => {
                    let text = value("an address")?;
                    let host = text.parse::<IpAddr>().map(IpNet::from).ok();
                    let net = host.or_else(|| text.parse::<IpNet>().ok());
                    Primitive::Net(side, net.ok_or(format!("expected an address or prefix, found {text:?}"))?)
                }
                "port" => {
                    let text = value("a number")?;
                    let port = text.parse().map_err(|_| format!("expected a port number, found {text:?}"))?;
                    Primitive::Port(side, port)
                }
                _ => {
                    return Err(format!(
                        "expected ip, ip6, arp, icmp, icmp6, tcp, udp, host, net or port, found {word:?}"
                    ));
                }
            };
            primitives.push((wanted, primitive));
            match words.next() {
                None => break,
                Some("and") if words.peek().is_some() => {}
                Some(other) => {
                    return Err(format!("expected \"and\" and another primitive, found {other:?}"));
                }
            }
        }
        Ok(Filter { primitives })
    }
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

    #[test]
    fn wrong_filters_say_what_was_expected() {
        for (filter, words) in [
            ("udpp", "found \"udpp\""),
            ("host", "expected an address after"),
            ("host 10.0.0", "found \"10.0.0\""),
            ("port many", "found \"many\""),
            ("udp tcp", "expected \"and\""),
            ("udp and", "expected \"and\""),
            ("not", "ends where a primitive"),
        ] {
            assert!(filter.parse::<Filter>().unwrap_err().contains(words), "{filter}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_asked_about(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for filter in ["udp and port 53", "host ::1", "arp"] {
                let _ = filter.parse::<Filter>().unwrap().matches(&bytes);
            }
        }
    }
}
