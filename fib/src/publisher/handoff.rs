//! The hand-off itself, of anything: who may look, who frees, and when.
//!
//! Two guards keep a destructor out of the workers. *Stamps*: a reader lets go of its reference before it moves its stamp, so a value
//! older than every stamp is held by nobody who is awake; they also say who is behind. *Counts*: a value is freed when `Arc::get_mut`
//! finds no other reference, which covers a reader that wakes up and holds a value before its stamp says so. `tests/loom/` runs this
//! file under a model checker, and shows what goes wrong when a guard is missing or in the wrong order.

use std::collections::VecDeque;
use std::marker::PhantomData;

use crate::sync::{Arc, AtomicU64, AtomicUsize, CachePadded, Cached, Ordering, Swap, this_thread};

/// The stamp of a reader that holds nothing.
pub(crate) const IDLE: u64 = 0;
/// The stamp of a reader that was dropped.
pub(crate) const GONE: u64 = u64::MAX;

/// What the model leaves out to show that it would be missed. The product leaves out nothing.
pub(crate) trait Guards {
    /// Nothing is freed that a stamp says is held.
    const STAMPS: bool = true;
    /// Nothing is freed that somebody refers to.
    const COUNTS: bool = true;
    /// A stamp moves after the reference is given back.
    const IN_ORDER: bool = true;
}

/// All guards.
#[derive(Debug)]
pub(crate) struct All;

impl Guards for All {}

/// A value and its number.
#[derive(Debug)]
pub(crate) struct Published<T> {
    /// Counts publications from 1 on; what the stamps speak of.
    pub(crate) sequence: u64,
    pub(crate) value: T,
}

/// What a reader says of itself.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The number of the value that it holds.
    pub(crate) stamp: AtomicU64,
    /// The thread that it was last seen on; 0 before its first look.
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

    /// A reader's end; idle until its first look.
    pub(crate) fn reader(&self) -> HandoffReader<T, G> {
        let seat = Seat { stamp: AtomicU64::new(IDLE), thread: AtomicUsize::new(0) };
        let seat = Arc::new(CachePadded::new(seat));
        HandoffReader { current: self.current.clone(), cache: None, seat, stamped: IDLE, guards: PhantomData }
    }

    /// The number of the value in force.
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

    /// Looks at the value in force.
    pub(crate) fn with_current<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.current.load().value)
    }

    /// Puts a value in force, at one instant for all readers, and retires the one before.
    pub(crate) fn swap(&mut self, value: T) {
        self.sequence += 1;
        let next = Arc::new(Published { sequence: self.sequence, value });
        self.retired.push_back(self.current.swap(next));
    }

    /// Frees what no reader can hold, given all readers' seats.
    pub(crate) fn free<'a>(&mut self, seats: impl Iterator<Item = &'a Seat>) {
        let held = seats.map(|seat| seat.stamp.load(Ordering::Acquire));
        let oldest_held = held.filter(|&stamp| stamp != IDLE && stamp != GONE).min().unwrap_or(GONE);
        // Oldest first, and none out of turn: what it is made of may be shared with the next.
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

/// A reader's end. It may be sent to a thread, not shared between threads.
#[derive(Debug)]
pub(crate) struct HandoffReader<T, G = All> {
    current: Arc<Swap<Published<T>>>,
    cache: Option<Cached<Published<T>>>,
    pub(crate) seat: Arc<CachePadded<Seat>>,
    stamped: u64,
    guards: PhantomData<(std::cell::Cell<()>, G)>,
}

impl<T, G: Guards> HandoffReader<T, G> {
    /// The value in force.
    #[inline]
    pub(crate) fn look(&mut self) -> &T {
        if !G::IN_ORDER {
            // What the model must object to.
            self.seat.stamp.store(self.current.load().sequence, Ordering::Release);
        }
        let cache = self.cache.get_or_insert_with(|| {
            self.seat.thread.store(this_thread(), Ordering::Relaxed);
            Cached::new(self.current.clone())
        });
        let published = cache.load();
        if published.sequence != self.stamped {
            // Release: the reference to the value before is given back by now, and must be seen so.
            self.seat.stamp.store(published.sequence, Ordering::Release);
            self.stamped = published.sequence;
        }
        &published.value
    }

    /// Lets go of the value.
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
