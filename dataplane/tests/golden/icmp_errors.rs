//! RFC 792, RFC 1812 §4.3, RFC 4443: which dropped packets cause an error, its content, source and rate.

use crate::stage::*;
use fibcast_dataplane::packet::{checksum, icmp_error, ipv4, ipv6};
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Group, Special, VrfId};
use std::time::Duration;

/// Type, code and the 32 bits after the checksum of an ICMP error, after all that must be right in any of them.
#[track_caller]
fn read_v4(error: &[u8], about: &[u8]) -> (u8, u8, u32) {
    assert_eq!((&error[..6], &error[6..12]), (&HOST.0[..], &PORT[0].0[..]));
    let header = ipv4::Ipv4Header::new_checked(&error[14..], error.len() - 14).unwrap();
    assert_eq!((header.source().octets(), header.destination().octets()), ([192, 0, 2, 1], [192, 0, 2, 7]));
    assert_eq!((header.protocol(), header.tos(), header.ttl()), (1, 0xc0, 64));
    let message = header.payload();
    assert_eq!(checksum::sum(message), 0xffff);
    let quoted = (about.len() - 14).min(548);
    assert_eq!(message[8..], about[14..14 + quoted], "the packet as it came in");
    (message[0], message[1], u32::from_be_bytes(message[4..8].try_into().unwrap()))
}

#[track_caller]
fn read_v6(error: &[u8], about: &[u8]) -> (u8, u8, u32) {
    assert_eq!((&error[..6], &error[6..12]), (&HOST.0[..], &PORT[0].0[..]));
    let header = ipv6::Ipv6Header::new_checked(&error[14..], error.len() - 14).unwrap();
    assert_eq!(header.source(), "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap());
    let message = header.payload();
    assert_eq!(checksum::pseudo_v6(header.source(), header.destination(), 58, message), 0);
    let quoted = (about.len() - 14).min(1_232);
    assert_eq!(message[8..], about[14..14 + quoted]);
    (message[0], message[1], u32::from_be_bytes(message[4..8].try_into().unwrap()))
}

fn with_ttl(mut packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    let at = if packet[12..14] == [8, 0] { 22 } else { 21 };
    packet[at] = ttl;
    if at == 22 { seal(packet) } else { packet }
}

/// An ICMP or ICMPv6 message to somewhere beyond, in a packet whose time is up.
fn icmp(kind: u8) -> Vec<u8> {
    let mut packet = with_ttl(ipv4("10.1.2.3"), 1);
    (packet[23], packet[34]) = (1, kind);
    seal(packet)
}

fn icmp_v6(kind: u8) -> Vec<u8> {
    let mut packet = with_ttl(ipv6("2001:db8:f::1"), 1);
    (packet[20], packet[54]) = (58, kind);
    packet
}

#[test]
fn time_exceeded() {
    let mut stage = Stage::new();
    let packet = with_ttl(ipv4("10.1.2.3"), 1);
    let error = stage.expect_error(packet.clone(), Reason::TtlExceeded);
    assert_eq!(read_v4(&error, &packet), (11, 0, 0));
    let packet = with_ttl(ipv6("2001:db8:f::1"), 1);
    let error = stage.expect_error(packet.clone(), Reason::TtlExceeded);
    assert_eq!(read_v6(&error, &packet), (3, 0, 0));
}

#[test]
fn no_route() {
    let mut stage = Stage::new();
    let packet = ipv4("203.0.113.5");
    let error = stage.expect_error(packet.clone(), Reason::NoRoute);
    assert_eq!(read_v4(&error, &packet), (3, 0, 0));
    let packet = ipv6("2001:db8:dead::1");
    let error = stage.expect_error(packet.clone(), Reason::NoRoute);
    assert_eq!(read_v6(&error, &packet), (1, 0, 0));
}

#[test]
fn routes_that_say_unreachable_or_prohibited() {
    let special = |prefix: &str, group: Group| {
        let prefix = prefix.parse().unwrap();
        fibcast_dataplane::control::own_routes::StaticRoute { vrf: VrfId::DEFAULT, prefix, group }
    };
    let mut stage = Stage::with(|setup| {
        setup.routes.push(special("172.16.1.0/24", Group::Special(Special::Unreachable)));
        setup.routes.push(special("172.16.2.0/24", Group::Special(Special::Prohibit)));
        setup.routes.push(special("2001:db8:a1::/48", Group::Special(Special::Unreachable)));
        setup.routes.push(special("2001:db8:a2::/48", Group::Special(Special::Prohibit)));
    });
    for (destination, reason, code) in
        [("172.16.1.1", Reason::Unreachable, 1), ("172.16.2.1", Reason::Prohibited, 13)]
    {
        let packet = ipv4(destination);
        let error = stage.expect_error(packet.clone(), reason);
        assert_eq!(read_v4(&error, &packet), (3, code, 0));
    }
    for (destination, reason, code) in
        [("2001:db8:a1::1", Reason::Unreachable, 3), ("2001:db8:a2::1", Reason::Prohibited, 1)]
    {
        let packet = ipv6(destination);
        let error = stage.expect_error(packet.clone(), reason);
        assert_eq!(read_v6(&error, &packet), (1, code, 0));
    }
}

#[test]
fn too_big_names_the_next_hops_mtu() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_400);
    let mut packet = ipv4("10.1.2.3");
    packet.resize(14 + 1_401, 7);
    packet[16..18].copy_from_slice(&1_401u16.to_be_bytes());
    let packet = seal(packet);
    let error = stage.expect_error(packet.clone(), Reason::TooBig);
    assert_eq!(read_v4(&error, &packet), (3, 4, 1_400));
    assert_eq!(error.len(), 14 + 576, "RFC 1812 §4.3.2.3: no more than 576 bytes");

    let mut packet = ipv6("2001:db8:f::1");
    packet.resize(14 + 1_401, 7);
    packet[18..20].copy_from_slice(&1_361u16.to_be_bytes());
    let error = stage.expect_error(packet.clone(), Reason::TooBig);
    assert_eq!(read_v6(&error, &packet), (2, 0, 1_400));
    assert_eq!(error.len(), 14 + 1_280, "RFC 4443 §2.4 (c): as much as the least MTU takes");
}

#[test]
fn a_next_hop_that_does_not_answer() {
    let mut stage = Stage::new();
    let packets = [ipv4("198.51.100.50"), ipv6("2001:db8:1::50")];
    for packet in &packets {
        stage.expect_held(packet.clone());
    }
    for _ in 0..5 {
        stage.after(Duration::from_secs(1));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.drops(Reason::NeighborUnreachable), snapshot.icmp_sent, snapshot.held), (2, 2, 0));
    assert_eq!(read_v4(&stage.out(0).unwrap(), &packets[0]), (3, 1, 0));
    assert_eq!(read_v6(&stage.out(0).unwrap(), &packets[1]), (1, 3, 0));
}

#[test]
fn a_link_local_source_is_told_that_its_scope_ends_here() {
    let mut stage = Stage::new();
    let mut packet = ipv6("2001:db8:f::1");
    let source: std::net::Ipv6Addr = "fe80::7".parse().unwrap();
    packet[22..38].copy_from_slice(&source.octets());
    stage.batch(vec![]);
    stage.send(0, packet);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.drops(Reason::LinkLocal), snapshot.dropped()), (1, 1));
    // The answer waits for the neighbor's MAC address, which nobody asked for yet.
    assert_eq!((snapshot.icmp_sent, snapshot.held), (1, 0));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(0).unwrap()[20..22], [58, 255], "a solicitation");
}

#[test]
fn never_about_an_error() {
    let mut stage = Stage::new();
    for kind in [3, 4, 5, 11, 12] {
        stage.send(0, icmp(kind));
    }
    for kind in [1, 2, 3, 4, 127, 137] {
        stage.send(0, icmp_v6(kind));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.drops(Reason::TtlExceeded), snapshot.icmp_sent + snapshot.icmp_limited), (11, 0));
    stage.expect_error(icmp(8), Reason::TtlExceeded);
    stage.expect_error(icmp_v6(128), Reason::TtlExceeded);
}

#[test]
fn never_about_an_error_behind_extension_headers() {
    let mut packet = icmp_v6(1);
    // Destination options of 8 bytes in front of the ICMPv6 message.
    packet[20] = 60;
    packet.splice(54..54, [58, 0, 1, 4, 0, 0, 0, 0]);
    packet[19] += 8;
    Stage::new().expect_drop(packet.clone(), Reason::TtlExceeded);
    packet[54 + 8] = 128;
    Stage::new().expect_error(packet, Reason::TtlExceeded);
}

#[test]
fn never_about_a_fragment_other_than_the_first() {
    let mut stage = Stage::new();
    let piece = |field: [u8; 2]| {
        let mut packet = with_ttl(ipv4("10.1.2.3"), 1);
        packet[20..22].copy_from_slice(&field);
        seal(packet)
    };
    stage.expect_drop(piece([0, 3]), Reason::TtlExceeded);
    stage.expect_drop(piece([0x20, 3]), Reason::TtlExceeded);
    stage.expect_error(piece([0x20, 0]), Reason::TtlExceeded);
    assert_eq!(stage.snapshot().icmp_sent, 1);
}

#[test]
fn never_about_a_broadcast_a_group_or_a_source_that_is_nobody() {
    let mut stage = Stage::new();
    let mut to_all = with_ttl(ipv4("10.1.2.3"), 1);
    to_all[..6].fill(0xff);
    let from = |source: [u8; 4]| {
        let mut packet = with_ttl(ipv4("10.1.2.3"), 1);
        packet[26..30].copy_from_slice(&source);
        seal(packet)
    };
    let mut frames = vec![to_all, with_ttl(ipv4("224.0.1.1"), 1), with_ttl(ipv4("255.255.255.255"), 1)];
    frames.extend(
        [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 5], [255, 255, 255, 255], [240, 0, 0, 1]].map(from),
    );
    frames.push(with_ttl(ipv6("ff0e::1"), 1));
    let mut unspecified = with_ttl(ipv6("2001:db8:f::1"), 1);
    unspecified[22..38].fill(0);
    frames.push(unspecified);
    let count = frames.len() as u64;
    frames.into_iter().for_each(|frame| stage.send(0, frame));
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.dropped(), snapshot.icmp_sent + snapshot.icmp_limited), (count, 0));
}

#[test]
fn a_blackhole_says_nothing() {
    let mut stage = Stage::new();
    stage.expect_drop(ipv4("10.66.0.1"), Reason::Blackhole);
    assert_eq!(stage.snapshot().icmp_sent, 0);
}

#[test]
fn a_flood_is_answered_at_the_configured_rate_and_the_rest_is_counted() {
    let mut stage = Stage::new();
    for _ in 0..500 {
        stage.send(0, ipv4("203.0.113.5"));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.icmp_sent, snapshot.icmp_limited), (50, 450), "the burst");
    for _ in 0..100 {
        stage.after(Duration::from_millis(10));
        (0..10).for_each(|_| stage.send(0, ipv4("203.0.113.5")));
    }
    assert_eq!(stage.snapshot().icmp_sent, 50 + 200, "and 200 in a second");
    // The other port has a bucket of its own.
    let mut packet = ipv4("203.0.113.5");
    packet[..6].copy_from_slice(&PORT[1].0);
    packet[26..30].copy_from_slice(&[198, 51, 100, 9]);
    stage.send(1, seal(packet));
    assert_eq!(stage.snapshot().icmp_sent, 251);
}

#[test]
fn without_a_buffer_the_packet_is_dropped_all_the_same() {
    let mut stage = Stage::new();
    stage.pool.limit(Some(0));
    stage.expect_drop(ipv4("203.0.113.5"), Reason::NoRoute);
    // Its failures are reported at the end of a turn.
    stage.after(std::time::Duration::ZERO);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.icmp_sent, snapshot.icmp_limited, snapshot.originate_failed), (0, 0, 1));
}

#[test]
fn a_port_without_an_ipv4_address_borrows_another_or_says_192_0_0_8() {
    // RFC 7600 §4.8.
    let mut stage = Stage::with(|setup| {
        setup.ports[0].addresses.remove(0);
        setup.routes.push(route("192.0.2.7/32", "2001:db8::7"));
    });
    let error = stage.expect_error(ipv4("203.0.113.5"), Reason::NoRoute);
    assert_eq!(error[26..30], [198, 51, 100, 1]);
    let mut stage = Stage::with(|setup| {
        setup.ports.iter_mut().for_each(|port| _ = port.addresses.remove(0));
        setup.routes = vec![route("192.0.2.7/32", "2001:db8::7")];
    });
    let error = stage.expect_error(ipv4("203.0.113.5"), Reason::NoRoute);
    assert_eq!(error[26..30], [192, 0, 0, 8]);
}

#[test]
fn nobody_listens_on_an_own_address_and_who_asks_is_told() {
    let mut stage = Stage::new();
    stage.send(0, ipv4("192.0.2.1"));
    stage.send(0, ipv6("2001:db8::1"));
    stage.after(Duration::ZERO);
    let (v4, v6) = (stage.out(0).unwrap(), stage.out(0).unwrap());
    assert_eq!(read_v4(&v4, &ipv4("192.0.2.1")), (3, 3, 0), "port unreachable: the end of a traceroute");
    assert_eq!(read_v6(&v6, &ipv6("2001:db8::1")), (1, 4, 0));
    let mut other = ipv4("192.0.2.1");
    other[23] = 132;
    let other = seal(other);
    stage.send(0, other.clone());
    stage.after(Duration::ZERO);
    assert_eq!(read_v4(&stage.out(0).unwrap(), &other), (3, 2, 0), "protocol unreachable");
}

#[test]
fn query_types_are_no_errors() {
    for kind in [0u8, 8, 9, 10, 13, 14, 15, 16, 17, 18] {
        let packet = icmp(kind);
        let header = ipv4::Ipv4Header::new_checked(&packet[14..], packet.len() - 14).unwrap();
        assert!(icmp_error::may_answer_v4(&header), "{kind}");
    }
}
