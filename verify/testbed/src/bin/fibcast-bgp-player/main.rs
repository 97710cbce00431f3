//! `fibcast-bgp-player`: a BGP speaker for tests that sends each neighbor a recorded table, and then its changes at their recorded times.
//!
//! It ignores received routes. [`message`] encodes BGP messages, [`script`] prepares the table's UPDATEs once for all sessions, [`session`]
//! serves one neighbor. It reports events as lines of JSON on standard output: `established`, `table` (the neighbor's kernel has all of
//! it), `changes` (it has all of them).

mod message;
mod script;
mod session;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;

/// Plays a table and its changes to BGP neighbors.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The table: MRT, plain or gzip.
    #[arg(long)]
    table: PathBuf,
    /// Changes of next hops: MRT (BGP4MP_ET), plain or gzip.
    #[arg(long)]
    updates: Option<PathBuf>,
    /// Unix time in seconds at which the first change is due. Without it, a line on standard input gives it.
    #[arg(long)]
    start_at: Option<f64>,
    /// A neighbor to connect to, once or more.
    #[arg(long = "neighbor", required = true)]
    neighbors: Vec<IpAddr>,
    /// Where the neighbors listen.
    #[arg(long, default_value_t = 179)]
    port: u16,
    /// Own AS number.
    #[arg(long = "as", default_value_t = 65_001)]
    own_as: u32,
    /// Own identifier.
    #[arg(long, default_value = "192.0.2.255")]
    router_id: Ipv4Addr,
    /// Proposed hold time in seconds.
    #[arg(long, default_value_t = 180)]
    hold: u16,
    /// Prefixes in an UPDATE of the table.
    #[arg(long, default_value_t = 8)]
    per_update: usize,
}

fn main() -> ExitCode {
    match play(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("fibcast-bgp-player: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn play(options: &Options) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    fibcast_daemon::signals::on_stop(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| format!("signals: {error}"))?;
    let script =
        script::Script::read(&options.table, options.updates.as_deref(), options.own_as, options.per_update)
            .map_err(|error| error.to_string())?;
    let speaker =
        message::Speaker { own_as: options.own_as, id: options.router_id, hold: options.hold.max(3) };
    let start_ns = AtomicU64::new(options.start_at.map_or(u64::MAX, nanoseconds));
    let stage = Arc::new(session::Stage { speaker, script, start_ns, stop });
    if options.start_at.is_none() {
        let stage = stage.clone();
        // Not waited for: the other end may stay open forever without a time.
        std::thread::spawn(move || {
            let line = std::io::stdin().lines().find_map(|line| line.ok()?.trim().parse().ok());
            stage.start_ns.store(line.map_or(u64::MAX, nanoseconds), Ordering::Relaxed);
        });
    }
    std::thread::scope(|scope| {
        for neighbor in &options.neighbors {
            let (neighbor, stage) = (SocketAddr::new(*neighbor, options.port), &stage);
            scope.spawn(move || session::serve(neighbor, stage));
        }
    });
    Ok(())
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}
