//! The hand-off: one thread swaps generations in, workers look once per burst, and only that one thread frees.
//!
//! [`Publisher`] puts a new [`Generation`] in place with one pointer swap and keeps the one before on its retired
//! list. Each worker has a [`Reader`], which caches the pointer and stamps the number of the generation it holds.
//! [`Publisher::collect`] frees a retired generation when every stamp is past it (or idle) *and* no other reference
//! is left (`Arc::get_mut` succeeds), so that its destructor, which may walk a whole trie, runs here and never in a
//! worker. A reader lets go of its reference *before* it moves its stamp; so the last one to hold it is always us.
//!
//! The retired list is bounded. At the bound the publisher does not wait and no worker does: the new generation is
//! kept as pending, in place of one that was pending before, and goes out as soon as a retired one is freed.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::CachePadded;

use crate::audit::Audit;
use crate::generation::Generation;

/// Retired generations that may wait for workers, unless [`Publisher::with_retired_limit`] says otherwise.
pub const RETIRED_LIMIT: usize = 64;

/// The stamp of a reader that holds nothing.
const IDLE: u64 = 0;
/// The stamp of a reader that was dropped.
const GONE: u64 = u64::MAX;

#[derive(Debug)]
struct Published {
    /// Counts publications from 1 on; what the stamps speak of.
    sequence: u64,
    generation: Arc<Generation>,
}

type Current = ArcSwap<Published>;

#[derive(Debug)]
struct Worker {
    name: String,
    stamp: Arc<CachePadded<AtomicU64>>,
}

/// Whether a generation is visible to workers yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// The next burst of each worker uses it.
    Now,
    /// The retired list is full; it goes out with a later [`Publisher::collect`], unless a newer one takes its place.
    Deferred,
}

/// Where a worker was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStamp {
    /// The name it was registered by.
    pub name: String,
    /// Publications behind the newest one; none when it is idle and holds nothing.
    pub behind: Option<u64>,
}

/// What the publisher did and what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// Generations that became visible.
    pub published: u64,
    /// Times that the retired list was full, so that a generation had to wait.
    pub deferred: u64,
    /// Retired generations that a worker may still hold.
    pub retired: usize,
    /// Retired generations that were freed.
    pub freed: u64,
    /// Generations that a worker freed; anything but 0 is a bug.
    pub freed_by_workers: u64,
    /// Serial of the visible generation.
    pub serial: u64,
    /// The workers, by registration.
    pub workers: Vec<WorkerStamp>,
}

/// Publishes generations and frees retired ones. One thread owns it, together with the [`crate::Fib`].
#[derive(Debug)]
pub struct Publisher {
    current: Arc<Current>,
    sequence: u64,
    retired: VecDeque<Arc<Published>>,
    retired_limit: usize,
    pending: Option<Arc<Generation>>,
    workers: Vec<Worker>,
    audit: Arc<Audit>,
    deferred: u64,
    freed: u64,
}

impl Publisher {
    /// Starts with `first` in force.
    pub fn new(first: Arc<Generation>) -> Self {
        let audit = Arc::new(Audit::default());
        audit.enter();
        let _ = first.audit.set(audit.clone());
        Publisher {
            current: Arc::new(ArcSwap::from_pointee(Published { sequence: 1, generation: first })),
            sequence: 1,
            retired: VecDeque::new(),
            retired_limit: RETIRED_LIMIT,
            pending: None,
            workers: Vec::new(),
            audit,
            deferred: 0,
            freed: 0,
        }
    }

    /// Bounds the retired list; at least 1.
    pub fn with_retired_limit(mut self, limit: usize) -> Self {
        self.retired_limit = limit.max(1);
        self
    }

    /// Gives a worker its reader; idle until its first burst.
    pub fn register(&mut self, name: &str) -> Reader {
        let stamp = Arc::new(CachePadded::new(AtomicU64::new(IDLE)));
        self.workers.push(Worker { name: name.to_owned(), stamp: stamp.clone() });
        Reader { current: self.current.clone(), cache: None, stamp, stamped: IDLE, not_sync: PhantomData }
    }

    /// Makes a generation visible to every worker at one instant, and frees what can be freed.
    pub fn publish(&mut self, generation: Arc<Generation>) -> Visibility {
        self.collect();
        if self.retired.len() >= self.retired_limit {
            self.deferred += 1;
            self.pending = Some(generation);
            return Visibility::Deferred;
        }
        self.pending = None;
        self.swap(generation);
        self.collect();
        Visibility::Now
    }

    /// Frees the retired generations that all workers are past; publishes a pending one when there is room.
    /// Call it on a timer too, so that memory is given back when nothing is published.
    pub fn collect(&mut self) {
        self.audit.enter();
        self.workers.retain(|worker| worker.stamp.load(Ordering::Acquire) != GONE);
        self.free();
        if self.retired.len() < self.retired_limit
            && let Some(generation) = self.pending.take()
        {
            self.swap(generation);
            self.free();
        }
    }

    /// What was done, what waits, and where the workers are.
    pub fn stats(&self) -> PublisherStats {
        let stamp = |worker: &Worker| {
            let stamp = worker.stamp.load(Ordering::Acquire);
            let behind = (stamp != IDLE && stamp != GONE).then(|| self.sequence.saturating_sub(stamp));
            WorkerStamp { name: worker.name.clone(), behind }
        };
        PublisherStats {
            published: self.sequence,
            deferred: self.deferred,
            retired: self.retired.len(),
            freed: self.freed,
            freed_by_workers: self.audit.foreign(),
            serial: self.current.load().generation.serial(),
            workers: self.workers.iter().map(stamp).collect(),
        }
    }

    fn swap(&mut self, generation: Arc<Generation>) {
        if Arc::ptr_eq(&self.current.load().generation, &generation) {
            return;
        }
        let _ = generation.audit.set(self.audit.clone());
        self.sequence += 1;
        let next = Arc::new(Published { sequence: self.sequence, generation });
        self.retired.push_back(self.current.swap(next));
    }

    fn free(&mut self) {
        let oldest_held = self
            .workers
            .iter()
            .map(|worker| worker.stamp.load(Ordering::Acquire))
            .filter(|&stamp| stamp != IDLE && stamp != GONE)
            .min()
            .unwrap_or(GONE);
        // Oldest first, and none out of turn: a generation's blocks may be shared with the next.
        while let Some(oldest) = self.retired.front_mut() {
            if oldest.sequence >= oldest_held || Arc::get_mut(oldest).is_none() {
                break;
            }
            self.retired.pop_front();
            self.freed += 1;
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.audit.close();
    }
}

/// A worker's view of the current generation. It may be sent to a thread, not shared between threads.
#[derive(Debug)]
pub struct Reader {
    current: Arc<Current>,
    cache: Option<Cache<Arc<Current>, Arc<Published>>>,
    stamp: Arc<CachePadded<AtomicU64>>,
    stamped: u64,
    not_sync: PhantomData<std::cell::Cell<()>>,
}

impl Reader {
    /// The generation for one burst of packets: call it once per burst, also for an empty one.
    #[inline]
    pub fn burst(&mut self) -> &Generation {
        let cache = self.cache.get_or_insert_with(|| Cache::new(self.current.clone()));
        let published = cache.load();
        if published.sequence != self.stamped {
            // Release: the reference to the generation before is given back by now, and must be seen so.
            self.stamp.store(published.sequence, Ordering::Release);
            self.stamped = published.sequence;
        }
        &published.generation
    }

    /// Lets go of the generation: a worker that sleeps holds no memory.
    pub fn idle(&mut self) {
        if self.cache.take().is_some() {
            self.stamped = IDLE;
            self.stamp.store(IDLE, Ordering::Release);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.cache = None;
        self.stamp.store(GONE, Ordering::Release);
    }
}
