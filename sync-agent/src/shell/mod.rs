//! The event loop around a [`Node`]: sockets, clock, and a waker for other threads.
//!
//! A daemon makes a [`Shell`], opens its listeners, says where the node's servers are, and gives [`Shell::run`] the node and a [`Host`].
//! The loop calls both on its own thread only:
//!
//! 1. sockets are read, in portions, so that no peer delays another, and timers that are due come after that; what happens to the
//!    node's clients goes to [`Host::client_event`] at once;
//! 2. [`Host::input`] gives the node what came from elsewhere: commands, routes of sources;
//! 3. the node advances, then [`Host::output`] takes what it has for others than peers: batches for a sink;
//! 4. sockets are written.
//!
//! Other threads send commands through a channel of the host's and call [`ShellWaker::wake`].

mod context;
mod gate;
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

use fibcast_sync_proto::node::{Node, Role};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use context::{Clock, Context};
pub use context::{Host, ShellWaker};
pub use gate::{Limits, Refusals};
use links::Links;
use sessions::Sessions;
pub use state::{ClientLinks, Peer, ShellState, Wire};
use tls::Security;

/// Connections accepted in one turn.
const ACCEPT_TURN: usize = 64;
/// After the system had no file descriptor left, accepting begins again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
const WAKER: Token = Token(0);

/// Why a shell cannot be set up or ended.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A listening address cannot be used.
    #[error("listen {address}: {}", reason(source))]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a poll.
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
    /// Not before this: the system had no file descriptor left.
    from: Duration,
}

/// See the module's documentation.
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
    /// A loop for the node of this name, on plain TCP with the usual limits.
    pub fn new(name: &str) -> Result<Self, ShellError> {
        Self::secure(name, Limits::default(), None)
    }

    /// A loop for the node of this name.
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

    /// For other threads.
    pub fn waker(&self) -> ShellWaker {
        self.waker.clone()
    }

    /// Time since the loop was made: the `now` of all calls.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Where the node's servers are, as `host:port`, by their index.
    pub fn set_servers(&mut self, addresses: Vec<String>) {
        self.links.set_servers(addresses);
    }

    /// Serves the node's tables at an address. Gives the address in use, which matters for port 0.
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

    /// Second handles to all listeners, for who has to close them while the loop stands still.
    pub fn listeners(&self) -> Vec<std::os::fd::OwnedFd> {
        self.listeners.iter().filter_map(|l| l.socket.as_fd().try_clone_to_owned().ok()).collect()
    }

    /// Runs until `stop` is set (and the waker woken).
    pub fn run<R: Role, H: Host<R>>(
        &mut self,
        node: &mut Node<R>,
        host: &mut H,
        stop: &AtomicBool,
    ) -> Result<(), ShellError> {
        let mut events = Events::with_capacity(256);
        let Self { poll, listeners, sessions, links, state, clock, next_token, .. } = self;
        // A first turn at once: what the node has wanted since it was made would wake nobody.
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

            // Timers come after input: bytes that wait in a socket are a sign of life.
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
        // A fraction is rounded up, or the loop would spin for the last millisecond.
        Some(due) => due - now + Duration::from_micros(500),
    };
    wait.min(longest)
}

/// Takes some of the connections that wait.
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
                // Too many open files, or no memory: those who wait are asked again a little later.
                Err(e) => {
                    tracing::warn!("accept: {e}; again in {} ms", ACCEPT_PAUSE.as_millis());
                    listener.from = now + ACCEPT_PAUSE;
                    break;
                }
            }
        }
    }
}
