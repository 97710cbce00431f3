//! Supervises the agent: a thread that starts another agent if the current one is stalled. An agent that panics is restarted in the same
//! way.
//!
//! What the old thread was about to give to the control side must not arrive after the new agent's table. So each agent's sink has a
//! [`FencingToken`], which becomes void when the next agent starts. Forwarding continues with the table as it is, and the first batch of
//! the new agent holds the whole table, of which the control side applies the difference.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_daemon::threads::{self, Heartbeat, Patience, Task};
use fibcast_sync_agent::agent::AgentHandle;

/// An agent whose event loop made no turn for this long is stalled. A healthy one makes at least one turn per second.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between two checks.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before the next attempt to start an agent.
const RETRY: Duration = Duration::from_secs(1);

/// Fencing token: decides which agent may change the table.
#[derive(Debug, Clone, Default)]
pub struct FencingToken {
    current: Arc<Mutex<u64>>,
    own: u64,
}

impl FencingToken {
    /// Issues the next agent's token, which makes all earlier ones void.
    pub fn next(&self) -> FencingToken {
        let mut current = self.lock();
        *current += 1;
        FencingToken { current: self.current.clone(), own: *current }
    }

    /// Runs `work` if this token is the current one, and prevents a new token in the meantime; `None` if the token is void.
    pub fn within<A>(&self, work: impl FnOnce() -> A) -> Option<A> {
        let current = self.lock();
        (*current == self.own).then(work)
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current agent and its supervisor thread. Dropping it ends both.
#[derive(Debug)]
pub struct AgentGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    agent: Mutex<Arc<AgentHandle>>,
    /// Of abandoned agents: their own restart counts, plus one for each.
    restarts: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn agent(&self) -> MutexGuard<'_, Arc<AgentHandle>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentGuard {
    /// Starts an agent by `make`, which is called again for each replacement.
    ///
    /// # Errors
    /// The error of `make`, if the first agent cannot start, or of the system, if it cannot create the supervisor thread.
    pub fn start<E: std::fmt::Display + From<io::Error>>(
        mut make: impl FnMut() -> Result<AgentHandle, E> + Send + 'static,
        timeout: Duration,
    ) -> Result<AgentGuard, E> {
        let shared = Arc::new(Shared {
            agent: Mutex::new(Arc::new(make()?)),
            restarts: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (thread, _) = threads::spawn(Task::essential("agent-guard"), {
            let shared = shared.clone();
            move |heartbeat| watch(&shared, &mut make, timeout, heartbeat)
        })?;
        Ok(AgentGuard { shared, thread: Some(thread) })
    }

    /// The current agent.
    pub fn agent(&self) -> Arc<AgentHandle> {
        self.shared.agent().clone()
    }

    /// Times that an agent was restarted or replaced.
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
    timeout: Duration,
    heartbeat: &Heartbeat,
) {
    let mut patience = Patience::new(Instant::now());
    while !shared.stop.load(Ordering::Acquire) {
        std::thread::sleep(LOOK);
        let now = Instant::now();
        heartbeat.beat_at(now);
        patience.look(now);
        let agent = shared.agent().clone();
        let silent = patience.counted(agent.pulse().age());
        if silent < timeout {
            continue;
        }
        tracing::error!("the agent's thread has been stalled for {} ms; replacing it", silent.as_millis());
        agent.abandon();
        match make() {
            Ok(next) => {
                shared.restarts.fetch_add(1 + agent.panics(), Ordering::Relaxed);
                *shared.agent() = Arc::new(next);
            }
            Err(error) => {
                tracing::error!("cannot start a new agent: {error}; retrying");
                std::thread::sleep(RETRY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_void_once_the_next_is_issued() {
        let first = FencingToken::default().next();
        assert_eq!(first.within(|| 1), Some(1));
        let second = first.next();
        assert_eq!((first.within(|| 1), second.within(|| 2)), (None, Some(2)));
    }
}
