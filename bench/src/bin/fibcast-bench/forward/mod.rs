//! Packets per second of one worker core, beside testpmd on the same ports, and what route changes cost them.
//!
//! DPDK is initialised once per process, so each measurement is a process of its own: [`router`] runs in a child of this program,
//! [`testpmd`] is the peer, [`frames`] makes what both receive. Rates are per second that the worker's thread ran: other programs on
//! its core do not count, on either side.

pub mod frames;
pub mod router;
mod testpmd;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::input::Table;
use crate::row::{Better, Row, median};
use crate::{Course, Failure, Options, cpu};

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Traffic {
    /// Both families by turns
    Mixed,
    /// Destinations in random IPv4 prefixes
    Ipv4,
    /// Destinations in random IPv6 prefixes
    Ipv6,
    /// One destination
    OneFlow,
}

impl Traffic {
    const ALL: [Traffic; 4] = [Traffic::Mixed, Traffic::Ipv4, Traffic::Ipv6, Traffic::OneFlow];

    fn metric(self) -> &'static str {
        match self {
            Traffic::Mixed => "mixed",
            Traffic::Ipv4 => "ipv4",
            Traffic::Ipv6 => "ipv6",
            Traffic::OneFlow => "one_flow",
        }
    }
}

/// The rows of `forward`.
pub fn run(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let hertz = cpu::hertz();
    let folder = tempfile::tempdir()?;
    // A start takes seconds; more rounds than these say little more.
    let rounds = course.rounds.min(3);
    let mut ours: BTreeMap<Traffic, Vec<f64>> = BTreeMap::new();
    let mut peers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for traffic in Traffic::ALL {
            frames::write(table, traffic, folder.path())?;
            let said = child(options, course, traffic, folder.path(), false)?;
            ours.entry(traffic).or_default().push(said.rest);
            if traffic == Traffic::Mixed && testpmd::installed() {
                for mode in ["mac", "io"] {
                    peers.entry(mode).or_default().push(testpmd::run(mode, folder.path(), course)?);
                }
            }
        }
    }
    let mut rows = Vec::new();
    let peers: Vec<(String, f64)> = peers
        .into_iter()
        .rev()
        .map(|(mode, figures)| (format!("testpmd {mode}, mixed frames"), median(figures)))
        .collect();
    let mut add = |row: Row, ticks: bool| {
        if peers.is_empty() {
            rows.push(row.clone());
        }
        for (peer, rate) in &peers {
            rows.push(match ticks {
                true => row.clone().beside(peer, hertz / rate / 1e6, Better::Less),
                false => row.clone().beside(peer, *rate, Better::More),
            });
        }
    };
    for (traffic, rates) in ours {
        let rate = median(rates);
        add(Row::new("forward", traffic.metric(), rate, "Mpps"), false);
        if traffic == Traffic::Mixed {
            add(Row::new("forward", "cycles", hertz / rate / 1e6, "cycles"), true);
        }
    }
    Ok(rows)
}

/// The rows of `churn`.
pub fn churn(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    frames::write(table, Traffic::Mixed, folder.path())?;
    let said = child(options, course, Traffic::Mixed, folder.path(), true)?;
    Ok(vec![
        Row::new("churn", "lost", said.lost as f64, "packets"),
        Row::new("churn", "slowdown", (said.rest / said.churn - 1.0) * 100.0, "percent"),
        Row::new("churn", "forwarded", said.sent as f64, "packets"),
        Row::new("churn", "changes", said.changes, "per s"),
    ])
}

/// Runs the router in a process of its own.
fn child(
    options: &Options,
    course: Course,
    traffic: Traffic,
    folder: &Path,
    churn: bool,
) -> Result<router::Said, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(if churn { "churn" } else { "forward" })
        .arg("--prefixes")
        .arg(&options.prefixes)
        .args(["--core", &course.core.to_string(), "--rounds", &course.rounds.to_string()])
        .args(["--child", traffic.metric().replace('_', "-").as_str()])
        .arg("--folder")
        .arg(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        Some(said) if output.status.success() => Ok(said),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
            Err(Failure::Child(format!("{}: {last}", output.status)))
        }
    }
}
