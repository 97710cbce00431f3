//! What of the batches that a sink has accepted is in use.
//!
//! A sink that hands its batches to another thread numbers them ([`Installed::begin`], [`Installed::accepted`]); that thread reports how far it is
//! ([`Progress::reach`]), which wakes the agent. The numbers are unique for the life of the other thread, so that a sink that starts
//! over, or the sink of another agent, never takes earlier batches for its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fibcast_sync_proto::refusal::Refusals;
use fibcast_sync_proto::serial_map::SerialMap;

/// Makes the agent's event loop take a turn.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Shared by a sink and the thread that works for it.
#[derive(Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    given: AtomicU64,
    reached: AtomicU64,
    refusals: Mutex<Refusals>,
    /// Their version, to be read without the lock.
    version: AtomicU64,
    wake: Mutex<Option<Wake>>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(&self.0.reached).finish()
    }
}

impl Progress {
    /// Everything up to the batch of this number is in use.
    pub fn reach(&self, batch: u64) {
        if self.0.reached.fetch_max(batch, Ordering::AcqRel) >= batch {
            return;
        }
        self.wake();
    }

    /// Changes the list of routes that are not forwarded by; `change` says whether it did. Before the batch that they were refused with is in use.
    pub fn refuse(&self, change: impl FnOnce(&mut Refusals) -> bool) {
        {
            let mut refusals = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if !change(&mut refusals) {
                return;
            }
            self.0.version.store(refusals.version(), Ordering::Release);
        }
        self.wake();
    }

    fn wake(&self) {
        // The lock is held by the agent only while it starts.
        let wake = self.0.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// The sink's end: serials of the agent's table by the numbers of batches.
#[derive(Debug, Default)]
pub struct Installed {
    progress: Progress,
    serials: SerialMap,
}

impl Installed {
    /// For a thread that reports to `progress`.
    pub fn new(progress: Progress) -> Self {
        Self { progress, serials: SerialMap::default() }
    }

    /// Numbers the next batch.
    pub fn begin(&self) -> u64 {
        self.progress.0.given.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The batch of this number, with which the table is at `serial`, was accepted.
    pub fn accepted(&mut self, batch: u64, serial: u64) {
        self.serials.push(batch, serial);
    }

    /// The sink starts over: nothing of what it accepted counts any more.
    pub fn forget(&mut self) {
        self.serials.clear();
    }

    /// The serial of the table up to which everything is in use.
    pub fn serial(&self) -> u64 {
        self.serials.get(self.progress.0.reached.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// The version of [`Self::refusals`].
    pub fn refusals_version(&self) -> u64 {
        self.progress.0.version.load(Ordering::Acquire)
    }

    /// The routes that are not forwarded by.
    pub fn refusals(&self) -> Refusals {
        self.progress.0.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls `wake` from now on when the serial or the refusals have changed.
    pub fn on_change(&self, wake: Wake) {
        *self.progress.0.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_counts_once_its_batch_is_in_use_and_the_agent_is_woken() {
        let progress = Progress::default();
        let mut installed = Installed::new(progress.clone());
        let wakes = Arc::new(AtomicU64::new(0));
        installed.on_change(Arc::new({
            let wakes = wakes.clone();
            move || {
                wakes.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let (first, second) = (installed.begin(), installed.begin());
        installed.accepted(first, 10);
        installed.accepted(second, 15);
        assert_eq!(installed.serial(), 0);
        progress.reach(first);
        progress.reach(first);
        assert_eq!((installed.serial(), wakes.load(Ordering::Relaxed)), (10, 1));
        progress.reach(second);
        assert_eq!(installed.serial(), 15);
    }

    #[test]
    fn batches_from_before_a_reset_or_of_another_agent_do_not_count() {
        let progress = Progress::default();
        let mut installed = Installed::new(progress.clone());
        let old = installed.begin();
        installed.accepted(old, 500);
        let mut successor = Installed::new(progress.clone());
        installed.forget();
        progress.reach(old);
        let (new, other) = (installed.begin(), successor.begin());
        installed.accepted(new, 3);
        successor.accepted(other, 7);
        assert_eq!((installed.serial(), successor.serial()), (0, 0));
        progress.reach(new);
        assert_eq!((installed.serial(), successor.serial()), (3, 0));
    }
}
