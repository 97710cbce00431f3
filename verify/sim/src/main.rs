//! `fibcast-sim`: runs seeds, replays one, and tests that deliberate faults are found.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use fibcast_sim::{Options, Outcome, run};
use fibcast_sync_proto::mutation::Mutation;

/// Seeds between two progress lines.
const PROGRESS: u64 = 100;

#[derive(Parser)]
#[command(name = "fibcast-sim", version, about = "Simulates whole fibcast networks from a seed")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed or a range of seeds
    Run(Run),
    /// Run with each deliberate fault until it is found (needs the feature `mutations`)
    Mutations(Mutations),
}

#[derive(Args)]
struct Run {
    /// One seed
    #[arg(long)]
    seed: Option<u64>,
    /// A range of seeds, the end excluded
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..200")]
    seeds: (u64, u64),
    /// Faults and changes per run
    #[arg(long, default_value_t = 120)]
    steps: u64,
    /// Route servers, relays, leaves; default: drawn from the seed
    #[arg(long, value_name = "R,T,L", value_parser = nodes)]
    nodes: Option<(usize, usize, usize)>,
    /// Print all events
    #[arg(long)]
    replay: bool,
    /// A deliberate fault by name
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
    /// Parallel runs; default: the number of CPUs
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Args)]
struct Mutations {
    /// Seeds in which each fault must be found
    #[arg(long, default_value_t = fibcast_sim::mutations::SEEDS)]
    seeds: u64,
    /// Faults and changes per run
    #[arg(long, default_value_t = 120)]
    steps: u64,
    /// Only this one
    #[arg(long, value_parser = mutation)]
    only: Option<Mutation>,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (a, b) = text.split_once("..").ok_or("expected A..B")?;
    let number = |t: &str| t.parse::<u64>().map_err(|_| format!("expected a number, found {t:?}"));
    let (a, b) = (number(a)?, number(b)?);
    if a < b { Ok((a, b)) } else { Err(format!("expected a non-empty range, found {text}")) }
}

fn nodes(text: &str) -> Result<(usize, usize, usize), String> {
    let all: Vec<usize> = text.split(',').filter_map(|t| t.trim().parse().ok()).collect();
    match *all.as_slice() {
        [servers, relays, leaves] if servers > 0 => Ok((servers, relays, leaves)),
        _ => Err(format!("expected three numbers, the first at least 1, found {text:?}")),
    }
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
    let found = Mutation::ALL.iter().copied().find(|m| m.name() == name);
    found.ok_or_else(|| format!("expected one of {}, found {name:?}", known()))
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => runs(&args),
        Command::Mutations(args) => mutations(&args),
    }
}

/// A panic inside a run is part of its report.
fn quiet() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn runs(args: &Run) -> ExitCode {
    if args.mutation.is_some() && cfg!(not(feature = "mutations")) {
        eprintln!("fibcast-sim: --mutation needs a build with --features mutations");
        return ExitCode::from(2);
    }
    let (first, end) = args.seed.map_or(args.seeds, |seed| (seed, seed + 1));
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    if !args.replay {
        quiet();
    }
    let (next, failed, events) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let hours = AtomicU64::new(0);
    // Number of finished runs; the lock keeps lines whole.
    let print = Mutex::new(0_u64);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let options = Options {
                        nodes: args.nodes,
                        print: args.replay,
                        mutation: args.mutation,
                        ..Options::new(seed, args.steps)
                    };
                    let outcome = run(&options);
                    events.fetch_add(outcome.events, Ordering::Relaxed);
                    hours.fetch_add(outcome.time.as_secs(), Ordering::Relaxed);
                    let mut done = print.lock().unwrap_or_else(PoisonError::into_inner);
                    *done += 1;
                    if done.is_multiple_of(PROGRESS) && *done < end - first {
                        eprintln!("{done} of {} seeds, {:.0} s", end - first, begin.elapsed().as_secs_f64());
                    }
                    if outcome.violation.is_some() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        report(&options, &outcome);
                    } else if args.seed.is_some() {
                        println!("seed {seed}: {}; trace hash {:016x}", outcome.network, outcome.hash);
                    }
                }
            });
        }
    });
    let (failed, seconds) = (failed.into_inner(), begin.elapsed().as_secs_f64());
    println!(
        "{} seeds of {} steps, {failed} failed: {} events, {:.1} virtual hours in {seconds:.1} s ({:.0} seeds/min on {jobs} threads)",
        end - first,
        args.steps,
        events.into_inner(),
        hours.into_inner() as f64 / 3600.0,
        (end - first) as f64 * 60.0 / seconds,
    );
    ExitCode::from(u8::from(failed > 0))
}

fn report(options: &Options, outcome: &Outcome) {
    let Some((step, violation)) = &outcome.violation else { return };
    if !options.print {
        println!("--- the last lines of seed {}", options.seed);
        outcome.tail.iter().for_each(|line| println!("{line}"));
    }
    println!("FAILED seed {} in step {step}: {}: {}", options.seed, violation.rule.name(), violation.text);
    println!("  {}", outcome.network);
    println!("  replay: {}", options.command());
}

fn mutations(args: &Mutations) -> ExitCode {
    if cfg!(not(feature = "mutations")) {
        eprintln!("fibcast-sim: mutations needs a build with --features mutations");
        return ExitCode::from(2);
    }
    quiet();
    let mut missed = 0;
    println!("{:<22} {:>5}  {:<24} fault", "mutation", "seed", "found by");
    for &mutation in Mutation::ALL.iter().filter(|m| args.only.is_none_or(|only| only == **m)) {
        match fibcast_sim::mutations::hunt(mutation, args.steps, args.seeds) {
            Some(found) => {
                println!(
                    "{:<22} {:>5}  {:<24} {}",
                    mutation.name(),
                    found.seed,
                    found.rule.name(),
                    mutation.what()
                );
                if args.only.is_some() {
                    println!("{}", found.text);
                }
            }
            None => {
                missed += 1;
                println!("{:<22} {:>5}  {:<24} {}", mutation.name(), "-", "NOT FOUND", mutation.what());
            }
        }
    }
    println!("{missed} not found within {} seeds", args.seeds);
    ExitCode::from(u8::from(missed > 0))
}
