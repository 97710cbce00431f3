//! The event loop around the sync machines: sockets, clock, and a waker for other threads.
//!
//! A daemon makes a [`Shell`], opens its listeners, adds its clients, and gives [`Shell::run`] a [`Host`], which owns the
//! tables. The loop calls the host on its own thread only:
//!
//! 1. sockets are read, in portions, so that no peer delays another; client machines write the host's tables
//!    ([`Host::client_table`]) and their events go to [`Host::client_event`];
//! 2. [`Host::turn`] runs once per turn: take commands from channels, commit to tables, say whether something changed;
//! 3. sessions get what changed, and sockets are written.
//!
//! Other threads send commands through a channel of the host's and call [`ShellWaker::wake`].

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

use fibcast_sync_proto::Table;
use fibcast_sync_proto::client::{Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::server::{Server, SessionId, Tables};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

pub use gate::{Limits, Refusals};
use links::Links;
pub use links::{ClientId, ClientSlot, Wire};
use sessions::Sessions;
use tls::Security;

/// Bytes read from one server before the next one has its turn: about 10 ms of decoding.
const READ_BUDGET: usize = 64 * 1024;
/// Bytes read from all clients in one turn.
const READ_TURN: usize = 1024 * 1024;
/// Bytes written to one socket before the next one has its turn.
const WRITE_BUDGET: usize = 256 * 1024;
/// Bytes written to all clients in one turn: some milliseconds of the system's work.
const WRITE_TURN: usize = 8 * 1024 * 1024;
/// Connections accepted in one turn.
const ACCEPT_TURN: usize = 64;
/// After the system had no file descriptor left, accepting begins again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Names whose session's end is remembered for status.
const ENDED: usize = 256;
const WAKER: Token = Token(0);

/// What the loop serves and feeds. Its tables are lent by name through [`Tables`].
pub trait Host: Tables {
    /// The table that a client's servers fill.
    fn client_table(&mut self, client: ClientId) -> &mut Table;

    /// Something happened to a client: a commit, another server in use, a connection lost.
    fn client_event(&mut self, now: Duration, client: ClientId, event: &ClientEvent, state: &ShellState);

    /// Once per turn of the loop, after all input: take commands, commit, look at timers.
    fn turn(&mut self, now: Duration, state: &ShellState) -> Turn;

    /// Clients to open or to close, asked for after each turn until there are none.
    fn client_request(&mut self) -> Option<ClientRequest> {
        None
    }
}

/// What a host whose clients come and go wants of the loop.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "made a few times in a server's life")]
pub enum ClientRequest {
    /// A new client, in the next place or in that of an earlier one, whose connections end.
    Open {
        /// Its place.
        client: ClientId,
        /// What it is.
        config: ClientConfig,
        /// One address for each server of the configuration.
        addresses: Vec<String>,
    },
    /// The client's connections end; its place stays, without a server.
    Close(ClientId),
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    /// A served table has a new commit.
    pub changed: bool,
    /// Readiness or path of a served table changed: clients are told at once.
    pub announce: bool,
    /// Call again at this time at the latest.
    pub wake_at: Option<Duration>,
}

/// The machines, for status and for decisions of the host.
#[derive(Debug)]
pub struct ShellState {
    /// The server's side, with all its sessions.
    pub server: Server,
    /// The other ends of sessions.
    pub peers: HashMap<SessionId, Peer>,
    /// Why the last session of a client, by name, ended.
    pub ended: HashMap<String, String>,
    /// Connections that were not let in.
    pub refusals: Refusals,
    /// The clients, in the order in which they were added.
    pub clients: Vec<ClientSlot>,
}

/// The other end of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Names in its certificate; empty on plain TCP.
    pub names: Vec<String>,
    /// What it calls itself, once it has registered.
    pub name: String,
    /// Bytes received, those of TLS included.
    pub received: u64,
    /// Bytes sent, those of TLS included.
    pub sent: u64,
    /// Why its session before this one ended.
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
    /// Remembers for status why a session ended.
    fn note_end(&mut self, id: SessionId, reason: &str) {
        let Some(peer) = self.peers.get(&id).filter(|p| !p.name.is_empty()) else { return };
        if self.ended.len() >= ENDED && !self.ended.contains_key(&peer.name) {
            self.ended.clear();
        }
        self.ended.insert(peer.name.clone(), reason.to_owned());
    }

    /// Takes a session from the machine without a word.
    fn end(&mut self, id: SessionId, reason: &str) {
        self.note_end(id, reason);
        self.server.close(id);
        self.peers.remove(&id);
    }
}

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

/// Wakes the loop from any thread.
#[derive(Debug, Clone)]
pub struct ShellWaker(Arc<Waker>);

impl ShellWaker {
    /// Makes the loop take a turn soon.
    pub fn wake(&self) {
        // The loop polls with a timeout, so that a wake that the system refuses only costs time.
        let _ = self.0.wake();
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
    started: Instant,
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
            started: Instant::now(),
            listeners: Vec::new(),
            sessions: Sessions::new(name, limits, security),
            state: ShellState {
                server: Server::new(name),
                peers: HashMap::new(),
                ended: HashMap::new(),
                refusals: Refusals::default(),
                clients: Vec::new(),
            },
            next_token: 1,
        })
    }

    /// For other threads.
    pub fn waker(&self) -> ShellWaker {
        self.waker.clone()
    }

    /// Time since the loop was made: the `now` of all calls.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The machines.
    pub fn state(&self) -> &ShellState {
        &self.state
    }

    /// Serves the host's tables at an address. Gives the address in use, which matters for port 0.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, ShellError> {
        let failed = |source| ShellError::Listen { address, source };
        let mut socket = stream::listen(address).map_err(failed)?;
        let token = self.token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE).map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        self.listeners.push(Listener { token, socket, waiting: true, from: Duration::ZERO });
        Ok(bound)
    }

    /// Second handles to all listeners, for who has to close them while the loop stands still.
    pub fn listeners(&self) -> Vec<std::os::fd::OwnedFd> {
        self.listeners.iter().filter_map(|l| l.socket.as_fd().try_clone_to_owned().ok()).collect()
    }

    /// Adds a client; one address (`host:port`) per server of its configuration.
    pub fn add_client(&mut self, config: ClientConfig, addresses: Vec<String>) -> ClientId {
        let machine = Client::new(config, self.now());
        self.state.clients.push(ClientSlot::new(machine, addresses));
        self.state.clients.len() - 1
    }

    fn change_client(&mut self, request: ClientRequest) {
        let (client, config, addresses) = match request {
            ClientRequest::Open { client, config, addresses } => (client, config, addresses),
            ClientRequest::Close(client) => (client, ClientConfig::new("", "", Vec::new()), Vec::new()),
        };
        if client >= self.state.clients.len() {
            self.add_client(config, addresses);
            return;
        }
        self.links.drop_client(client);
        let machine = Client::new(config, self.now());
        if let Some(slot) = self.state.clients.get_mut(client) {
            slot.replace(machine, addresses);
        }
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    /// Runs until `stop` is set (and the waker woken).
    pub fn run<H: Host>(&mut self, host: &mut H, stop: &AtomicBool) -> Result<(), ShellError> {
        let mut events = Events::with_capacity(256);
        let mut wake_at = None;
        // What the machines have wanted since they were made: nothing else would wake the loop for it.
        let registry = self.poll.registry();
        self.links.act(self.started, registry, &mut self.state, host, &mut self.next_token);
        while !stop.load(Ordering::Acquire) {
            let timeout = self.timeout(wake_at);
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let token = event.token();
                if let Some(listener) = self.listeners.iter_mut().find(|l| l.token == token) {
                    listener.waiting = true;
                } else if !self.sessions.mark(token, event.is_readable(), event.is_writable()) {
                    self.links.mark(token, event.is_readable() || event.is_error(), event.is_writable());
                }
            }
            self.accept();
            self.sessions.read(self.started, &mut self.state, host);
            let registry = self.poll.registry();
            self.links.act(self.started, registry, &mut self.state, host, &mut self.next_token);
            self.links.read(self.started, registry, &mut self.state, host, &mut self.next_token);

            // Timers come after input: bytes that wait in a socket are a sign of life.
            let now = self.now();
            if self.state.server.poll_timeout().is_some_and(|due| due <= now) {
                self.state.server.handle_timeout(now, &*host);
            }
            self.links.timers(now, registry, &mut self.state, host, &mut self.next_token);

            let turn = host.turn(now, &self.state);
            wake_at = turn.wake_at;
            let mut clients_changed = false;
            while let Some(request) = host.client_request() {
                self.change_client(request);
                clients_changed = true;
            }
            if clients_changed {
                let registry = self.poll.registry();
                self.links.act(self.started, registry, &mut self.state, host, &mut self.next_token);
            }
            if turn.announce {
                self.state.server.announce(&*host);
            }
            if turn.changed {
                self.state.server.pump(&*host);
            }
            self.sessions.write(self.now(), &mut self.state, host);
            self.links.write(&mut self.state);
            self.sessions.reap(self.now(), &mut self.state);
        }
        Ok(())
    }

    fn timeout(&self, wake_at: Option<Duration>) -> Option<Duration> {
        let now = self.now();
        let accepting = self.listeners.iter().filter(|l| l.waiting);
        let (open, paused): (Vec<&Listener>, Vec<&Listener>) = accepting.partition(|l| l.from <= now);
        let busy = self.sessions.has_work()
            || self.sessions.wants_write(&self.state)
            || self.links.has_work()
            || self.links.wants_write(&self.state);
        if busy || !open.is_empty() {
            return Some(Duration::ZERO);
        }
        let clients = self.state.clients.iter().filter_map(|c| c.machine.poll_timeout()).min();
        let again = paused.iter().map(|l| l.from).min();
        let due = [wake_at, clients, self.state.server.poll_timeout(), self.sessions.due(), again];
        let due = due.into_iter().flatten().min();
        let longest = Duration::from_secs(1);
        // A fraction is rounded up, or the loop would spin for the last millisecond.
        let wait = due.map_or(longest, |due| due.saturating_sub(now) + Duration::from_micros(500));
        Some(wait.min(longest))
    }

    /// Takes some of the connections that wait.
    fn accept(&mut self) {
        let now = self.started.elapsed();
        let registry = self.poll.registry();
        for listener in self.listeners.iter_mut().filter(|l| l.waiting && l.from <= now) {
            for _ in 0..ACCEPT_TURN {
                match listener.socket.accept() {
                    Ok((stream, address)) => {
                        let token = Token(self.next_token);
                        self.next_token += 1;
                        self.sessions.add(now, registry, token, stream, address, &mut self.state);
                    }
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
}
