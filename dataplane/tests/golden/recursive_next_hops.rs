//! A gateway that is on no connected subnet is resolved by the table, and again when that changes.

use crate::stage::*;
use fibcast_dataplane::control::recursion::LEVELS;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Group, GroupLabel, Member, NextHop, VrfId};
use std::time::Duration;

const HOLD: Duration = Duration::from_millis(100);

#[test]
fn a_gateway_behind_a_route_is_reached_by_that_routes_next_hop() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "10.200.0.1"), announce("172.16.0.0/16", 1)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
}

#[test]
fn it_moves_when_a_more_specific_route_to_the_gateway_comes_and_goes() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "10.200.0.1"), announce("172.16.0.0/16", 1)]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![put(2, "192.0.2.7"), announce("10.200.0.0/16", 2)]);
    stage.send(0, ipv4("172.16.0.1"));
    assert_eq!(stage.out(0).expect("out of the other port")[..6], HOST.0);
    stage.batch(vec![withdraw("10.200.0.0/16")]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
}

#[test]
fn it_moves_when_the_covering_routes_group_changes_its_content() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(1, "10.200.0.1"),
        announce("172.16.0.0/16", 1),
        put(2, "198.51.100.9"),
        announce("10.200.0.0/16", 2),
    ]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.batch(vec![put(2, "192.0.2.7")]);
    stage.send(0, ipv4("172.16.0.1"));
    assert!(stage.out(0).is_some());
}

/// 172.16.0.0/16 through so many routes to a connected gateway.
fn chain(levels: usize) -> Stage {
    let mut stage = Stage::new();
    let mut batch = vec![put(1, "100.64.1.1"), announce("172.16.0.0/16", 1)];
    for level in 1..=levels {
        let via = if level == levels { "198.51.100.9".to_owned() } else { format!("100.64.{}.1", level + 1) };
        batch.extend([
            put(1 + level as u64, &via),
            announce(&format!("100.64.{level}.0/24"), 1 + level as u64),
        ]);
    }
    stage.batch(batch);
    stage.after(HOLD);
    stage
}

#[test]
fn four_levels_are_followed_and_no_more() {
    for levels in 1..=LEVELS {
        chain(levels).expect_forward(ipv4("172.16.0.1"));
    }
    chain(LEVELS + 1).expect_held(ipv4("172.16.0.1"));
}

#[test]
fn a_circle_ends_and_is_left_when_a_way_out_appears() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(1, "100.64.1.1"),
        announce("172.16.0.0/16", 1),
        announce("100.64.0.0/16", 2),
        put(2, "100.64.2.1"),
    ]);
    stage.expect_held(ipv4("172.16.0.1"));
    stage.batch(vec![put(3, "198.51.100.9"), announce("100.64.1.0/24", 3)]);
    stage.expect_forward(ipv4("172.16.0.1"));
}

#[test]
fn a_change_elsewhere_does_not_touch_it() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "10.200.0.1"), announce("172.16.0.0/16", 1)]);
    stage.batch(vec![put(2, "192.0.2.7"), announce("172.30.0.0/16", 2)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
}

/// A group of weighted gateways.
fn put_many(label: u64, gateways: &[(&str, u16)]) -> Change {
    let member = |&(gateway, weight): &(&str, u16)| Member {
        next_hop: NextHop::via(gateway.parse().unwrap()),
        weight,
    };
    let group = Group::hops(gateways.iter().map(member).collect()).unwrap();
    Change::PutGroup { label: GroupLabel(label), group }
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
fn all_members_of_a_covering_route_are_used_in_their_shares() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put_many(2, &[("192.0.2.7", 1), ("198.51.100.9", 3)]),
        announce("100.64.0.0/16", 2),
        put(1, "100.64.0.1"),
        announce("172.16.0.0/16", 1),
    ]);
    let [one, three] = spread(&mut stage, 1_000);
    assert!(one + three == 1_000 && (180..330).contains(&one), "{one} to {three}");
    // The covering route loses a member: its share goes to the other, and no route was touched.
    stage.batch(vec![put_many(2, &[("198.51.100.9", 3)])]);
    assert_eq!(spread(&mut stage, 100), [0, 100]);
}

#[test]
fn shares_multiply_over_levels_and_members() {
    let mut stage = Stage::new();
    // Half of the traffic directly to port 1; the other half by a route that shares it between both.
    stage.batch(vec![
        put_many(2, &[("192.0.2.7", 1), ("198.51.100.9", 1)]),
        announce("100.64.0.0/16", 2),
        put_many(1, &[("100.64.0.1", 1), ("198.51.100.9", 1)]),
        announce("172.16.0.0/16", 1),
    ]);
    let [quarter, rest] = spread(&mut stage, 1_000);
    assert!(quarter + rest == 1_000 && (180..330).contains(&quarter), "{quarter} to {rest}");
}

#[test]
fn a_gateway_that_leads_nowhere_leaves_its_share_to_the_others() {
    let mut stage = Stage::new();
    stage.batch(vec![put_many(1, &[("203.0.113.1", 1), ("198.51.100.9", 1)]), announce("172.16.0.0/16", 1)]);
    assert_eq!(spread(&mut stage, 100), [0, 100]);
    assert_eq!(stage.control.forwarding().next_hops_unresolved, 1);
}

fn announce_in(vrf: u32, prefix: &str, label: u64) -> Change {
    Change::Announce { vrf: VrfId(vrf), prefix: prefix.parse().unwrap(), label: GroupLabel(label) }
}

#[test]
fn a_gateway_is_looked_for_in_the_vrf_of_its_route() {
    let mut stage = vrf_stage();
    // One group, used in both VRFs, whose gateway is another station in each.
    stage.batch(vec![
        put(1, "198.51.100.9"),
        announce("172.16.0.0/16", 1),
        announce_in(7, "172.16.0.0/16", 1),
    ]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    let out = stage.expect_forward(in_vrf(ipv4("172.16.0.1")));
    assert_eq!((&out[..6], &out[12..16]), (&IN_VRF.0[..], &[0x81, 0, 0, 7][..]));
}

#[test]
fn recursion_asks_the_vrf_of_the_route_and_follows_its_changes() {
    let mut stage = vrf_stage();
    stage.batch(vec![
        put(2, "198.51.100.9"),
        announce_in(7, "100.64.0.0/16", 2),
        put(1, "100.64.0.1"),
        announce_in(7, "172.16.0.0/16", 1),
    ]);
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
    // A route of the default VRF to the same gateway changes nothing.
    stage.batch(vec![put(3, "192.0.2.7"), announce("100.64.0.0/24", 3)]);
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
    stage.batch(vec![announce_in(7, "100.64.0.0/24", 3)]);
    stage.send(0, in_vrf(ipv4("172.16.0.1")));
    assert_eq!(stage.out(0).expect("out of the other port")[..6], HOST.0);
    // The server's group changes its content: the VRF's copy follows.
    stage.batch(vec![put(1, "198.51.100.9")]);
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
}

#[test]
fn a_gateway_of_the_default_vrf_is_none_of_another() {
    let mut stage = Stage::with(|setup| setup.ports[0].vrf = VrfId(7));
    stage.batch(vec![put(1, "198.51.100.9"), announce_in(7, "172.16.0.0/16", 1)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Unreachable);
}

#[test]
fn a_whole_table_replaces_the_copies_too() {
    let mut stage = vrf_stage();
    let table = || vec![put(1, "198.51.100.9"), announce_in(7, "172.16.0.0/16", 1)];
    stage.batch(table());
    let groups = stage.control.groups(&[]).groups.len();
    stage.replace(table());
    assert_eq!(stage.expect_forward(in_vrf(ipv4("172.16.0.1")))[..6], IN_VRF.0);
    assert_eq!(stage.control.groups(&[]).groups.len(), groups);
    stage.replace(vec![]);
    stage.expect_drop(in_vrf(ipv4("172.16.0.1")), Reason::NoRoute);
    assert_eq!(stage.control.groups(&[]).groups.len(), groups - 2);
}
