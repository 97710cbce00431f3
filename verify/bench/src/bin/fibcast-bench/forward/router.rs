//! The router under test, in a process of its own: the dataplane's own control side and worker, on ports that never run dry.

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
use serde::{Deserialize, Serialize};

use super::setting::{self, announce};
use super::{Traffic, frames, generator};
use crate::input::{Random, Table};
use crate::row::median;
use crate::{Course, Failure, cpu};

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
fn start(
    table: &Table,
    traffic: Traffic,
    folder: &Path,
    text: String,
) -> Result<(Router, ControlHandle, Arc<View>), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Child(error.to_string());
    let loaded = parse::<Config>(&folder.join("dataplane.toml"), text).map_err(|error| failed(&error))?;
    Config::check(&loaded).map_err(|error| failed(&error))?;
    let router = Router::start(&loaded).map_err(|error| failed(&error))?;
    let control = router.control().ok_or(Failure::Router)?;
    let view = router.view();
    control.push(Batch { changes: setting::fill(table, traffic), serial: 1, number: 0, replaces: false });
    wait(&view, 1)?;
    Ok((router, control, view))
}

/// Forwards by virtio-user ports until the parent ends it.
pub fn serve(table: &Table, folder: &Path, course: Course) -> Result<(), Failure> {
    cpu::pin(&[course.other])?;
    let text = setting::interfaces(Traffic::Mixed, course, 1024, |port| generator::device(folder, port));
    let _router = start(table, Traffic::Mixed, folder, text)?;
    loop {
        std::thread::park();
    }
}

/// Measures, and prints [`Measurement`] as JSON.
pub fn run(
    table: &Table,
    traffic: Traffic,
    folder: &Path,
    course: Course,
    churn: bool,
) -> Result<(), Failure> {
    cpu::pin(&[course.other])?;
    let text = setting::config(traffic, course, RX_DESC, |port| frames::device(folder, port));
    let (_router, control, view) = start(table, traffic, folder, text)?;
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

/// 100 routes go to another gateway every 10 ms, none goes away: no packet has an excuse.
fn change(table: &Table, control: &ControlHandle, serial: &AtomicU64, stop: &AtomicBool) {
    let mut random = Random(9 + serial.load(Ordering::Relaxed));
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let route = |random: &mut Random| table.routes[random.below(table.routes.len())].0;
        let changes =
            (0..100).map(|_| announce(Traffic::Mixed, route(&mut random), random.below(1 << 20))).collect();
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
