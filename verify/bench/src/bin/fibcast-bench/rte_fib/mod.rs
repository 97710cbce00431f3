//! The peer for lookups and changes: DPDK's rte_fib and rte_fib6.
//!
//! [`Library`] calls it in this process: the same addresses in the same bursts by the same clock as ours, the same changes in the same
//! order. `program` runs DPDK's own benchmark for it, `dpdk-test-fib`, which measures by a rule of its own.

mod library;
pub mod program;

use std::io;
use std::path::PathBuf;

use dpdk::FibLookup;

pub use library::{Library, Lookups, check};

use crate::input::{Family, Table};

/// One of its lookup functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As the library calls it.
    pub lookup: FibLookup,
    /// As it is shown.
    pub name: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("dpdk-test-fib: {0}")]
    Start(io::Error),
    #[error("dpdk-test-fib: {0}")]
    Failed(String),
    #[error("dpdk-test-fib: expected a line \"AVG FIB lookup\" in its output, found none")]
    Silent,
    #[error("rte_fib: {0}")]
    Library(#[from] dpdk::Error),
    #[error("rte_fib: {address}: expected next hop {expected}, found {found}")]
    Wrong { address: String, expected: u64, found: u64 },
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

/// Lookup functions of a family; the vector one only where the CPU runs it.
pub fn kernels<F: Family>() -> Vec<Kernel> {
    let kernel = |lookup, name| Kernel { lookup, name };
    let mut kernels = match F::NAME {
        "ipv4" => vec![
            kernel(FibLookup::Scalar, "scalar 1"),
            kernel(FibLookup::ScalarInline, "scalar 2"),
            kernel(FibLookup::ScalarUnified, "scalar 3"),
        ],
        _ => vec![kernel(FibLookup::Scalar, "scalar")],
    };
    if wide() {
        kernels.push(kernel(FibLookup::Vector, "AVX-512"));
    }
    kernels
}

#[cfg(target_arch = "x86_64")]
fn wide() -> bool {
    // What lib/fib asks of the CPU.
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}

#[cfg(not(target_arch = "x86_64"))]
fn wide() -> bool {
    false
}

/// Second-level tables that it reserves at most for a table: one for each 8 bits of a prefix beyond 24. It fills far fewer.
fn reserved<F: Family>(table: &Table) -> usize {
    table.of::<F>().map(|((_, length), _)| usize::from(length.saturating_sub(24).div_ceil(8))).sum()
}

/// Bytes of the tables that it reads at a lookup, by its layout: 2^24 entries, and a second-level table of 256 wherever a prefix goes
/// on beyond 24, 32, 40 … bits. It does not say so itself, and it has to be given more than that.
pub fn memory<F: Family>(table: &Table) -> usize {
    let width = 8 * size_of::<F>() as u8;
    let mut tables = 0usize;
    for depth in (24..width).step_by(8) {
        let mut last = None;
        for ((network, length), _) in table.of::<F>() {
            let stem = F::stem(network, depth);
            if length > depth && last != Some(stem) {
                tables += 1;
                last = Some(stem);
            }
        }
    }
    4 * ((1 << 24) + 256 * tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_memory_is_a_table_for_each_stem_of_longer_prefixes() {
        let prefixes = ["10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/25", "10.0.2.1/32", "2001:db8:1::/48"];
        let table = Table::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(), 1);
        assert_eq!(memory::<u32>(&table), (64 << 20) + 2 * 1024);
        assert_eq!(memory::<u128>(&table), (64 << 20) + 3 * 1024);
        assert_eq!((reserved::<u32>(&table), reserved::<u128>(&table)), (3, 3));
    }
}
