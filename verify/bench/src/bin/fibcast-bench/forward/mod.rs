//! Packets per second of one worker core, beside testpmd on the same ports, and what route changes cost them.
//!
//! DPDK is initialised once per process, so each measurement is a process of its own: [`router`] runs in a child of this program,
//! [`testpmd`] and [`l3fwd`] are the peers, [`frames`] makes what all receive, [`setting`] what the router is given. Sides take turns within a round, traffic by
//! traffic. Rates are per second that the worker's thread ran: other programs on its core do not count, on either side. [`virtio`]
//! measures by another kind of ports, with the [`generator`] at the other end.

pub mod frames;
pub mod generator;
mod l3fwd;
pub mod router;
pub mod setting;
mod testpmd;
pub mod virtio;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::input::Table;
use crate::row::{Better, Row, median};
use crate::{Course, Failure, Options, cpu};

/// Names DPDK the folder for what it keeps of each process, in place of /var/run, where that would stay.
pub const RUNTIME_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// What arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Traffic {
    /// Both families in random order
    Mixed,
    /// Destinations in random IPv4 prefixes
    Ipv4,
    /// Destinations in random IPv6 prefixes
    Ipv6,
    /// One destination
    OneFlow,
    /// Mixed; each route has four next hops
    Ecmp4,
    /// Both families, to 20,000 hosts in connected subnets
    Connected,
    /// Mixed, with VLAN tags in and out
    Vlan,
    /// Mixed; the source's route must lead back to the port
    UrpfStrict,
    /// Mixed, in eight VRFs with VLAN tags and a part of the table each
    Vrf8,
    /// Mixed, in frames of 64, 570 and 1,518 bytes as 7 to 4 to 1
    Imix,
    /// Mixed, in frames of 1,518 bytes
    #[value(name = "1518")]
    Size1518,
}

impl Traffic {
    /// Beside DPDK's programs.
    const PLAIN: [Traffic; 4] = [Traffic::Mixed, Traffic::Ipv4, Traffic::Ipv6, Traffic::OneFlow];
    /// Beside our own mixed traffic, or testpmd where frames are larger.
    const KINDS: [Traffic; 7] = [
        Traffic::Ecmp4,
        Traffic::Connected,
        Traffic::Vlan,
        Traffic::UrpfStrict,
        Traffic::Vrf8,
        Traffic::Imix,
        Traffic::Size1518,
    ];

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn metric(self) -> String {
        self.name().replace('-', "_")
    }
}

/// The rows of `forward`.
pub fn run(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let hertz = cpu::hertz();
    let folder = tempfile::tempdir()?;
    // A start takes seconds; more rounds than these say little more.
    let rounds = course.rounds.min(3);
    let mut ours: BTreeMap<Traffic, Vec<f64>> = BTreeMap::new();
    let mut kinds: BTreeMap<Traffic, Vec<f64>> = BTreeMap::new();
    let mut peers: BTreeMap<(Traffic, &str), Vec<f64>> = BTreeMap::new();
    let l3fwd = l3fwd::L3fwd::find(table, folder.path())?;
    for _ in 0..rounds {
        for traffic in Traffic::PLAIN {
            frames::write(table, traffic, folder.path())?;
            let measured = child(options, course, traffic, folder.path(), false)?;
            ours.entry(traffic).or_default().push(measured.rest);
            let mut peer = |name, rate| peers.entry((traffic, name)).or_default().push(rate);
            if testpmd::installed() {
                peer("testpmd mac", testpmd::run("mac", folder.path(), course)?);
            }
            if let Some(l3fwd) = &l3fwd {
                peer("l3fwd fib", l3fwd.run(folder.path(), course)?);
            }
            if traffic == Traffic::Mixed && testpmd::installed() {
                peer("testpmd io", testpmd::run("io", folder.path(), course)?);
            }
        }
        for traffic in Traffic::KINDS {
            frames::write(table, traffic, folder.path())?;
            let measured = child(options, course, traffic, folder.path(), false)?;
            kinds.entry(traffic).or_default().push(measured.rest);
            // The driver copies each frame, on all sides.
            if matches!(traffic, Traffic::Imix | Traffic::Size1518) && testpmd::installed() {
                let rate = testpmd::run("mac", folder.path(), course)?;
                peers.entry((traffic, "testpmd mac")).or_default().push(rate);
            }
        }
    }
    let mut rows = Vec::new();
    let plain = ours.get(&Traffic::Mixed).cloned().map_or(f64::NAN, median);
    let kinds = kinds.into_iter().map(|(traffic, rates)| {
        let row = Row::new("forward", &course.metric(&traffic.metric()), median(rates), "Mpps");
        match peers.get(&(traffic, "testpmd mac")) {
            Some(rates) => row.beside("testpmd mac", median(rates.clone()), Better::More),
            None => row.beside("fibcast mixed", plain, Better::More),
        }
    });
    let kinds: Vec<Row> = kinds.collect();
    for (traffic, rates) in ours {
        let rate = median(rates);
        let row = Row::new("forward", &course.metric(&traffic.metric()), rate, "Mpps");
        let cycles = Row::new("forward", &course.metric("cycles"), hertz / rate / 1e6, "cycles");
        let beside = peers.iter().filter(|((of, _), _)| *of == traffic);
        let beside: Vec<(&str, f64)> =
            beside.map(|((_, name), rates)| (*name, median(rates.clone()))).collect();
        rows.extend(beside.iter().map(|&(name, rate)| row.clone().beside(name, rate, Better::More)));
        if beside.is_empty() {
            rows.push(row);
        }
        if traffic == Traffic::Mixed {
            let ticks = |rate: f64| hertz / rate / 1e6;
            rows.extend(
                beside.iter().map(|&(name, rate)| cycles.clone().beside(name, ticks(rate), Better::Less)),
            );
            if beside.is_empty() {
                rows.push(cycles);
            }
        }
    }
    rows.extend(kinds);
    Ok(rows)
}

/// The rows of `churn`.
pub fn churn(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    frames::write(table, Traffic::Mixed, folder.path())?;
    let measured = child(options, course, Traffic::Mixed, folder.path(), true)?;
    Ok(vec![
        Row::new("churn", &course.metric("lost"), measured.lost as f64, "packets"),
        Row::new(
            "churn",
            &course.metric("slowdown"),
            (measured.rest / measured.churn - 1.0) * 100.0,
            "percent",
        ),
        Row::new("churn", &course.metric("forwarded"), measured.sent as f64, "packets"),
        Row::new("churn", &course.metric("changes"), measured.changes, "per s"),
    ])
}

/// Runs the router in a process of its own.
fn child(
    options: &Options,
    course: Course,
    traffic: Traffic,
    folder: &Path,
    churn: bool,
) -> Result<router::Measurement, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(if churn { "churn" } else { "forward" })
        .arg("--prefixes")
        .arg(&options.prefixes)
        .args(["--core", &course.core.to_string(), "--rounds", &course.rounds.to_string()])
        .args(["--child", &traffic.name()])
        .args(course.hugepages.then_some("--hugepages"))
        .arg("--folder")
        .arg(folder)
        .env(RUNTIME_DIRECTORY, folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output()?;
    let measured = String::from_utf8_lossy(&output.stdout);
    match measured.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        Some(measured) if output.status.success() => Ok(measured),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
            Err(Failure::Child(format!("{}: {last}", output.status)))
        }
    }
}
