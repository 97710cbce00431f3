//! Looks after ports and workers: links that go up or down, workers that stand still or end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ports::Ports;
use crate::control::thread::ControlHandle;
use crate::counters::WorkerCounters;

/// Between two looks at the links: what a link that goes down costs before its groups move is this, and a turn of the control thread.
const LINKS: Duration = Duration::from_millis(4);
/// Between two looks at the workers.
const WORKERS: Duration = Duration::from_millis(250);
/// A worker that gives no sign of life for so long stands still.
const STALLED: Duration = Duration::from_secs(1);

/// What was seen of a worker lately.
#[derive(Debug, Default)]
pub struct Health {
    /// Stands still, or has ended.
    stalled: AtomicBool,
    /// Share of its time that it spent on packets, in thousandths, over the last look.
    busy: AtomicU32,
}

impl Health {
    /// Stands still, or has ended.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Percent of its time that it spent on packets lately.
    pub fn busy_percent(&self) -> f64 {
        f64::from(self.busy.load(Ordering::Relaxed)) / 10.0
    }
}

/// The thread that looks; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to look.
    pub fn start(
        ports: Arc<Ports>,
        counters: Vec<Arc<WorkerCounters>>,
        health: Arc<[Health]>,
        control: ControlHandle,
    ) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watch".into()).spawn({
            let stop = stop.clone();
            move || run(&ports, &counters, &health, &control, &stop)
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Seen {
    ticks: u64,
    since: Instant,
    busy: u64,
    at: Instant,
}

fn run(
    ports: &Ports,
    counters: &[Arc<WorkerCounters>],
    health: &[Health],
    control: &ControlHandle,
    stop: &AtomicBool,
) {
    let now = Instant::now();
    // Down means something only of a link that has been up: a device may not know, or nobody may have come yet.
    let mut links: Vec<Option<bool>> = vec![None; ports.len()];
    let mut seen: Vec<Seen> =
        counters.iter().map(|_| Seen { ticks: 0, since: now, busy: 0, at: now }).collect();
    let mut workers_at = now;
    while !stop.load(Ordering::Acquire) {
        for (place, link) in links.iter_mut().enumerate() {
            let up = ports.link_up(place);
            if up == *link || (up == Some(false) && link.is_none()) || up.is_none() {
                continue;
            }
            if let (Some(_), Some(up)) = (*link, up) {
                control.order(move |control| control.set_link(place, up, Instant::now()));
            }
            *link = up;
        }
        let now = Instant::now();
        if now >= workers_at {
            workers_at = now + WORKERS;
            for (worker, ((counters, seen), health)) in counters.iter().zip(&mut seen).zip(health).enumerate()
            {
                look(worker, counters, seen, health, now);
            }
        }
        std::thread::sleep(LINKS);
    }
}

fn look(worker: usize, counters: &WorkerCounters, seen: &mut Seen, health: &Health, now: Instant) {
    let (ticks, busy) = (counters.ticks(), counters.busy_ns());
    if ticks != seen.ticks {
        (seen.ticks, seen.since) = (ticks, now);
    }
    let silent = now.saturating_duration_since(seen.since);
    let stalled = counters.has_ended() || silent > STALLED;
    if health.stalled.swap(stalled, Ordering::Relaxed) != stalled {
        match (stalled, counters.has_ended()) {
            (true, true) => tracing::error!("worker {worker} has ended"),
            (true, false) => tracing::error!("worker {worker} stands still for {} ms", silent.as_millis()),
            (false, _) => tracing::warn!("worker {worker} goes on"),
        }
    }
    let passed = now.saturating_duration_since(seen.at).as_nanos() as u64;
    let share = busy.saturating_sub(seen.busy).saturating_mul(1_000).checked_div(passed);
    if let Some(share) = share {
        health.busy.store(share.min(1_000) as u32, Ordering::Relaxed);
    }
    (seen.busy, seen.at) = (busy, now);
}
