//! RFC 1812 §5.2.1.2, §5.3.1, RFC 8200 §3: the order of checks. A packet whose time ends here is answered by this router at once, whatever its
//! next hop is; only the route itself comes before.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Group, GroupLabel, Special};
use std::time::Duration;

/// Time exceeded in ICMP, and in ICMPv6.
const EXCEEDED: [(u8, u8); 2] = [(11, 0), (3, 0)];

/// To an IPv4 and an IPv6 destination, with a time to live that ends here.
fn expiring(destinations: [&str; 2], left: u8) -> [Vec<u8>; 2] {
    let (mut four, mut six) = (ipv4(destinations[0]), ipv6(destinations[1]));
    (four[22], six[21]) = (left, left);
    [seal(four), six]
}

fn sized([four, six]: [Vec<u8>; 2], length: u16) -> [Vec<u8>; 2] {
    let (mut four, mut six) = (four, six);
    four.resize(14 + usize::from(length), 0);
    four[16..18].copy_from_slice(&length.to_be_bytes());
    six.resize(14 + usize::from(length), 0);
    six[18..20].copy_from_slice(&(length - 40).to_be_bytes());
    [seal(four), six]
}

/// Type and code of an ICMP or ICMPv6 error.
fn kind(error: &[u8]) -> (u8, u8) {
    let at = if error[12..14] == [8, 0] { 34 } else { 54 };
    (error[at], error[at + 1])
}

/// Both packets are answered with these types and codes from port 0, and nobody is asked for.
#[track_caller]
fn expect_answers(stage: &mut Stage, packets: [Vec<u8>; 2], reason: Reason, kinds: [(u8, u8); 2]) {
    for (packet, expected) in packets.into_iter().zip(kinds) {
        while stage.out(1).is_some() {}
        let four = packet[12..14] == [8, 0];
        let error = stage.expect_error(packet, reason);
        assert_eq!(kind(&error), expected);
        let own: std::net::IpAddr = if four { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        let source: std::net::IpAddr = if four {
            std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&error[26..30]).unwrap()).into()
        } else {
            std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&error[22..38]).unwrap()).into()
        };
        assert_eq!(source, own, "a traceroute shows this router");
        stage.after(Duration::ZERO);
        assert_eq!(stage.out(1), None, "nobody is asked for");
        assert_eq!(stage.snapshot().held, 0);
    }
}

#[test]
fn a_known_next_hop() {
    for left in [0, 1] {
        let packets = expiring(["10.1.2.3", "2001:db8:f::1"], left);
        expect_answers(&mut Stage::new(), packets, Reason::TtlExceeded, EXCEEDED);
    }
}

/// Only the host behind port 0 is known. The first requests for the gateways have been sent, and the publication no longer waits for answers.
fn without_gateways() -> Stage {
    let known = ["192.0.2.7", "2001:db8::7"].map(|address| (0, address.parse().unwrap(), HOST));
    let mut stage = Stage::with_neighbors(known.to_vec());
    stage.after(Duration::from_millis(100));
    stage
}

#[test]
fn a_gateway_that_has_not_answered() {
    for left in [0, 1] {
        let packets = expiring(["10.1.2.3", "2001:db8:f::1"], left);
        expect_answers(&mut without_gateways(), packets, Reason::TtlExceeded, EXCEEDED);
    }
    // A packet with time left waits.
    without_gateways().expect_held(ipv4("10.1.2.3"));
}

#[test]
fn a_host_of_a_connected_subnet_that_nobody_knows() {
    let mut stage = Stage::new();
    for left in [0, 1] {
        let packets = expiring(["198.51.100.50", "2001:db8:1::50"], left);
        expect_answers(&mut stage, packets, Reason::TtlExceeded, EXCEEDED);
    }
    assert_eq!(stage.control.neighbor_list().neighbors.len(), 4, "the static ones");
}

#[test]
fn a_host_that_did_not_answer() {
    let mut stage = Stage::new();
    stage.expect_held(ipv4("198.51.100.50"));
    for _ in 0..2 {
        stage.after(Duration::from_secs(1));
    }
    let [four, _] = expiring(["198.51.100.50", "2001:db8:1::50"], 1);
    assert_eq!(kind(&stage.expect_error(four, Reason::TtlExceeded)), (11, 0));
}

#[test]
fn a_known_host_of_a_connected_subnet() {
    let packets = expiring(["198.51.100.9", "2001:db8:1::9"], 1);
    expect_answers(&mut Stage::new(), packets, Reason::TtlExceeded, EXCEEDED);
}

#[test]
fn a_member_of_a_group() {
    let mut stage = Stage::with(|setup| {
        let several = |prefix: &str, gateways: [&str; 2]| {
            let members = gateways.map(|gateway| fibcast_fib::Member {
                next_hop: fibcast_fib::NextHop::via(gateway.parse().unwrap()),
                weight: 1,
            });
            let group = Group::hops(members.to_vec()).unwrap();
            fibcast_dataplane::control::own_routes::StaticRoute {
                vrf: fibcast_fib::VrfId::DEFAULT,
                prefix: prefix.parse().unwrap(),
                group,
            }
        };
        setup.routes.push(several("172.16.0.0/12", ["198.51.100.9", "198.51.100.10"]));
        setup.routes.push(several("2001:db8:e::/48", ["2001:db8:1::9", "2001:db8:1::10"]));
    });
    stage.after(Duration::from_millis(100));
    for last in 1..9 {
        let to = [format!("172.16.0.{last}"), format!("2001:db8:e::{last}")];
        let packets = expiring([&to[0], &to[1]], 1);
        expect_answers(&mut stage, packets, Reason::TtlExceeded, EXCEEDED);
    }
}

#[test]
fn a_link_that_is_down() {
    // First the workers alone know of it, then the table.
    for table in [false, true] {
        for to in [["10.1.2.3", "2001:db8:f::1"], ["198.51.100.9", "2001:db8:1::9"]] {
            let mut stage = Stage::new();
            stage.rings.links.set(1, false);
            if table {
                stage.control.set_link(1, false, stage.now);
                stage.after(Duration::ZERO);
            }
            let packets = expiring(to, 1);
            expect_answers(&mut stage, packets, Reason::TtlExceeded, EXCEEDED);
        }
    }
}

#[test]
fn a_packet_that_is_too_big() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_400);
    let packets = sized(expiring(["10.1.2.3", "2001:db8:f::1"], 1), 1_450);
    expect_answers(&mut stage, packets, Reason::TtlExceeded, EXCEEDED);
    // With time left the MTU decides.
    let packets = sized(expiring(["10.1.2.3", "2001:db8:f::1"], 2), 1_450);
    expect_answers(&mut stage, packets, Reason::TooBig, [(3, 4), (2, 0)]);
    // To be fragmented: no fragment of it leaves.
    let [mut four, _] = sized(expiring(["10.1.2.3", "2001:db8:f::1"], 1), 1_450);
    four[20] = 0;
    assert_eq!(kind(&stage.expect_error(seal(four), Reason::TtlExceeded)), (11, 0));
    assert_eq!((stage.snapshot().fragments, stage.out(1)), (0, None));
}

#[test]
fn a_packet_that_is_too_big_for_a_next_hop_that_has_not_answered() {
    let packets = sized(expiring(["10.1.2.3", "2001:db8:f::1"], 1), 1_501);
    expect_answers(&mut without_gateways(), packets, Reason::TtlExceeded, EXCEEDED);
}

#[test]
fn a_packet_with_options() {
    let mut stage = without_gateways();
    let [mut packet, _] = expiring(["10.1.2.3", "2001:db8:f::1"], 1);
    packet.splice(34..34, [7, 7, 4, 0, 0, 0, 0, 0]);
    packet[14] = 0x47;
    packet[17] += 8;
    let error = stage.expect_error(seal(packet), Reason::TtlExceeded);
    assert_eq!(kind(&error), (11, 0));
    assert_eq!(error[14 + 28 + 20..14 + 28 + 28], [7, 7, 4, 0, 0, 0, 0, 0], "it is quoted as it came");
}

#[test]
fn a_link_local_source() {
    // Linux (`ip6_forward`) looks at the hop limit before it looks at the scope. The answer waits for the source's MAC address.
    let mut stage = Stage::new();
    let [_, mut packet] = expiring(["10.1.2.3", "2001:db8:f::1"], 1);
    packet[22..38].copy_from_slice(&"fe80::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    stage.expect_drop(packet, Reason::TtlExceeded);
    // Nobody is asked for on its behalf either.
    let mut packet = ipv6("2001:db8:1::50");
    packet[22..38].copy_from_slice(&"fe80::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    stage.expect_drop(packet, Reason::LinkLocal);
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(1), None);
}

#[test]
fn a_source_that_fails_the_reverse_path_check_asks_for_nobody() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].reverse_path = fibcast_dataplane::pipeline::port::ReversePath::Strict
    });
    for to in ["198.51.100.50", "10.1.2.3"] {
        let mut packet = ipv4(to);
        packet[22] = 1;
        packet[26..30].copy_from_slice(&[198, 51, 100, 77]);
        stage.expect_drop(seal(packet), Reason::ReversePath);
        stage.after(Duration::ZERO);
        assert_eq!((stage.out(0), stage.out(1)), (None, None));
    }
}

#[test]
fn the_route_comes_first() {
    let mut stage = Stage::new();
    let group =
        |label, special| Change::PutGroup { label: GroupLabel(label), group: Group::Special(special) };
    stage.batch(vec![
        group(1, Special::Blackhole),
        group(2, Special::Unreachable),
        group(3, Special::Prohibit),
        announce("172.17.0.0/16", 1),
        announce("2001:db8:a1::/48", 1),
        announce("172.18.0.0/16", 2),
        announce("2001:db8:a2::/48", 2),
        announce("172.19.0.0/16", 3),
        announce("2001:db8:a3::/48", 3),
    ]);
    for left in [0, 1, 64] {
        for packet in expiring(["172.17.0.1", "2001:db8:a1::1"], left) {
            stage.expect_drop(packet, Reason::Blackhole);
        }
        for (to, reason, kinds) in [
            (["172.18.0.1", "2001:db8:a2::1"], Reason::Unreachable, [(3, 1), (1, 3)]),
            (["172.19.0.1", "2001:db8:a3::1"], Reason::Prohibited, [(3, 13), (1, 1)]),
            (["203.0.113.5", "2001:db8:dead::1"], Reason::NoRoute, [(3, 0), (1, 0)]),
        ] {
            expect_answers(&mut stage, expiring(to, left), reason, kinds);
        }
        for broadcast in ["198.51.100.255", "198.51.100.0"] {
            let [packet, _] = expiring([broadcast, "2001:db8::1"], left);
            stage.expect_drop(packet, Reason::Blackhole);
        }
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.icmp_sent, snapshot.icmp_limited), (18, 0), "none about a blackhole");
}

#[test]
fn an_own_address_is_reached_whatever_is_left() {
    let mut stage = Stage::new();
    for (count, left) in [0, 1, 64].into_iter().enumerate() {
        for own in [["192.0.2.1", "2001:db8::1"], ["198.51.100.1", "2001:db8:1::1"]] {
            expiring(own, left).into_iter().for_each(|packet| stage.send(0, packet));
        }
        let snapshot = stage.snapshot();
        assert_eq!((snapshot.host, snapshot.dropped()), (4 * (count as u64 + 1), 0));
    }
}
