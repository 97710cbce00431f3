//! Publishing: what workers see, when memory is freed, and on which thread.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fibcast_fib::*;

fn next(fib: &mut Fib, serial: u64) -> std::sync::Arc<Generation> {
    let label = 1 + serial % 2;
    fib.apply(&[put(1), put(2), announce("10.0.0.0/8", label)], serial).unwrap();
    fib.generation()
}

fn start() -> (Fib, Publisher) {
    let mut fib = Fib::new(Limits::default());
    let publisher = Publisher::new(next(&mut fib, 1));
    (fib, publisher)
}

#[test]
fn a_reader_sees_each_publication_with_its_next_burst() {
    let (mut fib, mut publisher) = start();
    let mut reader = publisher.register("w0");
    assert_eq!(reader.burst().serial(), 1);
    for serial in 2..10 {
        assert_eq!(publisher.publish(next(&mut fib, serial)), Visibility::Now);
        assert_eq!(reader.burst().serial(), serial);
    }
}

#[test]
fn a_retired_generation_waits_for_the_slowest_worker() {
    let (mut fib, mut publisher) = start();
    let (mut fast, mut slow) = (publisher.register("fast"), publisher.register("slow"));
    fast.burst();
    slow.burst();
    for serial in 2..=4 {
        publisher.publish(next(&mut fib, serial));
        fast.burst();
    }
    publisher.collect();
    let stats = publisher.stats();
    assert_eq!((stats.published, stats.retired, stats.freed, stats.serial), (4, 3, 0, 4));
    let behind: Vec<_> = stats.workers.iter().map(|worker| worker.behind).collect();
    assert_eq!(behind, [Some(0), Some(3)]);
    slow.burst();
    publisher.collect();
    let stats = publisher.stats();
    assert_eq!((stats.retired, stats.freed, stats.freed_by_workers), (0, 3, 0));
}

#[test]
fn an_idle_reader_holds_nothing() {
    let (mut fib, mut publisher) = start();
    let mut reader = publisher.register("w0");
    reader.burst();
    reader.idle();
    publisher.publish(next(&mut fib, 2));
    publisher.publish(next(&mut fib, 3));
    let stats = publisher.stats();
    assert_eq!((stats.retired, stats.workers[0].behind), (0, None));
    assert_eq!(reader.burst().serial(), 3);
}

#[test]
fn a_reader_that_is_dropped_holds_nothing_and_is_forgotten() {
    let (mut fib, mut publisher) = start();
    let mut reader = publisher.register("w0");
    reader.burst();
    drop(reader);
    publisher.publish(next(&mut fib, 2));
    assert_eq!((publisher.stats().retired, publisher.stats().workers.len()), (0, 0));
}

#[test]
fn a_full_retired_list_defers_the_newest_and_no_worker_waits() {
    let mut fib = Fib::new(Limits::default());
    let mut publisher = Publisher::new(next(&mut fib, 1)).with_retired_bytes(1);
    let mut stuck = publisher.register("stuck");
    let mut alive = publisher.register("alive");
    stuck.burst();
    assert_eq!(publisher.publish(next(&mut fib, 2)), Visibility::Now);
    assert_eq!(publisher.publish(next(&mut fib, 3)), Visibility::Deferred);
    assert_eq!(publisher.publish(next(&mut fib, 4)), Visibility::Deferred);
    assert_eq!(publisher.publish(next(&mut fib, 5)), Visibility::Deferred);
    assert_eq!(alive.burst().serial(), 2);
    assert_eq!((publisher.stats().retired, publisher.stats().deferred), (1, 3));
    stuck.burst();
    publisher.collect();
    assert_eq!(alive.burst().serial(), 5);
    assert_eq!(stuck.burst().serial(), 5);
}

#[test]
fn publishing_the_same_generation_again_changes_nothing() {
    let (mut fib, mut publisher) = start();
    publisher.publish(fib.generation());
    assert_eq!(publisher.stats().published, 1);
}

#[test]
fn a_stalled_worker_holds_at_most_the_bound_and_then_sees_the_net() {
    let (mut fib, publisher) = start();
    const MOST: usize = 64 << 10;
    let mut publisher = publisher.with_retired_bytes(MOST);
    let (mut stuck, mut alive) = (publisher.register("stuck"), publisher.register("alive"));
    stuck.burst();
    let mut seen = 0;
    for serial in 2..1_000 {
        publisher.publish(next(&mut fib, serial));
        // The last one may exceed the bound by its own size: a page of the trie and a chunk of each list.
        assert!(publisher.stats().retired_bytes < MOST + (64 << 10));
        // It is never held up: what it gets may be old, and never goes back.
        let now = alive.burst().serial();
        assert!(now >= seen);
        seen = now;
    }
    let stats = publisher.stats();
    assert!(stats.retired_bytes >= MOST && stats.deferred > 900, "{stats:?}");
    assert_eq!((stats.published + stats.deferred, seen), (999, stats.serial));
    stuck.burst();
    publisher.collect();
    let published = stats.published;
    // One publication for all that came meanwhile.
    assert_eq!((alive.burst().serial(), stuck.burst().serial()), (999, 999));
    publisher.collect();
    let stats = publisher.stats();
    assert_eq!((stats.published, stats.retired, stats.retired_bytes), (published + 1, 0, 0));
}

#[test]
fn a_worker_that_panics_holds_nothing() {
    let (mut fib, mut publisher) = start();
    let mut reader = publisher.register("w0");
    let worker = std::thread::spawn(move || {
        reader.burst();
        panic!("as a test wants it");
    });
    assert!(worker.join().is_err());
    publisher.publish(next(&mut fib, 2));
    assert_eq!((publisher.stats().retired, publisher.stats().workers.len()), (0, 0));
}

/// A worker keeps a generation behind the publisher's back, as no reader lets it, and is the last to let go.
#[test]
fn a_destructor_on_a_worker_is_counted_for_it_and_asserted_in_debug_builds() {
    let (mut fib, mut publisher) = start();
    let (mut fine, mut reader) = (publisher.register("fine"), publisher.register("careless"));
    fine.burst();
    let kept = fib.generation();
    let [ready, go, freed] = [(); 3].map(|()| std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let (ready, go, freed) = (&ready, &go, &freed);
        let reader = &mut reader;
        let worker = scope.spawn(move || {
            reader.burst();
            ready.wait();
            go.wait();
            reader.burst();
            freed.wait();
            drop(kept);
        });
        ready.wait();
        publisher.publish(next(&mut fib, 2));
        go.wait();
        // What the publisher frees is its own reference: the generation itself is still the worker's.
        fine.burst();
        while publisher.stats().retired > 0 {
            publisher.collect();
        }
        freed.wait();
        assert_eq!(worker.join().is_err(), cfg!(debug_assertions));
    });
    let stats = publisher.stats();
    let freed: Vec<_> = stats.workers.iter().map(|worker| (worker.name.as_str(), worker.freed)).collect();
    assert_eq!((stats.freed_by_workers, freed), (1, vec![("fine", 0), ("careless", 1)]));
}
