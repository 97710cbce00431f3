//! What the hand-off is built from. Its model (`tests/loom/`) compiles the same hand-off and audit with other types of these names.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use crossbeam_utils::CachePadded;

/// The place that workers look at, one pointer.
pub(crate) type Swap<T> = arc_swap::ArcSwap<T>;

/// A worker's copy of that pointer: looks whether it has changed, and only then counts.
pub(crate) type Cached<T> = arc_swap::Cache<Arc<Swap<T>>, Arc<T>>;

/// A number that no other living thread has: the address of something that each thread has its own of.
pub(crate) fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
