//! Packets for programs on the router's host: accepted by destination and protocol, and passed to the TAP interface that they are for.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::packet::{checksum, nd};
use fibcast_dataplane::pipeline::port::Link;
use fibcast_dataplane::pipeline::tap_state::TapState;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::VrfId;

/// TAP interfaces of both ports.
fn taps() -> Stage {
    Stage::with(|setup| setup.ports.iter_mut().for_each(|port| port.exception_path = true))
}

/// A TAP interface of port 1 only.
fn tap_of_port_1() -> Stage {
    Stage::with(|setup| setup.ports[1].exception_path = true)
}

/// The port whose TAP interface a frame that arrives on port 0 goes to; `None` if it goes to the control thread or is dropped.
fn tap_for(stage: &mut Stage, frame: Vec<u8>) -> Option<u16> {
    let before = stage.snapshot();
    stage.send(0, frame.clone());
    let found = stage.rings.kernel.pop();
    if let Some(found) = &found {
        assert_eq!(found.bytes(), frame);
        assert_eq!(stage.snapshot().host, before.host + 1);
    }
    assert!(stage.rings.kernel.is_empty());
    found.map(|frame| frame.port)
}

fn to_group(mut frame: Vec<u8>, mac: [u8; 6]) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

/// UDP over IPv4 with other addresses and ports, to a broadcast or multicast MAC address.
fn udp(source: [u8; 4], destination: &str, port: u16) -> Vec<u8> {
    let mut packet = ipv4(destination);
    packet[26..30].copy_from_slice(&source);
    packet[36..38].copy_from_slice(&port.to_be_bytes());
    let mac = if packet[30] & 0xf0 == 0xe0 {
        [1, 0, 0x5e, packet[31] & 0x7f, packet[32], packet[33]]
    } else {
        [0xff; 6]
    };
    seal(to_group(packet, mac))
}

/// ICMPv6 over IPv6 from a link-local address with hop limit 255.
fn icmpv6(destination: &str, kind: u8) -> Vec<u8> {
    let mut packet = ipv6(destination);
    packet[20] = 58;
    packet[21] = 255;
    let (source, to): (Ipv6Addr, Ipv6Addr) = ("fe80::7".parse().unwrap(), destination.parse().unwrap());
    packet[22..38].copy_from_slice(&source.octets());
    packet[54..58].copy_from_slice(&[kind, 0, 0, 0]);
    let field = checksum::pseudo_v6(source, to, 58, &packet[54..]);
    packet[56..58].copy_from_slice(&field.to_be_bytes());
    if to.is_multicast() { to_group(packet, Mac::of_group(to).0) } else { packet }
}

#[test]
fn an_own_address_is_that_of_its_port_whichever_port_the_packet_arrives_on() {
    let mut stage = taps();
    for (own, port) in
        [("192.0.2.1", 0), ("198.51.100.1", 1)].into_iter().chain([("2001:db8::1", 0), ("2001:db8:1::1", 1)])
    {
        let packet = if own.contains(':') { ipv6(own) } else { ipv4(own) };
        assert_eq!(tap_for(&mut stage, packet), Some(port), "{own}");
    }
}

#[test]
fn the_tap_of_the_owner_decides_and_not_that_of_the_port_of_arrival() {
    let mut stage = tap_of_port_1();
    assert_eq!(tap_for(&mut stage, ipv4("198.51.100.1")), Some(1));
    assert_eq!(tap_for(&mut stage, ipv6("2001:db8:1::1")), Some(1));
    // Port 0 has none: the router itself refuses.
    assert_eq!(tap_for(&mut stage, ipv4("192.0.2.1")), None);
    stage.after(Duration::ZERO);
    let refusal = stage.out(0).expect("port unreachable");
    assert_eq!((refusal[34], refusal[35]), (3, 3));
    let mut stage = Stage::with(|setup| setup.ports[0].exception_path = true);
    assert_eq!(tap_for(&mut stage, ipv4("198.51.100.1")), None);
    stage.after(Duration::ZERO);
    assert!(stage.out(0).is_some(), "port unreachable");
}

#[test]
fn an_address_is_looked_for_in_the_vrf_of_the_port_of_arrival() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].exception_path = true;
        let mut sub = setup.ports[0].clone();
        (sub.name, sub.vrf, sub.link) = ("p0.5".to_owned(), VrfId(5), Link { device: 0, vlan: Some(5) });
        setup.ports.push(sub);
    });
    assert_eq!(tap_for(&mut stage, ipv4("192.0.2.1")), Some(0));
    let mut tagged = ipv4("192.0.2.1");
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    stage.send(0, tagged);
    assert_eq!(stage.rings.kernel.pop().unwrap().port, 2);
}

#[test]
fn neighbor_discovery_is_the_routers_and_router_discovery_the_hosts() {
    let mut stage = taps();
    let own = "2001:db8::1".parse().unwrap();
    let host: Ipv6Addr = "2001:db8::7".parse().unwrap();
    for target in [own, PORT[0].link_local()] {
        assert_eq!(tap_for(&mut stage, nd::solicitation(HOST, host, target, None)), None);
        let unicast = nd::solicitation(HOST, host, target, Some(PORT[0]));
        assert_eq!(tap_for(&mut stage, unicast), None);
        stage.after(Duration::ZERO);
        assert!(stage.out(0).is_some() && stage.out(0).is_some(), "two answers");
    }
    let link_local = PORT[0].link_local().to_string();
    for (destination, kind) in [
        ("ff02::2", 133),
        ("ff02::1", 134),
        (&link_local, 133),
        (&link_local, 134),
        (&link_local, 137),
        ("2001:db8::1", 134),
        ("2001:db8::1", 137),
        ("ff02::1", 128),
    ] {
        assert_eq!(tap_for(&mut stage, icmpv6(destination, kind)), Some(0), "{kind} to {destination}");
    }
    let mut stage = Stage::new();
    for kind in [133, 134] {
        stage.expect_drop(icmpv6("ff02::1", kind), Reason::Multicast);
    }
}

#[test]
fn an_answer_to_duplicate_address_detection_is_for_both() {
    let mut stage = taps();
    let target = "2001:db8::99".parse().unwrap();
    stage.send(0, nd::advertisement(HOST, target, Ipv6Addr::UNSPECIFIED, Mac::BROADCAST));
    assert_eq!((stage.rings.kernel.len(), stage.rings.host.len(), stage.snapshot().host), (1, 1, 1));
    let reply = fibcast_dataplane::packet::arp::ArpPacket {
        operation: fibcast_dataplane::packet::arp::Operation::Reply,
        sender_mac: HOST,
        sender: [192, 0, 2, 99].into(),
        target_mac: PORT[0],
        target: [0; 4].into(),
    };
    stage.send(0, reply.build(PORT[0]));
    assert_eq!((stage.rings.kernel.len(), stage.rings.host.len()), (2, 2));
}

#[test]
fn protocols_of_the_link_cross_the_tap_unchanged() {
    let (nearest, cisco) = ([1, 0x80, 0xc2, 0, 0, 0], [1, 0, 0xc, 0xcc, 0xcc, 0xcc]);
    let with = |mac: [u8; 6], last: u8| [mac[0], mac[1], mac[2], mac[3], mac[4], last];
    let mut stage = taps();
    for (mac, ethertype, length) in [
        (with(nearest, 0x0e), 0x88cc, 300),
        (with(nearest, 2), 0x8809, 110),
        (with(nearest, 3), 0x888e, 46),
        (with(nearest, 0x14), 1_500, 1_500),
        (with(nearest, 0x15), 27, 46),
        ([9, 0, 0x2b, 0, 0, 5], 0x8870, 1_500),
        (nearest, 38, 46),
        (cisco, 200, 200),
        ([1, 0x1b, 0x19, 0, 0, 0], 0x88f7, 46),
        (PORT[0].0, 0x88cc, 46),
    ] {
        let frame = to_group(frame(ethertype, &vec![7; length]), mac);
        assert_eq!(tap_for(&mut stage, frame), Some(0), "{ethertype:#06x}");
    }
    // Encapsulations that this router does not have, and frames to other stations.
    for ethertype in [0x8847, 0x88a8, 0x8864] {
        stage.expect_drop(frame(ethertype, &[0; 46]), Reason::UnknownEthertype);
    }
    stage.expect_drop(to_group(frame(0x88cc, &[0; 46]), [2, 9, 9, 9, 9, 9]), Reason::OtherHost);
    let mut stage = Stage::new();
    stage.expect_drop(to_group(frame(0x88cc, &[0; 46]), with(nearest, 0x0e)), Reason::UnknownEthertype);
}

#[test]
fn a_frame_of_the_largest_mtu_fits_and_a_sub_interface_has_its_own_protocols() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].exception_path = true;
        let mut sub = setup.ports[0].clone();
        (sub.name, sub.addresses, sub.link) =
            ("p0.5".to_owned(), Vec::new(), Link { device: 0, vlan: Some(5) });
        setup.ports.push(sub);
    });
    let mut hello = to_group(frame(1_500, &[0xfe; 1_500]), [1, 0x80, 0xc2, 0, 0, 0x14]);
    assert_eq!(tap_for(&mut stage, hello.clone()), Some(0));
    let plain = hello.clone();
    hello.splice(12..12, [0x81, 0, 0, 5]);
    stage.send(0, hello);
    let found = stage.rings.kernel.pop().unwrap();
    assert_eq!((found.port, found.bytes()), (2, &plain[..]));
}

#[test]
fn dhcp_broadcasts_are_for_the_host() {
    let mut stage = taps();
    let nobody = [0; 4];
    assert_eq!(tap_for(&mut stage, udp(nobody, "255.255.255.255", 67)), Some(0), "DISCOVER");
    assert_eq!(tap_for(&mut stage, udp([192, 0, 2, 7], "255.255.255.255", 68)), Some(0), "OFFER");
    assert_eq!(tap_for(&mut stage, udp([192, 0, 2, 7], "192.0.2.255", 520)), Some(0), "subnet broadcast");
    // A client that knows its server.
    let mut unicast = udp(nobody, "192.0.2.1", 67);
    unicast[..6].copy_from_slice(&PORT[0].0);
    assert_eq!(tap_for(&mut stage, seal(unicast)), Some(0));
    // The same to anybody else, and other broadcasts in a unicast packet, stay what they are.
    for (packet, reason) in [
        (udp(nobody, "198.51.100.9", 67), Reason::MartianSource),
        (udp(nobody, "192.0.2.1", 80), Reason::MartianSource),
        (udp([127, 0, 0, 1], "255.255.255.255", 67), Reason::MartianSource),
        (udp([255; 4], "255.255.255.255", 67), Reason::MartianSource),
        (udp([192, 0, 2, 7], "198.51.100.255", 67), Reason::LinkBroadcast),
        (udp([192, 0, 2, 7], "10.1.2.3", 67), Reason::LinkBroadcast),
        (udp([192, 0, 2, 7], "240.0.0.1", 67), Reason::MartianDestination),
    ] {
        stage.expect_drop(packet, reason);
    }
    let mut stage = Stage::new();
    stage.expect_drop(udp(nobody, "255.255.255.255", 67), Reason::MartianSource);
    stage.expect_drop(udp([192, 0, 2, 7], "255.255.255.255", 67), Reason::MartianDestination);
    stage.expect_drop(udp([192, 0, 2, 7], "192.0.2.255", 67), Reason::LinkBroadcast);
}

#[test]
fn an_offer_to_an_address_that_is_not_there_yet_is_for_the_dhcp_client() {
    let offer = |destination: &str, ports: [u16; 2]| {
        let mut packet = udp([192, 0, 2, 7], destination, ports[1]);
        packet[..6].copy_from_slice(&PORT[0].0);
        packet[34..36].copy_from_slice(&ports[0].to_be_bytes());
        packet
    };
    let mut stage = taps();
    assert_eq!(tap_for(&mut stage, offer("203.0.113.5", [67, 68])), Some(0), "no route");
    assert_eq!(tap_for(&mut stage, offer("10.66.0.1", [67, 68])), Some(0), "blackhole");
    stage.expect_drop(offer("203.0.113.5", [67, 69]), Reason::NoRoute);
    stage.expect_drop(offer("203.0.113.5", [53, 68]), Reason::NoRoute);
    // To a host of somebody else it is a packet like any other.
    stage.expect_forward(offer("10.1.2.3", [67, 68]));
    Stage::new().expect_drop(offer("203.0.113.5", [67, 68]), Reason::NoRoute);
}

#[test]
fn groups_of_the_link_and_joined_groups_are_for_the_host() {
    let mut stage = taps();
    for group in ["224.0.0.5", "224.0.0.18", "224.0.0.251", "224.0.0.1"] {
        assert_eq!(tap_for(&mut stage, udp([192, 0, 2, 7], group, 53)), Some(0), "{group}");
    }
    for group in ["ff02::5", "ff02::1:2", "ff02::fb", "ff12::1"] {
        assert_eq!(tap_for(&mut stage, to_group(ipv6(group), [0x33, 0x33, 0, 0, 0, 5])), Some(0), "{group}");
    }
    let (v4, v6) = (|| udp([192, 0, 2, 7], "239.1.2.3", 53), || ipv6("ff05::1:3"));
    stage.expect_drop(v4(), Reason::Multicast);
    stage.expect_drop(v6(), Reason::Multicast);
    stage.expect_drop(ipv6("ff01::1"), Reason::Multicast);
    stage.expect_drop(udp([0; 4], "239.1.2.3", 53), Reason::MartianSource);
    let groups = [(0, "239.1.2.3".parse().unwrap()), (0, "ff05::1:3".parse().unwrap())];
    stage.rings.taps.store(TapState { groups: groups.into(), ..TapState::default() }.into());
    assert_eq!(tap_for(&mut stage, v4()), Some(0));
    assert_eq!(tap_for(&mut stage, v6()), Some(0));
    let groups = [(1, "239.1.2.3".parse().unwrap())];
    stage.rings.taps.store(TapState { groups: groups.into(), ..TapState::default() }.into());
    stage.expect_drop(v4(), Reason::Multicast);
}

#[test]
fn an_address_that_the_kernel_has_on_a_tap_is_the_ports() {
    let mut stage = taps();
    let (v4, v6): (IpAddr, IpAddr) = ("203.0.113.1".parse().unwrap(), "2001:db8:9::1".parse().unwrap());
    let addresses = [((VrfId::DEFAULT, v4), 1), ((VrfId::DEFAULT, v6), 1)];
    stage.rings.taps.store(TapState { addresses: addresses.into(), ..TapState::default() }.into());
    let link_local = "fe80::1234/64";
    let all = ["203.0.113.1/24", "2001:db8:9::1/64", link_local].map(|address| address.parse().unwrap());
    let now = stage.now;
    stage.control.set_kernel_addresses(1, all.into(), now);
    stage.after(Duration::ZERO);
    stage.after(Duration::from_secs(1));
    assert_eq!(tap_for(&mut stage, ipv4("203.0.113.1")), Some(1));
    assert_eq!(tap_for(&mut stage, ipv6("2001:db8:9::1")), Some(1));
    while stage.out(1).is_some() {}
    // ARP and ND are answered.
    use fibcast_dataplane::packet::arp::ArpPacket;
    stage.send(1, ArpPacket::request(GATEWAY, [203, 0, 113, 9].into(), [203, 0, 113, 1].into(), None));
    for target in ["2001:db8:9::1", "fe80::1234"] {
        stage.send(1, nd::solicitation(GATEWAY, "fe80::9".parse().unwrap(), target.parse().unwrap(), None));
    }
    stage.after(Duration::ZERO);
    let answers: Vec<_> = std::iter::from_fn(|| stage.out(1)).collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|answer| answer[..6] == GATEWAY.0));
    // The subnet is connected: the request above told who has 203.0.113.9.
    assert_eq!(stage.expect_forward(ipv4("203.0.113.9"))[..6], GATEWAY.0);
    stage.expect_drop(ipv4("203.0.113.255"), Reason::Blackhole);
    let now = stage.now;
    stage.control.set_kernel_addresses(1, Vec::new(), now);
    stage.after(Duration::ZERO);
    stage.expect_drop(ipv4("203.0.113.1"), Reason::NoRoute);
    stage.expect_drop(ipv4("203.0.113.9"), Reason::NoRoute);
    stage.expect_drop(ipv6("2001:db8:9::1"), Reason::NoRoute);
    // What is configured stays.
    assert_eq!(tap_for(&mut stage, ipv4("198.51.100.1")), Some(1));
}

#[test]
fn a_configured_address_that_the_kernel_has_as_well_changes_nothing() {
    let mut stage = taps();
    let now = stage.now;
    let all = ["192.0.2.1/24".parse().unwrap(), "198.51.100.1/24".parse().unwrap()];
    for addresses in [all.to_vec(), Vec::new()] {
        stage.control.set_kernel_addresses(0, addresses, now);
        stage.after(Duration::ZERO);
        assert_eq!(tap_for(&mut stage, ipv4("192.0.2.1")), Some(0));
        assert_eq!(tap_for(&mut stage, ipv4("198.51.100.1")), Some(1));
        stage.expect_forward(ipv4("198.51.100.9"));
    }
}
