//! The thread that watches the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::judge::{Judge, Seen, Verdict};
use super::{Heartbeat, REGISTRY, Task};
use crate::{exit, systemd};

/// Interval between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Watches all threads of the process as long as it is kept: from the end of the daemon's start to the beginning of its stop.
///
/// Nobody watches the monitor but `/healthz`, which reads its heartbeat, and systemd's watchdog, which it stops to feed.
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts watching, and tells systemd that the daemon has started. `exit_after`: time without progress of an essential thread after
    /// which the process ends with code 1; zero: never.
    ///
    /// # Errors
    /// The system's error if the thread cannot be created.
    pub fn start(exit_after: Duration) -> io::Result<Monitor> {
        let stop = Arc::new(AtomicBool::new(false));
        let exit_after = (!exit_after.is_zero()).then_some(exit_after);
        let (thread, _) = super::spawn(Task::essential("monitor"), {
            let stop = stop.clone();
            move |heartbeat| {
                let watched = heartbeat.guard(|| watch(exit_after, &stop, heartbeat));
                if let Err(panic) = watched {
                    exit::at_once(&format!("nobody watches the threads any more, the process ends: {panic}"));
                }
            }
        })?;
        systemd::ready();
        Ok(Monitor { stop, thread: Some(thread) })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        systemd::stopping();
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(exit_after: Option<Duration>, stop: &AtomicBool, heartbeat: &Heartbeat) {
    let mut judge = Judge::new(exit_after, Instant::now());
    let mut watchdog = systemd::Watchdog::new(Instant::now());
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        heartbeat.beat_at(now);
        look(&mut judge, &mut watchdog, now);
        std::thread::park_timeout(PERIOD);
    }
}

fn look(judge: &mut Judge, watchdog: &mut systemd::Watchdog, now: Instant) {
    let threads = REGISTRY.living();
    #[cfg(debug_assertions)]
    super::fault::look(&threads);
    let seen = threads.iter().map(|slot| Seen {
        id: slot.id,
        name: slot.task.name.clone(),
        essential: slot.task.essential,
        limit: slot.task.limit,
        age: REGISTRY.age(slot, now),
        panic: slot.dead.load(Ordering::Relaxed).then(|| slot.last_panic().clone().unwrap_or_default()),
    });
    let seen: Vec<Seen> = seen.collect();
    for verdict in judge.look(now, &seen) {
        match verdict {
            Verdict::Stalled(text) => {
                tracing::error!("{text}");
                systemd::status(&text);
            }
            Verdict::Recovered(name) => {
                tracing::warn!("thread {name} makes progress again");
                systemd::status("all threads make progress");
            }
            Verdict::End(text) => exit::at_once(&format!(
                "{text}: the process ends, so that its supervisor restarts it ([node] stall_exit_s)"
            )),
        }
    }
    if !judge.is_unwell(&seen) {
        watchdog.feed(now);
    }
}
