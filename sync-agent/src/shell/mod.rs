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

mod context;
mod links;
mod sessions;
mod state;
mod stream;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_daemon::budgets::Budgets;
use fibcast_daemon::listener::{ACCEPT_TURN, Accepted, Acceptor, Counters};
pub use fibcast_daemon::sections::Limits;
use fibcast_sync_proto::node::{Node, NodeRole};
use fibcast_sync_proto::server;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use context::{Clock, Context};
pub use context::{Host, ShellWaker};
use links::Links;
use sessions::Sessions;
pub use state::{ClientLinks, Peer, Refusals, ShellState, Wire};
use tls::Security;

/// Interval of warnings about certificates that expire.
const EXPIRY_WARNINGS: Duration = Duration::from_secs(24 * 3600);
const WAKER: Token = Token(0);

/// The limits of a node's sessions.
pub fn session_limits(budgets: &Budgets) -> server::Limits {
    server::Limits {
        held: budgets.clients_bytes,
        views: budgets.views_bytes,
        progress: Duration::from_millis(budgets.progress_ms),
        ..server::Limits::default()
    }
}

/// Why a shell cannot be set up or ended.
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

#[derive(Debug)]
struct Listener {
    token: Token,
    socket: TcpListener,
    /// Connections may be waiting.
    waiting: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Shell {
    poll: Poll,
    waker: ShellWaker,
    clock: Clock,
    listeners: Vec<Listener>,
    acceptor: Acceptor,
    sessions: Sessions,
    links: Links,
    state: ShellState,
    next_token: usize,
    security: Option<Arc<Security>>,
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
        let counters = Counters::named("sync");
        let waker = ShellWaker(Arc::new(Waker::new(poll.registry(), WAKER)?));
        if let Some(security) = &security {
            security.add_waker(waker.clone());
        }
        Ok(Self {
            poll,
            links: Links::new(waker.clone(), security.clone()),
            waker,
            clock: Clock(Instant::now()),
            listeners: Vec::new(),
            acceptor: Acceptor::new(counters.clone()),
            sessions: Sessions::new(name, limits, security.clone(), counters),
            security,
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
        self.listeners.push(Listener { token, socket, waiting: true });
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
    pub fn run<R: NodeRole, H: Host<R>>(
        &mut self,
        node: &mut Node<R>,
        host: &mut H,
        stop: &AtomicBool,
    ) -> Result<(), ShellError> {
        let mut events = Events::with_capacity(256);
        let Self { poll, listeners, acceptor, sessions, links, state, clock, next_token, security, .. } =
            self;
        let mut warn_at = Duration::ZERO;
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
            let short = accept(listeners, acceptor, sessions, &mut context);
            sessions.judge(&mut context);
            links.judge(&mut context);
            sessions.read(&mut context);
            // Only now: what new ones have sent with their connection is read.
            if short && sessions.make_room() {
                acceptor.relieved();
            }
            links.act(&mut context);
            links.read(&mut context);
            links.act(&mut context);

            if clock.now() >= warn_at
                && let Some(security) = &security
            {
                security.warn_of_expiry();
                warn_at = clock.now() + EXPIRY_WARNINGS;
            }

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
            wait = Some(timeout(listeners, acceptor, sessions, links, &context, wake_at));
        }
        Ok(())
    }
}

/// How long the loop may sleep.
fn timeout<R: NodeRole, H>(
    listeners: &[Listener],
    acceptor: &Acceptor,
    sessions: &Sessions,
    links: &Links,
    context: &Context<'_, R, H>,
    wake_at: Option<Duration>,
) -> Duration {
    let now = context.clock.now();
    let accepting = listeners.iter().any(|l| l.waiting);
    let paused = acceptor.paused_until(now).filter(|_| accepting);
    let node = &*context.node;
    let busy =
        sessions.has_work(node) || sessions.wants_write(node) || links.has_work() || links.wants_write(node);
    if busy || (accepting && paused.is_none()) {
        return Duration::ZERO;
    }
    let due = [wake_at, node.next_timeout(), sessions.due(), paused].into_iter().flatten().min();
    let longest = Duration::from_secs(1);
    let wait = match due {
        None => longest,
        Some(due) if due <= now => Duration::ZERO,
        // Rounded up, or the loop would spin in the last millisecond.
        Some(due) => due - now + Duration::from_micros(500),
    };
    wait.min(longest)
}

/// Accepts some of the waiting connections. True if the system has no file descriptor left for others: half-open ones have to make room.
fn accept<R: NodeRole, H>(
    listeners: &mut [Listener],
    acceptor: &mut Acceptor,
    sessions: &mut Sessions,
    context: &mut Context<'_, R, H>,
) -> bool {
    let now = context.clock.now();
    for listener in listeners.iter_mut().filter(|l| l.waiting) {
        for _ in 0..ACCEPT_TURN {
            if acceptor.paused_until(now).is_some() {
                return false;
            }
            match acceptor.accept(now, || listener.socket.accept()) {
                Accepted::Connection((stream, address)) => {
                    sessions.add(context, stream, address);
                    // It took the last of the reserve.
                    if acceptor.paused_until(now).is_some() {
                        return true;
                    }
                }
                Accepted::Empty => {
                    listener.waiting = false;
                    break;
                }
                Accepted::Later(_) => return true,
            }
        }
    }
    false
}
