//! `fibcast-demo`: the whole system on one machine, watched and judged.
//!
//! Two route servers with the real Internet table, a NIC host with a DPDK dataplane, an agent behind it, and a traffic generator that
//! checks every packet. Routes change, the primary server is killed and comes back. In order: [`plan`] says when what happens, [`files`]
//! writes the configurations, [`watch`] asks the nodes what they do, [`screen`] shows it, [`story`] is the sequence itself, [`verdict`] the table
//! at the end. With `--frr` the routes come from [`frr`] beside each server, and each node has a network namespace. `fibcast_testbed` starts and
//! ends programs. Exit code 0 only if nothing was lost and all copies are equal.

mod files;
mod frr;
mod generator;
mod plan;
mod screen;
mod story;
mod verdict;
mod watch;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs two route servers, a NIC host, an agent and a traffic generator, kills the primary server, and judges what was seen.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder with the programs.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Folder with full-table-2024.prefixes.txt.gz.
    #[arg(long, default_value = "verify/data")]
    data: PathBuf,
    /// A shorter run: at most 30 s of traffic.
    #[arg(long)]
    short: bool,
    /// Routes come from real FRR (zebra and bgpd beside each route server) in place of recorded files. As root.
    #[arg(long)]
    frr: bool,
    /// Folder with frr/fibcast-sentinel.
    #[arg(long, default_value = "packaging")]
    packaging: PathBuf,
    /// Packets per second to send.
    #[arg(long, default_value_t = 250_000)]
    pps: u64,
    /// Keeps configurations, logs and the generator's report in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = match (arguments.frr, arguments.short) {
        (true, short) => plan::Plan::with_daemons(short),
        (false, true) => plan::Plan::short(),
        (false, false) => plan::Plan::full(),
    };
    let place = story::Place {
        programs: arguments.programs,
        data: arguments.data,
        packaging: arguments.frr.then_some(arguments.packaging),
        keep: arguments.keep,
    };
    let outcome = story::Story::begin(place, plan, arguments.pps).and_then(story::Story::run);
    match outcome {
        Ok(seen) => {
            print!("{}", seen.table());
            if seen.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            eprintln!("fibcast-demo: {reason}");
            ExitCode::FAILURE
        }
    }
}
