//! The peer for lookups: DPDK's own `dpdk-test-fib`, run on the same routes, the same addresses and the same core.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::input::{Family, Table};

/// Where it is, unless PATH has another.
const PROGRAM: &str = "dpdk-test-fib";

/// Second-level tables to begin with. DPDK reserves them by the worst case, so it needs more than it fills: the 160,147 IPv6 prefixes of
/// the 2024 table do not go in with 200,000.
const TBL8: usize = 400_000;

/// One of its lookup functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Argument of `-v`.
    pub argument: &'static str,
    /// As it is shown.
    pub name: &'static str,
}

/// What one run said.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Ticks for each route added, in the order of the table.
    pub add: f64,
    /// Ticks for each lookup.
    pub lookup: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("dpdk-test-fib: {0}")]
    Start(io::Error),
    #[error("dpdk-test-fib: {0}")]
    Failed(String),
    #[error("dpdk-test-fib: the routes do not fit (ENOSPC) in {} second-level tables", 4 * TBL8)]
    Full,
    #[error("dpdk-test-fib: expected a line \"AVG FIB lookup\" in its output, found none")]
    Silent,
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

/// Lookup functions of a family; the vector ones only where the CPU runs them.
pub fn kernels<F: Family>() -> Vec<Kernel> {
    let kernel = |argument, name| Kernel { argument, name };
    let mut kernels = match F::NAME {
        "ipv4" => vec![kernel("s1", "scalar 1"), kernel("s2", "scalar 2"), kernel("s3", "scalar 3")],
        _ => vec![kernel("s", "scalar")],
    };
    if wide() {
        kernels.push(kernel("v", "AVX-512"));
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

/// Whether it is installed.
pub fn installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file())
}

/// Writes the routes of one family as it reads them. Next hops are counted from 1.
pub fn write_routes<F: Family>(table: &Table, folder: &Path) -> Result<PathBuf, PeerError> {
    let mut text = String::new();
    for ((network, length), group) in table.of::<F>() {
        let _ = writeln!(text, "{}/{length} {}", network.ip(), group + 1);
    }
    write(folder.join(format!("{}.routes", F::NAME)), &text)
}

/// Writes a set of addresses as it reads them.
pub fn write_addresses<F: Family>(addresses: &[F], folder: &Path, name: &str) -> Result<PathBuf, PeerError> {
    let mut text = String::new();
    for address in addresses {
        let _ = writeln!(text, "{}", address.listed());
    }
    write(folder.join(format!("{}{name}.addresses", F::NAME)), &text)
}

fn write(path: PathBuf, text: &str) -> Result<PathBuf, PeerError> {
    match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(error) => Err(PeerError::File(path, error)),
    }
}

/// One run on `core`: adds all routes, looks up all addresses once, in bursts of 64, which is what it has.
pub fn run<F: Family>(
    routes: &Path,
    addresses: &Path,
    kernel: Kernel,
    core: usize,
) -> Result<Figures, PeerError> {
    let mut tbl8 = TBL8;
    loop {
        match once::<F>(routes, addresses, kernel, core, tbl8) {
            Err(PeerError::Full) if tbl8 < 4 * TBL8 => tbl8 *= 2,
            done => return done,
        }
    }
}

fn once<F: Family>(
    routes: &Path,
    addresses: &Path,
    kernel: Kernel,
    core: usize,
    tbl8: usize,
) -> Result<Figures, PeerError> {
    // Entries of 4 bytes: next hops of 31 bits, as ours. A second-level table has 256 of them.
    let megabytes = 1_500 + tbl8 / 1_000;
    let mut command = Command::new(PROGRAM);
    command
        .args(["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=3", "-m"])
        .arg(megabytes.to_string())
        .arg(format!("--file-prefix=fibcast-bench-{}", std::process::id()))
        .args(["-l", &core.to_string()])
        .args(if kernel.argument == "v" { ["--force-max-simd-bitwidth=512"].as_slice() } else { &[] })
        .arg("--")
        .arg("-f")
        .arg(routes)
        .arg("-t")
        .arg(addresses)
        .args(["-e", "4", "-g", &tbl8.to_string(), "-v", kernel.argument])
        .args(if F::NAME == "ipv6" { ["-6"].as_slice() } else { &[] })
        .stdin(Stdio::null());
    let output = command.output().map_err(PeerError::Start)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // It says so by nothing but the number of the error, as its exit code.
    if output.status.code() == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
        return Err(PeerError::Full);
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().chain(text.lines()).rfind(|line| !line.trim().is_empty());
        return Err(PeerError::Failed(format!("failed ({}): {}", output.status, last.unwrap_or("no word"))));
    }
    parse(&text).ok_or(PeerError::Silent)
}

/// It prints a line for each tenth of the routes and one for the lookups.
fn parse(text: &str) -> Option<Figures> {
    let after = |line: &str, key: &str| line.trim().strip_prefix(key)?.trim().parse::<f64>().ok();
    let adds: Vec<f64> = text.lines().filter_map(|line| after(line, "AVG FIB add")).collect();
    let lookup = text.lines().find_map(|line| after(line, "AVG FIB lookup"))?;
    let add = adds.iter().sum::<f64>() / adds.len().max(1) as f64;
    (!adds.is_empty()).then_some(Figures { add, lookup })
}

/// Bytes of the tables that it reads at a lookup, by its layout: 2^24 entries, and a second-level table of 256 wherever a prefix goes
/// on beyond 24, 32, 40 … bits. It does not say so itself, and it has to be given more than that (see [`TBL8`]).
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
    fn its_output_is_read() {
        let text =
            "Lookup tuples: 8\nAVG FIB add 300\nAVG FIB add 500\nAVG FIB lookup 26.4\nAVG FIB delete 661\n";
        let figures = parse(text).unwrap();
        assert_eq!((figures.add, figures.lookup), (400.0, 26.4));
        assert!(parse("AVG FIB add 300\n").is_none());
    }

    #[test]
    fn its_memory_is_a_table_for_each_stem_of_longer_prefixes() {
        let prefixes = ["10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/25", "10.0.2.1/32", "2001:db8:1::/48"];
        let table = Table::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(), 1);
        assert_eq!(memory::<u32>(&table), (64 << 20) + 2 * 1024);
        assert_eq!(memory::<u128>(&table), (64 << 20) + 3 * 1024);
    }
}
