//! Lines about what others do: a flood of it cannot fill the log.

use std::time::Duration;

/// Lines per second.
const LINES: u32 = 10;

/// Passes the first lines of each second and counts the rest.
#[derive(Debug, Default)]
pub struct LimitedLog {
    since: Duration,
    lines: u32,
    kept_back: u64,
}

impl LimitedLog {
    /// Whether a line may be written now, and the number of suppressed lines before it. `now` counts from any start.
    pub fn line(&mut self, now: Duration) -> Option<u64> {
        if now >= self.since + Duration::from_secs(1) {
            self.since = now;
            self.lines = 0;
        }
        if self.lines >= LINES {
            self.kept_back += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.kept_back))
    }

    /// Logs a warning about somebody or something, or counts it.
    pub fn warn(&mut self, now: Duration, about: &str, reason: &str) {
        match self.line(now) {
            Some(0) => tracing::warn!("{about}: {reason}"),
            Some(n) => tracing::warn!("{about}: {reason} ({n} similar lines suppressed)"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_counted_and_told_later() {
        let mut log = LimitedLog::default();
        let lines = (0..100).filter(|_| log.line(Duration::from_secs(5)).is_some()).count();
        assert_eq!(lines, LINES as usize);
        assert_eq!(log.line(Duration::from_secs(6)), Some(90));
    }
}
