//! The thread of a worker: pinned to its core, running until it is asked to stop.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_daemon::threads::{self, Heartbeat, Pulse, Task};
use rustix::thread::{CpuSet, gettid, sched_setaffinity, set_current_timer_slack};

use super::Worker;
use super::idle::{IdleAction, Policy, Rest};
use crate::io::Io;

/// A worker without progress for this long is stalled.
const STALLED: Duration = Duration::from_secs(1);
/// Turns between two checks of the stop flag and the idle policy.
const TURNS: usize = 32;

/// Pins the calling thread to a core.
///
/// # Errors
/// The system's error, or `InvalidInput` if the core does not exist.
pub fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    cores.set(core);
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Starts a worker. `build` runs on the new thread, already pinned, and returns the worker with what must live as long (a thread's
/// registration with DPDK). Its error comes back through the handle.
///
/// # Errors
/// The system's error if the thread cannot be created.
pub fn spawn<I, G, B>(
    number: usize,
    core: usize,
    policy: Policy,
    stop: Arc<AtomicBool>,
    build: B,
) -> io::Result<(JoinHandle<Result<(), String>>, Pulse)>
where
    I: Io,
    B: FnOnce() -> Result<(Worker<I>, G), String> + Send + 'static,
{
    threads::spawn(Task::essential(format!("worker-{number}")).limit(STALLED), move |heartbeat| {
        pin(core).map_err(|error| format!("worker {number}: cannot run on core {core}: {error}"))?;
        // The default timer slack of 50 µs would be added to each sleep.
        let _ = set_current_timer_slack(NonZeroU64::new(1_000));
        let (mut worker, _guard) = build()?;
        worker.counters().set_thread(gettid().as_raw_nonzero().get() as u64);
        run(&mut worker, policy, &stop, heartbeat);
        worker.stop();
        // The worker's packets are freed before the thread's registration ends.
        drop(worker);
        Ok(())
    })
}

/// Polls until `stop` is set.
fn run<I: Io>(worker: &mut Worker<I>, policy: Policy, stop: &AtomicBool, heartbeat: &Heartbeat) {
    let mut rest = Rest::new(policy);
    let mut deep = false;
    while !stop.load(Ordering::Acquire) {
        for _ in 0..TURNS {
            let action = rest.after(worker.turn());
            if deep && !matches!(action, IdleAction::SleepDeeply(_)) {
                worker.sleep(false);
                deep = false;
            }
            match action {
                IdleAction::Poll => {}
                IdleAction::Yield => std::thread::yield_now(),
                IdleAction::Sleep(pause) => {
                    std::thread::sleep(pause);
                    worker.tick(Instant::now());
                }
                IdleAction::SleepDeeply(pause) => {
                    // Every time: a turn takes the newest generation.
                    worker.sleep(true);
                    deep = true;
                    std::thread::sleep(pause);
                    worker.tick(Instant::now());
                }
            }
        }
        let now = Instant::now();
        worker.tick(now);
        heartbeat.beat_at(now);
    }
}
