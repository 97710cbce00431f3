//! Who frees a generation: watched, because a worker that frees a trie loses packets meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Shared by a publisher and the generations that it published.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Thread that published or collected last; 0 before the first time.
    publisher: AtomicUsize,
    /// The publisher is gone: whoever holds a generation may free it.
    closed: AtomicBool,
    foreign: AtomicU64,
}

impl Audit {
    /// Says that the calling thread is the publisher's.
    pub(crate) fn enter(&self) {
        self.publisher.store(this_thread(), Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Called by the destructor of a published generation.
    pub(crate) fn dropped(&self) {
        if self.closed.load(Ordering::Relaxed) || self.publisher.load(Ordering::Relaxed) == this_thread() {
            return;
        }
        self.foreign.fetch_add(1, Ordering::Relaxed);
        debug_assert!(std::thread::panicking(), "a generation was freed off its publisher's thread");
    }

    pub(crate) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }
}

/// A number that no other living thread has: the address of something that each thread has its own of.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
