//! Routes that lead nowhere, and no route at all.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Group, GroupLabel, Special};

#[test]
fn a_blackhole_drops_in_silence() {
    Stage::new().expect_drop(ipv4("10.66.1.1"), Reason::Blackhole);
}

#[test]
fn no_route_is_a_reason_of_its_own() {
    let mut stage = Stage::new();
    stage.expect_drop(ipv4("172.16.0.1"), Reason::NoRoute);
    stage.expect_drop(ipv6("2001:db8:e::1"), Reason::NoRoute);
}

#[test]
fn unreachable_and_prohibited_are_told_apart() {
    let mut stage = Stage::new();
    let group = |label, group| Change::PutGroup { label: GroupLabel(label), group };
    stage.batch(vec![
        group(1, Group::Special(Special::Unreachable)),
        group(2, Group::Special(Special::Prohibit)),
        announce("172.16.0.0/16", 1),
        announce("172.17.0.0/16", 2),
    ]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::Unreachable);
    stage.expect_drop(ipv4("172.17.0.1"), Reason::Prohibited);
}

#[test]
fn a_directed_broadcast_is_not_sent_on() {
    let mut stage = Stage::new();
    stage.expect_drop(ipv4("198.51.100.255"), Reason::Blackhole);
    stage.expect_drop(ipv4("198.51.100.0"), Reason::Blackhole);
}
