//! Publishing generations: one thread swaps them in, workers read once per burst, and only that one thread frees.
//!
//! [`Publisher`] makes a new [`Generation`] current with one pointer swap and moves the previous one to its retired list. Each worker has a
//! [`Reader`], which caches the pointer and stamps the number of the generation that it holds.
//! [`Publisher::collect`] frees a retired generation when every stamp is past it (or idle) *and* no other reference is left. So its
//! destructor, which may free a whole trie, runs here and never in a worker ([`handoff`]). Debug builds assert this, release builds count
//! violations for each worker ([`PublisherStats`]).
//!
//! The retired list is bounded in bytes: what its generations keep from being freed. At the bound neither the publisher nor a worker waits: the new generation stays pending, replacing an
//! earlier pending one, and is published as soon as a retired one is freed. So a stalled worker holds at most [`RETIRED_BYTES`]
//! and one generation more, the others forward by the newest published one, and after the stall all see the net result of what came in between. A
//! worker that sleeps or has ended holds nothing.

mod handoff;

use std::collections::VecDeque;

use self::handoff::{GONE, Handoff, HandoffReader, IDLE, Seat};
use crate::audit::Audit;
use crate::generation::Generation;
use crate::sync::{Arc, CachePadded, Ordering};

/// Bytes that may wait for workers in retired generations, unless [`Publisher::with_retired_bytes`] sets another bound.
pub const RETIRED_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct Worker {
    name: String,
    seat: Arc<CachePadded<Seat>>,
}

/// Whether workers can see a generation yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// The next burst of each worker uses it.
    Now,
    /// The retired list is full. A later [`Publisher::collect`] publishes it, unless a newer generation replaces it first.
    Deferred,
}

/// How far a worker has followed the publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStamp {
    /// The name given to [`Publisher::register`].
    pub name: String,
    /// Publications that it is behind the newest one; none if it is idle and holds nothing.
    pub behind: Option<u64>,
    /// Generations that it freed. Anything but 0 is a bug.
    pub freed: u64,
}

/// Counters and state of the publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Generations that became visible.
    pub published: u64,
    /// Times that a generation had to wait because the retired list was full.
    pub deferred: u64,
    /// Retired generations that a worker may still hold.
    pub retired: usize,
    /// Bytes that they keep from being freed.
    pub retired_bytes: usize,
    /// Retired generations that were freed.
    pub freed: u64,
    /// Generations that a worker freed. Anything but 0 is a bug.
    pub freed_by_workers: u64,
    /// Serial of the visible generation.
    pub serial: u64,
    /// The workers in the order of registration.
    pub workers: Vec<WorkerStamp>,
}

/// Publishes generations and frees retired ones. The thread that owns the [`crate::Fib`] owns it.
#[derive(Debug)]
pub struct Publisher {
    handoff: Handoff<Arc<Generation>>,
    /// Bytes that each retired generation keeps, oldest first, and their sum.
    retained: VecDeque<usize>,
    retired_bytes: usize,
    most_retired_bytes: usize,
    pending: Option<Arc<Generation>>,
    workers: Vec<Worker>,
    audit: Arc<Audit>,
    deferred: u64,
}

impl Publisher {
    /// Starts with `first` as the current generation.
    pub fn new(first: Arc<Generation>) -> Self {
        let audit = Arc::new(Audit::new());
        audit.enter();
        let _ = first.audit.set(audit.clone());
        Publisher {
            handoff: Handoff::new(first),
            retained: VecDeque::new(),
            retired_bytes: 0,
            most_retired_bytes: RETIRED_BYTES,
            pending: None,
            workers: Vec::new(),
            audit,
            deferred: 0,
        }
    }

    /// Sets the bound of the retired list in bytes. One generation may always be retired.
    #[must_use]
    pub fn with_retired_bytes(mut self, most: usize) -> Self {
        self.most_retired_bytes = most.max(1);
        self
    }

    /// The bound of the retired list in bytes.
    pub fn most_retired_bytes(&self) -> usize {
        self.most_retired_bytes
    }

    /// Creates a reader for the worker `name`. It is idle until its first burst.
    pub fn register(&mut self, name: &str) -> Reader {
        let reader = self.handoff.reader();
        self.workers.push(Worker { name: name.to_owned(), seat: reader.seat.clone() });
        Reader { handoff: reader }
    }

    /// Makes a generation visible to every worker at one instant, and frees the retired ones that nobody holds.
    pub fn publish(&mut self, generation: Arc<Generation>) -> Visibility {
        self.collect();
        if self.retired_bytes >= self.most_retired_bytes {
            self.deferred += 1;
            self.pending = Some(generation);
            return Visibility::Deferred;
        }
        self.pending = None;
        self.swap(generation);
        self.collect();
        Visibility::Now
    }

    /// Frees the retired generations that all workers have passed, and publishes a pending one when there is room. Call it on a timer as
    /// well, so that memory is freed when nothing is published.
    pub fn collect(&mut self) {
        self.audit.enter();
        self.workers.retain(|worker| worker.seat.stamp.load(Ordering::Acquire) != GONE);
        self.free();
        if self.retired_bytes < self.most_retired_bytes
            && let Some(generation) = self.pending.take()
        {
            self.swap(generation);
            self.free();
        }
    }

    /// Number of the newest publication, from 1 on.
    pub fn sequence(&self) -> u64 {
        self.handoff.sequence()
    }

    /// Whether a generation waits because the retired list is full.
    pub fn is_deferred(&self) -> bool {
        self.pending.is_some()
    }

    /// The newest publication that every worker has taken up: packets that they receive from now on are forwarded by it or a later one. A worker
    /// that is idle, or has ended, takes up the newest before its next packet.
    pub fn seen(&self) -> u64 {
        let stamps = self.workers.iter().map(|worker| worker.seat.stamp.load(Ordering::Acquire));
        let held = stamps.filter(|&stamp| stamp != IDLE && stamp != GONE);
        held.min().unwrap_or_else(|| self.handoff.sequence())
    }

    /// The visible generation.
    pub fn current(&self) -> Arc<Generation> {
        self.handoff.with_current(Arc::clone)
    }

    /// Counters, retired generations, and how far each worker is.
    pub fn stats(&self) -> PublisherStats {
        let stamp = |worker: &Worker| {
            let stamp = worker.seat.stamp.load(Ordering::Acquire);
            let thread = worker.seat.thread.load(Ordering::Relaxed);
            let behind =
                (stamp != IDLE && stamp != GONE).then(|| self.handoff.sequence().saturating_sub(stamp));
            WorkerStamp { name: worker.name.clone(), behind, freed: self.audit.foreign_of(thread) }
        };
        PublisherStats {
            published: self.handoff.sequence(),
            deferred: self.deferred,
            retired: self.handoff.retired(),
            retired_bytes: self.retired_bytes,
            freed: self.handoff.freed(),
            freed_by_workers: self.audit.foreign(),
            serial: self.handoff.with_current(|generation| generation.serial()),
            workers: self.workers.iter().map(stamp).collect(),
        }
    }

    fn swap(&mut self, generation: Arc<Generation>) {
        if self.handoff.with_current(|current| Arc::ptr_eq(current, &generation)) {
            return;
        }
        let _ = generation.audit.set(self.audit.clone());
        let retained = self.handoff.with_current(|current| current.retained(&generation));
        self.retained.push_back(retained);
        self.retired_bytes += retained;
        self.handoff.swap(generation);
    }

    fn free(&mut self) {
        self.handoff.free(self.workers.iter().map(|worker| &**worker.seat));
        while self.retained.len() > self.handoff.retired() {
            self.retired_bytes -= self.retained.pop_front().unwrap_or_default();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.audit.close();
    }
}

/// A worker's view of the current generation. It can be sent to another thread, but not shared between threads.
#[derive(Debug)]
pub struct Reader {
    handoff: HandoffReader<Arc<Generation>>,
}

impl Reader {
    /// The generation for one burst of packets. Call it once per burst, even for an empty one.
    #[inline]
    pub fn burst(&mut self) -> &Generation {
        self.handoff.look()
    }

    /// Drops the generation, so that a sleeping worker holds no memory.
    pub fn idle(&mut self) {
        self.handoff.idle();
    }
}
