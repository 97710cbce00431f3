//! A gateway that is on no connected subnet is reached as the table says, and anew when that changes.

use crate::stage::*;
use fibcast_dataplane::control::next_hops::LEVELS;
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
