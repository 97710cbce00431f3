//! Looks after the agent: a thread of its own that starts another where the agent's is stalled. One that panics starts again by itself.
//!
//! What the old thread was about to give to the control side must not come after the new one's table: each agent's sink has a [`Term`], which is
//! over when the next agent begins. Forwarding goes on all the while with the table as it was, and the new agent's first batch holds the
//! whole table, of which the control side takes the difference.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_sync_agent::agent::AgentHandle;

/// An agent whose loop made no turn for so long is stalled; it makes one in a second at least.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Before another try to start an agent.
const RETRY: Duration = Duration::from_secs(1);

/// Which agent may change the table.
#[derive(Debug, Clone, Default)]
pub struct Term {
    current: Arc<Mutex<u64>>,
    own: u64,
}

impl Term {
    /// The next agent's; those before are over.
    pub fn next(&self) -> Term {
        let mut current = self.lock();
        *current += 1;
        Term { current: self.current.clone(), own: *current }
    }

    /// Does something that only the current agent may do, and that no other can begin meanwhile; none where the term is over.
    pub fn within<A>(&self, work: impl FnOnce() -> A) -> Option<A> {
        let current = self.lock();
        (*current == self.own).then(work)
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent in charge and the thread that looks after it; dropping it ends both.
#[derive(Debug)]
pub struct AgentGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    agent: Mutex<Arc<AgentHandle>>,
    /// Of agents that were given up: their own count of starts, and one for each.
    restarts: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn agent(&self) -> MutexGuard<'_, Arc<AgentHandle>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentGuard {
    /// Starts an agent by `make`, which is called again for each that has to take its place.
    pub fn start<E: std::fmt::Display + From<io::Error>>(
        mut make: impl FnMut() -> Result<AgentHandle, E> + Send + 'static,
        patience: Duration,
    ) -> Result<AgentGuard, E> {
        let shared = Arc::new(Shared {
            agent: Mutex::new(Arc::new(make()?)),
            restarts: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("agent-guard".into()).spawn({
            let shared = shared.clone();
            move || watch(&shared, &mut make, patience)
        })?;
        Ok(AgentGuard { shared, thread: Some(thread) })
    }

    /// The agent in charge.
    pub fn agent(&self) -> Arc<AgentHandle> {
        self.shared.agent().clone()
    }

    /// Times that an agent's thread had to be started again.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed) + self.agent().panics()
    }
}

impl Drop for AgentGuard {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch<E: std::fmt::Display>(
    shared: &Shared,
    make: &mut impl FnMut() -> Result<AgentHandle, E>,
    patience: Duration,
) {
    let (mut beats, mut since) = (0, Instant::now());
    while !shared.stop.load(Ordering::Acquire) {
        std::thread::sleep(LOOK);
        let agent = shared.agent().clone();
        let now = agent.beats();
        if now != beats {
            (beats, since) = (now, Instant::now());
            continue;
        }
        if since.elapsed() < patience {
            continue;
        }
        tracing::error!(
            "the agent's thread is stalled for {} ms; another one replaces it",
            since.elapsed().as_millis()
        );
        agent.abandon();
        match make() {
            Ok(next) => {
                shared.restarts.fetch_add(1 + agent.panics(), Ordering::Relaxed);
                *shared.agent() = Arc::new(next);
                (beats, since) = (0, Instant::now());
            }
            Err(error) => {
                tracing::error!("another agent cannot start: {error}; trying again");
                std::thread::sleep(RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_over_when_the_next_begins() {
        let first = Term::default().next();
        assert_eq!(first.within(|| 1), Some(1));
        let second = first.next();
        assert_eq!((first.within(|| 1), second.within(|| 2)), (None, Some(2)));
    }
}
