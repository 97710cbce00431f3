//! Counters of the listeners of this process, for status and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fibcast_control::status::ListenerStatus;

/// Counters of one listener, or of all of one kind.
#[derive(Debug)]
pub struct Counters {
    name: &'static str,
    pub(super) open: AtomicU64,
    pub(super) half_open: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) gave_way: AtomicU64,
    pub(super) exhausted: AtomicU64,
}

/// Every daemon has a few listeners, and its status is put together far from them: so they are known here.
static ALL: Mutex<Vec<Weak<Counters>>> = Mutex::new(Vec::new());

impl Counters {
    /// Counters under this name ("sync", "http", "control", "fpm"), shown in the status as long as they are kept.
    pub fn named(name: &'static str) -> Arc<Counters> {
        let zero = AtomicU64::default;
        let counters = Arc::new(Counters {
            name,
            open: zero(),
            half_open: zero(),
            accepted: zero(),
            turned_away: zero(),
            gave_way: zero(),
            exhausted: zero(),
        });
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|kept| kept.strong_count() > 0);
        all.push(Arc::downgrade(&counters));
        counters
    }

    /// The current figures.
    pub fn status(&self) -> ListenerStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerStatus {
            name: self.name.to_owned(),
            open: read(&self.open),
            half_open: read(&self.half_open),
            accepted: read(&self.accepted),
            turned_away: read(&self.turned_away),
            gave_way: read(&self.gave_way),
            exhausted: read(&self.exhausted),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set(gauge: &AtomicU64, value: usize) {
        gauge.store(value as u64, Ordering::Relaxed);
    }
}

/// The figures of all listeners of this process, in the order in which they were opened.
pub fn all() -> Vec<ListenerStatus> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter_map(Weak::upgrade).map(|counters| counters.status()).collect()
}
