//! Primitives of the hand-off. Its model (`tests/loom/`) compiles the same hand-off and audit with other types of these names.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(crate) use crossbeam_utils::CachePadded;

/// The pointer to the current value, which workers read.
pub(crate) type Swap<T> = arc_swap::ArcSwap<T>;

/// A worker's cached copy of that pointer; touches the reference count only if the pointer changed.
pub(crate) type Cached<T> = arc_swap::Cache<Arc<Swap<T>>, Arc<T>>;

/// A number that no other living thread has: the address of a thread-local variable.
pub(crate) fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
