//! Packets and bursts own their mbufs: no path leaks one or frees one twice.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{numbered, numbers, turn};
use dpdk::{Burst, HEADROOM};

#[test]
fn packet_grows_and_shrinks_at_both_ends() {
    let turn = turn();
    let pool = turn.pool();
    let mut packet = pool.allocate_one().unwrap();
    assert!(packet.is_empty() && packet.is_contiguous());
    assert_eq!((packet.headroom(), packet.tailroom()), (usize::from(HEADROOM), 2048));
    packet.append(4).unwrap().copy_from_slice(b"tail");
    packet.prepend(5).unwrap().copy_from_slice(b"head-");
    assert_eq!(packet.data(), b"head-tail");
    assert!(packet.trim_front(5));
    assert!(packet.truncate(3));
    assert_eq!((packet.data(), packet.len()), (&b"tai"[..], 3));
    packet.data_mut()[0] = b'T';
    assert_eq!(packet.segments().collect::<Vec<_>>(), [b"Tai"]);
    assert!(packet.set_data(b"other"));
    assert_eq!(packet.data(), b"other");
}

#[test]
fn packet_refuses_what_does_not_fit_and_stays_unchanged() {
    let turn = turn();
    let pool = turn.pool();
    let mut packet = pool.allocate_one().unwrap();
    packet.append(3).unwrap().copy_from_slice(b"abc");
    assert!(packet.append(2046).is_none());
    assert!(packet.prepend(usize::from(HEADROOM) + 1).is_none());
    assert!(!packet.trim_front(4));
    assert!(!packet.truncate(4));
    assert!(!packet.set_data(&[0; 2049]));
    assert_eq!((packet.data(), packet.len()), (&b"abc"[..], 3));
}

#[test]
fn every_way_to_lose_a_packet_returns_its_buffer() {
    let turn = turn();
    let pool = turn.pool();
    drop(numbered::<32>(&pool, 0, 32));
    assert_eq!(pool.in_use(), 0, "dropped burst");

    let mut burst = numbered::<32>(&pool, 0, 10);
    drop(burst.pop());
    assert_eq!(pool.in_use(), 9, "dropped packet");
    burst.clear();
    assert_eq!((pool.in_use(), burst.len()), (0, 0), "cleared burst");

    let mut burst = numbered::<32>(&pool, 0, 10);
    assert_eq!(burst.drain().take(3).map(|packet| packet.data()[0]).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((pool.in_use(), burst.len()), (0, 0), "drain that stops half-way");

    let mut burst = numbered::<32>(&pool, 0, 10);
    let kept: Vec<_> = burst.drain().collect();
    assert_eq!((pool.in_use(), numbers(&kept).len()), (10, 10));
    drop(kept);
    assert_eq!(pool.in_use(), 0, "drained into a vector");

    let unwound = std::panic::catch_unwind(|| {
        let _burst = numbered::<8>(&pool, 0, 8);
        panic!("in the middle of a burst");
    });
    assert!(unwound.is_err());
    assert_eq!(pool.in_use(), 0, "panic");
}

#[test]
fn burst_keeps_order_and_gives_back_what_does_not_fit() {
    let turn = turn();
    let pool = turn.pool();
    let mut target = numbered::<4>(&pool, 0, 3);
    let mut source = numbered::<8>(&pool, 10, 5);
    assert_eq!(target.append(&mut source), 1);
    assert_eq!((numbers(&target), numbers(&source)), (vec![0, 1, 2, 10], vec![11, 12, 13, 14]));
    assert!(target.is_full() && target.room() == 0);
    let refused = target.push(source.pop().unwrap()).unwrap_err();
    assert_eq!(refused.data(), [14]);
    target.swap(0, 3);
    assert_eq!(numbers(&target), [10, 1, 2, 0]);
    drop((target, source, refused));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn empty_pool_gives_none_or_all_and_recovers() {
    let turn = turn();
    let pool = dpdk::Mempool::new(&turn.eal, "small", 7, 0, 128, None).unwrap();
    let mut burst = Burst::<8>::new();
    assert_eq!(pool.allocate(&mut burst, 8), 0, "all or nothing");
    assert_eq!(pool.allocate(&mut burst, 7), 7);
    assert!(pool.allocate_one().is_none());
    burst.clear();
    assert!(pool.allocate_one().is_some());
}

#[test]
fn packet_may_be_freed_by_a_thread_that_eal_does_not_know() {
    let turn = turn();
    let pool = turn.pool();
    let burst = numbered::<16>(&pool, 0, 16);
    std::thread::spawn(move || drop(burst)).join().unwrap();
    assert_eq!(pool.in_use(), 0);
}
