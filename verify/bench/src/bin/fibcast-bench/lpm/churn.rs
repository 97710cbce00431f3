//! What lookups lose while 10,000 changes a second are applied and published on another core.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_fib::{Fib, GroupIndex, Publisher, Reader};

use super::{BURST, NAME};
use crate::input::{self, Family, Random, Table};
use crate::row::{Row, median};
use crate::{Course, Failure, cpu};

/// How long it is looked at rest and then under changes, in turn.
const SLICE: Duration = Duration::from_millis(100);
/// Such pairs in each round.
const PAIRS: u32 = 8;

/// How much longer lookups take, in percent: the median of what pairs of neighboring slices say.
///
/// In time that the looking thread itself ran, so that other programs on its core do not count; whole passes over the addresses of both
/// families, so that each stall does.
pub fn row(
    table: &Table,
    mut fib: Fib,
    addresses: (&[u32], &[u128]),
    course: Course,
) -> Result<Row, Failure> {
    let mut publisher = Publisher::new(fib.generation());
    let mut reader = publisher.register("lookups");
    let (busy, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let slowdowns = std::thread::scope(|scope| {
        let (busy, stop) = (&busy, &stop);
        let control = scope.spawn(move || -> Result<(), Failure> {
            cpu::pin(&[course.other])?;
            publish(table, &mut fib, &mut publisher, busy, stop)
        });
        let mut slowdowns = Vec::new();
        slice(&mut reader, addresses);
        for pair in 0..PAIRS * course.rounds {
            // Which of the two comes first changes from pair to pair, so that a drift of the machine's cancels out.
            let mut measure = |under: bool| {
                busy.store(under, Ordering::Release);
                slice(&mut reader, addresses)
            };
            let (rest, under) = match pair % 2 {
                0 => (measure(false), measure(true)),
                _ => {
                    let under = measure(true);
                    (measure(false), under)
                }
            };
            slowdowns.push((under / rest - 1.0) * 100.0);
        }
        stop.store(true, Ordering::Release);
        drop(reader);
        match control.join() {
            Ok(done) => done.map(|()| slowdowns),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(Row::new(NAME, "churn_slowdown", median(slowdowns), "percent"))
}

/// Publishes a batch of 100 every 10 ms while `busy`.
fn publish(
    table: &Table,
    fib: &mut Fib,
    publisher: &mut Publisher,
    busy: &AtomicBool,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    const PACE: Duration = Duration::from_millis(10);
    let mut random = Random(5);
    let mut serial = 10;
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if !busy.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
            due = Instant::now();
            continue;
        }
        let batch: Vec<_> = (0..100).map(|_| input::change(table, &mut random)).collect();
        serial += 1;
        fib.apply(&batch, serial)?;
        publisher.publish(fib.generation());
        due += PACE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Seconds of the thread's own time per lookup, over whole passes.
fn slice(reader: &mut Reader, (v4, v6): (&[u32], &[u128])) -> f64 {
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    let (start, ran) = (Instant::now(), cpu::thread_time());
    let mut lookups = 0usize;
    while start.elapsed() < SLICE {
        pass(reader, v4, &mut found);
        pass(reader, v6, &mut found);
        lookups += v4.len() + v6.len();
    }
    (cpu::thread_time() - ran).as_secs_f64() / lookups as f64
}

fn pass<F: Family>(reader: &mut Reader, addresses: &[F], found: &mut [GroupIndex; BURST]) {
    for dst in addresses.chunks(BURST) {
        F::lookup(reader.burst(), dst, found);
        black_box(&*found);
    }
}
