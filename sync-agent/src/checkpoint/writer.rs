//! The writer thread: temporary file, sync, rename, sync of the directory.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::format::sum;

/// Pieces that can wait for the disk.
const QUEUE: usize = 8;

#[derive(Debug)]
pub(super) enum Piece {
    /// A new file with its first bytes.
    Begin(Vec<u8>),
    Bytes(Vec<u8>),
    /// The last bytes: the file is the table as of this serial.
    End {
        bytes: Vec<u8>,
        serial: u64,
    },
    /// Discard the file in progress.
    Abandon,
}

/// Result so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub at: Option<Instant>,
    pub serial: u64,
    pub bytes: u64,
    pub count: u64,
    pub error: Option<String>,
}

/// Handle to the thread. Dropping it waits for the pending pieces.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<Sender<Piece>>,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<Mutex<Outcome>>,
}

impl Writer {
    pub fn start(path: PathBuf) -> Self {
        let (to, from) = bounded(QUEUE);
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let theirs = Arc::clone(&outcome);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || run(&path, &from, &theirs))
            .inspect_err(|e| tracing::error!("checkpoint: no thread: {e}"));
        Self { to: Some(to), thread: thread.ok(), outcome }
    }

    /// Passes a piece to the thread, or returns it if there is no room.
    pub fn offer(&self, piece: Piece) -> Option<Piece> {
        match self.to.as_ref()?.try_send(piece) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(piece)) => Some(piece),
        }
    }

    /// Passes a piece to the thread, for pieces that have room, or if the caller can wait.
    pub fn send(&self, piece: Piece) {
        if let Some(to) = &self.to {
            // Without a thread nothing is written, as already logged.
            let _ = to.send(piece);
        }
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A file in progress under a temporary name.
struct Draft {
    file: File,
    sum: SipHasher13,
    bytes: u64,
}

impl Draft {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        // Routes reveal a network: only the daemon may read them.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self { file, sum: sum(), bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn complete(mut self, draft: &Path, path: &Path) -> io::Result<u64> {
        let sum = self.sum.finish128().as_bytes();
        self.file.write_all(&sum)?;
        self.file.sync_all()?;
        std::fs::rename(draft, path)?;
        // Without this a power failure may lose the new name.
        let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(self.bytes + sum.len() as u64)
    }
}

fn run(path: &Path, from: &Receiver<Piece>, outcome: &Mutex<Outcome>) {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft_path = PathBuf::from(name);
    let mut draft: Option<Draft> = None;
    let note = |error: &io::Error| {
        let text = format!("{}: {error}", path.display());
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.error.as_ref() != Some(&text) {
            tracing::error!("checkpoint {text}; retrying");
        }
        outcome.error = Some(text);
    };
    for piece in from {
        let done = match piece {
            Piece::Begin(bytes) => Draft::open(&draft_path).and_then(|mut new| {
                new.write(&bytes)?;
                draft = Some(new);
                Ok(())
            }),
            Piece::Bytes(bytes) => draft.as_mut().map_or(Ok(()), |draft| draft.write(&bytes)),
            Piece::Abandon => {
                draft = None;
                Ok(())
            }
            Piece::End { bytes, serial } => match draft.take() {
                None => Ok(()),
                Some(mut whole) => {
                    whole.write(&bytes).and_then(|()| whole.complete(&draft_path, path)).map(|bytes| {
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        let count = outcome.count + 1;
                        *outcome = Outcome { at: Some(Instant::now()), serial, bytes, count, error: None };
                    })
                }
            },
        };
        if let Err(error) = done {
            draft = None;
            let _ = std::fs::remove_file(&draft_path);
            note(&error);
        }
    }
    if draft.is_some() {
        let _ = std::fs::remove_file(&draft_path);
    }
}
