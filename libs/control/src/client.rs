//! The client: requests over a daemon's control socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::{Answer, MAX_LINE, Reply, Request};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens.
    #[error("{path}: no daemon answers there ({source})")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The connection failed or timed out.
    #[error("{path}: the daemon did not answer in time or hung up ({source})")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not a fibcast daemon, or one of another version.
    #[error("{path}: not an answer that this version understands: {reason}")]
    Garbage {
        /// The socket.
        path: PathBuf,
        /// The difference.
        reason: String,
    },
    /// The daemon refused the request with this text.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a daemon's control socket, for several requests.
#[derive(Debug)]
pub struct Connection {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the daemon at `path`; later steps take at most `timeout` each.
    ///
    /// # Errors
    /// [`ClientError`] if no daemon listens there.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::NoDaemon { path: path.to_owned(), source })?;
        let broken = |source| ClientError::Broken { path: path.to_owned(), source };
        stream.set_read_timeout(Some(timeout)).map_err(broken)?;
        stream.set_write_timeout(Some(timeout)).map_err(broken)?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends a request and waits for the answer. After an error other than [`ClientError::Refused`] the connection is of no use.
    ///
    /// # Errors
    /// [`ClientError`] if the daemon does not answer in time, its answer cannot be parsed, or it refuses.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let path = &self.path;
        let broken = |source| ClientError::Broken { path: path.clone(), source };
        let garbage = |reason: String| ClientError::Garbage { path: path.clone(), reason };
        let mut line = serde_json::to_vec(request).map_err(|error| garbage(error.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(broken)?;
        let mut answer = String::new();
        (&mut self.stream).take(MAX_LINE as u64).read_line(&mut answer).map_err(broken)?;
        match serde_json::from_str(&answer).map_err(|error| garbage(error.to_string()))? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(text) => Err(ClientError::Refused(text)),
        }
    }
}

/// Sends one request to the daemon at `path` and waits for the answer, at most `timeout` for each step.
///
/// # Errors
/// [`ClientError`] if no daemon answers in time, its answer cannot be parsed, or it refuses.
pub fn ask(path: &Path, request: &Request, timeout: Duration) -> Result<Answer, ClientError> {
    Connection::open(path, timeout)?.ask(request)
}

/// Connects to a control socket without waiting, and hangs up: whether a daemon listens, even one that does not accept any more.
///
/// # Errors
/// The system's error: [`ErrorKind::ConnectionRefused`] where nobody listens.
pub fn probe(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&socket2::SockAddr::unix(path)?) {
        // A full backlog is that of a daemon that hangs.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}
