//! `fibcast-demo`: the whole system on one machine, watched and judged.
//!
//! Two route servers with the real Internet table, a NIC host with a DPDK dataplane, an agent behind it, and a traffic generator that
//! checks every packet. Routes change, the primary server is killed and comes back. In order: [`plan`] says when what happens, [`files`]
//! writes the configurations, [`process`] starts and ends programs, [`watch`] asks them what they do, [`screen`] shows it, [`story`] is
//! the sequence itself, [`verdict`] the table at the end. Exit code 0 only if nothing was lost and all copies are equal.

mod files;
mod generator;
mod plan;
mod process;
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
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// A shorter run: at most 30 s of traffic.
    #[arg(long)]
    short: bool,
    /// Packets per second to send.
    #[arg(long, default_value_t = 250_000)]
    pps: u64,
    /// Keeps configurations, logs and the generator's report in this folder.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = if arguments.short { plan::Plan::short() } else { plan::Plan::full() };
    let outcome = story::Story::begin(
        &arguments.programs,
        &arguments.data,
        arguments.keep.as_deref(),
        plan,
        arguments.pps,
    )
    .and_then(story::Story::run);
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
