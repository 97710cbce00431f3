//! Classifies frames that the kernel sends out of a TAP interface.

use std::net::IpAddr;

use crate::control::PortSetup;
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::{arp, ipv6, nd};

/// What to do with such a frame; see the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An ARP request or neighbor solicitation; this is the answer to the kernel.
    Reply(Vec<u8>),
    /// Address resolution that only concerns the router.
    Ignore,
    /// Link-local multicast: sent out of the port unchanged.
    Wire,
    /// Unicast: routed by the table.
    Route,
}

/// The MAC address that stands for the router towards the kernel; never seen on a wire.
fn router_behind(port: Mac) -> Mac {
    let [a, rest @ ..] = port.0;
    let [b, c, d, e, f] = rest;
    // Locally administered, and not the interface's own.
    Mac([(a ^ 0x40) | 2, b, c, d, e, f])
}

/// Classifies a frame from the TAP interface of `port`.
pub fn answer(frame: &[u8], port: &PortSetup) -> Answer {
    let Ok(view) = Frame::new_checked(frame) else { return Answer::Ignore };
    let router = router_behind(port.mac);
    match view.ethertype() {
        ethernet::ARP => match arp::ArpPacket::new_checked(view.payload()) {
            Ok(packet) if packet.operation == arp::Operation::Request && !port.owns(packet.target.into()) => {
                Answer::Reply(packet.reply(router))
            }
            _ => Answer::Ignore,
        },
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Header::new_checked(view.payload(), view.payload().len()) else {
                return Answer::Ignore;
            };
            // Neighbor discovery (RFC 4861) is answered here; multicast listener reports (RFC 2710, RFC 3810, behind a hop-by-hop header)
            // are dropped.
            if header.next_header() == 0 {
                return Answer::Ignore;
            }
            if header.next_header() == nd::ICMPV6 && matches!(header.payload().first(), Some(130..=137 | 143))
            {
                return solicited(&header, port, router, view.source());
            }
            if header.destination().is_multicast() { Answer::Wire } else { Answer::Route }
        }
        ethernet::IPV4 if view.destination().is_multicast() => Answer::Wire,
        ethernet::IPV4 => Answer::Route,
        _ => Answer::Ignore,
    }
}

fn solicited(header: &ipv6::Header<'_>, port: &PortSetup, router: Mac, asker: Mac) -> Answer {
    match nd::Message::new_checked(header) {
        Ok(nd::Message::Solicitation { target, .. })
            if !header.source().is_unspecified() && !port.owns(IpAddr::V6(target)) =>
        {
            Answer::Reply(nd::advertisement(router, target, header.source(), asker))
        }
        _ => Answer::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::port::{Link, ReversePath};
    use fibcast_fib::VrfId;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn port() -> PortSetup {
        PortSetup {
            name: "p0".to_owned(),
            mac: MAC,
            addresses: vec!["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()],
            loopback: Vec::new(),
            mtu: 1_500,
            vrf: VrfId::DEFAULT,
            link: Link { device: 0, vlan: None },
            reverse_path: ReversePath::Off,
            exception_path: true,
        }
    }

    #[test]
    fn the_kernels_questions_are_answered_and_never_with_its_own_mac() {
        let request = arp::ArpPacket::request(MAC, [192, 0, 2, 1].into(), [192, 0, 2, 9].into(), None);
        let Answer::Reply(reply) = answer(&request, &port()) else { panic!("no reply") };
        let reply = arp::ArpPacket::new_checked(&reply[14..]).unwrap();
        assert_eq!((reply.sender.octets(), reply.target_mac), ([192, 0, 2, 9], MAC));
        assert!(reply.sender_mac != MAC && reply.sender_mac.is_unicast());
        let (own, other) = ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let Answer::Reply(reply) = answer(&nd::solicitation(MAC, own, other, None), &port()) else {
            panic!("no reply")
        };
        assert_eq!(reply[..6], MAC.0);
    }

    #[test]
    fn questions_about_its_own_addresses_are_left_to_the_router() {
        let own: std::net::Ipv4Addr = [192, 0, 2, 1].into();
        assert_eq!(answer(&arp::ArpPacket::request(MAC, own, own, None), &port()), Answer::Ignore);
        let own = "2001:db8::1".parse().unwrap();
        let probe = nd::solicitation(MAC, std::net::Ipv6Addr::UNSPECIFIED, own, None);
        assert_eq!(answer(&probe, &port()), Answer::Ignore);
    }

    #[test]
    fn groups_go_to_the_wire_and_all_else_by_the_table() {
        let frame = |destination: [u8; 6], ethertype: u16| {
            let mut payload = [0; 60];
            payload[0] = if ethertype == ethernet::IPV4 { 0x45 } else { 0x60 };
            payload[6] = 89;
            payload[24] = if destination[0] & 1 == 1 { 0xff } else { 0x20 };
            ethernet::build(Mac(destination), MAC, ethertype, &payload)
        };
        assert_eq!(answer(&frame([1, 0, 0x5e, 0, 0, 5], ethernet::IPV4), &port()), Answer::Wire);
        assert_eq!(answer(&frame([0x33, 0x33, 0, 0, 0, 5], ethernet::IPV6), &port()), Answer::Wire);
        assert_eq!(answer(&frame([0x42, 0, 0, 0, 0, 1], ethernet::IPV4), &port()), Answer::Route);
        assert_eq!(answer(&frame([0x42, 0, 0, 0, 0, 1], ethernet::IPV6), &port()), Answer::Route);
        assert_eq!(answer(&frame([0x42, 0, 0, 0, 0, 1], 0x88cc), &port()), Answer::Ignore);
    }
}
