//! The program in other processes.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// Memory of its own, on a machine without hugepages.
pub fn eal(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{prefix}-{}-{number}", std::process::id());
    format!("--no-pci --no-huge -m 256 --no-shconf --no-telemetry --iova-mode=va --file-prefix {id} -l 0")
}

/// It shares the machine: it sleeps, and has two minutes.
pub fn pktgen(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(env!("CARGO_BIN_EXE_fibcast-pktgen"));
    command.args(["--eal-args", &eal("pktgen"), "--idle", "sleep"]).args(arguments);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    pktgen(folder, arguments).output().unwrap()
}

/// The last line of the output that is JSON.
pub fn figures(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{}", words(output)))).unwrap()
}

pub fn words(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{error}", output.status)
}
