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

/// The figures of all listeners of this process, in the order in which they were opened. Those of one name are one listener: a replaced agent
/// may still have its own for a while.
pub fn all() -> Vec<ListenerStatus> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut listeners: Vec<ListenerStatus> = Vec::new();
    for one in all.iter().filter_map(Weak::upgrade).map(|counters| counters.status()) {
        match listeners.iter_mut().find(|known| known.name == one.name) {
            Some(known) => {
                known.open += one.open;
                known.half_open += one.half_open;
                known.accepted += one.accepted;
                known.turned_away += one.turned_away;
                known.gave_way += one.gave_way;
                known.exhausted += one.exhausted;
            }
            None => listeners.push(one),
        }
    }
    listeners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_name_are_one_and_those_that_are_gone_are_not_shown() {
        let (first, second) = (Counters::named("twice"), Counters::named("twice"));
        Counters::set(&first.open, 3);
        Counters::set(&second.open, 4);
        Counters::add(&second.exhausted);
        let find = || all().into_iter().filter(|known| known.name == "twice").collect::<Vec<_>>();
        let found = find();
        assert_eq!((found.len(), found[0].open, found[0].exhausted), (1, 7, 1));
        drop((first, second));
        assert!(find().is_empty());
    }
}
