//! Checkpoints: the table on disk, so that a restarted host forwards at once and its server sends only the difference.
//!
//! `format` is the file: a snapshot in the frames of the sync protocol, with version, table name and checksum. [`Checkpoint`] belongs to
//! the thread that owns the table: at most once per interval it walks the table in pieces of about a millisecond, between which the event
//! loop continues, and ends with the changes since then, so the file is the table as of one commit. The pieces go to `writer`, a thread
//! that writes a temporary file, syncs it, renames it over the old one and syncs the directory: whenever the process ends, the file is
//! complete and at most one interval old.

mod format;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use fibcast_control::status::CheckpointStatus;
use fibcast_daemon::threads;
use fibcast_sync_proto::codec::Encoder;
use fibcast_sync_proto::frame::Frame;
use fibcast_sync_proto::{ChangeRef, DigestKeys, Key, Label, Table, Value};

pub use format::{CheckpointError, load};
use writer::{Part, Piece, Writer};

/// Records of one piece of the walk.
const PIECE: usize = 2048;
/// Pause before a busy writer is retried.
const PAUSE: Duration = Duration::from_millis(2);
/// Pause before a file that could not be written is written again, unless the interval is shorter.
const RETRY: Duration = Duration::from_secs(10);
/// How long the start of the program waits for the file, which is read at hundreds of MB/s from any disk that works.
const LOAD: Duration = Duration::from_secs(5);
/// Interval of the thread's heartbeat meanwhile.
const BEAT: Duration = Duration::from_millis(500);
/// How long the end of the program waits for the last checkpoint.
const FINISH: Duration = Duration::from_secs(5);

/// Writes checkpoints of one table.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    table: String,
    interval: Duration,
    writer: Option<Writer>,
    job: Option<Job>,
    next_at: Duration,
    /// Serial of the table in the file, or in the file being written.
    serial: u64,
    /// Number of the file being written, or of the last one.
    file: u64,
    /// Files that could not be written, as far as they were noticed.
    failures: u64,
    loaded: u64,
    refused: Option<String>,
    longest: Duration,
}

/// A walk through the table.
#[derive(Debug)]
struct Job {
    after: Option<Key>,
    /// Serial at its start: later changes follow at the end.
    high: u64,
    /// Groups that the file already has: a route that changed during the walk may use a newer one.
    labels: HashSet<Label>,
    encoder: Encoder,
    /// A piece that the writer had no room for.
    held: Option<Piece>,
    walked: bool,
}

impl Checkpoint {
    /// Checkpoints of the table with this name.
    pub fn new(path: &Path, table: &str, interval: Duration) -> Self {
        Self {
            path: path.to_owned(),
            table: table.to_owned(),
            interval,
            writer: None,
            job: None,
            next_at: Duration::ZERO,
            serial: 0,
            file: 0,
            failures: 0,
            loaded: 0,
            refused: None,
            longest: Duration::ZERO,
        }
    }

    /// The table of the last run; none if there is no usable checkpoint (the log says why).
    pub fn load(&mut self, epoch: u64, keys: &DigestKeys) -> Option<Table> {
        let begin = Instant::now();
        match self.load_in_time(epoch, keys) {
            Ok(Some(table)) => {
                tracing::info!(
                    "checkpoint {}: {} records, read in {} ms; the server will be asked for the difference",
                    self.path.display(),
                    table.len(),
                    begin.elapsed().as_millis()
                );
                self.loaded = table.len();
                self.serial = table.serial();
                Some(table)
            }
            Ok(None) => {
                tracing::info!("checkpoint {}: none yet", self.path.display());
                None
            }
            Err(error) => {
                tracing::error!("checkpoint {error}; starting with an empty table, which a server fills");
                self.refused = Some(error);
                None
            }
        }
    }

    /// Reads on a thread of its own: a disk that hangs must not keep the node from asking its servers.
    fn load_in_time(&self, epoch: u64, keys: &DigestKeys) -> Result<Option<Table>, String> {
        let (path, table, keys) = (self.path.clone(), self.table.clone(), keys.clone());
        let (done, loaded) = bounded(1);
        let read = move || {
            let _ = done.send(load(&path, &table, epoch, &keys).map_err(|error| error.to_string()));
        };
        let no_thread = |error| format!("{}: no thread to read it: {error}", self.path.display());
        std::thread::Builder::new().name("checkpoint-load".into()).spawn(read).map_err(no_thread)?;
        let until = Instant::now() + LOAD;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            threads::beat();
            if let Ok(read) = loaded.recv_timeout(left.min(BEAT)) {
                return read;
            }
        }
        let waited = LOAD.as_secs();
        Err(format!("{}: not read within {waited} s, the disk does not answer", self.path.display()))
    }

    /// Starts a due checkpoint, or continues one. Returns the time of the next call.
    pub fn turn(&mut self, now: Duration, table: &Table) -> Option<Duration> {
        self.notice_failures(now);
        if self.job.is_none() {
            if table.serial() == self.serial || table.serial() == 0 {
                return None;
            }
            if now < self.next_at {
                return Some(self.next_at);
            }
            self.next_at = now + self.interval;
            self.begin(table);
        }
        let begin = Instant::now();
        let more = self.go_on(table);
        self.longest = self.longest.max(begin.elapsed());
        match more {
            More::AtOnce => Some(now),
            More::Later => Some(now + PAUSE),
            More::No => (table.serial() != self.serial).then_some(self.next_at),
        }
    }

    /// A file that could not be written is written again, whatever changes in the table until then.
    fn notice_failures(&mut self, now: Duration) {
        let Some(outcome) = self.writer.as_ref().map(Writer::outcome) else { return };
        if std::mem::replace(&mut self.failures, outcome.failures) != outcome.failures {
            self.abandon();
            self.serial = outcome.serial;
            self.next_at = now + self.interval.min(RETRY);
        }
    }

    /// The table must remember deletions after this serial.
    pub fn pin(&self) -> u64 {
        self.job.as_ref().map_or(u64::MAX, |job| job.high)
    }

    /// Cancels a running checkpoint, and forgets which serial the file has.
    pub fn abandon(&mut self) {
        if self.job.take().is_some()
            && let Some(writer) = &self.writer
        {
            writer.abandon(self.file);
        }
        self.serial = 0;
    }

    /// At the end of the program: writes what is not written yet, and waits for it.
    pub fn finish(&mut self, table: &Table) {
        if table.serial() > 0 && (self.job.is_some() || table.serial() != self.serial) {
            if self.job.is_none() {
                self.begin(table);
            }
            let begin = Instant::now();
            while !matches!(self.go_on(table), More::No) && begin.elapsed() < FINISH {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        // The writer ends after its last piece.
        self.writer = None;
    }

    /// State for operators.
    pub fn status(&self) -> CheckpointStatus {
        let written = self.writer.as_ref().map(Writer::outcome).unwrap_or_default();
        CheckpointStatus {
            path: self.path.display().to_string(),
            age_ms: written.at.map(|at| at.elapsed().as_millis() as u64),
            serial: written.serial,
            bytes: written.bytes,
            written: written.count,
            longest_piece_us: self.longest.as_micros() as u64,
            loaded_records: self.loaded,
            last_error: written.error.or_else(|| self.refused.clone().filter(|_| written.count == 0)),
        }
    }

    fn begin(&mut self, table: &Table) {
        let (path, name) = (&self.path, &self.table);
        self.writer.get_or_insert_with(|| Writer::start(path.clone()));
        self.file += 1;
        let first =
            Piece { file: self.file, part: Part::Begin, bytes: format::head(name, table.digest_key().id()) };
        self.serial = table.serial();
        self.job = Some(Job {
            after: None,
            high: table.serial(),
            labels: HashSet::new(),
            encoder: Encoder::new(),
            held: Some(first),
            walked: false,
        });
    }

    fn go_on(&mut self, table: &Table) -> More {
        let (Some(job), Some(writer)) = (&mut self.job, &self.writer) else { return More::No };
        if let Some(piece) = job.held.take() {
            job.held = writer.offer(piece);
        } else {
            let piece = if job.walked { job.end(table) } else { Some((Part::Middle, job.walk(table))) };
            let Some((part, bytes)) = piece else {
                // Deletions since the start of the walk were forgotten: the walk is useless.
                tracing::warn!(
                    "checkpoint {}: the table changed too much during the checkpoint",
                    self.path.display()
                );
                self.abandon();
                return More::No;
            };
            if let Part::End { serial } = part {
                self.serial = serial;
            }
            job.held = writer.offer(Piece { file: self.file, part, bytes });
        }
        match (&job.held, job.is_done()) {
            (Some(_), _) => More::Later,
            (None, false) => More::AtOnce,
            (None, true) => {
                self.job = None;
                More::No
            }
        }
    }
}

enum More {
    AtOnce,
    Later,
    No,
}

impl Job {
    fn is_done(&self) -> bool {
        self.walked && self.high == u64::MAX
    }

    /// The next records of the table.
    fn walk(&mut self, table: &Table) -> Vec<u8> {
        let page = table.page(self.after.as_ref(), PIECE, |_| true);
        let mut bytes = Vec::with_capacity(PIECE * 6);
        for (key, value) in page.records {
            if let Value::Route(label) | Value::RibRoute { label, .. } = &value
                && self.labels.insert(*label)
                && let Some(group) = table.group(*label)
            {
                self.encoder.push(ChangeRef::Group { label: *label, value: Some(&group) }, &mut bytes);
            }
            match &key {
                // A route that changed while the walk was among the groups has included its group.
                Key::Group(label) if !self.labels.insert(*label) => continue,
                _ => {}
            }
            if let Some(change) = ChangeRef::put(&key, &value) {
                self.encoder.push(change, &mut bytes);
            }
        }
        self.encoder.flush(&mut bytes);
        self.walked = page.next.is_none();
        self.after = page.next;
        bytes
    }

    /// The changes since the start of the walk, and the commit that the file equals.
    fn end(&mut self, table: &Table) -> Option<(Part, Vec<u8>)> {
        let rest = table.changes_since(self.high)?;
        let mut bytes = Vec::new();
        for change in rest.changes() {
            self.encoder.push(change, &mut bytes);
        }
        self.encoder.flush(&mut bytes);
        let (epoch, serial, digest) = (table.epoch(), table.serial(), table.digest());
        Frame::Commit { epoch, serial, count: self.encoder.count(), digest }.encode(&mut bytes);
        self.high = u64::MAX;
        Some((Part::End { serial }, bytes))
    }
}
