//! Checks which thread frees a generation: a worker that frees a trie loses packets in the meantime.

use std::sync::{Mutex, PoisonError};

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, this_thread};

/// Shared by a publisher and the generations that it published.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Thread that published or collected last; 0 before the first time.
    publisher: AtomicUsize,
    /// The publisher is gone: any thread that holds a generation may free it.
    closed: AtomicBool,
    foreign: AtomicU64,
    /// The same by thread. Always zero in a correct program.
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

    /// Records the calling thread as the publisher's.
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

    /// Generations that were freed by a thread other than the publisher's.
    pub(crate) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Of those, the ones freed by this thread.
    pub(crate) fn foreign_of(&self, thread: usize) -> u64 {
        let by_thread = self.by_thread.lock().unwrap_or_else(PoisonError::into_inner);
        by_thread.iter().filter(|(of, _)| *of == thread).map(|(_, count)| count).sum()
    }
}
