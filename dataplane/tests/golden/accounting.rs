//! Every packet is in one counter at every instant that somebody looks, and groups know what went by them.

use crate::stage::*;
use fibcast_dataplane::counters::Snapshot;
use fibcast_dataplane::reason::Reason;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn the_sums_hold_at_every_instant_under_load() {
    let mut stage = Stage::new();
    stage.tx[1].limit(Some(100));
    let (counters, stop) = (stage.counters.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut last, mut looks) = (Snapshot::default(), 0u64);
            while !stop.load(Ordering::Acquire) {
                let now = counters.snapshot();
                assert!(now.adds_up() && now.received >= last.received, "{now:?}");
                (last, looks) = (now, looks + 1);
            }
            looks
        });
        for round in 0..3_000u32 {
            // Sent, held by a full queue, waiting for a neighbor, dropped with and without a word, for the router itself, too big.
            let mut big = ipv4("10.1.2.3");
            big.resize(14 + 1_600, 0);
            big[16..18].copy_from_slice(&1_600u16.to_be_bytes());
            big[20] = 0;
            for frame in [
                ipv4("10.1.2.3"),
                ipv6("2001:db8:f::1"),
                ipv4(&format!("198.51.100.{}", 20 + round % 200)),
                ipv4("203.0.113.5"),
                ipv4("10.66.0.1"),
                ipv4("192.0.2.1"),
                seal(big),
            ] {
                stage.rx[0].put(frame);
            }
            if round % 64 == 0 {
                stage.tx[1].limit(Some(150));
                stage.after(std::time::Duration::from_millis(50));
                while stage.out(1).is_some() {}
            }
            stage.worker.turn();
        }
        stop.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 1_000);
    });
    let snapshot = stage.snapshot();
    assert!(snapshot.received == 21_000 && snapshot.fragments > 0 && snapshot.held > 0, "{snapshot:?}");
}

#[test]
fn a_received_packet_that_loses_its_place_to_one_of_the_routers_own_is_counted() {
    // Nobody is known: what is received waits, and so do the words to its source, which take the mask of the oldest.
    let mut stage = Stage::with_neighbors(Vec::new());
    for number in 0..600u32 {
        stage.send(0, ipv4(&format!("198.51.100.{}", 20 + number % 200)));
    }
    let before = stage.snapshot();
    for _ in 0..20 {
        stage.send(0, ipv4("203.0.113.5"));
    }
    let after = stage.snapshot();
    assert!(after.drops(Reason::HoldFull) > before.drops(Reason::HoldFull), "{after:?}");
}

#[test]
fn a_group_counts_what_went_by_it_and_begins_at_zero_when_its_place_is_used_again() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    (0..5).for_each(|_| _ = stage.expect_forward(ipv4("172.16.0.1")));
    let traffic = |stage: &Stage, label: &str| {
        let groups = stage.control.groups(std::slice::from_ref(&stage.counters)).groups;
        groups.into_iter().find(|group| group.label == label).unwrap().traffic.unwrap()
    };
    let counted = traffic(&stage, "0000000000000007");
    assert_eq!((counted.packets, counted.bytes), (5, 5 * 46));
    stage.batch(vec![
        withdraw("172.16.0.0/12"),
        fibcast_fib::Change::DeleteGroup { label: fibcast_fib::GroupLabel(7) },
    ]);
    stage.batch(vec![put(8, "198.51.100.9"), announce("172.16.0.0/12", 8)]);
    assert_eq!(traffic(&stage, "0000000000000008").packets, 0);
    stage.expect_forward(ipv4("172.16.0.1"));
    assert_eq!(traffic(&stage, "0000000000000008").packets, 1);
}
