//! The hand-off of any value from one publisher to many readers: who may read it, who frees it, and when.
//!
//! Two guards keep destructors out of the workers. *Stamps*: a reader drops its reference before it moves its stamp, so no awake reader
//! holds a value older than every stamp; stamps also show who lags. *Counts*: a value is freed when `Arc::get_mut` finds no other
//! reference, which covers a reader that wakes up and holds a value before its stamp says so. `tests/loom/` runs this file under a model
//! checker, and shows what fails when a guard is missing or in the wrong order.

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::sync::{Arc, AtomicU64, AtomicUsize, CachePadded, Cached, Ordering, Swap, this_thread};

/// The stamp of a reader that holds nothing.
pub(crate) const IDLE: u64 = 0;
/// The stamp of a reader that was dropped.
pub(crate) const GONE: u64 = u64::MAX;

/// Guards that the model switches off to show that each is needed. The product uses all of them.
pub(crate) trait Guards {
    /// Nothing is freed that a stamp marks as held.
    const STAMPS: bool = true;
    /// Nothing is freed that has another reference.
    const COUNTS: bool = true;
    /// A stamp moves only after the reference is dropped.
    const IN_ORDER: bool = true;
}

/// All guards.
#[derive(Debug)]
pub(crate) struct All;

impl Guards for All {}

/// A value and its number.
#[derive(Debug)]
pub(crate) struct Published<T> {
    /// Number of the publication, from 1 on. Stamps refer to it.
    pub(crate) sequence: u64,
    pub(crate) value: T,
}

/// The published state of a reader.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Number of the value that it holds.
    pub(crate) stamp: AtomicU64,
    /// The thread that it last ran on; 0 before its first read.
    pub(crate) thread: AtomicUsize,
}

/// The publisher's end.
#[derive(Debug)]
pub(crate) struct Handoff<T, G = All> {
    current: Arc<Swap<Published<T>>>,
    sequence: u64,
    retired: VecDeque<Arc<Published<T>>>,
    freed: u64,
    guards: PhantomData<G>,
}

impl<T, G: Guards> Handoff<T, G> {
    pub(crate) fn new(first: T) -> Self {
        let current = Arc::new(Swap::from_pointee(Published { sequence: 1, value: first }));
        Handoff { current, sequence: 1, retired: VecDeque::new(), freed: 0, guards: PhantomData }
    }

    /// Creates a reader, idle until its first read.
    pub(crate) fn reader(&self) -> HandoffReader<T, G> {
        let seat = Seat { stamp: AtomicU64::new(IDLE), thread: AtomicUsize::new(0) };
        let seat = Arc::new(CachePadded::new(seat));
        HandoffReader { current: self.current.clone(), cache: None, seat, stamped: IDLE, guards: PhantomData }
    }

    /// Number of the current value.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Values that wait for readers.
    pub(crate) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// Values that were freed.
    pub(crate) fn freed(&self) -> u64 {
        self.freed
    }

    /// Reads the current value.
    pub(crate) fn with_current<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.current.load().value)
    }

    /// Makes a value current at one instant for all readers, and retires the previous one.
    pub(crate) fn swap(&mut self, value: T) {
        self.sequence += 1;
        let next = Arc::new(Published { sequence: self.sequence, value });
        self.retired.push_back(self.current.swap(next));
    }

    /// Frees the retired values that no reader can hold, given the seats of all readers.
    pub(crate) fn free<'a>(&mut self, seats: impl Iterator<Item = &'a Seat>) {
        let held = seats.map(|seat| seat.stamp.load(Ordering::Acquire));
        let oldest_held = held.filter(|&stamp| stamp != IDLE && stamp != GONE).min().unwrap_or(GONE);
        // Oldest first and strictly in order: a value may share parts with the next one.
        while let Some(oldest) = self.retired.front_mut() {
            let stamped = G::STAMPS && oldest.sequence >= oldest_held;
            if stamped || (G::COUNTS && Arc::get_mut(oldest).is_none()) {
                break;
            }
            self.retired.pop_front();
            self.freed += 1;
        }
    }
}

/// The reader's end. It can be sent to another thread, but not shared between threads.
#[derive(Debug)]
pub(crate) struct HandoffReader<T, G = All> {
    current: Arc<Swap<Published<T>>>,
    cache: Option<Cached<Published<T>>>,
    pub(crate) seat: Arc<CachePadded<Seat>>,
    stamped: u64,
    guards: PhantomData<(std::cell::Cell<()>, G)>,
}

impl<T, G: Guards> HandoffReader<T, G> {
    /// The current value.
    #[inline]
    pub(crate) fn look(&mut self) -> &T {
        if !G::IN_ORDER {
            // The mutation that the model must detect.
            self.seat.stamp.store(self.current.load().sequence, Ordering::Release);
        }
        let cache = self.cache.get_or_insert_with(|| {
            self.seat.thread.store(this_thread(), Ordering::Relaxed);
            Cached::new(self.current.clone())
        });
        let published = cache.load();
        if published.sequence != self.stamped {
            // Release: the previous reference is dropped by now, and other threads must see it so.
            self.seat.stamp.store(published.sequence, Ordering::Release);
            self.stamped = published.sequence;
        }
        &published.value
    }

    /// Drops the value.
    pub(crate) fn idle(&mut self) {
        if self.cache.take().is_some() {
            self.stamped = IDLE;
            self.seat.stamp.store(IDLE, Ordering::Release);
        }
    }
}

impl<T, G> Drop for HandoffReader<T, G> {
    fn drop(&mut self) {
        self.cache = None;
        self.seat.stamp.store(GONE, Ordering::Release);
    }
}
