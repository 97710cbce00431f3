//! Batches from a server: seen whole or not at all, under the host's own routes, kept when they fail.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

#[test]
fn a_batch_is_forwarded_by_after_one_turn_and_a_withdrawal_too() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(7, "198.51.100.9"),
        announce("172.16.0.0/12", 7),
        announce("2001:db8:e::/48", 8),
        put(8, "2001:db8:1::9"),
    ]);
    stage.expect_forward(ipv4("172.16.0.1"));
    stage.expect_forward(ipv6("2001:db8:e::1"));
    stage.batch(vec![withdraw("172.16.0.0/12")]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::NoRoute);
    assert_eq!(stage.snapshot().serial, 2);
}

#[test]
fn own_routes_win_over_a_servers() {
    let mut stage = Stage::new();
    stage.batch(vec![
        put(7, "198.51.100.9"),
        announce("192.0.2.1/32", 7),
        announce("10.66.0.0/16", 7),
        announce("192.0.2.0/24", 7),
    ]);
    stage.send(0, ipv4("192.0.2.1"));
    assert_eq!(stage.snapshot().host, 1);
    stage.expect_drop(ipv4("10.66.0.1"), Reason::Blackhole);
    stage.batch(vec![withdraw("10.66.0.0/16"), withdraw("192.0.2.1/32")]);
    stage.expect_drop(ipv4("10.66.0.1"), Reason::Blackhole);
}

#[test]
fn a_batch_that_fails_stays_pending_with_the_old_table_in_force_and_is_tried_again() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    // Beyond the limit of this stage's table.
    let many = (0..10_000u32).map(|n| announce(&format!("100.{}.{}.0/24", n / 256, n % 256), 7));
    stage.batch(many.collect());
    stage.batch(vec![withdraw("172.16.0.0/12")]);
    for _ in 0..3 {
        stage.after(Duration::from_secs(1));
        let forwarding = stage.control.forwarding();
        assert_eq!((forwarding.serial, forwarding.pending_batches), (1, 2));
        assert!(forwarding.apply_error.unwrap().contains("serial 2: route 100."), "the batch is named");
        stage.expect_forward(ipv4("172.16.0.1"));
        stage.expect_drop(ipv4("100.0.0.1"), Reason::NoRoute);
    }
}

#[test]
fn a_batch_of_nothing_known_is_no_reason_to_end() {
    let mut stage = Stage::new();
    stage.batch(vec![withdraw("203.0.113.0/24")]);
    assert_eq!(stage.control.forwarding().serial, 1);
}

#[test]
fn a_table_that_began_anew_replaces_the_servers_routes_and_leaves_the_hosts_own() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7), announce("172.20.0.0/16", 7)]);
    stage.replace(vec![put(8, "198.51.100.9"), announce("172.20.0.0/16", 8)]);
    stage.expect_drop(ipv4("172.16.0.1"), Reason::NoRoute);
    stage.expect_forward(ipv4("172.20.0.1"));
    stage.expect_forward(ipv4("10.1.2.3"));
    stage.expect_drop(ipv4("10.66.0.1"), Reason::Blackhole);
    assert_eq!(
        stage.control.groups(&[]).groups.iter().filter(|group| group.label.starts_with("00000000")).count(),
        1,
        "8, not 7"
    );
}
