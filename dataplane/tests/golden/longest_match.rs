//! Recursion is a longest match over everything that the table has: blackholes, host routes inside connected subnets, leaked routes.

use crate::stage::*;
use fibcast_dataplane::control::own_routes::StaticRoute;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Group, GroupLabel, Member, NextHop, PortId, Special, VrfId};
use std::time::Duration;

const HOLD: Duration = Duration::from_millis(100);

fn special(label: u64, special: Special) -> Change {
    Change::PutGroup { label: GroupLabel(label), group: Group::Special(special) }
}

fn put_many(label: u64, gateways: &[(&str, u16)]) -> Change {
    let member = |&(gateway, weight): &(&str, u16)| Member {
        next_hop: NextHop::via(gateway.parse().unwrap()),
        weight,
    };
    let group = Group::hops(gateways.iter().map(member).collect()).unwrap();
    Change::PutGroup { label: GroupLabel(label), group }
}

fn announce_in(vrf: u32, prefix: &str, label: u64) -> Change {
    Change::Announce { vrf: VrfId(vrf), prefix: prefix.parse().unwrap(), label: GroupLabel(label) }
}

fn put_on(label: u64, gateway: Option<&str>, port: u16) -> Change {
    let next_hop =
        NextHop { gateway: gateway.map(|gateway| gateway.parse().unwrap()), port: Some(PortId(port)) };
    Change::PutGroup { label: GroupLabel(label), group: Group::one(next_hop).unwrap() }
}

/// A packet that leaves by the port that it came in.
#[track_caller]
fn expect_back(stage: &mut Stage, packet: Vec<u8>) -> Vec<u8> {
    stage.send(0, packet);
    stage.out(0).expect("a frame out of port 0")
}

/// How many of so many flows to 172.16.0.1 leave by port 0 and by port 1.
fn spread(stage: &mut Stage, flows: u16) -> [usize; 2] {
    let mut out = [0; 2];
    for flow in 0..flows {
        let mut packet = ipv4("172.16.0.1");
        packet[34..36].copy_from_slice(&flow.to_be_bytes());
        stage.send(0, packet);
        for (port, count) in out.iter_mut().enumerate() {
            *count += std::iter::from_fn(|| stage.out(port)).count();
        }
    }
    out
}

#[test]
fn a_gateway_in_a_blackhole_makes_its_routes_one_at_once_and_in_silence() {
    // RFC 5635: the trigger announces a victim's prefix with the discard address as its next hop.
    let mut stage = Stage::new();
    stage.batch(vec![
        special(1, Special::Blackhole),
        announce("203.0.113.66/32", 1),
        announce("2001:db8:66::/64", 1),
        put(2, "203.0.113.66"),
        announce("172.16.0.1/32", 2),
        put(3, "2001:db8:66::1"),
        announce("2001:db8:e::1/128", 3),
    ]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
    stage.expect_drop(ipv6("2001:db8:e::1"), Reason::Blackhole);
    assert_eq!(stage.snapshot().icmp_sent, 0);
    assert_eq!(stage.control.forwarding().next_hops_unresolved, 0);
}

#[test]
fn unreachable_and_prohibited_gateways_answer_as_routes_of_that_kind() {
    for (kind, reason, v4, v6) in [
        (Special::Unreachable, Reason::Unreachable, [3, 1], [1, 3]),
        (Special::Prohibit, Reason::Prohibited, [3, 13], [1, 1]),
    ] {
        let mut stage = Stage::new();
        stage.batch(vec![
            special(1, kind),
            announce("203.0.113.0/24", 1),
            announce("2001:db8:66::/64", 1),
            put(2, "203.0.113.66"),
            announce("172.16.0.0/16", 2),
            put(3, "2001:db8:66::1"),
            announce("2001:db8:e::/48", 3),
        ]);
        assert_eq!(stage.expect_error(ipv4("172.16.0.1"), reason)[34..36], v4);
        assert_eq!(stage.expect_error(ipv6("2001:db8:e::1"), reason)[54..56], v6);
    }
}

#[test]
fn a_gateways_route_that_changes_to_a_blackhole_and_back_takes_the_traffic_with_it() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(1, "10.200.0.1"),
        announce("172.16.0.0/16", 1),
        put(2, "2001:db8:f::9"),
        announce("2001:db8:e::/48", 2),
        special(3, Special::Blackhole),
    ]);
    for _ in 0..2 {
        stage.expect_forward(ipv4("172.16.0.1"));
        stage.expect_forward(ipv6("2001:db8:e::1"));
        // A more specific blackhole appears and disappears.
        stage.batch(vec![announce("10.200.0.1/32", 3), announce("2001:db8:f::/64", 3)]);
        stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
        stage.expect_drop(ipv6("2001:db8:e::1"), Reason::Blackhole);
        stage.batch(vec![withdraw("10.200.0.1/32"), withdraw("2001:db8:f::/64")]);
    }
    // The route's group changes its content.
    stage.batch(vec![put(4, "198.51.100.9"), announce("10.200.0.0/16", 4)]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![special(4, Special::Prohibit)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Prohibited);
    stage.batch(vec![put(4, "192.0.2.7")]);
    assert_eq!(expect_back(&mut stage, ipv4("172.16.0.1"))[..6], HOST.0);
}

#[test]
fn a_route_to_a_gateway_appears_and_disappears() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "203.0.113.1"), announce("172.16.0.0/16", 1)]);
    stage.expect_held(ipv4("172.16.0.1"));
    stage.batch(vec![put(2, "198.51.100.9"), announce("203.0.113.0/24", 2)]);
    assert_eq!(stage.out(1).expect("the packet that waited")[..6], GATEWAY.0);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![withdraw("203.0.113.0/24")]);
    stage.expect_held(ipv4("172.16.0.1"));
    assert_eq!(stage.control.forwarding().next_hops_unresolved, 1);
}

#[test]
fn static_routes_count_as_the_servers_do() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "10.66.0.1"), announce("172.16.0.0/16", 1)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
    stage.control.remove_route(VrfId::DEFAULT, "10.66.0.0/16".parse().unwrap()).unwrap();
    stage.after(Duration::ZERO);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.control.add_route(&StaticRoute {
        vrf: VrfId::DEFAULT,
        prefix: "172.20.0.0/16".parse().unwrap(),
        group: Group::one(NextHop::via("203.0.113.1".parse().unwrap())).unwrap(),
    });
    stage.batch(vec![special(2, Special::Blackhole), announce("203.0.113.1/32", 2)]);
    stage.expect_drop(ipv4("172.20.0.1"), Reason::Blackhole);
}

#[test]
fn a_host_route_wins_over_the_connected_subnet_of_a_gateway() {
    for (gateway, host, via, packet) in [
        ("198.51.100.50", "198.51.100.50/32", "192.0.2.7", ipv4("172.16.0.1")),
        ("2001:db8:1::50", "2001:db8:1::50/128", "2001:db8::7", ipv6("2001:db8:e::1")),
    ] {
        let mut stage = Stage::new();
        stage.batch(vec![put(1, gateway), announce("172.16.0.0/16", 1), announce("2001:db8:e::/48", 1)]);
        stage.after(HOLD);
        while stage.out(1).is_some() {}
        stage.expect_held(packet.clone());
        // A host moves to the other port; what goes by it follows.
        stage.batch(vec![put(2, via), announce(host, 2)]);
        assert_eq!(stage.out(0).expect("the packet that waited")[..6], HOST.0);
        assert_eq!(expect_back(&mut stage, packet.clone())[..6], HOST.0);
        stage.batch(vec![special(2, Special::Blackhole)]);
        stage.expect_drop(packet.clone(), Reason::Blackhole);
        stage.batch(vec![withdraw(host)]);
        stage.after(HOLD);
        stage.expect_held(packet);
    }
}

#[test]
fn a_longer_prefix_than_the_connected_subnet_wins_and_a_shorter_one_does_not() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "198.51.100.9"), announce("172.16.0.0/16", 1), put(2, "192.0.2.7")]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![announce("198.51.0.0/16", 2), announce("0.0.0.0/0", 2)]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![announce("198.51.100.0/28", 2)]);
    expect_back(&mut stage, ipv4("172.16.0.1"));
    stage.batch(vec![withdraw("198.51.100.0/28")]);
    stage.expect_forward(ipv4("172.16.0.1"));
}

#[test]
fn a_host_route_by_the_gateway_itself_means_its_connected_subnet() {
    for (host, gateway, packets) in [
        ("198.51.100.9/32", "198.51.100.9", [ipv4("198.51.100.9"), ipv4("172.16.0.1")]),
        ("2001:db8:1::9/128", "2001:db8:1::9", [ipv6("2001:db8:1::9"), ipv6("2001:db8:e::1")]),
    ] {
        let routes = |label| [announce("172.16.0.0/16", label), announce("2001:db8:e::/48", label)];
        // One group for both, and one for each.
        for second in [1, 2] {
            let mut stage = Stage::new();
            let mut batch = vec![put(1, gateway), announce(host, 1), put(2, gateway)];
            batch.extend(routes(second));
            stage.batch(batch);
            for packet in &packets {
                assert_eq!(stage.expect_forward(packet.clone())[..6], GATEWAY.0, "{host}");
            }
            assert_eq!(stage.control.forwarding().next_hops_unresolved, 0);
        }
        // With its port.
        let mut stage = Stage::new();
        let mut batch = vec![put_on(1, Some(gateway), 1), announce(host, 1), put(2, gateway)];
        batch.extend(routes(2));
        stage.batch(batch);
        for packet in &packets {
            assert_eq!(stage.expect_forward(packet.clone())[..6], GATEWAY.0, "{host}");
        }
    }
}

#[test]
fn a_host_route_that_leads_back_or_nowhere_does_not_hide_the_connected_subnet() {
    // 10.200.0.1 is reached by 198.51.100.9, which is to be reached by 10.200.0.1; 203.0.113.1 by nothing.
    for via in ["10.200.0.1", "203.0.113.1"] {
        let mut stage = Stage::new();
        stage.batch(vec![put(1, via), announce("198.51.100.9/32", 1), put(2, "198.51.100.9")]);
        stage.batch(vec![announce("172.16.0.0/16", 2)]);
        assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0, "{via}");
        assert_eq!(stage.expect_forward(ipv4("10.1.2.3"))[..6], GATEWAY.0, "the static route, {via}");
    }
}

#[test]
fn members_that_forward_win_over_those_that_drop() {
    let mut stage = Stage::new();
    stage.batch(vec![
        special(1, Special::Blackhole),
        announce("203.0.113.66/32", 1),
        special(2, Special::Prohibit),
        announce("203.0.113.67/32", 2),
        put_many(3, &[("203.0.113.66", 3), ("198.51.100.9", 1), ("203.0.113.67", 1)]),
        announce("172.16.0.0/16", 3),
    ]);
    assert_eq!(spread(&mut stage, 100), [0, 100]);
    // No member forwards: silence wins, then prohibited.
    stage.batch(vec![put_many(3, &[("203.0.113.67", 1), ("203.0.113.66", 1), ("203.0.113.99", 1)])]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
    stage.batch(vec![put_many(3, &[("203.0.113.67", 1), ("203.0.113.99", 1)])]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Prohibited);
    // The other way round: all forward, then one of them is discarded, then all.
    stage.batch(vec![put_many(3, &[("192.0.2.7", 1), ("198.51.100.9", 1)])]);
    let [one, other] = spread(&mut stage, 100);
    assert!(one > 20 && other > 20, "{one} and {other}");
    stage.batch(vec![announce("192.0.2.7/32", 1)]);
    assert_eq!(spread(&mut stage, 100), [0, 100]);
    stage.batch(vec![announce("198.51.100.9/32", 1)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
}

#[test]
fn a_next_hop_that_leads_nowhere_leaves_its_share_to_those_of_its_route() {
    let mut stage = Stage::new();
    // Half of the flows by a route with two next hops, one of which is lost; the other half by port 1.
    stage.batch(vec![
        put_many(2, &[("192.0.2.7", 1), ("203.0.113.99", 1)]),
        announce("100.64.0.0/16", 2),
        put_many(1, &[("100.64.0.1", 1), ("198.51.100.9", 1)]),
        announce("172.16.0.0/16", 1),
    ]);
    let [one, other] = spread(&mut stage, 1_000);
    assert!(one + other == 1_000 && (430..570).contains(&one), "{one} to {other}");
}

#[test]
fn weights_and_repeated_next_hops_stay_as_they_are() {
    let mut stage = Stage::new();
    stage.batch(vec![put_many(1, &[("198.51.100.9", 2), ("192.0.2.7", 4)]), announce("172.16.0.0/16", 1)]);
    let groups = stage.control.groups(&[]).groups;
    let group = groups.iter().find(|group| group.label == "0000000000000001").unwrap();
    assert_eq!(group.via, ["198.51.100.9 weight 2", "192.0.2.7 weight 4"]);
}

#[test]
fn a_vrf_has_blackholes_of_its_own() {
    let mut stage = vrf_stage();
    stage.batch(vec![
        put(1, "100.64.0.1"),
        announce("172.16.0.0/16", 1),
        announce_in(7, "172.16.0.0/16", 1),
        put(2, "198.51.100.9"),
        announce("100.64.0.0/16", 2),
        announce_in(7, "100.64.0.0/16", 2),
        special(3, Special::Blackhole),
        announce_in(7, "100.64.0.1/32", 3),
    ]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.expect_drop(in_vrf(ipv4("172.16.0.1")), Reason::Blackhole);
    stage.batch(vec![Change::Withdraw { vrf: VrfId(7), prefix: "100.64.0.1/32".parse().unwrap() }]);
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
    stage.batch(vec![announce("100.64.0.1/32", 3)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Blackhole);
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
}

#[test]
fn a_leaked_route_resolves_gateways_on_the_port_of_the_other_vrf() {
    // By a gateway with its port, and by the port alone; the subnet's own route of VRF 7 is less specific.
    for (prefix, leak) in
        [("100.64.0.0/16", put_on(1, Some("198.51.100.9"), 1)), ("198.51.100.0/25", put_on(1, None, 1))]
    {
        let gateway = if prefix.starts_with("100") { "100.64.0.1" } else { "198.51.100.9" };
        let mut stage = vrf_stage();
        stage.batch(vec![
            leak,
            announce_in(7, prefix, 1),
            put(2, gateway),
            announce_in(7, "172.16.0.0/16", 2),
        ]);
        stage.after(HOLD);
        let out = stage.expect_forward(in_vrf(ipv4("172.16.0.1")));
        assert_eq!(
            (&out[..6], &out[12..14]),
            (&GATEWAY.0[..], &[8, 0][..]),
            "untagged: port 1 itself, {prefix}"
        );
        stage.batch(vec![Change::Withdraw { vrf: VrfId(7), prefix: prefix.parse().unwrap() }]);
        if prefix.starts_with("198") {
            assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
        } else {
            stage.expect_drop(in_vrf(ipv4("172.16.0.1")), Reason::Unreachable);
        }
    }
}

#[test]
fn an_own_or_broadcast_address_is_no_gateway() {
    for gateway in ["192.0.2.1", "198.51.100.1", "198.51.100.255", "198.51.100.0", "2001:db8:1::1"] {
        let mut stage = Stage::new();
        stage.batch(vec![put(1, gateway), announce("172.16.0.0/16", 1)]);
        stage.expect_held(ipv4("172.16.0.1"));
        assert_eq!(stage.control.forwarding().next_hops_unresolved, 1, "{gateway}");
        assert_eq!((stage.out(0), stage.out(1)), (None, None), "nobody is asked");
    }
}

#[test]
fn zebras_placeholder_is_a_gateway_like_any_other_on_its_subnet() {
    let mut stage = Stage::with(|setup| setup.ports[1].addresses.push("169.254.0.2/16".parse().unwrap()));
    stage.batch(vec![put(1, "169.254.0.1"), announce("172.16.0.0/16", 1)]);
    let frame = stage.out(1).expect("a request");
    let request = arp::ArpPacket::new_checked(&frame[14..]).unwrap();
    assert_eq!((request.sender.octets(), request.target.octets()), ([169, 254, 0, 2], [169, 254, 0, 1]));
    stage.send(1, request.reply(GATEWAY));
    stage.after(HOLD);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
}

#[test]
fn an_ipv4_route_resolves_by_ipv6_routes_to_its_gateway() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "2001:db8:f::9"), announce("172.16.0.0/16", 1)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    stage.batch(vec![special(2, Special::Unreachable), announce("2001:db8:f::9/128", 2)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Unreachable);
}

#[test]
fn a_circle_stays_a_circle_through_changes_around_it_and_a_default_route_is_a_way_like_any() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(1, "100.64.1.1"),
        announce("100.64.2.0/24", 1),
        put(2, "100.64.2.1"),
        announce("100.64.1.0/24", 2),
        announce("172.16.0.0/16", 1),
    ]);
    for label in 3..6 {
        stage.batch(vec![put(label, "198.51.100.9"), announce(&format!("172.{label}.0.0/16"), label)]);
        stage.batch(vec![announce("0.0.0.0/0", label)]);
        assert_eq!(stage.control.forwarding().next_hops_unresolved, 2);
    }
    stage.batch(vec![withdraw("100.64.1.0/24")]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0, "by the default route");
}
