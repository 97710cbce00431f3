//! Workers that look while another thread changes, publishes and frees: each answer is one that was right at that instant.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;

/// Prefixes that nest: each /16 in its /8, each /26 in its /16, and the same in IPv6.
fn prefixes(v4: bool) -> Vec<IpNet> {
    let lens: [u8; 3] = if v4 { [8, 16, 26] } else { [20, 40, 64] };
    let bits = |n: u128| {
        if v4 {
            (0x0a00_0000 + ((n % 7) << 24) + ((n % 31) << 16) + ((n % 3) << 6)) << 96
        } else {
            0x2000 << 112 | (n % 7) << 108 | (n % 31) << 88 | (n % 3) << 64
        }
    };
    let mut all: Vec<IpNet> = (0..96).flat_map(|n| lens.map(|len| net(v4, bits(n), len))).collect();
    all.sort();
    all.dedup();
    all
}

/// What the route number `place` is at a serial: withdrawn every third time that it changes, which it does every 5 serials.
fn label(place: usize, serial: u64) -> Option<u64> {
    let turn = (serial + place as u64) / 5;
    (turn % 3 != 2).then_some(1 + (turn + place as u64) % 9)
}

fn change(place: usize, prefix: IpNet, serial: u64) -> Change {
    let vrf = VrfId::DEFAULT;
    match label(place, serial) {
        Some(label) => Change::Announce { vrf, prefix, label: GroupLabel(label) },
        None => Change::Withdraw { vrf, prefix },
    }
}

/// The routes that cover the first address of each prefix, the longest first.
fn covering(prefixes: &[IpNet]) -> Vec<Vec<usize>> {
    let of = |asked: &IpNet| {
        let mut places: Vec<usize> =
            (0..prefixes.len()).filter(|&place| prefixes[place].contains(&asked.network())).collect();
        places.sort_by_key(|&place| std::cmp::Reverse(prefixes[place].prefix_len()));
        places
    };
    prefixes.iter().map(of).collect()
}

struct Asked<A> {
    first: usize,
    addresses: Vec<A>,
    covering: Vec<Vec<usize>>,
}

impl<A> Asked<A> {
    fn check(&self, found: &[GroupIndex], indices: &[GroupIndex], serial: u64) {
        for (place, found) in found.iter().enumerate() {
            let right =
                self.covering[place].iter().find_map(|&covering| label(self.first + covering, serial));
            let right = right.map_or(GroupIndex::NO_ROUTE, |label| indices[label as usize]);
            assert_eq!(*found, right, "address {place} at serial {serial}");
        }
    }
}

#[test]
fn each_answer_was_right_at_its_instant() {
    let (v4, v6) = (prefixes(true), prefixes(false));
    let all: Vec<IpNet> = v4.iter().chain(&v6).copied().collect();
    let asked_v4 = Asked {
        first: 0,
        addresses: v4
            .iter()
            .map(|net| if let IpNet::V4(net) = net { net.network().to_bits() } else { 0 })
            .collect(),
        covering: covering(&v4),
    };
    let asked_v6 = Asked {
        first: v4.len(),
        addresses: v6
            .iter()
            .map(|net| if let IpNet::V6(net) = net { net.network().to_bits() } else { 0 })
            .collect(),
        covering: covering(&v6),
    };
    let mut fib = Fib::new(Limits::default());
    fib.apply(&(1..=9).map(put).collect::<Vec<_>>(), 0).unwrap();
    // Groups stay, and so do their indices.
    let indices: Vec<GroupIndex> =
        (0..10).map(|label| fib.group_index(GroupLabel(label)).unwrap_or_default()).collect();
    let whole: Vec<Change> =
        all.iter().enumerate().map(|(place, &prefix)| change(place, prefix, 1)).collect();
    fib.apply(&whole, 1).unwrap();
    let mut publisher = Publisher::new(fib.generation()).with_retired_bytes(256 << 10);
    // What is in force for sure, and what may be.
    let (surely, perhaps, done) = (AtomicU64::new(1), AtomicU64::new(1), AtomicBool::new(false));
    let readers: Vec<Reader> = (0..2).map(|n| publisher.register(&format!("worker {n}"))).collect();
    let mut deferred = 0;
    std::thread::scope(|scope| {
        let (surely, perhaps, done, indices) = (&surely, &perhaps, &done, &indices);
        let (asked_v4, asked_v6) = (&asked_v4, &asked_v6);
        let worker = |mut reader: Reader| {
            move || {
                let (mut last, mut seen, mut bursts) = (0, 0u64, 0u64);
                let mut found = vec![GroupIndex(77); asked_v4.addresses.len().max(asked_v6.addresses.len())];
                while !done.load(Ordering::Relaxed) {
                    let least = surely.load(Ordering::Acquire);
                    let generation = reader.burst();
                    let serial = generation.serial();
                    let most = perhaps.load(Ordering::Acquire);
                    assert!((least..=most).contains(&serial), "{serial} was not in force: {least} to {most}");
                    assert!(serial >= last, "time went back");
                    seen += u64::from(serial != last);
                    last = serial;
                    generation.lookup_v4(VrfId::DEFAULT, &asked_v4.addresses, &mut found);
                    asked_v4.check(&found[..asked_v4.addresses.len()], indices, serial);
                    generation.lookup_v6(VrfId::DEFAULT, &asked_v6.addresses, &mut found);
                    asked_v6.check(&found[..asked_v6.addresses.len()], indices, serial);
                    bursts += 1;
                    match bursts % 64 {
                        0 => reader.idle(),
                        // A stalled worker: the retired list fills.
                        32 => std::thread::sleep(Duration::from_millis(1)),
                        _ => {}
                    }
                }
                seen
            }
        };
        let workers: Vec<_> = readers.into_iter().map(|reader| scope.spawn(worker(reader))).collect();
        let end = Instant::now() + Duration::from_secs(3);
        let mut serial = 1;
        while Instant::now() < end && workers.iter().all(|worker| !worker.is_finished()) {
            serial += 1;
            let changed = |place: &usize| label(*place, serial) != label(*place, serial - 1);
            let batch: Vec<Change> =
                (0..all.len()).filter(changed).map(|place| change(place, all[place], serial)).collect();
            fib.apply(&batch, serial).unwrap();
            perhaps.store(serial, Ordering::Release);
            match publisher.publish(fib.generation()) {
                Visibility::Now => surely.store(serial, Ordering::Release),
                Visibility::Deferred => deferred += 1,
            }
            assert!(publisher.stats().retired <= 4);
        }
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            let seen = worker.join().unwrap();
            assert!(seen > 10, "a worker that saw {seen} generations tells little");
        }
        assert!(serial > 100, "{serial}");
    });
    publisher.collect();
    let stats = publisher.stats();
    assert_eq!((stats.freed_by_workers, stats.retired, stats.workers.len()), (0, 0, 0));
    assert_eq!((stats.deferred, stats.serial), (deferred, fib.serial()), "what waited goes out at last");
}
