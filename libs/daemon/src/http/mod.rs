//! `/metrics`, `/healthz`, `/status.json` and an index page for monitoring: read-only, bounded, never late.
//!
//! * `connection`: one connection without its socket: bytes in, requests and answers out, a time for each phase (RFC 9112);
//! * `server`: the event loop, one thread for all connections, on a [bounded listener](crate::listener);
//! * `pages`: which path has which page, and how it is made;
//! * `inquiry`: the thread that asks the daemon for its status. The event loop never waits for it: a daemon that does not answer in time is
//!   itself an answer, 503.
//!
//! `httparse` reads requests, and the rest is here: GET without bodies needs little else, and what a stranger may cost (bytes, time, threads)
//! must be seen in one place. hyper would bring an executor and its tasks, and leave the bounds to be written around it.

mod connection;
mod inquiry;
mod pages;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::{Poll, Token, Waker};

use crate::control::Handler;
pub use connection::{Answer, Connection, MAX_HEAD};
use inquiry::Inquiry;
use server::Server;

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;
/// Output that the system buffers for one connection, in bytes; it may double that.
const SEND_BUFFER: usize = 128 * 1024;
const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("http {address}: cannot listen ({source})")]
pub struct HttpError {
    /// The configured address.
    pub address: SocketAddr,
    /// The system's error.
    pub source: io::Error,
}

/// A running HTTP server. Dropping it ends its threads.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Opens the port.
    ///
    /// # Errors
    /// [`HttpError`] if the address cannot be used.
    pub fn start(address: SocketAddr, handler: impl Handler) -> Result<HttpServer, HttpError> {
        Self::open(address, Arc::new(handler)).map_err(|source| HttpError { address, source })
    }

    fn open(address: SocketAddr, handler: Arc<dyn Handler>) -> io::Result<HttpServer> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let inquiry = Inquiry::start(handler, waker.clone())?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server::new(poll, listener, inquiry)?;
        let thread = std::thread::Builder::new().name("http".into()).spawn({
            let stop = stop.clone();
            move || server.run(&stop)
        })?;
        Ok(HttpServer { address, stop, waker, thread: Some(thread) })
    }

    /// The address in use, which matters if the configuration has port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = self.waker.wake().is_ok();
        if let Some(thread) = self.thread.take()
            && woken
        {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it: the system's own bound is megabytes for each.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}
