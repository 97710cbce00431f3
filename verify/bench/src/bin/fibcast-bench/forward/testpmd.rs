//! The peer for forwarding: DPDK's `dpdk-testpmd`, which looks nothing up, on the same kind of ports.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ChildStdout;

use fibcast_testbed::Process;
use fibcast_testbed::process::{command, find};

use super::frames;
use super::router::thread_seconds;
use crate::{Course, Failure};

const PROGRAM: &str = "dpdk-testpmd";

/// Whether it is installed.
pub fn installed() -> bool {
    find(PROGRAM).is_some()
}

/// Starts it on two devices, its forwarding thread on the core that is measured.
pub fn spawn(
    mode: &str,
    folder: &Path,
    device: impl Fn(usize) -> String,
    course: Course,
) -> Result<(Process, ChildStdout), Failure> {
    let mut command = command(&find(PROGRAM).ok_or(Failure::Testpmd)?, None)?;
    command
        .args(course.memory(512))
        .arg("--no-telemetry")
        .arg(format!("--file-prefix=fibcast-bench-{}", std::process::id()))
        .arg("--lcores")
        .arg(format!("0@{},1@{}", course.other, course.core));
    for port in 0..frames::PORTS {
        command.arg("--vdev").arg(device(port));
    }
    command.args(["--", "--total-num-mbufs=60000", "--stats-period=1"]).arg(format!("--forward-mode={mode}"));
    Ok(Process::start_piped(PROGRAM, command, folder)?)
}

/// Millions of packets sent per second that its forwarding thread ran, over two seconds.
pub fn run(mode: &str, folder: &Path, course: Course) -> Result<f64, Failure> {
    let (process, out) = spawn(mode, folder, |port| frames::device(folder, port), course)?;

    let (mut samples, mut ports, mut sent) = (Vec::new(), 0, 0u64);
    for line in BufReader::new(out).lines() {
        let line = line?;
        let Some(rest) = line.trim().strip_prefix("TX-packets:") else { continue };
        let count = rest.split_whitespace().next().and_then(|count| count.parse::<u64>().ok());
        sent += count.ok_or(Failure::Testpmd)?;
        ports += 1;
        if ports == frames::PORTS {
            samples.push((sent, thread_seconds(process.pid(), "worker").unwrap_or(0.0)));
            (ports, sent) = (0, 0);
        }
        // The first second is for warming up.
        if let &[_, (before, from), .., (after, to)] = samples.as_slice()
            && samples.len() == 4
        {
            return Ok((after - before) as f64 / (to - from) / 1e6);
        }
    }
    Err(Failure::Testpmd)
}
