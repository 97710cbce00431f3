//! What the hand-off is built from, as loom can follow it; the names of `src/sync.rs`.

use std::hash::{DefaultHasher, Hash, Hasher};

use loom::sync::Mutex;

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A pointer that can be swapped: the pointer itself for a cheap look, and what it points to behind a lock.
#[derive(Debug)]
pub(crate) struct Swap<T> {
    version: AtomicUsize,
    value: Mutex<Arc<T>>,
}

impl<T> Swap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Swap { version: AtomicUsize::new(0), value: Mutex::new(Arc::new(value)) }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.value.lock().unwrap().clone()
    }

    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        let mut place = self.value.lock().unwrap();
        self.version.fetch_add(1, Ordering::SeqCst);
        std::mem::replace(&mut place, value)
    }

    fn load_with_version(&self) -> (usize, Arc<T>) {
        let place = self.value.lock().unwrap();
        (self.version.load(Ordering::Relaxed), place.clone())
    }
}

/// A copy that looks whether the pointer has changed, without an ordering, before it takes another.
#[derive(Debug)]
pub(crate) struct Cached<T> {
    of: Arc<Swap<T>>,
    version: usize,
    value: Arc<T>,
}

impl<T> Cached<T> {
    pub(crate) fn new(of: Arc<Swap<T>>) -> Self {
        let (version, value) = of.load_with_version();
        Cached { of, version, value }
    }

    pub(crate) fn load(&mut self) -> &Arc<T> {
        if self.of.version.load(Ordering::Relaxed) != self.version {
            let (version, value) = self.of.load_with_version();
            self.version = version;
            // The one before is given back here.
            self.value = value;
        }
        &self.value
    }
}

pub(crate) fn this_thread() -> usize {
    let mut hasher = DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() as usize
}
