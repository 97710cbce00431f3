//! The hand-off under a model checker: every order in which its threads may run, within a bound on preemptions.
//!
//! The files of the crate itself are compiled here, `publisher/handoff.rs` and `audit.rs`, with loom's `Arc` and atomics in the place of
//! the standard library's. Modelled: stamps, counts, retirement, the audit of destructors, workers that sleep, wake up and end. Not
//! modelled: `arc-swap`, whose pointer is a lock here that gives the newest value, as its documentation promises of `swap` and
//! `load_full`, with a relaxed look before it, as its cache has; the tries; the bound of the retired list, which no other thread sees.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod sync;

#[path = "../../src/audit.rs"]
mod audit;
#[path = "../../src/publisher/handoff.rs"]
mod handoff;

use audit::Audit;
use handoff::{All, Guards, Handoff, HandoffReader};
use sync::Arc;

/// A value that knows who may free it.
struct Value {
    number: u64,
    audit: Arc<Audit>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.audit.dropped();
    }
}

/// Runs a model in every order that begins a thread out of turn at most three times.
fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// A publisher on this thread that publishes `last` values, freeing after each, and a worker on another.
fn publish<G: Guards + Send + 'static>(
    last: u64,
    awake: bool,
    worker: impl FnOnce(HandoffReader<Value, G>) + Send + 'static,
) where
    HandoffReader<Value, G>: Send,
{
    let audit = Arc::new(Audit::new());
    audit.enter();
    let value = |number| Value { number, audit: audit.clone() };
    let mut handoff = Handoff::<Value, G>::new(value(1));
    let mut reader = handoff.reader();
    let seat = reader.seat.clone();
    if awake {
        reader.look();
    }
    let worker = loom::thread::spawn(move || worker(reader));
    for number in 2..=last {
        handoff.swap(value(number));
        handoff.free(std::iter::once(&**seat));
    }
    worker.join().unwrap();
    handoff.free(std::iter::once(&**seat));
    assert_eq!((handoff.retired(), handoff.freed()), (0, last - 1), "a worker that ended holds nothing");
    assert_eq!(audit.foreign(), 0);
    audit.close();
}

/// Looks that often; what it sees never goes back.
fn looks<G: Guards>(reader: &mut HandoffReader<Value, G>, times: usize) {
    let mut last = 0;
    for _ in 0..times {
        let number = reader.look().number;
        assert!(number >= last, "time went back");
        last = number;
    }
}

#[test]
fn no_worker_frees_and_everything_is_freed() {
    model(|| publish::<All>(3, false, |mut reader| looks(&mut reader, 3)));
}

#[test]
fn a_worker_that_sleeps_and_wakes_up_frees_nothing() {
    model(|| {
        publish::<All>(3, true, |mut reader| {
            reader.idle();
            looks(&mut reader, 2);
        });
    });
}

#[test]
fn two_workers_free_nothing() {
    model(|| {
        let audit = Arc::new(Audit::new());
        audit.enter();
        let value = |number| Value { number, audit: audit.clone() };
        let mut handoff = Handoff::<Value>::new(value(1));
        let readers = [handoff.reader(), handoff.reader()];
        let seats = [readers[0].seat.clone(), readers[1].seat.clone()];
        let start = |mut reader: HandoffReader<Value>| loom::thread::spawn(move || looks(&mut reader, 2));
        let workers = readers.map(start);
        handoff.swap(value(2));
        handoff.free(seats.iter().map(|seat| &***seat));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        handoff.free(seats.iter().map(|seat| &***seat));
        assert_eq!((handoff.retired(), audit.foreign()), (0, 0));
        audit.close();
    });
}

/// A sleeping worker holds no memory, whatever it does while the publisher frees.
#[test]
fn a_worker_that_went_to_sleep_holds_nothing() {
    model(|| {
        let audit = Arc::new(Audit::new());
        audit.enter();
        let value = |number| Value { number, audit: audit.clone() };
        let mut handoff = Handoff::<Value>::new(value(1));
        let mut reader = handoff.reader();
        let seat = reader.seat.clone();
        let worker = loom::thread::spawn(move || {
            reader.look();
            reader.idle();
            reader
        });
        handoff.swap(value(2));
        let reader = worker.join().unwrap();
        handoff.free(std::iter::once(&**seat));
        assert_eq!(handoff.retired(), 0);
        drop(reader);
        audit.close();
    });
}

macro_rules! guards {
    ($name:ident, $($rule:ident = $value:literal),+) => {
        struct $name;

        impl Guards for $name {
            $(const $rule: bool = $value;)+
        }
    };
}

guards!(CountsAlone, STAMPS = false);
guards!(StampsAlone, COUNTS = false);
guards!(StampsEarly, COUNTS = false, IN_ORDER = false);
guards!(Nothing, STAMPS = false, COUNTS = false);

#[test]
fn counts_alone_would_do() {
    model(|| publish::<CountsAlone>(3, false, |mut reader| looks(&mut reader, 3)));
}

#[test]
fn stamps_alone_would_do_for_a_worker_that_never_sleeps() {
    model(|| publish::<StampsAlone>(3, true, |mut reader| looks(&mut reader, 2)));
}

#[test]
#[should_panic(expected = "freed off its publisher's thread")]
fn stamps_alone_let_a_worker_free_that_wakes_up() {
    model(|| {
        publish::<StampsAlone>(2, true, |mut reader| {
            reader.idle();
            looks(&mut reader, 2);
        });
    });
}

#[test]
#[should_panic(expected = "freed off its publisher's thread")]
fn a_stamp_that_moves_before_the_reference_is_dropped_lets_a_worker_free() {
    model(|| publish::<StampsEarly>(2, true, |mut reader| looks(&mut reader, 2)));
}

#[test]
#[should_panic(expected = "freed off its publisher's thread")]
fn a_publisher_that_looks_at_nothing_lets_a_worker_free() {
    model(|| publish::<Nothing>(2, true, |mut reader| looks(&mut reader, 2)));
}
