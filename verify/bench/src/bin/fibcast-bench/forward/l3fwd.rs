//! The peer that looks up: DPDK's example `dpdk-l3fwd` with `--lookup=fib`, the same routes, the same kind of ports.
//!
//! Debian does not ship it as a program; `scripts/build-l3fwd` makes it of DPDK's source, with room for the full table. It says nothing
//! of packets, so its ports' counters are asked for over DPDK's telemetry socket.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fibcast_testbed::Process;
use fibcast_testbed::process::{command, find};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};
use serde_json::Value;

use super::frames;
use super::router::thread_seconds;
use super::setting;
use crate::input::{Family, Table};
use crate::{Course, Failure};

const PROGRAM: &str = "dpdk-l3fwd";
/// Filling two FIBs with a million routes takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(2);

/// The program, and the routes as it reads them.
pub struct L3fwd {
    program: PathBuf,
    rules: [PathBuf; 2],
}

impl L3fwd {
    /// Finds it in PATH, and writes its routes: each out of the port by which ours leaves.
    pub fn find(table: &Table, folder: &Path) -> Result<Option<L3fwd>, Failure> {
        let Some(program) = find(PROGRAM) else { return Ok(None) };
        let rules = [folder.join("v4.rules"), folder.join("v6.rules")];
        std::fs::write(&rules[0], rules_of::<u32>(table))?;
        std::fs::write(&rules[1], rules_of::<u128>(table))?;
        Ok(Some(L3fwd { program, rules }))
    }

    /// Millions of packets sent per second that its thread ran.
    pub fn run(&self, folder: &Path, course: Course) -> Result<f64, Failure> {
        let prefix = format!("fibcast-l3fwd-{}", std::process::id());
        let mut command = command(&self.program, None)?;
        command
            .args(course.memory(4096))
            .arg(format!("--file-prefix={prefix}"))
            .arg("--lcores")
            .arg(format!("{0}@{0}", course.core));
        let mut config = String::new();
        for port in 0..frames::PORTS {
            command.arg("--vdev").arg(frames::device(folder, port));
            let _ = write!(config, "{}({port},0,{})", if port == 0 { "" } else { "," }, course.core);
        }
        let [v4, v6] = &self.rules;
        command
            .args(["--", "-p", "0x3", "--lookup=fib", "--parse-ptype"])
            .args(["--rx-queue-size=8192", "--tx-queue-size=4096"])
            .arg(format!("--config={config}"))
            .arg(format!("--rule_ipv4={}", v4.display()))
            .arg(format!("--rule_ipv6={}", v6.display()));
        let mut process = Process::start(PROGRAM, command, folder)?;
        let socket = folder.join(format!("dpdk/{prefix}/dpdk_telemetry.v2"));
        let pid = process.pid();
        let start = Instant::now();
        let look = |telemetry: &Telemetry| Some((telemetry.sent()?, thread_seconds(pid, PROGRAM)?));
        let telemetry = loop {
            // It answers as soon as DPDK runs, and sends when its tables are full.
            match Telemetry::connect(&socket) {
                Some(telemetry) if telemetry.sent().is_some_and(|sent| sent > 0) => break telemetry,
                _ if start.elapsed() > START_TIMEOUT || !process.runs() => {
                    return Err(Failure::L3fwd);
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        std::thread::sleep(Duration::from_millis(500));
        let (sent, from) = look(&telemetry).ok_or(Failure::L3fwd)?;
        std::thread::sleep(WINDOW);
        let (now, to) = look(&telemetry).ok_or(Failure::L3fwd)?;
        Ok((now - sent) as f64 / (to - from) / 1e6)
    }
}

fn rules_of<F: Family>(table: &Table) -> String {
    let mut rules = String::new();
    for ((network, length), group) in table.of::<F>() {
        let _ = writeln!(rules, "R{}/{length} {}", network.ip(), setting::port_of(group as usize));
    }
    rules
}

/// DPDK's telemetry: a question and an answer in JSON per datagram.
struct Telemetry(OwnedFd);

impl Telemetry {
    fn connect(path: &Path) -> Option<Telemetry> {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).ok()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
        let telemetry = Telemetry(socket);
        telemetry.answer()?;
        Some(telemetry)
    }

    fn answer(&self) -> Option<Value> {
        let mut room = vec![0; 1 << 16];
        let (_, length) = rustix::net::recv(&self.0, room.as_mut_slice(), RecvFlags::empty()).ok()?;
        serde_json::from_slice(room.get(..length)?).ok()
    }

    /// Packets that all ports have sent.
    fn sent(&self) -> Option<u64> {
        let of = |port: usize| {
            let question = format!("/ethdev/stats,{port}");
            rustix::net::send(&self.0, question.as_bytes(), SendFlags::empty()).ok()?;
            self.answer()?.get("/ethdev/stats")?.get("opackets")?.as_u64()
        };
        (0..frames::PORTS).map(of).sum()
    }
}
