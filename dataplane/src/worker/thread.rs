//! A worker on its thread: pinned to its core, running until it is asked to stop.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::thread::{CpuSet, gettid, sched_setaffinity, set_current_timer_slack};

use super::Worker;
use super::idle::{Action, Policy, Rest};
use crate::counters::WorkerCounters;
use crate::io::Io;

/// Turns between two looks at the stop flag and the policy's finer points.
const TURNS: usize = 32;

/// Pins the calling thread to a core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    cores.set(core);
    sched_setaffinity(None, &cores)?;
    Ok(())
}

/// Starts a worker. `build` runs on the new thread, already pinned, and returns the worker with whatever must live as long as it does
/// (a thread's registration with DPDK); what it fails with comes back through the handle.
pub fn spawn<I, G, B>(
    number: usize,
    core: usize,
    policy: Policy,
    stop: Arc<AtomicBool>,
    build: B,
) -> io::Result<JoinHandle<Result<(), String>>>
where
    I: Io,
    B: FnOnce() -> Result<(Worker<I>, G), String> + Send + 'static,
{
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        pin(core).map_err(|error| format!("worker {number}: cannot run on core {core}: {error}"))?;
        // The default slack of 50 µs would come on top of each sleep.
        let _ = set_current_timer_slack(NonZeroU64::new(1_000));
        let (mut worker, _guard) = build()?;
        worker.counters().set_thread(gettid().as_raw_nonzero().get() as u64);
        let _ending = Ending(worker.counters());
        run(&mut worker, policy, &stop);
        worker.stop();
        // The worker's packets go back before the thread's registration ends.
        drop(worker);
        Ok(())
    })
}

/// Says that the thread has ended, also where it panics.
struct Ending(Arc<WorkerCounters>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Polls until `stop`.
fn run<I: Io>(worker: &mut Worker<I>, policy: Policy, stop: &AtomicBool) {
    let mut rest = Rest::new(policy);
    let mut deep = false;
    while !stop.load(Ordering::Acquire) {
        for _ in 0..TURNS {
            let action = rest.after(worker.turn());
            if deep && !matches!(action, Action::SleepDeeply(_)) {
                worker.sleep(false);
                deep = false;
            }
            match action {
                Action::Poll => {}
                Action::Yield => std::thread::yield_now(),
                Action::Sleep(pause) => {
                    std::thread::sleep(pause);
                    worker.tick(Instant::now());
                }
                Action::SleepDeeply(pause) => {
                    // Again each time: a turn takes the newest generation.
                    worker.sleep(true);
                    deep = true;
                    std::thread::sleep(pause);
                    worker.tick(Instant::now());
                }
            }
        }
        worker.tick(Instant::now());
    }
}
