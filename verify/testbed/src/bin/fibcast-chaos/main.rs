//! `fibcast-chaos`: does harm to running daemons, one fault at a time, and says what an operator sees.
//!
//! | group | harm |
//! |---|---|
//! | [`threads`] | each thread stops, and panics |
//! | [`files`] | disks that are full or hang, the end of file descriptors |
//! | [`peers`] | silent, slow, greedy peers and floods on each listener; servers that do not behave; floods on a port |
//!
//! [`subject`] starts a daemon that is healthy. A thread's fault is a [`threads::case`], which watches `/healthz`; the others are a [`trial`], in
//! which those who behave are served meanwhile: monitoring, an operator, new clients, and [`zebra`], whose routes have to arrive. [`attack`] has the
//! peers, [`server`] the servers, [`ports`] a router with hosts around it, whose [`frames`] it makes. A new fault is one more type that implements
//! [`trial::Harm`], and its line in a list.
//!
//! It prints tables in Markdown, which `docs/failures.md` explains. Start it by `make chaos`, which gives it namespaces.

mod attack;
mod files;
mod frames;
mod health;
mod peers;
mod ports;
mod report;
mod server;
mod subject;
mod threads;
mod trial;
mod zebra;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use fibcast_testbed::Failure;

use report::Row;

/// Does harm to running daemons and reports what their health says.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Plays a group of faults.
    Play(Play),
    /// A flood of FPM connections, for a user who may not have any.
    #[command(hide = true)]
    Attack {
        #[arg(long)]
        address: SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct Play {
    group: Group,
    /// Folder of the daemons' debug builds; that of this program if not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// How long a thread is stopped, in seconds.
    #[arg(long, default_value_t = 20)]
    stop_s: u64,
    /// How long another harm lasts, in seconds.
    #[arg(long, default_value_t = 6)]
    harm_s: u64,
    /// Only cases whose daemon or fault has this in its name.
    #[arg(long)]
    only: Option<String>,
    /// List the cases, and run none.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    Threads,
    Files,
    Peers,
}

fn main() -> ExitCode {
    match Options::parse().command {
        Order::Attack { address } => peers::attack_fpm(address),
        Order::Play(play) => {
            let fine = match play.group {
                Group::Threads => play_all(&play, threads::case::HEAD, &threads::all(), |case, programs| {
                    case.run(programs, Duration::from_secs(play.stop_s))
                }),
                Group::Files => play_trials(&play, &files::all()),
                Group::Peers => play_trials(&play, &peers::all()),
            };
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn play_trials(play: &Play, trials: &[trial::Trial]) -> bool {
    let lasting = Duration::from_secs(play.harm_s);
    play_all(play, trial::HEAD, trials, |trial, programs| trial.run(programs, lasting))
}

/// Plays the cases and prints their table; whether all are as expected.
fn play_all<C: std::fmt::Display>(
    play: &Play,
    columns: &[&str],
    cases: &[C],
    run: impl Fn(&C, &Path) -> Result<Row, Failure>,
) -> bool {
    let beside = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
    let programs = play.programs.clone().or_else(beside).unwrap_or_default();
    let wanted = |case: &&C| play.only.as_ref().is_none_or(|only| case.to_string().contains(only.as_str()));
    let cases: Vec<&C> = cases.iter().filter(wanted).collect();
    if play.list {
        cases.iter().for_each(|case| println!("{case}"));
        return true;
    }
    println!("{}", report::head(columns));
    let mut wrong = 0;
    for case in &cases {
        match run(case, &programs) {
            Ok(row) => {
                wrong += usize::from(!row.as_expected);
                println!("{row}");
            }
            Err(failure) => {
                wrong += 1;
                println!("| {case} | {} |", failure.to_string().replace('\n', " ").replace('|', "/"));
            }
        }
    }
    println!("\n{} cases, {wrong} not as expected", cases.len());
    wrong == 0
}
