//! Route changes: applied and published, and the whole table built, beside what additions cost rte_fib.

use std::time::Instant;

use fibcast_fib::{Change, Fib, Limits, Publisher};

use crate::input::{self, Family, Random, Table};
use crate::row::{Better, Row, median};
use crate::rte_fib::{self, PeerError};
use crate::{Course, Failure, cpu};

const NAME: &str = "apply";

/// All rows of this bench.
///
/// The peer publishes one route at a time and in the order of the file, which suits its caches; ours are drawn at random, and a batch
/// becomes visible as a whole. So the peer's figure is what the cheapest change costs there.
pub fn run(table: &Table, course: Course) -> Result<Vec<Row>, Failure> {
    cpu::pin(&[course.core])?;
    let hertz = cpu::hertz();
    let (mut build, mut one, mut batch, mut rate) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut peer = Vec::new();
    let mut random = Random(6);
    for _ in 0..course.rounds {
        let (v4, v6) = (table.announcements::<u32>(), table.announcements::<u128>());
        let mut fib = Fib::new(Limits::default());
        fib.apply(&table.puts(), 0)?;
        let start = Instant::now();
        fib.apply(&v4, 1)?;
        fib.apply(&v6, 2)?;
        build.push(start.elapsed().as_secs_f64() * 1e3);

        let mut publisher = Publisher::new(fib.generation());
        let mut times = |size: usize, batches: usize| -> Result<f64, Failure> {
            let mut times = Vec::new();
            for _ in 0..batches {
                let changes: Vec<Change> = (0..size).map(|_| input::change(table, &mut random)).collect();
                let start = Instant::now();
                fib.apply(&changes, 3)?;
                publisher.publish(fib.generation());
                times.push(start.elapsed().as_secs_f64());
            }
            Ok(median(times))
        };
        one.push(times(1, 500)? * 1e6);
        batch.push(times(1_000, 30)? * 1e3);
        rate.push(10_000.0 / times(10_000, 15)?);
        if rte_fib::installed() {
            peer.push(Adds::measure(table, course)?);
        }
    }

    let mut rows = vec![
        Row::new(NAME, "one_change", median(one), "us"),
        Row::new(NAME, "batch_1000", median(batch), "ms"),
        Row::new(NAME, "changes", median(rate), "per s"),
        Row::new(NAME, "build", median(build), "ms"),
    ];
    if !peer.is_empty() {
        // Seconds for the whole table; any change is taken to cost the mean.
        let whole = median(peer.iter().map(|adds| adds.ticks(table)).collect()) / hertz;
        let each = whole / table.routes.len() as f64;
        let name = "rte_fib adds";
        let figures = [each * 1e6, each * 1e6, 1.0 / each, whole * 1e3];
        let beside = |(row, figure): (Row, f64)| {
            let better = if row.metric == "changes" { Better::More } else { Better::Less };
            row.beside(name, figure, better)
        };
        rows = rows.into_iter().zip(figures).map(beside).collect();
    }
    Ok(rows)
}

/// Ticks of the peer for one addition.
struct Adds {
    v4: f64,
    v6: f64,
}

impl Adds {
    fn measure(table: &Table, course: Course) -> Result<Adds, Failure> {
        Ok(Adds { v4: add::<u32>(table, course)?, v6: add::<u128>(table, course)? })
    }

    fn ticks(&self, table: &Table) -> f64 {
        self.v4 * table.of::<u32>().count() as f64 + self.v6 * table.of::<u128>().count() as f64
    }
}

fn add<F: Family>(table: &Table, course: Course) -> Result<f64, PeerError> {
    let Some(((network, _), _)) = table.of::<F>().next() else { return Ok(0.0) };
    let folder = tempfile::tempdir().map_err(|error| PeerError::File("temporary folder".into(), error))?;
    let routes = rte_fib::write_routes::<F>(table, folder.path())?;
    // It looks up 64 at a time.
    let addresses = rte_fib::write_addresses(&[network; 64], folder.path(), "")?;
    let Some(&kernel) = rte_fib::kernels::<F>().first() else { return Ok(0.0) };
    Ok(rte_fib::run::<F>(&routes, &addresses, kernel, course.core)?.add)
}
