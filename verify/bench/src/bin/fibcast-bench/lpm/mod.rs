//! Longest-prefix match: cycles per lookup and memory, beside rte_fib and treebitmap; what changes on another core cost lookups.
//!
//! `set` is one set of addresses and who answers it, `churn` looks while another core publishes.

mod churn;
mod set;

use fibcast_fib::{Fib, Generation, GroupIndex, Limits};
use ip_network_table_deps_treebitmap::IpLookupTable;

use self::set::Set;
use crate::input::{self, Family, Table};
use crate::row::{Better, Row};
use crate::rte_fib::{self, Library};
use crate::{Course, Failure, cpu};

/// Lookups that a worker does together.
const BURST: usize = 32;
const NAME: &str = "lpm";

/// Groups of the table whose routes have homes.
const HOME_GROUPS: u32 = 4_000;
/// How many times as large the grown table is.
const GROWTH: usize = 4;

/// All rows of this bench.
pub fn run(table: &Table, course: Course, library: Option<&Library>) -> Result<Vec<Row>, Failure> {
    // What is started from here on stays on this core too, but for what says otherwise.
    cpu::pin(&[course.core])?;
    let mut rows = Vec::new();
    let mut fib = table.fib()?;
    let (v4, v6) = both(table, &mut fib, "", course, library, &mut rows)?;
    rows.push(churn::row(table, fib, (&v4, &v6), course)?);
    let homes = table.with_homes(HOME_GROUPS);
    both(&homes, &mut homes.fib()?, &format!("_{HOME_GROUPS}_groups"), course, library, &mut rows)?;
    drop(homes);
    let grown = table.grown(GROWTH);
    both(&grown, &mut grown.fib()?, &format!("_{GROWTH}x"), course, library, &mut rows)?;
    Ok(rows)
}

/// Both families of a table, and the addresses inside its prefixes.
fn both(
    table: &Table,
    fib: &mut Fib,
    suffix: &str,
    course: Course,
    library: Option<&Library>,
    rows: &mut Vec<Row>,
) -> Result<(Vec<u32>, Vec<u128>), Failure> {
    let generation = fib.generation();
    let v4 = family::<u32>(table, &generation, suffix, course, library, rows)?;
    let v6 = family::<u128>(table, &generation, suffix, course, library, rows)?;
    let lookups = generation.memory().tries + generation.memory().groups;
    let mut memory =
        |name, bytes| rows.push(Row::new(NAME, &format!("{name}{suffix}"), mebibytes(bytes), "MiB"));
    memory("memory", lookups);
    memory("memory_with_control", lookups + fib.memory());
    Ok((v4, v6))
}

/// One family's rows, and the addresses inside its prefixes.
fn family<F: Family>(
    table: &Table,
    generation: &Generation,
    suffix: &str,
    course: Course,
    library: Option<&Library>,
    rows: &mut Vec<Row>,
) -> Result<Vec<F>, Failure> {
    let oracle = table.oracle::<F>();
    let inside = input::inside::<F>(table);
    if inside.is_empty() {
        return Ok(inside);
    }
    let mut sets = vec![Set::new(suffix, inside)];
    if suffix.is_empty() {
        let inside = sets[0].addresses();
        let more = [
            Set::new("_zipf", input::zipf(inside)),
            Set::new("_third_outside", input::third_outside(inside, &oracle)),
        ];
        sets.extend(more);
    }
    for set in &sets {
        check(generation, &oracle, set.addresses())?;
    }
    let mut peer = library.map(|library| library.table::<F>(table)).transpose()?;
    let kernels = if peer.is_some() { rte_fib::kernels::<F>() } else { Vec::new() };
    if let Some(peer) = &mut peer {
        for &kernel in &kernels {
            let right = |address: F| oracle.longest_match(address.ip()).map(|(_, _, &group)| group);
            rte_fib::check::<F>(peer, kernel, sets[0].addresses(), right)?;
        }
    }
    for round in 0..course.rounds {
        for set in &mut sets {
            set.round(round as usize, generation, &oracle, peer.as_mut(), &kernels)?;
        }
    }
    drop(peer);
    rows.extend(sets.iter().flat_map(Set::rows));
    if suffix.is_empty() && rte_fib::program::installed() {
        rows.extend(set::by_the_program::<F>(table, generation, sets[0].addresses(), course)?);
    }

    let memory = Row::new(NAME, &format!("{}_memory{suffix}", F::NAME), mebibytes(alone::<F>(table)?), "MiB");
    let peer = mebibytes(rte_fib::memory::<F>(table));
    rows.push(memory.clone().beside("rte_fib, by its layout", peer, Better::Less));
    let (nodes, results) = oracle.mem_usage();
    rows.push(memory.beside("treebitmap", mebibytes(nodes + results), Better::Less));
    Ok(sets.swap_remove(0).into_addresses())
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

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
