//! Watches ports and workers: link state, the load of workers, device counters.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_daemon::threads::{self, Heartbeat, Pulse, Task};

use super::ports::Ports;
use super::state::DeviceStates;
use super::steering::{self, Steering};
use crate::control::thread::ControlHandle;
use crate::counters::{Snapshot, WorkerCounters};
use crate::pipeline::links::Links;
use crate::reason::Reason;
use crate::worker::spread::SoftwareRss;

/// Interval between two polls of the links: a link-down event costs this and a turn of the control thread until its groups move.
const LINKS: Duration = Duration::from_millis(4);
/// Interval between two polls of a link that is down. Longer, because such a poll is expensive: virtio-user sets an alarm whenever its peer
/// is gone, and DPDK's interrupt thread then spins for the alarm lock while its holder waits for the same core.
const DOWN: Duration = Duration::from_millis(100);
/// Interval between two checks of the workers and the drivers' counters.
const WORKERS: Duration = Duration::from_millis(250);
/// Interval between two log lines about all-zero frames of one port.
const ZERO_FRAMES: Duration = Duration::from_secs(60);

/// Recent state of a worker.
#[derive(Debug, Default)]
pub struct Health {
    /// Its heartbeat, once it runs.
    pulse: OnceLock<Pulse>,
    /// Share of its time spent on packets in the last interval, in thousandths.
    busy: AtomicU32,
    /// Share of a CPU used by its thread in the last interval, in thousandths.
    cpu: AtomicU32,
}

impl Health {
    /// CPU usage of its thread in percent.
    pub fn cpu_percent(&self) -> f64 {
        f64::from(self.cpu.load(Ordering::Relaxed)) / 10.0
    }

    /// Whether the worker is stalled, has ended or never ran.
    pub fn is_stalled(&self) -> bool {
        self.pulse.get().is_none_or(Pulse::is_stalled)
    }

    /// Share of its time spent on packets, in percent.
    pub fn busy_percent(&self) -> f64 {
        f64::from(self.busy.load(Ordering::Relaxed)) / 10.0
    }
}

/// State that the watch thread publishes.
#[derive(Debug)]
pub struct Shown {
    /// Links that are down, for workers, by port index.
    pub links: Arc<Links>,
    /// By port index: index of the port that owns the device.
    pub devices: Vec<u16>,
    /// State of the devices.
    pub states: DeviceStates,
    /// State of the workers.
    pub health: Arc<[Health]>,
    /// Ports with software RSS; none if it is disabled.
    pub software_rss: Option<SoftwareRss>,
    /// Port names.
    pub names: Vec<String>,
}

/// What the thread watches besides the ports.
#[derive(Debug)]
pub struct WatchedWorkers {
    /// Their counters.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Their heartbeats.
    pub pulses: Vec<Pulse>,
    /// By worker: the indices of the ports that its receive queues belong to.
    pub polled: Vec<Vec<usize>>,
}

impl Shown {
    fn show(&self, device: usize, up: bool) {
        for (index, of) in self.devices.iter().enumerate() {
            if usize::from(*of) == device {
                self.links.set(index as u16, up);
            }
        }
    }
}

/// The watch thread. It owns the ports, so that nobody else calls a driver.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Ports>>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error if the thread cannot be created.
    pub fn start(
        ports: Ports,
        shown: Shown,
        workers: WatchedWorkers,
        control: ControlHandle,
    ) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        for (health, pulse) in shown.health.iter().zip(&workers.pulses) {
            let _ = health.pulse.set(pulse.clone());
        }
        let (thread, _) = threads::spawn(Task::essential("watch"), {
            let stop = stop.clone();
            move |heartbeat| run(ports, &shown, &workers, &control, &stop, heartbeat)
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }

    /// Stops it and returns the ports, which must not be closed before their queues are dropped.
    pub fn stop(mut self) -> Option<Ports> {
        self.stop.store(true, Ordering::Release);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// State of a link. Down only counts for a link that was up before: a device may not report it, or no peer may have connected yet.
struct LinkState {
    up: Option<bool>,
    /// Time of the next poll.
    due: Instant,
}

impl LinkState {
    /// Polls the link if it is time; returns the new state if it changed.
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

struct WorkerSample {
    busy: u64,
    cpu: u64,
    at: Instant,
}

/// CPU time of a thread of this process in nanoseconds, from the scheduler.
fn ran(thread: u64) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn run(
    mut ports: Ports,
    shown: &Shown,
    workers: &WatchedWorkers,
    control: &ControlHandle,
    stop: &AtomicBool,
    heartbeat: &Heartbeat,
) -> Ports {
    let now = Instant::now();
    let mut links: Vec<LinkState> = (0..ports.len()).map(|_| LinkState { up: None, due: now }).collect();
    let mut seen: Vec<WorkerSample> =
        workers.counters.iter().map(|_| WorkerSample { busy: 0, cpu: 0, at: now }).collect();
    let mut reporting = vec![false; ports.len()];
    let mut zeros: Vec<ZeroFrames> = (0..ports.len()).map(|_| ZeroFrames::default()).collect();
    let mut workers_at = now;
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        heartbeat.beat_at(now);
        for (index, (link, state)) in links.iter_mut().zip(shown.states.iter()).enumerate() {
            let mut asked = None;
            let ask = || {
                let link = ports.link(index).inspect(|link| state.set_link(link));
                *asked.insert(link.map(|link| link.up))
            };
            if let Some(up) = link.look(now, ask) {
                shown.show(index, up);
                control.order(move |control| control.set_link(index, up, Instant::now()));
            }
            // A device that reports no link state is taken to be up, as everywhere.
            let up = asked.is_some_and(|up| up != Some(false));
            if let Some(reporting) = reporting.get_mut(index).filter(|reporting| up && !**reporting) {
                *reporting = true;
                control.order(move |control| control.first_link_up(index, Instant::now()));
            }
        }
        if now >= workers_at {
            workers_at = now + WORKERS;
            for ((counters, seen), health) in workers.counters.iter().zip(&mut seen).zip(shown.health.iter())
            {
                look(counters, seen, health, now);
            }
            for (index, state) in shown.states.iter().enumerate() {
                if let Some(stats) = ports.stats(index) {
                    state.set_stats(&stats);
                }
            }
            let snapshots: Vec<Snapshot> =
                workers.counters.iter().map(|counters| counters.snapshot()).collect();
            for (name, (index, zeros)) in shown.names.iter().zip(zeros.iter_mut().enumerate()) {
                zeros.look(name, dropped(&snapshots, index, Reason::ZeroFrame), now);
            }
            if let Some(software_rss) = &shown.software_rss {
                spread(software_rss, &shown.names, &snapshots, &workers.polled);
            }
        }
        std::thread::sleep(LINKS);
    }
    ports
}

/// Packets of a port dropped for a reason.
fn dropped(snapshots: &[Snapshot], port: usize, reason: Reason) -> u64 {
    let of = |worker: &Snapshot| worker.ports.get(port)?.drops.get(reason as usize).copied();
    snapshots.iter().filter_map(of).sum()
}

/// Turns on software RSS for ports whose device does not spread flows over its queues; see [`steering`].
fn spread(software_rss: &SoftwareRss, names: &[String], snapshots: &[Snapshot], polled: &[Vec<usize>]) {
    for (port, (on, name)) in software_rss.iter().zip(names).enumerate() {
        let queues = snapshots.iter().zip(polled).flat_map(|(worker, ports)| worker.queues.iter().zip(ports));
        let packets: Vec<u64> =
            queues.filter(|(_, of)| **of == port).map(|(queue, _)| queue.packets).collect();
        match steering::judge(&packets, polled.len(), on.load(Ordering::Relaxed)) {
            Steering::Keep => {}
            Steering::Spread => {
                on.store(true, Ordering::Relaxed);
                tracing::warn!(
                    "port {name}: all packets arrive on one of {} receive queues; software RSS is on",
                    packets.len()
                );
            }
            Steering::Leave => {
                on.store(false, Ordering::Relaxed);
                tracing::info!("port {name}: the device spreads flows itself; software RSS is off");
            }
        }
    }
}

/// All-zero frames of one port, as last logged.
#[derive(Debug, Default)]
struct ZeroFrames {
    logged: u64,
    at: Option<Instant>,
}

impl ZeroFrames {
    fn look(&mut self, port: &str, count: u64, now: Instant) {
        let quiet = self.at.is_some_and(|at| now.saturating_duration_since(at) < ZERO_FRAMES);
        if count == self.logged || quiet {
            return;
        }
        tracing::error!(
            "port {port}: {} received frames hold zeros only: its device does not reach the packet buffers by DMA. Look for IOMMU faults \
             (dmesg | grep -e DMAR -e AMD-Vi), and check that the device is bound to vfio-pci",
            count - self.logged
        );
        (self.logged, self.at) = (count, Some(now));
    }
}

fn look(counters: &WorkerCounters, seen: &mut WorkerSample, health: &Health, now: Instant) {
    let busy = counters.busy_ns();
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
        let mut link = LinkState { up: None, due: start };
        let mut look = |ms, state| link.look(start + Duration::from_millis(ms), || state);
        assert_eq!(look(0, Some(false)), None, "never up before: not down");
        assert_eq!(look(100, Some(true)), None, "up is what all believed");
        assert_eq!(look(104, None), None, "the device does not say");
        assert_eq!(look(108, Some(true)), None);
        assert_eq!(look(112, Some(false)), Some(false), "down is logged at the next look");
        assert_eq!(look(116, Some(true)), None, "not asked yet");
        assert_eq!(look(212, Some(false)), None);
        assert_eq!(look(312, Some(true)), Some(true));
        assert_eq!(look(316, Some(false)), Some(false));
    }

    #[test]
    fn software_rss_is_switched_by_what_the_queues_of_a_port_bring() {
        let software_rss: SoftwareRss = [false, false].map(AtomicBool::new).into();
        let names = ["p0", "p1"].map(str::to_owned);
        // Worker 0 polls queue 0 of both ports, worker 1 queue 1.
        let polled = [vec![0, 1], vec![0, 1]];
        let worker = |packets: [u64; 2]| Snapshot {
            queues: packets
                .map(|packets| crate::counters::QueueSnapshot { packets, full: 0, steered: 0 })
                .into(),
            ..Snapshot::default()
        };
        let on = |first, second| {
            spread(&software_rss, &names, &[worker(first), worker(second)], &polled);
            [0, 1].map(|port| software_rss[port].load(Ordering::Relaxed))
        };
        assert_eq!(on([100, 100], [0, 0]), [false, false]);
        assert_eq!(on([10_000, 10_000], [0, 10_000]), [true, false]);
        assert_eq!(on([20_000, 20_000], [0, 20_000]), [true, false]);
        assert_eq!(on([20_000, 20_000], [500, 20_000]), [false, false]);
    }

    #[test]
    fn frames_of_zeros_are_told_once_in_a_while() {
        let (mut zeros, start) = (ZeroFrames::default(), Instant::now());
        let mut logged = |count, seconds| {
            zeros.look("p0", count, start + Duration::from_secs(seconds));
            zeros.logged
        };
        assert_eq!((logged(0, 0), logged(3, 1), logged(9, 2)), (0, 3, 3));
        assert_eq!(logged(9, 70), 9);
    }

    #[test]
    fn a_worker_that_never_ran_or_has_ended_is_stalled() {
        let health = Health::default();
        assert!(health.is_stalled(), "unknown is stalled");
        let heartbeat = threads::register(Task::essential("worker-0"));
        health.pulse.set(heartbeat.pulse()).unwrap();
        assert!(!health.is_stalled());
        drop(heartbeat);
        assert!(health.is_stalled());
    }

    #[test]
    fn busy_and_cpu_are_shares_of_the_time_between_looks() {
        let (counters, health, start) = (WorkerCounters::new(1), Health::default(), Instant::now());
        let mut seen = WorkerSample { busy: 0, cpu: 0, at: start };
        counters.set_thread(rustix::thread::gettid().as_raw_nonzero().get() as u64);
        look(&counters, &mut seen, &health, start);
        counters.busy(Duration::from_millis(250));
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        look(&counters, &mut seen, &health, start + Duration::from_secs(1));
        assert_eq!(health.busy_percent(), 25.0);
        assert!(health.cpu_percent() > 0.0 && health.cpu_percent() <= 100.0);
    }
}
