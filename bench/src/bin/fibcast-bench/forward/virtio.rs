//! Throughput and latency by virtio-user ports, as containers and virtual machines have them: this router and testpmd in turns, before
//! the same [`peer`]. With one core for either end, the peer, whose end of the ports copies the packets, may be the slower of the two.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peer::{self, Heard};
use super::{RUNTIME_DIRECTORY, Traffic, frames, testpmd};
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
    frames::write(table, Traffic::Mixed, folder.path())?;
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

/// Ends it, whatever happens on the way.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One measurement: the peer, which makes the sockets, then the forwarder.
fn once(
    options: &Options,
    course: Course,
    folder: &Path,
    ours: bool,
    rate: Option<f64>,
) -> Result<Heard, Failure> {
    for port in 0..frames::PORTS {
        let _ = std::fs::remove_file(peer::socket(folder, port));
    }
    let myself = |bench: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command
            .args([bench, "--core", &course.core.to_string()])
            .args(course.hugepages.then_some("--hugepages"))
            .arg("--prefixes")
            .arg(&options.prefixes)
            .arg("--folder")
            .arg(folder)
            .env(RUNTIME_DIRECTORY, folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let mut command = myself("virtio");
    command
        .args(["--peer-rate", &rate.unwrap_or(0.0).to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut generator = Ended(command.spawn()?);
    let start = Instant::now();
    while (0..frames::PORTS).any(|port| !peer::socket(folder, port).exists()) {
        if start.elapsed() > Duration::from_secs(30) || generator.0.try_wait()?.is_some() {
            return Err(Failure::Child("the peer has no vhost-user ports".into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _forwarder = if ours {
        let mut command = myself("virtio");
        command.args(["--child", "mixed"]).stdout(Stdio::null());
        Ended(command.spawn()?)
    } else {
        Ended(testpmd::spawn("mac", folder, |port| peer::device(folder, port), course)?)
    };
    let Some(out) = generator.0.stdout.take() else { return Err(Failure::Testpmd) };
    for line in BufReader::new(out).lines() {
        if let Ok(heard) = serde_json::from_str(&line?) {
            return Ok(heard);
        }
    }
    let mut words = String::new();
    if let Some(mut errors) = generator.0.stderr.take() {
        errors.read_to_string(&mut words)?;
    }
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
    Err(Failure::Child(format!("the vhost-user peer: {last}")))
}
