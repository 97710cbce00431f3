//! Longest-prefix match: cycles per lookup and memory, beside rte_fib and treebitmap; what changes on another core cost lookups.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_fib::{Fib, Generation, GroupIndex, Limits, Publisher, Reader};
use ip_network_table_deps_treebitmap::IpLookupTable;

use crate::input::{self, Family, Random, Table};
use crate::row::{Better, Row, median};
use crate::rte_fib::{self, Kernel};
use crate::{Course, Failure, cpu};

/// Lookups that a worker does together.
const BURST: usize = 32;
const NAME: &str = "lpm";

/// All rows of this bench.
pub fn run(table: &Table, course: Course) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut fib = table.fib()?;
    let generation = fib.generation();
    // What is started from here on stays on this core too, but for what says otherwise.
    cpu::pin(&[course.core])?;
    let (v4, inside) = family::<u32>(table, &generation, course)?;
    rows.extend(v4);
    let (v6, _) = family::<u128>(table, &generation, course)?;
    rows.extend(v6);
    drop(generation);
    rows.push(churn(table, fib, &inside, course)?);
    Ok(rows)
}

/// A set of addresses and what was measured with it.
struct Set<F> {
    /// Added to the family's name in metrics.
    suffix: &'static str,
    addresses: Vec<F>,
    ours: Vec<f64>,
    treebitmap: Vec<f64>,
    rte_fib: HashMap<&'static str, Vec<f64>>,
}

impl<F: Family> Set<F> {
    fn new(suffix: &'static str, addresses: Vec<F>) -> Set<F> {
        Set { suffix, addresses, ours: Vec::new(), treebitmap: Vec::new(), rte_fib: HashMap::new() }
    }

    /// The peer's function with the best median, and that median.
    fn best(&self) -> Option<(&'static str, f64)> {
        let medians = self.rte_fib.iter().map(|(&name, figures)| (name, median(figures.clone())));
        medians.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn rows(&self) -> Vec<Row> {
        let ours = median(self.ours.clone());
        let row = || Row::new(NAME, &format!("{}{}", F::NAME, self.suffix), ours, "cycles");
        let mut rows = Vec::new();
        if let Some((kernel, figure)) = self.best() {
            rows.push(row().beside(&format!("rte_fib, {kernel}"), figure, Better::Less));
        }
        rows.push(row().beside("treebitmap", median(self.treebitmap.clone()), Better::Less));
        rows
    }
}

/// One family's rows, and the addresses inside prefixes.
fn family<F: Family>(
    table: &Table,
    generation: &Generation,
    course: Course,
) -> Result<(Vec<Row>, Vec<F>), Failure> {
    let oracle = table.oracle::<F>();
    let inside = input::inside::<F>(table);
    if inside.is_empty() {
        return Ok((Vec::new(), inside));
    }
    let zipf = input::zipf(&inside);
    let third = input::third_outside(&inside, &oracle);
    let mut sets = [Set::new("", inside), Set::new("_zipf", zipf), Set::new("_third_outside", third)];
    for set in &sets {
        check(generation, &oracle, &set.addresses)?;
    }

    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    let mut routes = PathBuf::new();
    if rte_fib::installed() {
        routes = rte_fib::write_routes::<F>(table, folder.path())?;
        for set in &sets {
            files.push(rte_fib::write_addresses(&set.addresses, folder.path(), set.suffix)?);
        }
    }
    let all = rte_fib::kernels::<F>();
    // All of the peer's functions run on the first set; on the others the one that was best in the first round.
    let mut best: Vec<Kernel> = Vec::new();
    for _ in 0..course.rounds {
        for (number, set) in sets.iter_mut().enumerate() {
            set.ours.push(cycles(generation, &set.addresses));
            set.treebitmap.push(treebitmap(&oracle, &set.addresses));
            let Some(file) = files.get(number) else { continue };
            for &kernel in if number == 0 { &all } else { &best } {
                let figures = rte_fib::run::<F>(&routes, file, kernel, course.core)?;
                set.rte_fib.entry(kernel.name).or_default().push(figures.lookup);
            }
            if best.is_empty() {
                best = all
                    .iter()
                    .copied()
                    .filter(|k| set.best().is_some_and(|(name, _)| k.name == name))
                    .collect();
            }
        }
    }

    let mut rows: Vec<Row> = sets.iter().flat_map(Set::rows).collect();
    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let memory = Row::new(NAME, &format!("{}_memory", F::NAME), mebibytes(alone::<F>(table)?), "MiB");
    let peer = mebibytes(rte_fib::memory::<F>(table));
    rows.push(memory.clone().beside("rte_fib, by its layout", peer, Better::Less));
    let (nodes, results) = oracle.mem_usage();
    rows.push(memory.beside("treebitmap", mebibytes(nodes + results), Better::Less));
    let [first, ..] = sets;
    Ok((rows, first.addresses))
}

/// Bytes of tries with this family alone, beyond those of an empty table.
fn alone<F: Family>(table: &Table) -> Result<usize, Failure> {
    let mut fib = Fib::new(Limits::default());
    fib.apply(&table.puts(), 0)?;
    let before = fib.generation().memory().tries;
    fib.apply(&table.announcements::<F>(), 1)?;
    Ok(fib.generation().memory().tries - before)
}

/// Every answer against another author's trie.
fn check<F: Family>(
    generation: &Generation,
    oracle: &IpLookupTable<F::Ip, u32>,
    addresses: &[F],
) -> Result<(), Failure> {
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    for dst in addresses.chunks(BURST) {
        F::lookup(generation, dst, &mut found);
        for (&address, &index) in dst.iter().zip(&found) {
            let expected = oracle.longest_match(address.ip()).map(|(_, _, &group)| group);
            let found = input::group_of(generation, index);
            if found != expected {
                return Err(Failure::Wrong { address: address.ip().to_string(), expected, found });
            }
        }
    }
    Ok(())
}

/// Ticks per lookup of one pass over the set, after one that is not counted: the peer's table is warm too, from being filled.
fn cycles<F: Family>(generation: &Generation, addresses: &[F]) -> f64 {
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    warm_pass(addresses, || {
        for dst in addresses.chunks(BURST) {
            F::lookup(generation, dst, &mut found);
            black_box(&found);
        }
    })
}

fn treebitmap<F: Family>(oracle: &IpLookupTable<F::Ip, u32>, addresses: &[F]) -> f64 {
    warm_pass(addresses, || {
        for &address in addresses {
            black_box(oracle.longest_match(address.ip()));
        }
    })
}

fn warm_pass<F>(addresses: &[F], mut pass: impl FnMut()) -> f64 {
    pass();
    let start = cpu::ticks();
    pass();
    (cpu::ticks() - start) as f64 / addresses.len() as f64
}

/// How much longer lookups take while 10,000 changes a second are published from another core, in percent.
///
/// In time that the looking thread itself ran, so that other programs on its core do not count; whole passes, so that each stall does.
fn churn(table: &Table, mut fib: Fib, addresses: &[u32], course: Course) -> Result<Row, Failure> {
    let mut publisher = Publisher::new(fib.generation());
    let mut reader = publisher.register("lookups");
    let (busy, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (rest, under) = std::thread::scope(|scope| {
        let (busy, stop) = (&busy, &stop);
        let control = scope.spawn(move || -> Result<(), Failure> {
            cpu::pin(&[course.other])?;
            publish(table, &mut fib, &mut publisher, busy, stop)
        });
        let (mut rest, mut under) = (Vec::new(), Vec::new());
        for _ in 0..course.rounds.max(5) {
            busy.store(false, Ordering::Release);
            rest.push(slice(&mut reader, addresses));
            busy.store(true, Ordering::Release);
            under.push(slice(&mut reader, addresses));
        }
        stop.store(true, Ordering::Release);
        drop(reader);
        match control.join() {
            Ok(done) => done.map(|()| (rest, under)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let (rest, under) = (median(rest), median(under));
    Ok(Row::new(NAME, "churn_slowdown", (under / rest - 1.0) * 100.0, "percent"))
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

/// Seconds of the thread's own time per lookup, over a quarter of a second.
fn slice(reader: &mut Reader, addresses: &[u32]) -> f64 {
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    let (start, ran) = (Instant::now(), cpu::thread_time());
    let mut lookups = 0usize;
    while start.elapsed() < Duration::from_millis(250) {
        for dst in addresses.chunks(BURST) {
            u32::lookup(reader.burst(), dst, &mut found);
            black_box(&found);
        }
        lookups += addresses.len();
    }
    (cpu::thread_time() - ran).as_secs_f64() / lookups as f64
}
