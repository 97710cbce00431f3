//! Accepted connections: bytes between sockets and the server machine.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fibcast_sync_proto::server::{ServerEvent, SessionId};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::socket::{self, Flow};
use super::{Host, READ_BUDGET, ShellState, WRITE_BUDGET};

/// Connections that are open at the same time; further ones are turned away.
const MAX_SESSIONS: usize = 4096;

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    id: SessionId,
    address: SocketAddr,
    readable: bool,
    writable: bool,
    /// The machine ended the session: what is left is sent, then the connection is closed.
    ending: bool,
    closed: Option<String>,
}

/// All accepted connections.
#[derive(Debug)]
pub(super) struct Sessions {
    all: HashMap<Token, Connection>,
    buffer: Vec<u8>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { all: HashMap::new(), buffer: vec![0; 64 * 1024] }
    }
}

impl Sessions {
    pub fn add(
        &mut self,
        now: Duration,
        registry: &Registry,
        token: Token,
        mut stream: TcpStream,
        address: SocketAddr,
        state: &mut ShellState,
    ) {
        if self.all.len() >= MAX_SESSIONS {
            tracing::warn!("{address}: turned away: {MAX_SESSIONS} connections are open");
            return;
        }
        let _ = stream.set_nodelay(true);
        if let Err(e) = registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!("{address}: {e}");
            return;
        }
        let id = state.server.accept(now);
        state.addresses.insert(id, address);
        let connection =
            Connection { stream, id, address, readable: true, writable: true, ending: false, closed: None };
        self.all.insert(token, connection);
    }

    /// Notes what the system says about a socket. False if the token is not of a session.
    pub fn mark(&mut self, token: Token, readable: bool, writable: bool) -> bool {
        let Some(c) = self.all.get_mut(&token) else { return false };
        c.readable |= readable;
        c.writable |= writable;
        true
    }

    pub fn has_work(&self) -> bool {
        self.all.values().any(|c| c.readable)
    }

    pub fn read<H: Host>(&mut self, started: Instant, state: &mut ShellState, host: &mut H) {
        for c in self.all.values_mut().filter(|c| c.readable && c.closed.is_none()) {
            let (server, id) = (&mut state.server, c.id);
            let flow = socket::read(&mut c.stream, &mut self.buffer, READ_BUDGET, |bytes| {
                server.handle_bytes(started.elapsed(), id, bytes, &*host);
                true
            });
            match flow {
                Flow::More => {}
                Flow::Blocked => c.readable = false,
                Flow::Closed(reason) => {
                    c.readable = false;
                    c.closed = Some(reason);
                }
            }
        }
        self.events(state);
    }

    fn events(&mut self, state: &mut ShellState) {
        while let Some(event) = state.server.poll_event() {
            match event {
                ServerEvent::Registered { session, name, table, role } => {
                    let address = address_of(state, session);
                    tracing::info!("client {name} ({address}) registered for {table} as its {role:?}");
                }
                ServerEvent::Activated { session, how } => {
                    let name = state.server.sessions().into_iter().find(|s| s.session == session);
                    let name = name.map(|s| s.name).unwrap_or_default();
                    tracing::info!("client {name} activated: {how}");
                }
                ServerEvent::Ended { session, name, error } => {
                    let address = address_of(state, session);
                    let name = name.unwrap_or_else(|| "peer".into());
                    tracing::warn!("{name} ({address}): {error}");
                    for c in self.all.values_mut().filter(|c| c.id == session) {
                        c.ending = true;
                    }
                }
            }
        }
    }

    pub fn write<H: Host>(&mut self, state: &mut ShellState, host: &mut H) {
        self.events(state);
        let mut drained = false;
        for c in self.all.values_mut().filter(|c| c.writable && c.closed.is_none()) {
            let mut total = 0;
            while total < WRITE_BUDGET {
                let bytes = state.server.transmit(c.id);
                if bytes.is_empty() {
                    break;
                }
                match socket::write(&mut c.stream, bytes) {
                    Ok(n) => {
                        total += n;
                        state.server.sent(c.id, n);
                    }
                    Err(Flow::Closed(reason)) => {
                        c.closed = Some(reason);
                        break;
                    }
                    Err(_) => {
                        c.writable = false;
                        break;
                    }
                }
            }
            drained |= total > 0;
        }
        if drained {
            // Room in the queues: those who are behind get more, and the loop comes back at once.
            state.server.pump(&*host);
        }
    }

    /// Whether a socket that takes bytes has some waiting.
    pub fn wants_write(&self, state: &ShellState) -> bool {
        self.all.values().any(|c| c.writable && !state.server.transmit(c.id).is_empty())
    }

    /// Closes what is over.
    pub fn reap(&mut self, state: &mut ShellState) {
        self.all.retain(|_, c| {
            let done = c.ending && state.server.transmit(c.id).is_empty();
            if c.closed.is_none() && !done {
                return true;
            }
            if let Some(reason) = c.closed.as_deref().filter(|_| !c.ending) {
                let name = state.server.sessions().into_iter().find(|s| s.session == c.id);
                match name {
                    Some(s) => tracing::info!("client {} ({}) left: {reason}", s.name, c.address),
                    None => tracing::debug!("{}: {reason}", c.address),
                }
            }
            state.server.close(c.id);
            state.addresses.remove(&c.id);
            false
        });
    }
}

fn address_of(state: &ShellState, session: SessionId) -> String {
    state.addresses.get(&session).map_or_else(|| "?".into(), ToString::to_string)
}
