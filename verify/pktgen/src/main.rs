//! `fibcast-pktgen`: simulates all hosts and next hops around one router, and checks the router.
//!
//! It shares no code with the router: longest matches come from another crate, packets are built and parsed here.
//!
//! | module | role |
//! |---|---|
//! | `plan` | which next hop is right when |
//! | `frame`, `checksum` | the packet |
//! | `ledger`, `outage` | packets in flight, outages |
//! | `neighbor` | ARP and neighbor discovery |
//! | `engine` | all of it without I/O; tests drive it |
//! | `run` | DPDK ports around it |
//! | `report`, `serve` | the figures, and the control socket |

mod args;
mod checksum;
mod engine;
mod frame;
mod input;
mod ledger;
mod neighbor;
mod outage;
mod plan;
mod report;
mod run;
mod serve;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use dpdk::Eal;

use crate::args::Arguments;
use crate::engine::{Engine, Settings};
use crate::neighbor::Link;
use crate::plan::{Plan, Set};
use crate::run::{Clock, Devices};
use crate::serve::{Board, Control, Teller};

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error("{file}: {error}")]
    Plan { file: String, error: plan::PlanError },
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    #[error("latency histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("fibcast-pktgen: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True if the router made no mistake.
fn work(arguments: &Arguments) -> Result<bool, Failure> {
    let clock = Clock::new();
    let io = |what: &str| {
        let what = what.to_owned();
        move |error| Failure::Io(what, error)
    };
    // EAL pins this thread; threads started from it must be unpinned.
    let eal = Eal::init(arguments.eal_args.split_whitespace())?;
    eal.restore_affinity();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    fibcast_daemon::signals::on_stop(move || flag.store(true, Ordering::Relaxed)).map_err(io("signals"))?;

    let board = Board::default();
    let (teller, orders) = Teller::new();
    let _control = match &arguments.control {
        Some(path) => {
            let control = Control::start(path, board.clone(), teller);
            Some(control.map_err(io(&format!("control socket {}", path.display())))?)
        }
        None => None,
    };
    if arguments.json {
        serve::print(board.clone()).map_err(io("standard output"))?;
    }

    let links: Vec<Link> = arguments.ports.iter().map(|port| port.link.clone()).collect();
    // Before the table is read: the router's side of a vhost-user port may be waiting for it.
    let wait = Duration::from_secs(arguments.wait);
    let mut devices = Devices::open(&eal, &arguments.ports, wait, &stop)?;
    // On a small machine the router and its servers load their tables at the same time; they have priority.
    let plan = std::thread::scope(|scope| {
        let gently = || {
            let _ = rustix::process::nice(19);
            plan(arguments, &links)
        };
        scope.spawn(gently).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let settings = Settings {
        pps: arguments.pps,
        window: arguments.window,
        coverage: arguments.coverage,
        outage_ns: arguments.outage_ms.map(|ms| ms * 1_000_000),
        duration_ns: arguments.duration.map(nanoseconds),
    };
    let mut engine = Engine::new(plan, links, settings, clock.now_ns())?;
    devices.run(&mut engine, clock, (&board, &orders), &stop);

    let figures = board.latest();
    println!("{}", board.line());
    for fault in &figures.faults {
        eprintln!("fibcast-pktgen: {fault}");
    }
    Ok(figures.clean())
}

fn plan(arguments: &Arguments, links: &[Link]) -> Result<Plan, Failure> {
    let table = input::table(&arguments.table)?;
    let updates = match (&arguments.updates, arguments.start_at) {
        (Some(file), Some(start)) => input::updates(file, nanoseconds(start))?,
        _ => Vec::new(),
    };
    let mut sets = Vec::new();
    for change in &arguments.changes {
        sets.push(Set { name: change.name.clone(), routes: input::table(&change.file)? });
    }
    let settle = arguments.settle_ms.saturating_mul(1_000_000);
    Plan::new(table, &updates, &sets, links, settle, arguments.seed)
        .map_err(|error| Failure::Plan { file: arguments.table.display().to_string(), error })
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}
