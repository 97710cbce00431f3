//! Batches from a server: seen whole or not at all, under the host's own routes, kept when they fail.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Limits};
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

/// More routes than this stage's table takes.
fn too_many() -> Vec<Change> {
    (0..10_000u32).map(|n| announce(&format!("100.{}.{}.0/24", n / 256, n % 256), 7)).collect()
}

#[test]
fn a_batch_that_fails_stays_pending_with_the_old_table_in_force_and_is_tried_again() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    stage.batch(too_many());
    for _ in 0..3 {
        stage.after(Duration::from_secs(1));
        let forwarding = stage.control.forwarding();
        assert_eq!((forwarding.serial, forwarding.pending_batches), (1, 1));
        assert!(forwarding.apply_error.unwrap().contains("serial 2: route 100."), "the batch is named");
        stage.expect_forward(ipv4("172.16.0.1"));
        stage.expect_drop(ipv4("100.0.0.1"), Reason::NoRoute);
    }
}

#[test]
fn a_batch_that_failed_is_applied_with_the_one_that_makes_room_for_it() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    stage.batch(too_many());
    stage.batch(vec![withdraw("172.16.0.0/12"), put(8, "198.51.100.9"), announce("172.20.0.0/16", 8)]);
    stage.after(Duration::from_secs(1));
    let forwarding = stage.control.forwarding();
    assert_eq!(
        (forwarding.serial, forwarding.pending_batches),
        (1, 1),
        "they are one by now, and do not fit"
    );
    assert!(forwarding.apply_error.unwrap().contains("serial 3: route "), "what fails is what both come to");
    stage.expect_forward(ipv4("172.16.0.1"));
    // The server takes back most of what was too much, and the group of the rest changes.
    stage.batch(
        too_many()
            .iter()
            .skip(5)
            .filter_map(|change| match change {
                Change::Announce { vrf, prefix, .. } => Some(Change::Withdraw { vrf: *vrf, prefix: *prefix }),
                _ => None,
            })
            .collect(),
    );
    stage.after(Duration::from_secs(1));
    let forwarding = stage.control.forwarding();
    assert_eq!((forwarding.serial, forwarding.pending_batches, forwarding.apply_error), (4, 0, None));
    stage.expect_drop(ipv4("172.16.0.1"), Reason::NoRoute);
    stage.expect_forward(ipv4("172.20.0.1"));
    stage.expect_forward(ipv4("100.0.4.1"));
    stage.expect_drop(ipv4("100.0.5.1"), Reason::NoRoute);
}

#[test]
fn groups_and_memory_that_do_not_fit_are_waited_for_alike() {
    for (limits, word) in [
        (Limits { max_groups: 20, ..Limits::default() }, "at most 20 groups"),
        (Limits { trie_bytes: 0, ..Limits::default() }, "bytes of trie memory"),
    ] {
        let mut stage = Stage::with(|setup| setup.limits = limits);
        let groups = (100..130).map(|label| put(label, "198.51.100.9"));
        // As dear as they come: each subnet far from the others.
        let routes = (0..16_384u32).map(|n| announce(&format!("{}.{}.0.0/25", n / 64, n % 64 * 4), 100));
        let mut batch: Vec<Change> = groups.collect();
        batch.extend(routes.filter(|_| limits.trie_bytes == 0));
        batch.extend(
            (0..40_000u32)
                .filter(|_| limits.trie_bytes == 0)
                .map(|n| announce(&format!("2001:{:x}:{:x}:1::/64", n % 4096, n / 4096), 100)),
        );
        stage.batch(batch);
        let forwarding = stage.control.forwarding();
        assert_eq!((forwarding.serial, forwarding.pending_batches), (0, 1), "{word}");
        assert!(forwarding.apply_error.as_ref().unwrap().contains(word), "{:?}", forwarding.apply_error);
        stage.expect_forward(ipv4("10.1.2.3"));
        // A new table replaces what waits.
        stage.replace(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
        stage.after(Duration::from_secs(1));
        assert_eq!(stage.control.forwarding().apply_error, None);
        stage.expect_forward(ipv4("172.16.0.1"));
    }
}

#[test]
fn a_neighbor_beyond_the_limit_is_not_asked_for_and_no_next_hop_suffers() {
    let mut stage = Stage::with(|setup| setup.limits.max_neighbors = 0);
    stage.expect_forward(ipv4("198.51.100.9"));
    stage.expect_held(ipv6("2001:db8:1::50"));
    stage.after(Duration::ZERO);
    assert_eq!((stage.out(1), stage.control.forwarding().neighbors_refused), (None, 1));
    stage.expect_forward(ipv6("2001:db8:f::1"));
}

#[test]
fn a_batch_of_nothing_known_is_no_reason_to_end() {
    let mut stage = Stage::new();
    stage.batch(vec![withdraw("203.0.113.0/24")]);
    assert_eq!(stage.control.forwarding().serial, 1);
}

#[test]
fn a_new_table_replaces_the_servers_routes_and_keeps_the_hosts_own() {
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
