//! From an empty NIC host's connect to the first packet that it forwards by the table: a dataplane on DPDK ports that never run dry,
//! in a process of its own, with the production agent, and a route server with the full table.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_daemon::config::parse;
use fibcast_dataplane::config::Config;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::router::Router;
use fibcast_sync_agent::agent::NoSink;
use fibcast_testbed::process::free_addresses;
use serde::{Deserialize, Serialize};

use super::server::{Server, write_mrt};
use super::{agent, status, until};
use crate::forward::{RUNTIME_DIRECTORY, Traffic, frames, router, setting};
use crate::input::Table;
use crate::row::{Row, median};
use crate::{Course, Failure, Options, cpu};

const NAME: &str = "load";

/// What the child tells its parent, in seconds from the agent's start.
#[derive(Debug, Serialize, Deserialize)]
struct HostReport {
    table: f64,
    packet: f64,
    routes: u64,
    /// Seconds that the agent's and the control thread ran until then.
    agent: f64,
    control: f64,
}

/// All rows of this bench.
pub fn run(table: &Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let mrt = folder.path().join("table.mrt");
    let routes = table.routes.iter().map(|&(prefix, group)| {
        let group = group as usize % (frames::PORTS * setting::GATEWAYS);
        (
            prefix,
            setting::gateway(group / setting::GATEWAYS, group % setting::GATEWAYS, prefix.addr().is_ipv6()),
        )
    });
    write_mrt(&mrt, routes)?;
    // All packets go by the last route of the last family.
    let last = table.routes.last().copied().ok_or(Failure::Rule)?;
    let only = Table { routes: vec![last], groups: table.groups };
    let traffic = if last.0.addr().is_ipv6() { Traffic::Ipv6 } else { Traffic::Ipv4 };
    frames::write(&only, traffic, folder.path())?;
    let [address] = free_addresses()?;
    let server = Server::start(folder.path(), "rs-a", address, &mrt)?;
    let resident = server.status()?.resident_bytes as f64 / f64::from(1 << 20);
    let (mut packets, mut agents, mut controls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..course.rounds.min(5) {
        let report = child(options, course, folder.path(), server.address)?;
        if report.routes != table.routes.len() as u64 {
            return Err(Failure::Copy);
        }
        packets.push(report.packet);
        agents.push(report.agent);
        controls.push(report.control);
    }
    // The same without a dataplane: how much of it is the agent.
    let begin = Instant::now();
    let alone = agent(&[server.address], Box::new(NoSink))?;
    until("the agent has the table", || Ok(status(&alone)?.ready))?;
    let synced = begin.elapsed().as_secs_f64();
    Ok(vec![
        Row::new(NAME, "first_packet", median(packets.clone()), "s"),
        Row::new(NAME, "first_packet_worst", packets.into_iter().fold(0.0, f64::max), "s"),
        Row::new(NAME, "agent_synced", synced, "s"),
        Row::new(NAME, "agent_thread", median(agents), "s"),
        Row::new(NAME, "control_thread", median(controls), "s"),
        Row::new(NAME, "server_memory", resident, "MiB"),
    ])
}

fn child(
    options: &Options,
    course: Course,
    folder: &Path,
    server: SocketAddr,
) -> Result<HostReport, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .arg("load")
        .arg("--prefixes")
        .arg(&options.prefixes)
        .args(["--core", &course.core.to_string(), "--server", &server.to_string()])
        .arg("--folder")
        .arg(folder)
        .env(RUNTIME_DIRECTORY, folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    match report.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        Some(report) if output.status.success() => Ok(report),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
            Err(Failure::Child(format!("{}: {last}", output.status)))
        }
    }
}

/// Gives the thread the lowest priority. Its ports never run dry, so that it would take a whole core of a machine that may have two; on
/// a router the worker's core is its own, and nobody else's work waits for it.
fn yield_to_others(name: &str) -> Result<(), Failure> {
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.trim() == name
            && let Some(tid) = task.file_name().to_str()
        {
            Command::new("renice").args(["-n", "19", "-p", tid]).stdout(Stdio::null()).status()?;
        }
    }
    Ok(())
}

/// The NIC host, in a process of its own.
pub fn host(folder: &Path, course: Course, server: SocketAddr) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Child(e.to_string());
    cpu::pin(&[course.other])?;
    let device = |port| frames::device(folder, port);
    let text = setting::config(Traffic::Mixed, course, router::RX_DESC, device)
        .replace("idle = \"spin\"", "idle = \"sleep\"");
    let loaded = parse::<Config>(&folder.join("dataplane.toml"), text).map_err(|e| failed(&e))?;
    Config::check(&loaded).map_err(|e| failed(&e))?;
    let router = Router::start(&loaded).map_err(|e| failed(&e))?;
    let control = router.control().ok_or(Failure::Router)?;
    let view = router.view();
    // Ports are up, and what a start looks at once is looked at.
    std::thread::sleep(Duration::from_millis(2_500));
    let sent = || view.snapshots().iter().map(|worker| worker.sent).sum::<u64>();
    let before = sent();
    if before != 0 {
        return Err(Failure::Child(format!("{before} packets went out before there was a table")));
    }
    cpu::pin(&[course.core, course.other])?;
    yield_to_others("worker-0")?;
    let begin = Instant::now();
    let nic = agent(&[server], Box::new(ControlSink::new(control, vec!["p0".into(), "p1".into()])))?;
    let (mut packet, mut table, mut routes) = (None, None, 0);
    while packet.is_none() || table.is_none() {
        if packet.is_none() && sent() > 0 {
            packet = Some(begin.elapsed().as_secs_f64());
        }
        // Asked rarely, because the agent's thread is busy.
        if packet.is_some()
            && let Ok(status) = nic.status()
            && status.ready
        {
            table = Some(begin.elapsed().as_secs_f64());
            routes = status.table.ipv4_routes + status.table.ipv6_routes;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(Failure::Router);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ran = |name| router::thread_seconds(std::process::id(), name).unwrap_or(0.0);
    let (packet, table) = (packet.unwrap_or(0.0), table.unwrap_or(0.0));
    let report = HostReport { table, packet, routes, agent: ran("agent"), control: ran("control") };
    println!("{}", serde_json::to_string(&report).map_err(std::io::Error::from)?);
    Ok(())
}
