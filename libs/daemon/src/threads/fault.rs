//! Fault injection, in debug builds alone: the file that `FIBCAST_PANIC` names holds the name of a thread, which panics at its next beat.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use super::Slot;

static FILE: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("FIBCAST_PANIC").map(PathBuf::from));

/// Called by the monitor: reads the file, once.
pub(super) fn look(threads: &[Arc<Slot>]) {
    let Some(path) = &*FILE else { return };
    let Ok(name) = std::fs::read_to_string(path) else { return };
    let _ = std::fs::remove_file(path);
    for thread in threads.iter().filter(|thread| thread.task.name == name.trim()) {
        thread.to_panic.store(true, Ordering::Relaxed);
    }
}

/// Called at each beat.
#[inline]
#[allow(clippy::panic, reason = "that is what it is for")]
pub(super) fn strike(slot: &Slot) {
    if slot.to_panic.load(Ordering::Relaxed) {
        slot.to_panic.store(false, Ordering::Relaxed);
        panic!("asked for by FIBCAST_PANIC");
    }
}
