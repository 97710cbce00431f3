//! A set of addresses: who answers it, in turn, and what each took.

use std::collections::BTreeMap;
use std::hint::black_box;

use fibcast_fib::{Generation, GroupIndex};
use ip_network_table_deps_treebitmap::IpLookupTable;

use super::{BURST, NAME};
use crate::input::{Family, Table};
use crate::measure::ticks_per_item;
use crate::row::{Better, Row, median};
use crate::rte_fib::{Kernel, Lookups, kernels, program};
use crate::{Course, Failure, cpu};

/// Addresses, and ticks per lookup by side and round.
pub struct Set<F: Family> {
    /// Added to the family's name in metrics.
    suffix: String,
    addresses: Vec<F>,
    /// The same for DPDK.
    wire: Vec<F::Wire>,
    ours: Vec<f64>,
    treebitmap: Vec<f64>,
    rte_fib: BTreeMap<&'static str, Vec<f64>>,
}

impl<F: Family> Set<F> {
    pub fn new(suffix: &str, addresses: Vec<F>) -> Set<F> {
        let wire = addresses.iter().map(|address| address.wire()).collect();
        let (ours, treebitmap, rte_fib) = (Vec::new(), Vec::new(), BTreeMap::new());
        Set { suffix: suffix.to_owned(), addresses, wire, ours, treebitmap, rte_fib }
    }

    pub fn addresses(&self) -> &[F] {
        &self.addresses
    }

    pub fn into_addresses(self) -> Vec<F> {
        self.addresses
    }

    /// Each side's turn. Another one begins each time, so that none always comes after the same.
    pub fn round(
        &mut self,
        round: usize,
        generation: &Generation,
        oracle: &IpLookupTable<F::Ip, u32>,
        mut peer: Option<&mut F::Peer>,
        kernels: &[Kernel],
    ) -> Result<(), Failure> {
        let sides = 2 + kernels.len();
        for turn in 0..sides {
            match (round + turn) % sides {
                0 => self.ours.push(ours(generation, &self.addresses)),
                1 => self.treebitmap.push(treebitmap(oracle, &self.addresses)),
                side => {
                    let (Some(peer), Some(kernel)) = (&mut peer, kernels.get(side - 2)) else { continue };
                    peer.select(kernel.lookup).map_err(crate::rte_fib::PeerError::from)?;
                    let ticks = rte_fib::<F>(peer, &self.wire);
                    self.rte_fib.entry(kernel.name).or_default().push(ticks);
                }
            }
        }
        Ok(())
    }

    /// Beside each of DPDK's functions, the best one first, and treebitmap.
    pub fn rows(&self) -> Vec<Row> {
        let ours = median(self.ours.clone());
        let row = || Row::new(NAME, &format!("{}{}", F::NAME, self.suffix), ours, "cycles");
        let mut peers: Vec<(&str, f64)> =
            self.rte_fib.iter().map(|(&name, figures)| (name, median(figures.clone()))).collect();
        peers.sort_by(|one, other| one.1.total_cmp(&other.1));
        let beside =
            |(name, figure): (&str, f64)| row().beside(&format!("rte_fib, {name}"), figure, Better::Less);
        let mut rows: Vec<Row> = peers.into_iter().map(beside).collect();
        rows.push(row().beside("treebitmap", median(self.treebitmap.clone()), Better::Less));
        rows
    }
}

fn ours<F: Family>(generation: &Generation, addresses: &[F]) -> f64 {
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    ticks_per_item(addresses.len(), |range| {
        for dst in addresses[range].chunks(BURST) {
            F::lookup(generation, dst, &mut found);
            black_box(&found);
        }
    })
}

fn rte_fib<F: Family>(fib: &F::Peer, addresses: &[F::Wire]) -> f64 {
    let mut found = [0u64; BURST];
    ticks_per_item(addresses.len(), |range| {
        for dst in addresses[range].chunks(BURST) {
            fib.lookup(dst, &mut found);
            black_box(&found);
        }
    })
}

fn treebitmap<F: Family>(oracle: &IpLookupTable<F::Ip, u32>, addresses: &[F]) -> f64 {
    ticks_per_item(addresses.len(), |range| {
        for &address in &addresses[range] {
            black_box(oracle.longest_match(address.ip()));
        }
    })
}

/// Beside `dpdk-test-fib`, as a worker looks up and by the program's own rule: bursts of 64, the mean of one pass, and a clock before
/// and after each burst that lets nothing of one overlap with the next.
pub fn by_the_program<F: Family>(
    table: &Table,
    generation: &Generation,
    addresses: &[F],
    course: Course,
) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let routes = program::write_routes::<F>(table, folder.path())?;
    let file = program::write_addresses(addresses, folder.path(), "")?;
    let (mut plain, mut by_its_rule) = (Vec::new(), Vec::new());
    let mut theirs: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut kernels = kernels::<F>();
    for round in 0..course.rounds {
        plain.push(ours(generation, addresses));
        by_its_rule.push(fenced(generation, addresses));
        for kernel in &kernels {
            let figure = program::run::<F>(table, &routes, &file, *kernel, course.core)?;
            theirs.entry(kernel.name).or_default().push(figure);
        }
        if round == 0 {
            // From the second round on, of the scalar ones the best.
            let first = |kernel: &Kernel| theirs[kernel.name][0];
            let scalar = |kernel: &&Kernel| kernel.lookup != dpdk::FibLookup::Vector;
            let best = kernels.iter().filter(scalar).min_by(|a, b| first(a).total_cmp(&first(b))).copied();
            kernels.retain(|kernel| !scalar(&kernel) || Some(*kernel) == best);
        }
    }
    let sides = [("", median(plain)), ("_fenced", median(by_its_rule))];
    let rows = sides.iter().flat_map(|&(suffix, ours)| {
        let theirs = &theirs;
        kernels.iter().map(move |kernel| {
            let peer = format!("dpdk-test-fib, {}", kernel.name);
            let figure = median(theirs[kernel.name].clone());
            Row::new(NAME, &format!("{}{suffix}", F::NAME), ours, "cycles").beside(
                &peer,
                figure,
                Better::Less,
            )
        })
    });
    Ok(rows.collect())
}

fn fenced<F: Family>(generation: &Generation, addresses: &[F]) -> f64 {
    const BURST: usize = 64;
    let mut found = [GroupIndex::NO_ROUTE; BURST];
    let mut pass = || {
        let mut ticks = 0;
        for dst in addresses.chunks(BURST) {
            let before = cpu::fenced_ticks();
            F::lookup(generation, dst, &mut found);
            ticks += cpu::fenced_ticks() - before;
            black_box(&found);
        }
        ticks as f64 / addresses.len() as f64
    };
    pass();
    pass()
}
