//! What the parts of the loop work with: clock, waker, node, and what the daemon adds to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::ClientEvent;
use fibcast_sync_proto::node::{ClientId, Node, NodeRole};
use mio::{Registry, Token, Waker};

use super::state::ShellState;

/// What a daemon adds to its node: input from and output to others than peers.
pub trait Host<R: NodeRole> {
    /// Something happened to a client of the node, whose role has heard it.
    fn client_event(&mut self, _now: Duration, _node: &mut Node<R>, _client: ClientId, _event: &ClientEvent) {
    }

    /// Once per turn of the loop, after sockets and timers and before the node advances.
    fn input(&mut self, _now: Duration, _node: &mut Node<R>, _state: &ShellState) {}

    /// Once per turn, after the node has advanced. The loop comes back at the time that it gives, or earlier.
    fn output(&mut self, _now: Duration, _node: &mut Node<R>) -> Option<Duration> {
        None
    }
}

/// For nodes that have nothing to do with others than peers.
impl<R: NodeRole> Host<R> for () {}

/// Wakes the loop from any thread.
#[derive(Debug, Clone)]
pub struct ShellWaker(pub(super) Arc<Waker>);

impl ShellWaker {
    /// Whether anybody else has this waker: the loop, as long as it exists.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Makes the loop take a turn soon.
    pub fn wake(&self) {
        // The loop polls with a timeout, so that a wake that the system refuses only costs time.
        let _ = self.0.wake();
    }
}

/// The loop's clock: time since it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// What the parts of the loop work with.
pub(super) struct Context<'l, R, H> {
    pub clock: Clock,
    pub registry: &'l Registry,
    pub next_token: &'l mut usize,
    pub state: &'l mut ShellState,
    pub node: &'l mut Node<R>,
    pub host: &'l mut H,
}

impl<R, H> Context<'_, R, H> {
    pub fn token(&mut self) -> Token {
        let token = Token(*self.next_token);
        *self.next_token += 1;
        token
    }
}
