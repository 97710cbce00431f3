//! `fibcast-chaos`: does harm to running daemons, one fault at a time, and says what an operator sees.
//!
//! [`subject`] starts a daemon that is healthy, a [`fault`](fault::Fault) does the harm and undoes it, [`case`] watches `/healthz` in the
//! meantime and compares it with what was expected, [`cases`] is the list. A new kind of fault (a full disk, a silent peer, a flood) is one
//! more type that implements `Fault`, and its lines in the list.
//!
//! It prints a table in Markdown, which `docs/failures.md` explains. Start it by `make chaos-threads`, which gives it a network namespace.

mod case;
mod cases;
mod fault;
mod health;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Does harm to running daemons and reports what their health says.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Folder of the daemons' debug builds; that of this program if not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// How long a thread is stopped, in seconds.
    #[arg(long, default_value_t = 20)]
    stop_s: u64,
    /// Only cases whose daemon or fault has this in its name.
    #[arg(long)]
    only: Option<String>,
    /// List the cases, and run none.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let programs =
        options.programs.clone().or_else(|| Some(std::env::current_exe().ok()?.parent()?.to_owned()));
    let programs = programs.unwrap_or_default();
    let mut all = cases::all();
    if let Some(only) = &options.only {
        all.retain(|case| case.to_string().contains(only.as_str()));
    }
    if options.list {
        all.iter().for_each(|case| println!("{case}"));
        return ExitCode::SUCCESS;
    }
    println!(
        "| daemon | fault | /healthz | after | way out | lost meanwhile | as expected |\n|---|---|---|---|---|---|---|"
    );
    let mut wrong = 0;
    for case in &all {
        match case.run(&programs, Duration::from_secs(options.stop_s)) {
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
    println!("\n{} cases, {wrong} not as expected", all.len());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
