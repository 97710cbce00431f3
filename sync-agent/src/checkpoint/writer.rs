//! The writer thread: temporary file, sync, rename, sync of the directory.

use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use siphasher::sip128::{Hasher128, SipHasher13};

use fibcast_daemon::threads::{self, Heartbeat, Task};

use super::RETRY;
use super::format::sum;

/// Pieces that can wait for the disk.
const QUEUE: usize = 8;
/// Longest wait for a piece.
const NAP: Duration = Duration::from_secs(1);
/// A disk that takes longer than this for a piece, or for all that it has cached, hangs.
const SLOW: Duration = Duration::from_secs(30);
/// How long the end of the program waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A piece of the file with this number; those of abandoned files are discarded.
#[derive(Debug)]
pub(super) struct Piece {
    pub file: u64,
    pub part: Part,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The first bytes of a new file.
    Begin,
    Middle,
    /// The last bytes: the file is the table as of this serial.
    End {
        serial: u64,
    },
}

/// Result so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub at: Option<Instant>,
    pub serial: u64,
    pub bytes: u64,
    pub count: u64,
    pub error: Option<String>,
    /// Number of files that could not be written.
    pub failures: u64,
}

/// Handle to the thread. Dropping it waits for the pending pieces, unless the disk hangs.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<Sender<Piece>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    /// Files up to this number are abandoned.
    abandoned: Arc<AtomicU64>,
    outcome: Arc<Mutex<Outcome>>,
}

impl Writer {
    pub fn start(path: PathBuf) -> Self {
        let (to, from) = bounded(QUEUE);
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let abandoned = Arc::new(AtomicU64::new(0));
        let (alive, ended) = bounded(0);
        let (results, discard) = (Arc::clone(&outcome), Arc::clone(&abandoned));
        let write = move |heartbeat: &Heartbeat| {
            run(&path, &from, &results, &discard, heartbeat);
            drop(alive);
        };
        if let Err(error) = threads::spawn(Task::auxiliary("checkpoint").limit(SLOW), write) {
            tracing::error!("checkpoint: no thread: {error}");
        }
        Self { to: Some(to), ended, abandoned, outcome }
    }

    /// Passes a piece to the thread, or returns it if there is no room.
    pub fn offer(&self, piece: Piece) -> Option<Piece> {
        match self.to.as_ref()?.try_send(piece) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            Err(TrySendError::Full(piece)) => Some(piece),
        }
    }

    /// Discards a file in progress, and what is queued for it.
    pub fn abandon(&self, file: u64) {
        self.abandoned.fetch_max(file, Ordering::Relaxed);
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.to = None;
        // A disk that hangs must not keep the program from ending.
        if self.ended.recv_timeout(LAST_WAIT) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("checkpoint: the disk does not answer; the last checkpoint is not written");
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

fn run(
    path: &Path,
    from: &Receiver<Piece>,
    outcome: &Mutex<Outcome>,
    abandoned: &AtomicU64,
    heartbeat: &Heartbeat,
) {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft_path = PathBuf::from(name);
    let mut draft: Option<Draft> = None;
    let note = |error: &io::Error| {
        let text = format!("{}: {error}", path.display());
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.error.as_ref() != Some(&text) {
            tracing::error!("checkpoint {text}; retrying every {} s", RETRY.as_secs());
        }
        outcome.error = Some(text);
        outcome.failures += 1;
    };
    loop {
        heartbeat.beat();
        let Piece { file, part, bytes } = match from.recv_timeout(NAP) {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if file <= abandoned.load(Ordering::Relaxed) {
            draft = None;
            continue;
        }
        let done = match part {
            Part::Begin => Draft::open(&draft_path).and_then(|mut new| {
                new.write(&bytes)?;
                draft = Some(new);
                Ok(())
            }),
            Part::Middle => draft.as_mut().map_or(Ok(()), |draft| draft.write(&bytes)),
            Part::End { serial } => match draft.take() {
                None => Ok(()),
                Some(mut whole) => {
                    whole.write(&bytes).and_then(|()| whole.complete(&draft_path, path)).map(|bytes| {
                        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                        (outcome.at, outcome.serial, outcome.bytes) = (Some(Instant::now()), serial, bytes);
                        outcome.count += 1;
                        outcome.error = None;
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
