//! The asking side: one request over a daemon's control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::{Answer, MAX_LINE, Reply, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("{path}: no daemon answers there ({source})")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke or took too long.
    #[error("{path}: the daemon did not answer in time or hung up ({source})")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not a fibcast daemon, or one of another version.
    #[error("{path}: not an answer that this version understands: {reason}")]
    Garbage {
        /// The socket.
        path: PathBuf,
        /// Where it differs.
        reason: String,
    },
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon whose control socket is at `path`, and waits at most `timeout` for each step.
pub fn ask(path: &Path, request: &Request, timeout: Duration) -> Result<Answer, ClientError> {
    let broken = |source| ClientError::Broken { path: path.to_owned(), source };
    let garbage = |reason: String| ClientError::Garbage { path: path.to_owned(), reason };
    let mut stream = UnixStream::connect(path)
        .map_err(|source| ClientError::NoDaemon { path: path.to_owned(), source })?;
    stream.set_read_timeout(Some(timeout)).map_err(broken)?;
    stream.set_write_timeout(Some(timeout)).map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| garbage(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE as u64)).read_line(&mut answer).map_err(broken)?;
    match serde_json::from_str(&answer).map_err(|error| garbage(error.to_string()))? {
        Reply::Ok(answer) => Ok(answer),
        Reply::Error(text) => Err(ClientError::Refused(text)),
    }
}
