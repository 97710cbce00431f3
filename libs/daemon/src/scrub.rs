//! Counts and reports what a scrubber finds: a slow comparison of what forwards with the table whose digest is audited.

use std::time::{Duration, Instant};

use fibcast_control::status::ScrubStatus;

/// Differences logged within a second; the rest is counted.
const LINES: u32 = 10;

/// Findings of one scrubber.
#[derive(Debug)]
pub struct Tally {
    /// What it compares, for the log.
    what: &'static str,
    status: ScrubStatus,
    last_pass: Option<Instant>,
    /// The second in which lines were logged, and their number.
    logged: (Option<Instant>, u32),
}

impl Tally {
    /// Of a scrubber that compares `what`.
    pub fn new(what: &'static str) -> Self {
        Self { what, status: ScrubStatus::default(), last_pass: None, logged: (None, 0) }
    }

    /// So many routes or lookups were compared.
    pub fn compared(&mut self, count: usize) {
        self.status.compared += count as u64;
    }

    /// A part could not be compared now, because a change was under way.
    pub fn skipped(&mut self) {
        self.status.skipped += 1;
    }

    /// Something differs; `text` says what the table says, and what was found.
    pub fn difference(&mut self, text: String) {
        self.status.differences += 1;
        let now = Instant::now();
        if self.logged.0.is_none_or(|second| now - second >= Duration::from_secs(1)) {
            self.logged = (Some(now), 0);
        }
        self.logged.1 += 1;
        if self.logged.1 <= LINES {
            tracing::error!("scrub of {}: {text}", self.what);
        }
        self.status.last_difference = Some(text);
    }

    /// So many differences were corrected.
    pub fn mended(&mut self, count: usize) {
        self.status.mended += count as u64;
    }

    /// Everything was compared once more.
    pub fn pass_ends(&mut self) {
        self.status.passes += 1;
        self.last_pass = Some(Instant::now());
    }

    /// Number of differences so far.
    pub fn differences(&self) -> u64 {
        self.status.differences
    }

    /// For operators.
    pub fn status(&self) -> ScrubStatus {
        let pass_age_ms = self.last_pass.map(|at| at.elapsed().as_millis() as u64);
        ScrubStatus { pass_age_ms, ..self.status.clone() }
    }
}
