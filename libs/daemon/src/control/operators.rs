//! The places of operators, and their connections.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::listener::{Admission, Bounds, Counters, Source};

/// Most operators at a time. Those who wait for a change (`fibcast kv watch`) keep their place.
pub(super) const PLACES: usize = 64;
/// Time for one of them to get its answer, when all wait for theirs.
const EVICTION_WAIT: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Operators {
    inner: Mutex<Inner>,
    /// A place became free, or its operator idles.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    admission: Admission<u64>,
    /// Connections whose thread has not ended, also those that lost their place.
    streams: HashMap<u64, Arc<UnixStream>>,
    next: u64,
}

impl Operators {
    pub fn new(counters: Arc<Counters>) -> Arc<Self> {
        let bounds = Bounds { connections: PLACES, per_address: PLACES, half_open: PLACES };
        let admission = Admission::new(bounds, counters);
        let inner = Inner { admission, streams: HashMap::new(), next: 0 };
        Arc::new(Self { inner: Mutex::new(inner), changed: Condvar::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an operator a place, for which one that idles may lose its own. Waits a little if there is none.
    ///
    /// # Errors
    /// The text for the operator, if each of the others waits for an answer.
    pub fn enter(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Result<Place, String> {
        let full =
            |inner: &mut Inner| inner.streams.len() >= 2 * PLACES || inner.admission.is_full(Source::Local);
        let waited = self.changed.wait_timeout_while(self.inner(), EVICTION_WAIT, full);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let id = inner.next;
        inner.next += 1;
        // Threads that were told to end may be late.
        if inner.streams.len() >= 2 * PLACES {
            return Err("too many operators at once; try again".into());
        }
        let victim = inner.admission.enter(id, Source::Local).map_err(|_| {
            format!("{PLACES} operators wait for an answer already: does a thread of this daemon hang?")
        })?;
        inner.hang_up(victim);
        inner.streams.insert(id, stream.clone());
        Ok(Place { operators: self.clone(), id })
    }

    /// Hangs up the connection that idles longest; false if none idles.
    pub fn make_room(&self) -> bool {
        let mut inner = self.inner();
        let victim = inner.admission.evict();
        inner.hang_up(victim);
        victim.is_some()
    }

    /// Closes all connections, and waits for their threads. False if one has not ended within `time`.
    pub fn end(&self, time: Duration) -> bool {
        let inner = self.inner();
        for stream in inner.streams.values() {
            // An answer that is being written is still written; the next request is not read.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let waited = self.changed.wait_timeout_while(inner, time, |inner| !inner.streams.is_empty());
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.streams.is_empty()
    }
}

impl Inner {
    fn hang_up(&self, id: Option<u64>) {
        if let Some(stream) = id.and_then(|id| self.streams.get(&id)) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The place of an operator, returned also after a panic.
#[derive(Debug)]
pub(super) struct Place {
    operators: Arc<Operators>,
    id: u64,
}

impl Place {
    /// The operator has asked, and keeps its place until it has its answer. False if it lost its place before.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.operators.inner().admission.establish(self.id)
    }

    /// The operator's answer is there to be taken: it gives way to others from now on.
    pub fn idles(&self) {
        self.operators.inner().admission.renew(self.id);
        self.operators.changed.notify_all();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.operators.inner();
        inner.admission.leave(self.id);
        inner.streams.remove(&self.id);
        self.operators.changed.notify_all();
    }
}
