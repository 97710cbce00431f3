//! Throughput and latency by virtio-user ports, as containers and virtual machines have them: this router and testpmd in turns, before
//! the same [`generator`]. With one core for either end, the generator, whose end of the ports copies and checks the packets, may be the
//! slower of the two.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use fibcast_testbed::Process;
use fibcast_testbed::process::command;
use fibcast_testbed::wait::until;

use super::generator::{self, Figures};
use super::{frames, testpmd};
use crate::input::Table;
use crate::row::{Better, Row, median};
use crate::{Course, Failure, Options, cpu};

/// Figures of one side.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    missing: Vec<f64>,
}

/// The rows of `virtio`.
pub fn run(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    generator::write(table, folder.path())?;
    let together = cpu::slowdown_together(course.core, course.other)?;
    let rounds = course.rounds.min(5);
    let sides: &[bool] = if testpmd::installed() { &[true, false] } else { &[true] };
    let (mut full, mut half) = ([Side::default(), Side::default()], [Side::default(), Side::default()]);
    for _ in 0..rounds {
        for &ours in sides {
            let heard = once(options, course, folder.path(), ours, None)?;
            full[usize::from(!ours)].rate.push(heard.rate);
        }
    }
    let load = median(full[0].rate.clone()) / 2.0;
    for _ in 0..rounds {
        for &ours in sides {
            let heard = once(options, course, folder.path(), ours, Some(load))?;
            let side = &mut half[usize::from(!ours)];
            side.rate.push(heard.rate);
            side.p50.push(heard.p50);
            side.p99.push(heard.p99);
            side.missing.push(heard.missing);
        }
    }
    let row = |metric: &str, unit, better, ours: &Vec<f64>, peers: &Vec<f64>| {
        let row = Row::new("virtio", &course.metric(metric), median(ours.clone()), unit);
        if peers.is_empty() { row } else { row.beside("testpmd mac", median(peers.clone()), better) }
    };
    let [ours, peers] = &half;
    Ok(vec![
        row("rate", "Mpps", Better::More, &full[0].rate, &full[1].rate),
        row("half_load", "Mpps", Better::More, &ours.rate, &peers.rate),
        row("latency_p50", "us", Better::Less, &ours.p50, &peers.p50),
        row("latency_p99", "us", Better::Less, &ours.p99, &peers.p99),
        Row::new("virtio", &course.metric("missing"), median(ours.missing.clone()), "percent"),
        Row::new("virtio", "cores_together", together, "times"),
    ])
}

/// What one measurement says: Mpps, microseconds, percent of what was sent.
struct Heard {
    rate: f64,
    p50: f64,
    p99: f64,
    missing: f64,
}

/// One measurement: the generator, which makes the sockets, then the forwarder.
fn once(
    options: &Options,
    course: Course,
    folder: &Path,
    ours: bool,
    rate: Option<f64>,
) -> Result<Heard, Failure> {
    for port in 0..frames::PORTS {
        let _ = std::fs::remove_file(generator::socket(folder, port));
    }
    let (mut generator, out) = generator::start(folder, course, ours, rate)?;
    until("the generator has vhost-user ports", Duration::from_secs(60), || {
        generator.check()?;
        Ok::<_, Failure>((0..frames::PORTS).all(|port| generator::socket(folder, port).exists()))
    })?;
    // With its standard output, which testpmd writes to.
    let _forwarder = if ours {
        let mut myself = command(&std::env::current_exe()?, None)?;
        myself
            .args(["virtio", "--core", &course.core.to_string(), "--child", "mixed"])
            .args(course.hugepages.then_some("--hugepages"))
            .arg("--prefixes")
            .arg(&options.prefixes)
            .arg("--folder")
            .arg(folder);
        Process::start_piped("forwarder", myself, folder)?
    } else {
        testpmd::spawn("mac", folder, |port| generator::device(folder, port), course)?
    };
    for line in BufReader::new(out).lines() {
        let Ok(figures) = serde_json::from_str::<Figures>(&line?) else { continue };
        if figures.misdelivered + figures.corrupt > 0 {
            let first = figures.faults.first().cloned().unwrap_or_default();
            return Err(Failure::Child(format!("packets came back wrong: {first}")));
        }
        let missing = figures.sent.saturating_sub(figures.received);
        return Ok(Heard {
            rate: figures.mean_pps / 1e6,
            p50: figures.latency_p50_us,
            p99: figures.latency_p99_us,
            missing: missing as f64 / figures.sent.max(1) as f64 * 100.0,
        });
    }
    let words = generator.end_of_log();
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
    Err(Failure::Child(format!("the generator: {last}")))
}
