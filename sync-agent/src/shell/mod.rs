//! The event loop around a [`Node`]: sockets, clock, and a waker for other threads.
//!
//! A daemon creates a [`Shell`], opens its listeners, sets the servers' addresses, and passes the node and a [`Host`] to [`Shell::run`].
//! The loop calls both only on its own thread:
//!
//! 1. reads sockets in portions, so that no peer delays another, then handles due timers; client events go to [`Host::client_event`] at
//!    once;
//! 2. [`Host::input`] passes other input to the node: commands, routes of sources;
//! 3. advances the node, then [`Host::output`] takes its output for others than peers: batches for a sink;
//! 4. writes sockets.
//!
//! Other threads send commands through a channel of the host and call [`ShellWaker::wake`].

mod gate;
mod links;
mod sessions;
mod stream;
pub mod tls;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::ClientEvent;
use fibcast_sync_proto::node::{ClientId, Node, Role};
use fibcast_sync_proto::server::SessionId;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

pub use gate::{Limits, Refusals};
use links::Links;
pub use links::{ClientLinks, Wire};
use sessions::Sessions;
use tls::Security;

/// Bytes read from one server before the next one has its turn: about 10 ms of decoding.
const READ_BUDGET: usize = 64 * 1024;
/// Bytes read from all clients in one turn.
const READ_TURN: usize = 1024 * 1024;
/// Bytes written to one socket before the next one has its turn.
const WRITE_BUDGET: usize = 256 * 1024;
/// Bytes written to all clients in one turn: some milliseconds of system time.
const WRITE_TURN: usize = 8 * 1024 * 1024;
/// Connections accepted in one turn.
const ACCEPT_TURN: usize = 64;
/// Pause of accepting after the system ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Clients whose session end is remembered for status.
const ENDED: usize = 256;
const WAKER: Token = Token(0);

/// A daemon's part of the event loop: input and output of its node for others than peers.
pub trait Host<R: Role> {
    /// A client event; the role has handled it.
    fn client_event(&mut self, _now: Duration, _node: &mut Node<R>, _client: ClientId, _event: &ClientEvent) {
    }

    /// Called once per turn, after sockets and timers and before the node advances.
    fn input(&mut self, _now: Duration, _node: &mut Node<R>, _state: &ShellState) {}

    /// Called once per turn, after the node has advanced. The loop calls it again at the returned time, or earlier.
    fn output(&mut self, _now: Duration, _node: &mut Node<R>) -> Option<Duration> {
        None
    }
}

/// For nodes without other input and output.
impl<R: Role> Host<R> for () {}

/// State of connections, for status.
#[derive(Debug, Default)]
pub struct ShellState {
    /// Peers of accepted connections.
    pub peers: HashMap<SessionId, Peer>,
    /// Why the last session of a client ended, by name.
    pub ended: HashMap<String, String>,
    /// Refused connections.
    pub refusals: Refusals,
    /// Connections of each client of the node.
    pub clients: Vec<ClientLinks>,
}

/// The peer of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Remote address.
    pub address: SocketAddr,
    /// Names in its certificate; empty on plain TCP.
    pub names: Vec<String>,
    /// Its node name, once it has registered.
    pub name: String,
    /// Bytes received, including TLS.
    pub received: u64,
    /// Bytes sent, including TLS.
    pub sent: u64,
    /// Why its previous session ended.
    pub last_error: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            names: Vec::new(),
            name: String::new(),
            received: 0,
            sent: 0,
            last_error: None,
        }
    }
}

impl ShellState {
    /// Records why a session ended, for status.
    fn note_end(&mut self, id: SessionId, reason: &str) {
        let Some(peer) = self.peers.get(&id).filter(|p| !p.name.is_empty()) else { return };
        if self.ended.len() >= ENDED && !self.ended.contains_key(&peer.name) {
            self.ended.clear();
        }
        self.ended.insert(peer.name.clone(), reason.to_owned());
    }
}

/// Why an event loop cannot be created, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A listen address cannot be used.
    #[error("listen {address}: {}", reason(source))]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system refused to poll.
    #[error("event loop: {0}")]
    Poll(#[from] io::Error),
}

fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        "another program is already listening there".into()
    } else {
        error.to_string()
    }
}

/// Wakes the loop from any thread.
#[derive(Debug, Clone)]
pub struct ShellWaker(Arc<Waker>);

impl ShellWaker {
    /// Makes the loop take a turn soon.
    pub fn wake(&self) {
        // The loop polls with a timeout, so a failed wake only costs time.
        let _ = self.0.wake();
    }
}

#[derive(Debug)]
struct Listener {
    token: Token,
    socket: TcpListener,
    /// Connections may be waiting.
    waiting: bool,
    /// Pause after the system ran out of file descriptors.
    from: Duration,
}

/// The loop's clock: time since its creation.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// State shared by the parts of the loop.
struct Context<'l, R, H> {
    clock: Clock,
    registry: &'l Registry,
    next_token: &'l mut usize,
    state: &'l mut ShellState,
    node: &'l mut Node<R>,
    host: &'l mut H,
}

impl<R, H> Context<'_, R, H> {
    fn token(&mut self) -> Token {
        let token = Token(*self.next_token);
        *self.next_token += 1;
        token
    }
}

/// The event loop; see the module's documentation.
#[derive(Debug)]
pub struct Shell {
    poll: Poll,
    waker: ShellWaker,
    clock: Clock,
    listeners: Vec<Listener>,
    sessions: Sessions,
    links: Links,
    state: ShellState,
    next_token: usize,
}

impl Shell {
    /// An event loop for the node with this name, with plain TCP and default limits.
    ///
    /// # Errors
    /// [`ShellError::Poll`] if the system refuses.
    pub fn new(name: &str) -> Result<Self, ShellError> {
        Self::secure(name, Limits::default(), None)
    }

    /// An event loop for the node with this name.
    ///
    /// # Errors
    /// [`ShellError::Poll`] if the system refuses.
    pub fn secure(name: &str, limits: Limits, security: Option<Arc<Security>>) -> Result<Self, ShellError> {
        let poll = Poll::new()?;
        let waker = ShellWaker(Arc::new(Waker::new(poll.registry(), WAKER)?));
        Ok(Self {
            poll,
            links: Links::new(waker.clone(), security.clone()),
            waker,
            clock: Clock(Instant::now()),
            listeners: Vec::new(),
            sessions: Sessions::new(name, limits, security),
            state: ShellState::default(),
            next_token: 1,
        })
    }

    /// The waker for other threads.
    pub fn waker(&self) -> ShellWaker {
        self.waker.clone()
    }

    /// Time since the loop was created: the `now` of all calls.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Addresses of the node's servers as `host:port`, by index.
    pub fn set_servers(&mut self, addresses: Vec<String>) {
        self.links.set_servers(addresses);
    }

    /// Serves the node's tables at an address. Returns the address in use, which matters for port 0.
    ///
    /// # Errors
    /// [`ShellError`] if the address cannot be used.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, ShellError> {
        let failed = |source| ShellError::Listen { address, source };
        let mut socket = stream::listen(address).map_err(failed)?;
        let token = Token(self.next_token);
        self.next_token += 1;
        self.poll.registry().register(&mut socket, token, Interest::READABLE).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        self.listeners.push(Listener { token, socket, waiting: true, from: Duration::ZERO });
        Ok(bound)
    }

    /// Duplicate handles to all listeners, to close them while the loop is stalled.
    pub fn listeners(&self) -> Vec<std::os::fd::OwnedFd> {
        self.listeners.iter().filter_map(|l| l.socket.as_fd().try_clone_to_owned().ok()).collect()
    }

    /// Runs until `stop` is set (and the loop woken).
    ///
    /// # Errors
    /// [`ShellError`] if the system refuses to poll.
    pub fn run<R: Role, H: Host<R>>(
        &mut self,
        node: &mut Node<R>,
        host: &mut H,
        stop: &AtomicBool,
    ) -> Result<(), ShellError> {
        let mut events = Events::with_capacity(256);
        let Self { poll, listeners, sessions, links, state, clock, next_token, .. } = self;
        // A first turn at once: nothing would wake the loop for the node's initial requests.
        let mut wait = Some(Duration::ZERO);
        while !stop.load(Ordering::Acquire) {
            match poll.poll(&mut events, wait) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let token = event.token();
                if let Some(listener) = listeners.iter_mut().find(|l| l.token == token) {
                    listener.waiting = true;
                } else if !sessions.mark(token, event.is_readable(), event.is_writable()) {
                    links.mark(token, event.is_readable() || event.is_error(), event.is_writable());
                }
            }
            let mut context =
                Context { clock: *clock, registry: poll.registry(), next_token, state, node, host };
            accept(listeners, sessions, &mut context);
            sessions.read(&mut context);
            links.act(&mut context);
            links.read(&mut context);
            links.act(&mut context);

            // Timers after input: bytes that wait in a socket prove that the peer is alive.
            let now = clock.now();
            context.node.handle_timeout(now);
            links.act(&mut context);
            context.host.input(now, context.node, context.state);
            context.node.advance(now);
            links.act(&mut context);
            let wake_at = context.host.output(now, context.node);

            sessions.write(&mut context);
            links.write(&mut context);
            sessions.reap(&mut context);
            wait = Some(timeout(listeners, sessions, links, &context, wake_at));
        }
        Ok(())
    }
}

/// How long the loop may sleep.
fn timeout<R: Role, H>(
    listeners: &[Listener],
    sessions: &Sessions,
    links: &Links,
    context: &Context<'_, R, H>,
    wake_at: Option<Duration>,
) -> Duration {
    let now = context.clock.now();
    let accepting = listeners.iter().filter(|l| l.waiting);
    let (open, paused): (Vec<&Listener>, Vec<&Listener>) = accepting.partition(|l| l.from <= now);
    let node = &*context.node;
    let busy =
        sessions.has_work(node) || sessions.wants_write(node) || links.has_work() || links.wants_write(node);
    if busy || !open.is_empty() {
        return Duration::ZERO;
    }
    let again = paused.iter().map(|l| l.from).min();
    let due = [wake_at, node.next_timeout(), sessions.due(), again].into_iter().flatten().min();
    let longest = Duration::from_secs(1);
    let wait = match due {
        None => longest,
        Some(due) if due <= now => Duration::ZERO,
        // Rounded up, or the loop would spin in the last millisecond.
        Some(due) => due - now + Duration::from_micros(500),
    };
    wait.min(longest)
}

/// Accepts some of the waiting connections.
fn accept<R: Role, H>(listeners: &mut [Listener], sessions: &mut Sessions, context: &mut Context<'_, R, H>) {
    let now = context.clock.now();
    for listener in listeners.iter_mut().filter(|l| l.waiting && l.from <= now) {
        for _ in 0..ACCEPT_TURN {
            match listener.socket.accept() {
                Ok((stream, address)) => sessions.add(context, stream, address),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    listener.waiting = false;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Out of file descriptors or memory: waiting peers are accepted a little later.
                Err(e) => {
                    tracing::warn!("accept: {e}; retrying in {} ms", ACCEPT_PAUSE.as_millis());
                    listener.from = now + ACCEPT_PAUSE;
                    break;
                }
            }
        }
    }
}
