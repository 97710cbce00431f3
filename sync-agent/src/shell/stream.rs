//! A TCP connection, plain or with TLS: bounded reads and vectored writes that never block.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::Connection;
use rustls::pki_types::CertificateDer;

use super::tls::{self, explain, looks_like_tls};

/// Pieces per system call.
pub(super) const PIECES: usize = 32;
/// Bytes written to one socket before the next one has its turn.
pub(super) const WRITE_BUDGET: usize = 256 * 1024;

/// Result of a read or write.
#[derive(Debug)]
pub(super) enum Flow {
    /// The budget is used up; there may be more.
    More,
    /// The system has no data, or takes none, at the moment.
    Blocked,
    /// The connection is closed.
    Closed(String),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// Bytes received on the wire.
    pub received: u64,
    /// Bytes sent on the wire.
    pub sent: u64,
}

impl Stream {
    pub fn new(tcp: TcpStream, tls: Option<Connection>) -> Self {
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(Some(tls::BUFFER));
            Box::new(tls)
        });
        Self { tcp, tls, received: 0, sent: 0 }
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// # Errors
    /// The system's error.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.tcp.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// The names in the peer's certificate; none on plain TCP.
    pub fn names(&self) -> Option<Result<Vec<String>, String>> {
        self.tls.as_deref().map(tls::peer_names)
    }

    /// The certificates that the peer has shown, its own first; none on plain TCP.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.tls.as_deref().and_then(|tls| tls.peer_certificates()).unwrap_or_default()
    }

    /// Whether the TLS handshake is incomplete.
    pub fn is_shaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Continues the handshake: More when it is complete, Blocked while bytes are missing.
    pub fn shake(&mut self) -> Flow {
        while self.is_shaking() {
            match self.pull() {
                Flow::More => {}
                other => return other,
            }
        }
        match self.flush() {
            Flow::Closed(reason) => Flow::Closed(reason),
            _ => Flow::More,
        }
    }

    /// Reads TLS records from the socket once.
    fn pull(&mut self) -> Flow {
        let Some(tls) = &mut self.tls else { return Flow::Blocked };
        if tls.wants_write()
            && let Flow::Closed(reason) = self.flush()
        {
            return Flow::Closed(reason);
        }
        let Some(tls) = &mut self.tls else { return Flow::Blocked };
        let shaking = tls.is_handshaking();
        let cut_off = |reason: String| {
            let hint = " in the TLS handshake: does it speak TLS, as this node does?";
            Flow::Closed(if shaking { reason + hint } else { reason })
        };
        match tls.read_tls(&mut self.tcp) {
            Ok(0) => return cut_off("connection closed by peer".into()),
            Ok(n) => self.received += n as u64,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Flow::Blocked,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Flow::More,
            Err(e) => return cut_off(e.to_string()),
        }
        if let Err(e) = tls.process_new_packets() {
            let reason = explain(&e);
            // Sends the alert to the peer.
            let _ = self.flush();
            return Flow::Closed(reason);
        }
        if self.is_shaking() || self.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
            return match self.flush() {
                Flow::Closed(reason) => Flow::Closed(reason),
                _ => Flow::More,
            };
        }
        Flow::More
    }

    /// Reads up to about `budget` bytes in portions, each passed to `take`.
    pub fn read(&mut self, buffer: &mut [u8], budget: usize, mut take: impl FnMut(&[u8])) -> (usize, Flow) {
        let mut total = 0;
        if self.tls.is_none() {
            return self.read_plain(buffer, budget, take);
        }
        loop {
            // First the bytes that are already decrypted.
            let Some(tls) = &mut self.tls else { return (total, Flow::Blocked) };
            loop {
                match tls.reader().read(buffer) {
                    Ok(0) => return (total, Flow::Closed("connection closed by peer".into())),
                    Ok(n) => {
                        total += n;
                        take(buffer.get(..n).unwrap_or_default());
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                        return (total, Flow::Closed("connection cut off by peer".into()));
                    }
                    Err(e) => return (total, Flow::Closed(e.to_string())),
                }
            }
            if total >= budget {
                return (total, Flow::More);
            }
            match self.pull() {
                Flow::More => {}
                other => return (total, other),
            }
        }
    }

    fn read_plain(&mut self, buffer: &mut [u8], budget: usize, mut take: impl FnMut(&[u8])) -> (usize, Flow) {
        let mut total = 0;
        while total < budget {
            match self.tcp.read(buffer) {
                Ok(0) => return (total, Flow::Closed("connection closed by peer".into())),
                Ok(n) => {
                    let bytes = buffer.get(..n).unwrap_or_default();
                    if self.received == 0 && looks_like_tls(bytes) {
                        let reason =
                            "it speaks TLS, and this node plain TCP: expected cert, key and ca in [tls]";
                        return (total, Flow::Closed(reason.into()));
                    }
                    self.received += n as u64;
                    total += n;
                    take(bytes);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return (total, Flow::Blocked),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return (total, Flow::Closed(e.to_string())),
            }
        }
        (total, Flow::More)
    }

    /// Writes some of the pieces, in order; returns the number of bytes accepted.
    ///
    /// # Errors
    /// [`Flow`]: blocked or closed.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, Flow> {
        if self.tls.is_none() {
            let n = again(|| self.tcp.write_vectored(pieces))?;
            self.sent += n as u64;
            return Ok(n);
        }
        match self.flush() {
            Flow::More => {}
            other => return Err(other),
        }
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let n = tls.writer().write_vectored(pieces).map_err(|e| Flow::Closed(e.to_string()))?;
        match self.flush() {
            Flow::Closed(reason) => Err(Flow::Closed(reason)),
            _ => Ok(n),
        }
    }

    /// Writes encrypted bytes to the socket. More: all are written.
    pub fn flush(&mut self) -> Flow {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            match again(|| tls.write_tls(&mut self.tcp)) {
                Ok(n) => self.sent += n as u64,
                Err(flow) => return flow,
            }
        }
        Flow::More
    }

    /// Encrypted bytes wait for the socket.
    pub fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends close_notify, as far as that does not block.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
    }
}

fn again(mut f: impl FnMut() -> io::Result<usize>) -> Result<usize, Flow> {
    loop {
        match f() {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(Flow::Blocked),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Flow::Closed(e.to_string())),
        }
    }
}

/// A listener that can be reopened right after its program was killed.
pub(super) fn listen(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}
