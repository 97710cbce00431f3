//! The control socket: a unix socket on which operators ask. Its mode is 0600, or 0660 with a group that may use it (`group`).
//!
//! One thread accepts, and each operator has a thread of its own, because an answer may take long: the handler queries the daemon's threads
//! by message. An operator that waits for no answer of ours gives way to a newcomer when all places are taken, so silent and deaf ones shut nobody
//! out; a handler that hangs costs its own connection. `operators` has the places, `conversation` what is said on one connection.

mod conversation;
pub mod group;
mod operators;

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Reply, Request};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::listener::{Accepted, Acceptor, Counters};
use operators::Operators;

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
/// How long the thread of a connection that was hung up needs to close it.
const CLOSING: Duration = Duration::from_millis(5);
/// Time for operators to get their last answer when the server stops.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request, on a separate thread.
    ///
    /// # Errors
    /// The text for the operator.
    fn handle(&self, request: Request) -> Result<Answer, String>;
}

impl<F: Fn(Request) -> Result<Answer, String> + Send + Sync + 'static> Handler for F {
    fn handle(&self, request: Request) -> Result<Answer, String> {
        self(request)
    }
}

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon answers on it.
    #[error("{0}: another daemon is already listening there")]
    InUse(PathBuf),
    /// A file that is not a socket has this name.
    #[error("{0}: exists and is not a socket; it is left alone")]
    NotASocket(PathBuf),
    /// The system's error.
    #[error("{path}: cannot listen ({source})")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A running control server. Dropping it ends the threads, except one whose handler hangs, and removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    waker: Waker,
    operators: Arc<Operators>,
    acceptor: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Opens the socket; removes one of a dead daemon, and creates its folder.
    ///
    /// # Errors
    /// [`ServerError`] if another daemon or file is there, or the system refuses.
    pub fn start(path: &Path, handler: impl Handler) -> Result<ControlServer, ServerError> {
        Self::start_for(None, path, handler)
    }

    /// [`start`](Self::start), for the members of a group as well. A folder that is created for the socket lets them in.
    ///
    /// # Errors
    /// [`ServerError`] if another daemon or file is there, or the system refuses.
    pub fn start_for(
        group: Option<u32>,
        path: &Path,
        handler: impl Handler,
    ) -> Result<ControlServer, ServerError> {
        let failed = |source| ServerError::Listen { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let found = folder.exists();
            std::fs::create_dir_all(folder).map_err(failed)?;
            if group.is_some() && !found {
                group::admit(folder, group, 0o700, 0o750).map_err(failed)?;
            }
        }
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(ServerError::NotASocket(path.to_owned()));
            }
            if fibcast_control::probe(path).is_ok() {
                return Err(ServerError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        if let Err(error) = group::admit(path, group, 0o600, 0o660) {
            let _ = std::fs::remove_file(path);
            return Err(failed(error));
        }
        Self::run(path, listener, Arc::new(handler)).map_err(failed)
    }

    fn run(path: &Path, listener: UnixListener, handler: Arc<dyn Handler>) -> io::Result<ControlServer> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (stop, counters) = (Arc::new(AtomicBool::new(false)), Counters::named("control"));
        let operators = Operators::new(counters.clone());
        let acceptor = Acceptor::new(counters);
        let acceptor = std::thread::Builder::new().name("control".into()).spawn({
            let (stop, operators) = (stop.clone(), operators.clone());
            move || accept(poll, &listener, acceptor, &stop, &operators, &handler)
        })?;
        Ok(ControlServer { path: path.to_owned(), stop, waker, operators, acceptor: Some(acceptor) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = self.waker.wake().is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            let _ = acceptor.join();
        }
        if !self.operators.end(LAST_WAIT) {
            tracing::warn!("{}: stops without waiting for a request that hangs", self.path.display());
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(
    mut poll: Poll,
    listener: &UnixListener,
    mut acceptor: Acceptor,
    stop: &AtomicBool,
    operators: &Arc<Operators>,
    handler: &Arc<dyn Handler>,
) {
    let (start, mut events) = (Instant::now(), Events::with_capacity(8));
    while !stop.load(Ordering::Acquire) {
        let now = start.elapsed();
        if let Some(until) = acceptor.paused_until(now) {
            wait(&mut poll, &mut events, Some(until - now));
            continue;
        }
        match acceptor.accept(now, || listener.accept()) {
            Accepted::Connection((stream, _)) => {
                // It took the reserve. Those that wait behind it must not wait for others that say nothing.
                if acceptor.paused_until(now).is_some() {
                    relieve(&mut acceptor, operators);
                }
                welcome(stream, operators, handler);
            }
            Accepted::Empty => wait(&mut poll, &mut events, None),
            Accepted::Later(_) => relieve(&mut acceptor, operators),
        }
    }
}

/// Closes an idle connection for want of file descriptors, if there is one: then there is no need to pause.
fn relieve(acceptor: &mut Acceptor, operators: &Operators) {
    if operators.make_room() {
        // Its thread closes the descriptor.
        std::thread::sleep(CLOSING);
        acceptor.relieved();
    }
}

fn wait(poll: &mut Poll, events: &mut Events, time: Option<Duration>) {
    if let Err(error) = poll.poll(events, time)
        && error.kind() != ErrorKind::Interrupted
    {
        tracing::warn!("control socket: cannot poll: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Gives an operator a thread, if there is a place.
fn welcome(stream: UnixStream, operators: &Arc<Operators>, handler: &Arc<dyn Handler>) {
    let stream = Arc::new(stream);
    let place = match operators.enter(&stream) {
        Ok(place) => place,
        Err(reason) => return refuse(&stream, reason),
    };
    let handler = handler.clone();
    let spawned = std::thread::Builder::new().name("operator".into()).spawn(move || {
        if let Err(error) = conversation::hold(&stream, handler, &place) {
            tracing::debug!("operator: {error}");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!("control socket: no thread for an operator: {error}");
    }
}

/// Tells an operator the reason, as far as that does not block.
fn refuse(stream: &UnixStream, reason: String) {
    let Ok(mut answer) = serde_json::to_vec(&Reply::Error(reason)) else { return };
    answer.push(b'\n');
    if stream.set_nonblocking(true).is_ok() {
        let mut writer = stream;
        let _ = writer.write(&answer);
    }
}
