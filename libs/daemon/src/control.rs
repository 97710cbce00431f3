//! The server: a unix socket with mode 0600, one accepting thread, one short-lived thread per operator.
//!
//! The handler runs on the operator's thread and must query the daemon's threads by message; a slow operator then delays nobody.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fibcast_control::protocol::{Answer, MAX_REQUEST, Reply, Request};

/// Most operators served at once; others wait in the socket's backlog.
const MAX_OPERATORS: usize = 16;

/// Timeout for an operator to send or to read.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(10);

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

/// A running control server. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Opens the socket; removes one of a dead daemon, and creates its folder.
    ///
    /// # Errors
    /// [`ServerError`] if another daemon or file is there, or the system refuses.
    pub fn start(path: &Path, handler: impl Handler) -> Result<ControlServer, ServerError> {
        let failed = |source| ServerError::Listen { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(ServerError::NotASocket(path.to_owned()));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(ServerError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<dyn Handler> = Arc::new(handler);
        let acceptor = std::thread::Builder::new()
            .name("control".into())
            .spawn({
                let stop = stop.clone();
                move || accept(&listener, &stop, &handler)
            })
            .map_err(failed)?;
        Ok(ControlServer { path: path.to_owned(), stop, acceptor: Some(acceptor) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The acceptor blocks in accept(); a connection of our own wakes it.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            let _ = acceptor.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, stop: &AtomicBool, handler: &Arc<dyn Handler>) {
    let operators = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        while operators.load(Ordering::Acquire) >= MAX_OPERATORS {
            std::thread::sleep(Duration::from_millis(10));
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("control socket: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let slot = OperatorSlot::take(&operators);
        let handler = handler.clone();
        let spawned = std::thread::Builder::new().name("operator".into()).spawn(move || {
            let _slot = slot;
            if let Err(error) = converse(&stream, handler.as_ref()) {
                tracing::debug!("operator: {error}");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("control socket: no thread for an operator: {error}");
        }
    }
}

/// One of [`MAX_OPERATORS`] slots, returned also after a panic.
struct OperatorSlot(Arc<AtomicUsize>);

impl OperatorSlot {
    fn take(operators: &Arc<AtomicUsize>) -> OperatorSlot {
        operators.fetch_add(1, Ordering::AcqRel);
        OperatorSlot(operators.clone())
    }
}

impl Drop for OperatorSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn converse(stream: &UnixStream, handler: &dyn Handler) -> io::Result<()> {
    stream.set_read_timeout(Some(OPERATOR_TIMEOUT))?;
    stream.set_write_timeout(Some(OPERATOR_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_REQUEST as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => handler.handle(request).map_or_else(Reply::Error, Reply::Ok),
            Err(error) => Reply::Error(format!("not a request that this version understands: {error}")),
        };
        let mut answer = serde_json::to_vec(&reply)?;
        answer.push(b'\n');
        let mut writer = stream;
        writer.write_all(&answer)?;
        if !line.ends_with(b"\n") {
            return Ok(());
        }
    }
}
