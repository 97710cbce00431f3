//! Who frees a generation: watched, because a worker that frees a trie loses packets meanwhile.

use std::sync::{Mutex, PoisonError};

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, this_thread};

/// Shared by a publisher and the generations that it published.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Thread that published or collected last; 0 before the first time.
    publisher: AtomicUsize,
    /// The publisher is gone: whoever holds a generation may free it.
    closed: AtomicBool,
    foreign: AtomicU64,
    /// The same by thread; written by what must never happen.
    by_thread: Mutex<Vec<(usize, u64)>>,
}

impl Audit {
    pub(crate) fn new() -> Audit {
        Audit {
            publisher: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            foreign: AtomicU64::new(0),
            by_thread: Mutex::new(Vec::new()),
        }
    }

    /// Says that the calling thread is the publisher's.
    pub(crate) fn enter(&self) {
        self.publisher.store(this_thread(), Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Called by the destructor of a published generation.
    pub(crate) fn dropped(&self) {
        let here = this_thread();
        if self.closed.load(Ordering::Relaxed) || self.publisher.load(Ordering::Relaxed) == here {
            return;
        }
        self.foreign.fetch_add(1, Ordering::Relaxed);
        let mut by_thread = self.by_thread.lock().unwrap_or_else(PoisonError::into_inner);
        match by_thread.iter_mut().find(|(thread, _)| *thread == here) {
            Some((_, count)) => *count += 1,
            None => by_thread.push((here, 1)),
        }
        drop(by_thread);
        debug_assert!(std::thread::panicking(), "a generation was freed off its publisher's thread");
    }

    /// Generations that another thread than the publisher's freed.
    pub(crate) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Of them, those that this thread freed.
    pub(crate) fn foreign_of(&self, thread: usize) -> u64 {
        let by_thread = self.by_thread.lock().unwrap_or_else(PoisonError::into_inner);
        by_thread.iter().filter(|(of, _)| *of == thread).map(|(_, count)| count).sum()
    }
}
