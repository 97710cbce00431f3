//! Looks after ports and workers: links that go up or down, workers that stand still or end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ports::Ports;
use crate::control::thread::ControlHandle;
use crate::counters::WorkerCounters;
use crate::pipeline::links::Links;

/// Between two looks at the links: what a link that goes down costs before its groups move is this, and a turn of the control thread.
const LINKS: Duration = Duration::from_millis(4);
/// Between two looks at a link that is down. Longer, because a look is dear there: virtio-user sets an alarm each time it finds that its
/// peer is gone, and DPDK's interrupt thread then spins for the alarms' lock while the thread that holds it waits for the same core.
const DOWN: Duration = Duration::from_millis(100);
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
    /// Share of a CPU that its thread used over the last look, in thousandths.
    cpu: AtomicU32,
}

impl Health {
    /// Percent of a CPU that its thread used lately.
    pub fn cpu_percent(&self) -> f64 {
        f64::from(self.cpu.load(Ordering::Relaxed)) / 10.0
    }

    /// Stands still, or has ended.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Percent of its time that it spent on packets lately.
    pub fn busy_percent(&self) -> f64 {
        f64::from(self.busy.load(Ordering::Relaxed)) / 10.0
    }
}

/// Where workers find links that are down.
#[derive(Debug)]
pub struct Shown {
    /// By place of the port.
    pub links: Arc<Links>,
    /// By place of the port: the place of the port that has the device.
    pub devices: Vec<u16>,
}

impl Shown {
    fn show(&self, device: usize, up: bool) {
        for (place, of) in self.devices.iter().enumerate() {
            if usize::from(*of) == device {
                self.links.set(place as u16, up);
            }
        }
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
        shown: Shown,
        counters: Vec<Arc<WorkerCounters>>,
        health: Arc<[Health]>,
        control: ControlHandle,
    ) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("watch".into()).spawn({
            let stop = stop.clone();
            move || run(&ports, &shown, &counters, &health, &control, &stop)
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

/// What is known of a link. Down means something only of one that has been up: a device may not know, or nobody may have come yet.
struct Link {
    up: Option<bool>,
    /// The next look.
    due: Instant,
}

impl Link {
    /// Asks, where it is time; returns what it changed to.
    fn look(&mut self, now: Instant, ask: impl FnOnce() -> Option<bool>) -> Option<bool> {
        if now < self.due {
            return None;
        }
        let up = ask()?;
        self.due = if up { now } else { now + DOWN };
        let before = if up || self.up.is_some() { self.up.replace(up) } else { None };
        before.filter(|before| *before != up).map(|_| up)
    }
}

struct Seen {
    ticks: u64,
    since: Instant,
    busy: u64,
    cpu: u64,
    at: Instant,
}

/// Nanoseconds that a thread of this process ran, as the scheduler counts them.
fn ran(thread: u64) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn run(
    ports: &Ports,
    shown: &Shown,
    counters: &[Arc<WorkerCounters>],
    health: &[Health],
    control: &ControlHandle,
    stop: &AtomicBool,
) {
    let now = Instant::now();
    let mut links: Vec<Link> = (0..ports.len()).map(|_| Link { up: None, due: now }).collect();
    let mut seen: Vec<Seen> =
        counters.iter().map(|_| Seen { ticks: 0, since: now, busy: 0, cpu: 0, at: now }).collect();
    let mut workers_at = now;
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        for (place, link) in links.iter_mut().enumerate() {
            if let Some(up) = link.look(now, || ports.link_up(place)) {
                shown.show(place, up);
                control.order(move |control| control.set_link(place, up, Instant::now()));
            }
        }
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
    let cpu = counters.thread().and_then(ran).unwrap_or(seen.cpu);
    let share = cpu.saturating_sub(seen.cpu).saturating_mul(1_000).checked_div(passed);
    if let Some(share) = share {
        health.cpu.store(share.min(1_000) as u32, Ordering::Relaxed);
    }
    (seen.busy, seen.cpu, seen.at) = (busy, cpu, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_of_when_it_changes_and_asked_less_often_while_it_is_down() {
        let start = Instant::now();
        let mut link = Link { up: None, due: start };
        let mut look = |ms, said| link.look(start + Duration::from_millis(ms), || said);
        assert_eq!(look(0, Some(false)), None, "never up before: not down");
        assert_eq!(look(100, Some(true)), None, "up is what all believed");
        assert_eq!(look(104, None), None, "the device does not say");
        assert_eq!(look(108, Some(true)), None);
        assert_eq!(look(112, Some(false)), Some(false), "down is told at the next look");
        assert_eq!(look(116, Some(true)), None, "not asked yet");
        assert_eq!(look(212, Some(false)), None);
        assert_eq!(look(312, Some(true)), Some(true));
        assert_eq!(look(316, Some(false)), Some(false));
    }

    fn seen(now: Instant) -> Seen {
        Seen { ticks: 0, since: now, busy: 0, cpu: 0, at: now }
    }

    #[test]
    fn a_worker_without_a_sign_of_life_for_more_than_a_second_stands_still_until_it_gives_one() {
        let (counters, health, start) = (WorkerCounters::new(1), Health::default(), Instant::now());
        let mut seen = seen(start);
        let mut at = |ms: u64| {
            look(0, &counters, &mut seen, &health, start + Duration::from_millis(ms));
            health.is_stalled()
        };
        counters.tick();
        assert!(!at(0) && !at(500) && !at(1_000) && at(1_250));
        counters.tick();
        assert!(!at(1_500));
    }

    #[test]
    fn a_worker_whose_thread_has_ended_stands_still_at_once() {
        let (counters, health, start) = (WorkerCounters::new(1), Health::default(), Instant::now());
        counters.tick();
        counters.end();
        look(0, &counters, &mut seen(start), &health, start);
        assert!(health.is_stalled());
    }

    #[test]
    fn busy_and_cpu_are_shares_of_the_time_between_looks() {
        let (counters, health, start) = (WorkerCounters::new(1), Health::default(), Instant::now());
        let mut seen = seen(start);
        counters.set_thread(rustix::thread::gettid().as_raw_nonzero().get() as u64);
        look(0, &counters, &mut seen, &health, start);
        counters.busy(Duration::from_millis(250));
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        look(0, &counters, &mut seen, &health, start + Duration::from_secs(1));
        assert_eq!(health.busy_percent(), 25.0);
        assert!(health.cpu_percent() > 0.0 && health.cpu_percent() <= 100.0);
    }
}
