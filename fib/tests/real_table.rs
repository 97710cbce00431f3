//! The real Internet table, in and out again, and one thread that looks while another changes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use fibcast_fib::*;
use flate2::read::GzDecoder;
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

fn real_table() -> Vec<IpNet> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../verify/data/full-table-2024.prefixes.txt.gz");
    let file = std::fs::File::open(path).unwrap();
    let text = std::io::read_to_string(GzDecoder::new(file)).unwrap();
    let mut prefixes: Vec<IpNet> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

fn announce(prefix: IpNet, label: u64) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) }
}

#[test]
fn the_real_table_comes_in_random_order_and_goes_in_another() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut prefixes = real_table();
    assert!(prefixes.len() > 1_000_000);
    let mut both = Both::new(64);
    let empty = both.fib.generation().memory().tries;
    prefixes.shuffle(&mut random);
    for batch in prefixes.chunks(10_000) {
        let batch: Vec<Change> =
            batch.iter().map(|&prefix| announce(prefix, random.random_range(1..=64))).collect();
        both.apply(&batch);
        let asked: Vec<IpAddr> = prefixes.iter().step_by(997).copied().flat_map(edges).collect();
        both.agree(&asked);
    }
    both.agree_at_edges();
    rebuilt_is_the_same(&mut both);
    let full = both.fib.generation().memory().tries;
    assert!(full <= 16 << 20, "{full}");
    prefixes.shuffle(&mut random);
    for batch in prefixes.chunks(10_000) {
        let batch: Vec<Change> =
            batch.iter().map(|&prefix| Change::Withdraw { vrf: VrfId::DEFAULT, prefix }).collect();
        assert_eq!(both.apply(&batch).withdrawn, batch.len());
        let asked: Vec<IpAddr> = prefixes.iter().step_by(997).copied().flat_map(edges).collect();
        both.agree(&asked);
    }
    assert!(both.fib.is_empty());
    let after = both.fib.generation().memory().tries;
    assert!(after < empty + (1 << 20), "uniform blocks may stay, {after} is more");
}

/// A table made in one batch, in order, holds the same routes and answers the same wherever an answer may change.
fn rebuilt_is_the_same(both: &mut Both) {
    let routes: Vec<(IpNet, GroupLabel)> = both.fib.routes(VrfId::DEFAULT, None).collect();
    let mut rebuilt = Fib::new(Limits::default());
    rebuilt.apply(&(1..=64).map(put).collect::<Vec<_>>(), 0).unwrap();
    rebuilt
        .apply(&routes.iter().map(|(prefix, label)| announce(*prefix, label.0)).collect::<Vec<_>>(), 1)
        .unwrap();
    assert!(rebuilt.routes(VrfId::DEFAULT, None).eq(routes.iter().copied()));
    let asked: Vec<IpAddr> = routes.iter().flat_map(|(prefix, _)| edges(*prefix)).collect();
    let answers = lookup(&mut rebuilt, &asked);
    assert!(lookup(&mut both.fib, &asked) == answers);
    // Each kernel, with a scalar one to compare with.
    rebuilt.use_scalar_kernel();
    assert!(lookup(&mut rebuilt, &asked) == answers);
}

#[test]
fn a_worker_sees_whole_batches_of_generations_in_force_only() {
    // Each batch points all these prefixes to one group, so that a mixture would show.
    let prefixes: Vec<IpNet> = (0..200u128)
        .map(|n| net(true, (0x0a00_0000 + (n << 13)) << 96, 20 + (n % 9) as u8))
        .chain((0..200u128).map(|n| net(false, 0x2001_0db8 << 96 | n << 78, 40 + (n % 20) as u8)))
        .collect();
    let v4: Vec<u32> = prefixes
        .iter()
        .filter_map(|prefix| if let IpNet::V4(net) = prefix { Some(net.network().to_bits()) } else { None })
        .collect();
    let v6: Vec<u128> = prefixes
        .iter()
        .filter_map(|prefix| if let IpNet::V6(net) = prefix { Some(net.network().to_bits()) } else { None })
        .collect();
    let mut fib = Fib::new(Limits::default());
    fib.apply(&(1..=9).map(put).collect::<Vec<_>>(), 0).unwrap();
    let change = |fib: &mut Fib, serial: u64| {
        let label = 1 + serial % 9;
        let batch: Vec<Change> = prefixes.iter().map(|&prefix| announce(prefix, label)).collect();
        fib.apply(&batch, serial).unwrap();
        fib.group_index(GroupLabel(label)).unwrap()
    };
    // What each serial's generation answers, written before it can be seen.
    let truth = Mutex::new(HashMap::new());
    let index = change(&mut fib, 1);
    truth.lock().unwrap().insert(1, index);
    let mut publisher = Publisher::new(fib.generation());
    let mut readers: Vec<Reader> = (0..2).map(|n| publisher.register(&format!("worker {n}"))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (truth, done, v4, v6) = (&truth, &done, &v4, &v6);
        let workers: Vec<_> = readers
            .drain(..)
            .map(|mut reader| {
                scope.spawn(move || {
                    let (mut last, mut seen, mut bursts) = (0, 0, 0u64);
                    let mut found = vec![GroupIndex::NO_ROUTE; 200];
                    while !done.load(Ordering::Relaxed) {
                        let generation = reader.burst();
                        let serial = generation.serial();
                        assert!(serial >= last, "time went back");
                        seen += u64::from(serial != last);
                        last = serial;
                        let expected = truth.lock().unwrap()[&serial];
                        generation.lookup_v4(VrfId::DEFAULT, v4, &mut found);
                        assert!(found.iter().all(|&found| found == expected), "serial {serial}");
                        generation.lookup_v6(VrfId::DEFAULT, v6, &mut found);
                        assert!(found.iter().all(|&found| found == expected), "serial {serial}");
                        bursts += 1;
                        if bursts % 50 == 0 {
                            reader.idle();
                        }
                    }
                    seen
                })
            })
            .collect();
        for serial in 2..3_000 {
            let index = change(&mut fib, serial);
            truth.lock().unwrap().insert(serial, index);
            publisher.publish(fib.generation());
        }
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            let seen = worker.join().unwrap_or_else(|_| panic!("a worker saw what was never in force"));
            assert!(seen > 1, "{seen}");
        }
    });
    publisher.collect();
    let stats = publisher.stats();
    assert_eq!((stats.freed_by_workers, stats.retired, stats.workers.len()), (0, 0, 0));
}
