//! The router under test, in a process of its own: the dataplane's own control side and worker, on ports that never run dry.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fibcast_daemon::config::parse;
use fibcast_dataplane::config::Config;
use fibcast_dataplane::control::Batch;
use fibcast_dataplane::control::thread::ControlHandle;
use fibcast_dataplane::router::Router;
use fibcast_dataplane::router::show::View;
use fibcast_fib::{Change, Group, GroupLabel, NextHop, VrfId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{frames, peer};
use crate::input::{Random, Table};
use crate::row::median;
use crate::{Course, Failure, cpu};

/// Gateways of each family behind each port.
pub const GATEWAYS: usize = 8;
/// What frames in a pcap file need.
pub const RX_DESC: u16 = 10_000;
/// How long one figure is gathered.
const WINDOW: Duration = Duration::from_millis(500);

/// What the child tells its parent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measurement {
    /// Mpps at rest, per second of the worker's thread.
    pub rest: f64,
    /// The same while routes change; 0 where that was not asked for.
    pub churn: f64,
    /// Packets sent while routes changed.
    pub sent: u64,
    /// Packets dropped meanwhile.
    pub lost: u64,
    /// Changes per second that were applied.
    pub changes: f64,
}

/// Seconds that the thread of process `pid` whose name has `name` in it has run.
pub fn thread_seconds(pid: u32, name: &str) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let mut tasks = tasks.flatten().map(|task| task.path());
    let task = tasks.find(|task| read(task.join("comm")).contains(name))?;
    let ran: f64 = read(task.join("schedstat")).split(' ').next()?.parse().ok()?;
    Some(ran / 1e9)
}

/// A router with the whole table.
fn start(table: &Table, folder: &Path, text: String) -> Result<(Router, ControlHandle, Arc<View>), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Child(error.to_string());
    let loaded = parse::<Config>(&folder.join("dataplane.toml"), text).map_err(|error| failed(&error))?;
    Config::check(&loaded).map_err(|error| failed(&error))?;
    let router = Router::start(&loaded).map_err(|error| failed(&error))?;
    let control = router.control().ok_or(Failure::Router)?;
    let view = router.view();
    control.push(Batch { changes: fill(table), serial: 1, number: 0, replaces: false });
    wait(&view, 1)?;
    Ok((router, control, view))
}

/// Forwards by virtio-user ports until the parent ends it.
pub fn serve(table: &Table, folder: &Path, course: Course) -> Result<(), Failure> {
    cpu::pin(&[course.other])?;
    let _router = start(table, folder, config(course, 1024, |port| peer::device(folder, port)))?;
    loop {
        std::thread::park();
    }
}

/// Measures, and prints [`Measurement`] as JSON.
pub fn run(table: &Table, folder: &Path, course: Course, churn: bool) -> Result<(), Failure> {
    cpu::pin(&[course.other])?;
    let text = config(course, RX_DESC, |port| frames::device(folder, port));
    let (_router, control, view) = start(table, folder, text)?;
    std::thread::sleep(WINDOW);

    let mut measured = Measurement::default();
    let (mut rest, mut under, mut during) = (Vec::new(), Vec::new(), Duration::ZERO);
    let (serial, mut changed) = (AtomicU64::new(1), 0);
    for _ in 0..course.rounds.max(3) {
        rest.push(window(&view)?.0);
        if !churn {
            continue;
        }
        let (start, before) = (Instant::now(), serial.load(Ordering::Relaxed));
        let (rate, sent, lost) = std::thread::scope(|scope| {
            let stop = AtomicBool::new(false);
            let stop = Arc::new(stop);
            let changer = scope.spawn({
                let (stop, control, serial) = (stop.clone(), &control, &serial);
                move || change(table, control, serial, &stop)
            });
            let figures = window(&view);
            stop.store(true, Ordering::Release);
            let _ = changer.join();
            figures
        })?;
        wait(&view, serial.load(Ordering::Relaxed))?;
        during += start.elapsed();
        changed += 100 * (serial.load(Ordering::Relaxed) - before);
        under.push(rate);
        measured.sent += sent;
        measured.lost += lost;
    }
    measured.rest = median(rest);
    if churn {
        measured.churn = median(under);
        measured.changes = changed as f64 / during.as_secs_f64();
    }
    println!("{}", serde_json::to_string(&measured).map_err(std::io::Error::from)?);
    Ok(())
}

/// Two ports, their gateways known beforehand, one worker that never rests.
pub fn config(course: Course, rx_desc: u16, device: impl Fn(usize) -> String) -> String {
    let mut toml = format!(
        "[node]\nname = \"bench\"\n[eal]\nargs = [{}, \"--no-telemetry\", \"-l\", \"{}\", \"--log-level=3\", \"--file-prefix\", \"fibcast-bench-{}\"]\n\
         [workers]\ncores = [{}]\nidle = \"spin\"\n",
        course.memory(512).iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "),
        course.other,
        std::process::id(),
        course.core
    );
    for port in 0..frames::PORTS {
        let _ = writeln!(
            toml,
            "[[port]]\nname = \"p{port}\"\ndevice = \"{}\"\nrx_desc = {rx_desc}\naddresses = [\"198.{}.0.1/16\", \
             \"2001:2:0:{port}::1/64\"]",
            device(port),
            18 + port
        );
        for sixth in [false, true] {
            for number in 0..GATEWAYS {
                let _ = writeln!(
                    toml,
                    "[[static_neighbor]]\nport = \"p{port}\"\nip = \"{}\"\nmac = \"02:00:00:00:0{port}:0{number}\"",
                    gateway(port, number, sixth)
                );
            }
        }
    }
    toml
}

pub fn gateway(port: usize, number: usize, sixth: bool) -> IpAddr {
    if sixth {
        IpAddr::from([0x2001, 2, 0, port as u16, 0, 0, 0, 0x100 + number as u16])
    } else {
        IpAddr::from([198, 18 + port as u8, 1, number as u8])
    }
}

/// Index of the port behind which the gateway of a route is, by the route's draw.
pub fn port_of(draw: usize) -> usize {
    draw % (frames::PORTS * GATEWAYS) / GATEWAYS
}

fn label(prefix: IpNet, draw: usize) -> GroupLabel {
    let family = if prefix.addr().is_ipv6() { 1_000 } else { 0 };
    GroupLabel((1 + family + draw % (frames::PORTS * GATEWAYS)) as u64)
}

fn announce(prefix: IpNet, draw: usize) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: label(prefix, draw) }
}

/// All groups and all routes.
fn fill(table: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    for draw in 0..frames::PORTS * GATEWAYS {
        for sixth in [false, true] {
            let via = NextHop::via(gateway(draw / GATEWAYS, draw % GATEWAYS, sixth));
            let label = GroupLabel((1 + 1_000 * usize::from(sixth) + draw) as u64);
            changes.extend(Group::one(via).ok().map(|group| Change::PutGroup { label, group }));
        }
    }
    changes.extend(table.routes.iter().map(|&(prefix, group)| announce(prefix, group as usize)));
    changes
}

/// 100 routes go to another gateway every 10 ms, none goes away: no packet has an excuse.
fn change(table: &Table, control: &ControlHandle, serial: &AtomicU64, stop: &AtomicBool) {
    let mut random = Random(9 + serial.load(Ordering::Relaxed));
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let route = |random: &mut Random| table.routes[random.below(table.routes.len())].0;
        let changes = (0..100).map(|_| announce(route(&mut random), random.below(1 << 20))).collect();
        let serial = serial.fetch_add(1, Ordering::Relaxed) + 1;
        control.push(Batch { changes, serial, number: 0, replaces: false });
        due += Duration::from_millis(10);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Until workers have the batch `serial`.
fn wait(view: &View, serial: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if view.forwarding().is_some_and(|state| state.serial == serial) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Failure::Router)
}

/// Mpps of the worker's own time, packets sent and packets dropped.
fn window(view: &View) -> Result<(f64, u64, u64), Failure> {
    let look = || {
        let worker = view.snapshots().into_iter().next().ok_or(Failure::Router)?;
        let ran = thread_seconds(std::process::id(), "worker-0").ok_or(Failure::Router)?;
        Ok::<_, Failure>((worker.sent, worker.dropped(), ran))
    };
    let (sent, dropped, ran) = look()?;
    std::thread::sleep(WINDOW);
    let (now_sent, now_dropped, now_ran) = look()?;
    let sent = now_sent - sent;
    Ok((sent as f64 / (now_ran - ran) / 1e6, sent, now_dropped - dropped))
}
