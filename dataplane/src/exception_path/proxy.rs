//! Classifies frames that the kernel sends out of a TAP interface.
//!
//! To the kernel the router is one neighbor with a MAC address of its own: frames to it are routed by the table. All other frames are for the
//! link and leave by the port as they are: those to groups and all stations, and those to the MAC address of a station, which programs with
//! packet sockets (DHCP) send, and the kernel to a router whose advertisement it received.

use std::net::IpAddr;

use crate::control::PortSetup;
use crate::membership::Station;
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::{arp, igmp, ipv6, mld, nd};
use crate::pipeline::punt::{self, Discovery};

/// What to do with such a frame; see the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An ARP request or neighbor solicitation; this is the answer to the kernel.
    Reply(Vec<u8>),
    /// Address resolution that only concerns the router, or no protocol of the link.
    Ignore,
    /// For the link: sent out of the port unchanged.
    Wire,
    /// To the router's MAC address: routed by the table.
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
    let routed = view.destination() == router;
    match view.ethertype() {
        ethernet::ARP => resolution(&view, port, router),
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Ipv6Header::new_checked(view.payload(), view.payload().len()) else {
                return Answer::Ignore;
            };
            match punt::neighbor_discovery(&header) {
                Some(kind) => discovery(kind, &header, port, router, view.source()),
                None if routed => Answer::Route,
                None => Answer::Wire,
            }
        }
        ethernet::IPV4 if routed => Answer::Route,
        ethernet::IPV4 => Answer::Wire,
        ethertype if !routed && punt::is_link_protocol(ethertype) => Answer::Wire,
        _ => Answer::Ignore,
    }
}

/// ARP (RFC 826): a request is answered, as the router resolves neighbors itself. The router speaks for its own addresses. For others, which
/// an operator added, the kernel and its programs probe and announce on the link (RFC 5227 §2.1.1, §2.3).
fn resolution(view: &Frame<'_>, port: &PortSetup, router: Mac) -> Answer {
    match arp::ArpPacket::new_checked(view.payload()) {
        Ok(packet)
            if port.owns(packet.target.into())
                || port.owns(packet.sender.into()) && packet.sender == packet.target =>
        {
            Answer::Ignore
        }
        Ok(packet) if packet.sender.is_unspecified() || packet.sender == packet.target => Answer::Wire,
        Ok(packet) if packet.operation == arp::Operation::Request => Answer::Reply(packet.reply(router)),
        _ => Answer::Ignore,
    }
}

/// Neighbor discovery (RFC 4861 §7.2): the same for IPv6. Duplicate address detection (RFC 4862 §5.4) has no source.
fn discovery(
    kind: Discovery,
    header: &ipv6::Ipv6Header<'_>,
    port: &PortSetup,
    router: Mac,
    asker: Mac,
) -> Answer {
    match (kind, nd::Message::new_checked(header)) {
        (Discovery::Solicitation, Ok(nd::Message::Solicitation { target, .. }))
            if !port.owns(IpAddr::V6(target)) =>
        {
            if header.source().is_unspecified() {
                Answer::Wire
            } else {
                Answer::Reply(nd::advertisement(router, target, header.source(), asker))
            }
        }
        // Unsolicited: the kernel's answers to solicitations do not exist, as it gets none.
        (Discovery::Advertisement, Ok(nd::Message::Advertisement { target, .. }))
            if header.destination().is_multicast() && !port.owns(IpAddr::V6(target)) =>
        {
            Answer::Wire
        }
        _ => Answer::Ignore,
    }
}

/// Prepares a frame to the link if it is a report of group membership: the kernel must not leave a group that the router itself is a member
/// of. False if the frame must not be sent.
pub fn keep_memberships(frame: &mut [u8], port: &PortSetup) -> bool {
    let station = Station { mac: port.mac, addresses: &port.addresses, loopback: &port.loopback };
    let ethertype = Frame::new_checked(frame).map(|view| view.ethertype());
    match ethertype {
        Ok(ethernet::IPV4) => igmp::keep(frame, |group| station.is_member(group.into())),
        Ok(ethernet::IPV6) => mld::keep(frame, |group| station.is_member(group.into())),
        _ => true,
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
        // A DHCP server to a client that has no address yet; a broadcast of either side.
        assert_eq!(answer(&frame([2, 9, 9, 9, 9, 9], ethernet::IPV4), &port()), Answer::Wire);
        assert_eq!(answer(&frame([0xff; 6], ethernet::IPV4), &port()), Answer::Wire);
        // Behind a hop-by-hop header: MLD.
        let mut report = frame([0x33, 0x33, 0, 0, 0, 0x16], ethernet::IPV6);
        report[20] = 0;
        assert_eq!(answer(&report, &port()), Answer::Wire);
    }

    #[test]
    fn protocols_of_the_link_go_to_the_wire_and_encapsulations_nowhere() {
        let to =
            |mac: [u8; 6], ethertype| answer(&ethernet::build(Mac(mac), MAC, ethertype, &[7; 60]), &port());
        for (mac, ethertype) in [
            ([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc),
            ([1, 0x80, 0xc2, 0, 0, 2], 0x8809),
            ([1, 0x80, 0xc2, 0, 0, 0x14], 1_500),
            ([9, 0, 0x2b, 0, 0, 5], 0x8870),
            ([2, 9, 9, 9, 9, 9], 0x88cc),
        ] {
            assert_eq!(to(mac, ethertype), Answer::Wire, "{ethertype:#06x}");
        }
        for ethertype in [ethernet::VLAN, 0x88a8, 0x8847] {
            assert_eq!(to([1, 0x80, 0xc2, 0, 0, 0x0e], ethertype), Answer::Ignore);
        }
    }

    /// ICMPv6 of the kernel from its link-local address.
    fn icmpv6(to: Mac, destination: &str, kind: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 255];
        packet.extend(MAC.link_local().octets());
        packet.extend(destination.parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        ethernet::build(to, MAC, ethernet::IPV6, &packet)
    }

    #[test]
    fn router_discovery_goes_to_the_wire_or_by_the_table() {
        let router = router_behind(MAC);
        for kind in [133, 134, 137, 128] {
            let group = icmpv6(Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1", kind);
            assert_eq!(answer(&group, &port()), Answer::Wire, "{kind}");
            assert_eq!(answer(&icmpv6(router, "fe80::9", kind), &port()), Answer::Route, "{kind}");
            assert_eq!(answer(&icmpv6(Mac([2; 6]), "fe80::9", kind), &port()), Answer::Wire, "{kind}");
        }
    }

    #[test]
    fn an_operators_address_is_probed_and_announced_on_the_link() {
        let (own, other): ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 77]);
        let request = |sender: [u8; 4], target: [u8; 4]| {
            arp::ArpPacket::request(MAC, sender.into(), target.into(), None)
        };
        assert_eq!(answer(&request([0; 4], other), &port()), Answer::Wire);
        assert_eq!(answer(&request(other, other), &port()), Answer::Wire);
        assert_eq!(answer(&request([0; 4], own), &port()), Answer::Ignore);
        let target = "2001:db8::77".parse().unwrap();
        // RFC 4862 §5.4.2: a probe does not name its sender's MAC address.
        let mut probe = nd::solicitation(MAC, std::net::Ipv6Addr::UNSPECIFIED, target, None);
        probe[19] = 24;
        probe[56..58].fill(0);
        let field = crate::packet::checksum::pseudo_v6(
            std::net::Ipv6Addr::UNSPECIFIED,
            nd::solicited_node(target),
            nd::ICMPV6,
            &probe[54..78],
        );
        probe[56..58].copy_from_slice(&field.to_be_bytes());
        assert_eq!(answer(&probe, &port()), Answer::Wire);
        let unspecified = std::net::Ipv6Addr::UNSPECIFIED;
        assert_eq!(
            answer(&nd::advertisement(MAC, target, unspecified, Mac::BROADCAST), &port()),
            Answer::Wire
        );
        let own = "2001:db8::1".parse().unwrap();
        assert_eq!(
            answer(&nd::advertisement(MAC, own, unspecified, Mac::BROADCAST), &port()),
            Answer::Ignore
        );
    }

    #[test]
    fn the_kernels_reports_do_not_contradict_the_routers() {
        use crate::packet::membership::Record;
        let (own, other) = ("ff02::1:ff00:1".parse().unwrap(), "ff02::fb".parse().unwrap());
        let mut report =
            mld::report(MAC, MAC.link_local(), &[(Record::ToInclude, own), (Record::ToInclude, other)]);
        assert!(keep_memberships(&mut report, &port()));
        assert_eq!((report[70], report[90]), (Record::ToExclude as u8, Record::ToInclude as u8));
        let mut leave = igmp::leave(MAC, [192, 0, 2, 1].into(), [224, 0, 0, 2].into());
        assert!(!keep_memberships(&mut leave, &port()));
        let mut hello = ethernet::build(Mac([1, 0x80, 0xc2, 0, 0, 0x14]), MAC, 27, &[7; 60]);
        assert!(keep_memberships(&mut hello, &port()) && keep_memberships(&mut [0; 3], &port()));
    }
}
