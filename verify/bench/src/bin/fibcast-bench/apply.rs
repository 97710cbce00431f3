//! Route changes: applied and published, and the whole table built, beside the same changes in rte_fib.

use std::time::Instant;

use fibcast_fib::{Change, Fib, Limits, Publisher};
use ipnet::IpNet;

use crate::input::{self, Family, Random, Table};
use crate::row::{Better, Row, median};
use crate::rte_fib::{Library, Lookups, PeerError};
use crate::{Course, Failure, cpu};

const NAME: &str = "apply";

/// Batches of each size in a round.
const ONES: usize = 500;
const THOUSANDS: usize = 30;
const TEN_THOUSANDS: usize = 15;

/// All rows of this bench: the real table, then one 4 times as large.
///
/// The peer gets the same changes in the same order; with it each becomes visible by itself, with us a batch as a whole.
pub fn run(table: &Table, course: Course, library: Option<&Library>) -> Result<Vec<Row>, Failure> {
    cpu::pin(&[course.core])?;
    let mut rows = measure(table, "", course, library)?;
    rows.extend(measure(&table.grown(4), "_4x", course, library)?);
    Ok(rows)
}

fn measure(
    table: &Table,
    suffix: &str,
    course: Course,
    library: Option<&Library>,
) -> Result<Vec<Row>, Failure> {
    let (mut ours, mut theirs) = (Figures::default(), Figures::default());
    let routes = (table.announcements::<u32>(), table.announcements::<u128>());
    for round in 0..course.rounds {
        let seed = 6 + u64::from(round);
        ours.push(one_round(table, seed, || Ours::build(table, &routes))?);
        if let Some(library) = library {
            theirs.push(one_round(table, seed, || Theirs::build(table, library))?);
        }
    }
    Ok(ours.rows(suffix, library.map(|_| &theirs)))
}

/// Who changes its table.
trait Contestant {
    /// A batch, until it is visible.
    fn apply(&mut self, batch: &[Change]) -> Result<(), Failure>;
}

/// Builds a table and changes it, in batches of each size. Draws depend on the seed alone.
fn one_round<S: Contestant>(
    table: &Table,
    seed: u64,
    build: impl FnOnce() -> Result<(S, f64), Failure>,
) -> Result<[f64; 4], Failure> {
    let (mut side, built) = build()?;
    let mut random = Random(seed);
    let mut batches = |size: usize, count: usize| -> Vec<Vec<Change>> {
        let batch = |random: &mut Random| (0..size).map(|_| input::change(table, random)).collect();
        (0..count).map(|_| batch(&mut random)).collect()
    };
    let mut times = |batches: Vec<Vec<Change>>| -> Result<f64, Failure> {
        let mut times = Vec::new();
        for batch in batches {
            let start = Instant::now();
            side.apply(&batch)?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(median(times))
    };
    let (ones, thousands, ten_thousands) =
        (batches(1, ONES), batches(1_000, THOUSANDS), batches(10_000, TEN_THOUSANDS));
    let (one, thousand) = (times(ones)?, times(thousands)?);
    // Sustained: all of the time counts, what comes between batches included; but only what this thread ran.
    let start = cpu::thread_time();
    for batch in &ten_thousands {
        side.apply(batch)?;
    }
    let rate = (10_000 * TEN_THOUSANDS) as f64 / (cpu::thread_time() - start).as_secs_f64();
    Ok([one * 1e6, thousand * 1e3, rate, built * 1e3])
}

struct Ours {
    fib: Fib,
    publisher: Publisher,
    serial: u64,
}

impl Ours {
    /// The table, and the seconds that its routes took from a sorted snapshot, in one batch for each family.
    fn build(table: &Table, (v4, v6): &(Vec<Change>, Vec<Change>)) -> Result<(Ours, f64), Failure> {
        let mut fib = Fib::new(Limits::default());
        fib.apply(&table.puts(), 0)?;
        let start = cpu::thread_time();
        fib.apply(v4, 1)?;
        fib.apply(v6, 2)?;
        let took = (cpu::thread_time() - start).as_secs_f64();
        let publisher = Publisher::new(fib.generation());
        Ok((Ours { fib, publisher, serial: 2 }, took))
    }
}

impl Contestant for Ours {
    fn apply(&mut self, batch: &[Change]) -> Result<(), Failure> {
        self.serial += 1;
        self.fib.apply(batch, self.serial)?;
        self.publisher.publish(self.fib.generation());
        Ok(())
    }
}

struct Theirs {
    v4: dpdk::Fib,
    v6: dpdk::Fib6,
}

impl Theirs {
    fn build(table: &Table, library: &Library) -> Result<(Theirs, f64), Failure> {
        let (v4, v6) = (library.empty::<u32>(table)?, library.empty::<u128>(table)?);
        let mut theirs = Theirs { v4, v6 };
        let start = cpu::thread_time();
        fill::<u32>(&mut theirs.v4, table)?;
        fill::<u128>(&mut theirs.v6, table)?;
        Ok((theirs, (cpu::thread_time() - start).as_secs_f64()))
    }
}

fn fill<F: Family>(fib: &mut F::Peer, table: &Table) -> Result<(), PeerError> {
    for ((network, length), group) in table.of::<F>() {
        fib.add(network.wire(), length, group + 1)?;
    }
    Ok(())
}

impl Contestant for Theirs {
    fn apply(&mut self, batch: &[Change]) -> Result<(), Failure> {
        for change in batch {
            match *change {
                Change::Announce { prefix, label, .. } => {
                    let next_hop = label.0 as u32 + 1;
                    match prefix {
                        IpNet::V4(net) => self.v4.add(net.network().to_bits(), net.prefix_len(), next_hop),
                        IpNet::V6(net) => self.v6.add(net.network().octets(), net.prefix_len(), next_hop),
                    }
                    .map_err(PeerError::from)?;
                }
                // What is gone already is an error to it, and none of ours.
                Change::Withdraw { prefix: IpNet::V4(net), .. } => {
                    let _ = self.v4.delete(net.network().to_bits(), net.prefix_len());
                }
                Change::Withdraw { prefix: IpNet::V6(net), .. } => {
                    let _ = self.v6.delete(net.network().octets(), net.prefix_len());
                }
                Change::PutGroup { .. } | Change::DeleteGroup { .. } => {}
            }
        }
        Ok(())
    }
}

/// One side's figures, by metric, then by round.
#[derive(Default)]
struct Figures([Vec<f64>; 4]);

impl Figures {
    fn push(&mut self, round: [f64; 4]) {
        self.0.iter_mut().zip(round).for_each(|(figures, figure)| figures.push(figure));
    }

    fn rows(&self, suffix: &str, peer: Option<&Figures>) -> Vec<Row> {
        let names = [("one_change", "us"), ("batch_1000", "ms"), ("changes", "per s"), ("build", "ms")];
        let row = |(place, (name, unit)): (usize, (&str, &'static str))| {
            let row = Row::new(NAME, &format!("{name}{suffix}"), median(self.0[place].clone()), unit);
            let better = if name == "changes" { Better::More } else { Better::Less };
            match peer {
                Some(peer) => row.beside("rte_fib", median(peer.0[place].clone()), better),
                None => row,
            }
        };
        names.into_iter().enumerate().map(row).collect()
    }
}
