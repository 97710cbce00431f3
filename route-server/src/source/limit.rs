//! Rate limit of log lines about bad input.

use std::time::{Duration, Instant};

/// Lines in one second.
const LINES: u32 = 10;

/// Allows a few lines per second.
#[derive(Debug, Default)]
pub struct Limit {
    second: Option<Instant>,
    lines: u32,
}

impl Limit {
    /// Whether a line may be written now.
    pub fn allows(&mut self) -> bool {
        let now = Instant::now();
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        self.lines <= LINES
    }
}
