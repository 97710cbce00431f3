//! All events as text: always hashed, printed in a replay, and its end kept for the report of a failure.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};
use std::time::Duration;

/// Lines kept for a report.
const KEPT: usize = 60;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    line: String,
    print: bool,
}

impl Trace {
    /// An empty trace; `print` writes it to standard output as it grows.
    pub fn new(print: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), line: String::new(), print }
    }

    /// Adds a line.
    pub fn note(&mut self, now: Duration, what: Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{:>12.6} {what}", now.as_secs_f64());
        for byte in self.line.bytes() {
            // FNV-1a: the same on every machine.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.print {
            println!("{}", self.line);
        }
        // The oldest line's buffer is reused for the newest.
        let mut slot =
            if self.lines.len() >= KEPT { self.lines.pop_front().unwrap_or_default() } else { String::new() };
        slot.clone_from(&self.line);
        self.lines.push_back(slot);
    }

    /// Hash over all lines: equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
