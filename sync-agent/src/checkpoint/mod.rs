//! The table on disk, so that a restarted host forwards at once and its server sends only the difference.
//!
//! `format` is the file: a snapshot in the frames of the sync protocol, with version, table name and checksum around it. [`Checkpoint`]
//! belongs to the thread that owns the table: at most every interval it walks the table in pieces of a millisecond or so, between
//! which the event loop goes on, and ends with what has changed meanwhile, so that the file is the table as of one commit. Pieces
//! go to `writer`, a thread that writes a temporary file, syncs it, renames it over the old one and syncs the folder: whatever
//! ends the process at whatever instant, the file is a whole one, at most one interval old.

mod format;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fibcast_control::status::CheckpointStatus;
use fibcast_sync_proto::codec::Encoder;
use fibcast_sync_proto::frame::Frame;
use fibcast_sync_proto::{Change, Key, Label, Table, Value};

pub use format::{CheckpointError, load};
use writer::{Piece, Writer};

/// Records of one piece of the walk.
const PIECE: usize = 2048;
/// While the writer has no room, it is asked again after this time.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes checkpoints of one table.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    table: String,
    interval: Duration,
    writer: Option<Writer>,
    job: Option<Job>,
    next_at: Duration,
    /// Serial of the table in the file, or on its way there.
    serial: u64,
    loaded: u64,
    refused: Option<String>,
    longest: Duration,
}

/// A walk through the table.
#[derive(Debug)]
struct Job {
    after: Option<Key>,
    /// Serial when it began: what has changed since comes at the end.
    high: u64,
    /// Groups that the file has already: a route that came meanwhile may use a newer one.
    labels: HashSet<Label>,
    encoder: Encoder,
    /// What the writer had no room for.
    held: Option<Piece>,
    walked: bool,
}

impl Checkpoint {
    /// Checkpoints of the table of this name.
    pub fn new(path: &Path, table: &str, interval: Duration) -> Self {
        Self {
            path: path.to_owned(),
            table: table.to_owned(),
            interval,
            writer: None,
            job: None,
            next_at: Duration::ZERO,
            serial: 0,
            loaded: 0,
            refused: None,
            longest: Duration::ZERO,
        }
    }

    /// The table of the last run; none where there is none, or none that can be used, which the log says.
    pub fn load(&mut self, epoch: u64) -> Option<Table> {
        let begin = Instant::now();
        match load(&self.path, &self.table, epoch) {
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
                tracing::error!("checkpoint {error}; starting with an empty table");
                self.refused = Some(error.to_string());
                None
            }
        }
    }

    /// Begins a checkpoint if one is due, or goes on with it. When to call again.
    pub fn turn(&mut self, now: Duration, table: &Table) -> Option<Duration> {
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

    /// Deletions after this serial must be remembered by the table.
    pub fn pin(&self) -> u64 {
        self.job.as_ref().map_or(u64::MAX, |job| job.high)
    }

    /// Forgets a checkpoint in the middle, and what the file may have had in common with the table.
    pub fn abandon(&mut self) {
        if self.job.take().is_some()
            && let Some(writer) = &self.writer
        {
            writer.send(Piece::Abandon);
        }
        self.serial = 0;
    }

    /// At the end of the program: writes what is not written yet, and waits for it.
    pub fn finish(&mut self, table: &Table) {
        if table.serial() > 0 && (self.job.is_some() || table.serial() != self.serial) {
            if self.job.is_none() {
                self.begin(table);
            }
            while !matches!(self.go_on(table), More::No) {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        // The writer ends when it has done what it was given.
        self.writer = None;
    }

    /// For operators.
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
        let writer = self.writer.get_or_insert_with(|| Writer::start(path.clone()));
        writer.send(Piece::Begin(format::head(name)));
        self.serial = table.serial();
        self.job = Some(Job {
            after: None,
            high: table.serial(),
            labels: HashSet::new(),
            encoder: Encoder::new(),
            held: None,
            walked: false,
        });
    }

    fn go_on(&mut self, table: &Table) -> More {
        let (Some(job), Some(writer)) = (&mut self.job, &self.writer) else { return More::No };
        if let Some(piece) = job.held.take() {
            job.held = writer.offer(piece);
        } else {
            let piece = if job.walked { job.end(table) } else { Some(job.walk(table)) };
            let Some(piece) = piece else {
                // Deletions since the walk began were forgotten: it was worth nothing.
                tracing::warn!("checkpoint {}: the table changed too much meanwhile", self.path.display());
                self.abandon();
                return More::No;
            };
            if let Piece::End { serial, .. } = &piece {
                self.serial = *serial;
            }
            job.held = writer.offer(piece);
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
    fn walk(&mut self, table: &Table) -> Piece {
        let page = table.page(self.after.as_ref(), PIECE, |_| true);
        let mut bytes = Vec::with_capacity(PIECE * 6);
        for (key, value) in page.records {
            if let Value::Route(label) | Value::RibRoute { label, .. } = &value
                && self.labels.insert(*label)
                && let Some(group) = table.group(*label)
            {
                let group = Change::Put(Key::Group(*label), Value::Group((*group).clone()));
                self.encoder.push(&group, &mut bytes);
            }
            match &key {
                // A route that came while the walk was among groups has brought it along.
                Key::Group(label) if !self.labels.insert(*label) => continue,
                _ => {}
            }
            self.encoder.push(&Change::Put(key, value), &mut bytes);
        }
        self.encoder.flush(&mut bytes);
        self.walked = page.next.is_none();
        self.after = page.next;
        Piece::Bytes(bytes)
    }

    /// What has changed since the walk began, and the commit that the file is equal to.
    fn end(&mut self, table: &Table) -> Option<Piece> {
        let rest = table.changes_since(self.high)?;
        let mut bytes = Vec::new();
        for change in rest.changes() {
            self.encoder.push(&change, &mut bytes);
        }
        self.encoder.flush(&mut bytes);
        let (epoch, serial, digest) = (table.epoch(), table.serial(), table.digest());
        Frame::Commit { epoch, serial, count: self.encoder.count(), digest }.encode(&mut bytes);
        self.high = u64::MAX;
        Some(Piece::End { bytes, serial })
    }
}
