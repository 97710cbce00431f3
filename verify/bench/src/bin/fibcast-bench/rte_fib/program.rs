//! DPDK's own benchmark, `dpdk-test-fib`, run on the same routes, the same addresses and the same core.
//!
//! It takes the clock before and after each burst of 64, with a fence that lets nothing of one burst overlap with the next.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dpdk::FibLookup;
use fibcast_testbed::process::find;

use super::{Kernel, PeerError, reserved};
use crate::input::{Family, Table};

/// Where it is, unless PATH has another.
const PROGRAM: &str = "dpdk-test-fib";

/// Whether it is installed.
pub fn installed() -> bool {
    find(PROGRAM).is_some()
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

/// Ticks for each lookup, by one run on `core`: it adds all routes, then looks up all addresses once, in bursts of 64.
pub fn run<F: Family>(
    table: &Table,
    routes: &Path,
    addresses: &Path,
    kernel: Kernel,
    core: usize,
) -> Result<f64, PeerError> {
    let second_level = reserved::<F>(table) + 16;
    // Entries of 4 bytes: next hops of 31 bits, as ours. A second-level table has 256 of them.
    let megabytes = 1_500 + second_level / 1_000;
    let argument = match kernel.lookup {
        FibLookup::Vector => "v",
        FibLookup::Scalar if F::NAME == "ipv6" => "s",
        FibLookup::Scalar => "s1",
        FibLookup::ScalarInline => "s2",
        FibLookup::ScalarUnified => "s3",
    };
    let mut command = Command::new(PROGRAM);
    command
        .args(["--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=3", "-m"])
        .arg(megabytes.to_string())
        .arg(format!("--file-prefix=fibcast-test-fib-{}", std::process::id()))
        .args(["-l", &core.to_string()])
        .args(if argument == "v" { ["--force-max-simd-bitwidth=512"].as_slice() } else { &[] })
        .arg("--")
        .arg("-f")
        .arg(routes)
        .arg("-t")
        .arg(addresses)
        .args(["-e", "4", "-g", &second_level.to_string(), "-v", argument])
        .args(if F::NAME == "ipv6" { ["-6"].as_slice() } else { &[] })
        .stdin(Stdio::null());
    let output = command.output().map_err(PeerError::Start)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().chain(text.lines()).rfind(|line| !line.trim().is_empty());
        return Err(PeerError::Failed(format!("failed ({}): {}", output.status, last.unwrap_or("no word"))));
    }
    parse(&text).ok_or(PeerError::Silent)
}

fn parse(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.trim().strip_prefix("AVG FIB lookup")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_output_is_read() {
        assert_eq!(
            parse("Lookup tuples: 8\nAVG FIB add 300\nAVG FIB lookup 26.4\nAVG FIB delete 661\n"),
            Some(26.4)
        );
        assert_eq!(parse("AVG FIB add 300\n"), None);
    }
}
