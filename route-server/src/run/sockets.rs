//! Sockets without blocking: listeners, connections, and the one call that waits for all of them.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
/// A connection's token: place of a peer, or number of a session, beyond these. Listeners are fewer than a thousand.
const FIRST_PEER: usize = 1_000;
const FIRST_SESSION: usize = 1_000_000;
/// Connections that are open at once; further ones wait to be accepted.
const MAX_SESSIONS: usize = 16_384;
/// Bytes written to one connection in one turn.
const WRITE: usize = 1 << 20;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The system refused the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to watch sockets.
    #[error("cannot watch sockets: {0}")]
    Poll(#[from] io::Error),
}

/// What can be done with a connection now, as far as is known.
#[derive(Debug, Clone, Copy, Default)]
struct Readiness {
    read: bool,
    write: bool,
}

/// All sockets. See the module's documentation.
pub struct Sockets {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    listeners: Vec<(TcpListener, bool)>,
    ready: HashMap<Token, Readiness>,
    open: usize,
}

impl Sockets {
    /// Listens on these addresses.
    pub fn new(listen: &[SocketAddr]) -> Result<Self, SocketsError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::new();
        for (at, &address) in listen.iter().enumerate() {
            let failed = |source| SocketsError::Listen { address, source };
            let mut listener = TcpListener::bind(address).map_err(failed)?;
            poll.registry().register(&mut listener, Token(FIRST_LISTENER + at), Interest::READABLE)?;
            listeners.push((listener, true));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            waker,
            listeners,
            ready: HashMap::new(),
            open: 0,
        })
    }

    /// Ends [`Sockets::wait`] from another thread.
    pub fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = self.waker.clone();
        Arc::new(move || {
            // It fails only when the poll is gone, and then nobody waits.
            let _ = waker.wake();
        })
    }

    /// Waits until a socket can do something, somebody wakes it, or the time is over.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let token = event.token();
            if let Some(listener) =
                token.0.checked_sub(FIRST_LISTENER).and_then(|at| self.listeners.get_mut(at))
            {
                listener.1 = true;
            } else if token != WAKER {
                let ready = self.ready.entry(token).or_default();
                ready.read |= event.is_readable() || event.is_read_closed() || event.is_error();
                ready.write |= event.is_writable() || event.is_error();
            }
        }
        Ok(())
    }

    /// Connections that came in.
    pub fn accept(&mut self) -> Vec<TcpStream> {
        let mut accepted = Vec::new();
        for (listener, ready) in &mut self.listeners {
            while *ready && self.open + accepted.len() < MAX_SESSIONS {
                match listener.accept() {
                    Ok((stream, _)) => accepted.push(stream),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => *ready = false,
                    Err(error) => {
                        // Too many open files, or a client that went away meanwhile: not a reason to stop.
                        tracing::warn!("accept: {error}");
                        *ready = false;
                    }
                }
            }
        }
        accepted
    }

    /// Watches a connection that came in.
    pub fn adopt_session(&mut self, stream: TcpStream, id: u64) -> io::Result<(Connection, SocketAddr)> {
        let address = stream.peer_addr()?;
        let connection = self.adopt(stream, Token(FIRST_SESSION + id as usize), false)?;
        self.open += 1;
        Ok((connection, address))
    }

    /// Begins a connection to peer number `at`.
    pub fn connect(&mut self, address: SocketAddr, at: usize) -> io::Result<Connection> {
        self.adopt(TcpStream::connect(address)?, Token(FIRST_PEER + at), true)
    }

    fn adopt(&mut self, mut stream: TcpStream, token: Token, opening: bool) -> io::Result<Connection> {
        self.ready.remove(&token);
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        if !opening {
            stream.set_nodelay(true)?;
        }
        Ok(Connection { stream, token, ready: Readiness::default(), opening })
    }

    /// Watches a connection no longer; it closes when it is dropped.
    pub fn drop_connection(&mut self, connection: &mut Connection) {
        // It fails for a socket that is not watched, which is what is wanted.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.ready.remove(&connection.token);
        if connection.token.0 >= FIRST_SESSION {
            self.open = self.open.saturating_sub(1);
        }
    }
}

/// A connection, and what it can do.
pub struct Connection {
    stream: TcpStream,
    token: Token,
    ready: Readiness,
    /// It was begun by us and the answer is not there yet.
    opening: bool,
}

impl Connection {
    /// Takes over what [`Sockets::wait`] learned.
    pub fn note(&mut self, sockets: &mut Sockets) {
        if let Some(ready) = sockets.ready.remove(&self.token) {
            self.ready.read |= ready.read;
            self.ready.write |= ready.write;
        }
    }

    /// Whether a connection that was begun is open now: true once. An error says why it could not be opened.
    pub fn opened(&mut self) -> Result<bool, String> {
        if !self.opening || !self.ready.write {
            return Ok(false);
        }
        if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
            return Err(error.to_string());
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.opening = false;
                self.stream.set_nodelay(true).map_err(|error| error.to_string())?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                self.ready.write = false;
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The next bytes, if there are any now. An error says why the connection is over.
    pub fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, String> {
        if self.opening || !self.ready.read {
            return Ok(None);
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the other side closed the connection".to_owned()),
                Ok(n) => return Ok(buffer.get(..n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready.read = false;
                    return Ok(None);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Writes what a machine has. True: there may be more, but another connection's turn comes first.
    pub fn write<M>(
        &mut self,
        machine: &mut M,
        transmit: impl Fn(&M) -> &[u8],
        mut sent: impl FnMut(&mut M, usize),
    ) -> Result<bool, String> {
        if self.opening {
            return Ok(false);
        }
        let mut written = 0;
        while self.ready.write {
            let bytes = transmit(machine);
            if bytes.is_empty() {
                return Ok(written > 0);
            }
            match self.stream.write(bytes) {
                Ok(n) => {
                    sent(machine, n);
                    written += n;
                    if written >= WRITE {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.write = false,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(written > 0)
    }
}
