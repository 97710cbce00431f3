//! Whether the active server brings the table up to date: *in sync* means that the lag shrinks, not that someone answers.
//!
//! A server announces its serial in each heartbeat. While ours is behind, there must be progress within the limit: a batch that
//! is applied, or bytes of one. So a slow link with real progress is fine. And a serial that was announced must be reached within
//! [`LONG`] of these times, so that a server cannot hold its client with a trickle.

use std::time::Duration;

/// Bytes of data that count as progress.
const BYTES: u64 = 64;
/// Within so many times the limit an announced serial must be reached.
const LONG: u32 = 100;

/// State of a client and its active server at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// The server's serial that our table equals; none if it equals none of this server's.
    pub ours: Option<u64>,
    /// The serial that the server announced last.
    pub theirs: u64,
    /// Bytes of data received so far.
    pub data: u64,
}

/// The lag behind the active server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lag {
    /// Position at the last progress, and its time. None while we are level.
    last: Option<(Position, Duration)>,
    /// An announced serial, and when it was announced.
    target: Option<(u64, Duration)>,
    stalled: bool,
}

impl Lag {
    /// Evaluates the position. True if it has just become stalled.
    pub fn watch(&mut self, now: Duration, at: Position, limit: Duration) -> bool {
        if at.ours.is_some_and(|ours| ours >= at.theirs) {
            *self = Self::default();
            return false;
        }
        let moved = self.last.is_none_or(|(last, _)| at.ours > last.ours || at.data >= last.data + BYTES);
        if moved {
            self.last = Some((at, now));
        }
        if self.target.is_none_or(|(target, _)| at.ours.is_some_and(|ours| ours >= target)) {
            self.target = Some((at.theirs, now));
        }
        let over = |since: Option<Duration>, limit| since.is_some_and(|at| now.saturating_sub(at) >= limit);
        let stalled = over(self.since(), limit) || over(self.target.map(|(_, at)| at), limit * LONG);
        !std::mem::replace(&mut self.stalled, stalled) && stalled
    }

    /// A delayed call on our side says nothing about the server.
    pub fn excuse(&mut self, now: Duration) {
        if let Some((_, at)) = &mut self.last {
            *at = now;
        }
        if let Some((_, at)) = &mut self.target {
            *at = now;
        }
    }

    /// Time of the last progress, if we are behind.
    pub fn since(&self) -> Option<Duration> {
        self.last.map(|(_, at)| at)
    }

    pub fn is_stalled(&self) -> bool {
        self.stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn at(ours: u64, theirs: u64, data: u64) -> Position {
        Position { ours: Some(ours), theirs, data }
    }

    #[test]
    fn server_that_announces_and_sends_nothing_is_stalled_once() {
        let mut lag = Lag::default();
        assert!(!lag.watch(s(1.0), at(5, 5, 0), LIMIT) && lag.since().is_none());
        assert!(!lag.watch(s(2.0), at(5, 6, 0), LIMIT));
        assert!(!lag.watch(s(4.9), at(5, 900, 0), LIMIT));
        assert!(lag.watch(s(5.0), at(5, 8_900, 10), LIMIT) && lag.is_stalled());
        assert!(!lag.watch(s(6.0), at(5, 9_000, 20), LIMIT) && lag.is_stalled());
        assert!(!lag.watch(s(7.0), at(9_000, 9_000, 9_000), LIMIT) && !lag.is_stalled());
    }

    #[test]
    fn bytes_of_a_batch_and_applied_batches_are_progress() {
        let mut lag = Lag::default();
        for n in 0..60u32 {
            assert!(!lag.watch(s(f64::from(n)), at(5, 9, u64::from(n) * 40), LIMIT), "{n}");
        }
        let mut lag = Lag::default();
        for n in 0..60u32 {
            assert!(!lag.watch(s(f64::from(n)), at(u64::from(n), u64::from(n) + 9, 0), LIMIT), "{n}");
        }
    }

    #[test]
    fn trickle_that_never_reaches_what_was_announced_is_stalled_in_the_end() {
        let mut lag = Lag::default();
        let first = (0..1_000u32).find(|n| lag.watch(s(f64::from(*n)), at(5, 9, u64::from(*n) * 64), LIMIT));
        assert_eq!(first, Some(300));
    }

    #[test]
    fn table_of_another_server_is_behind_whatever_is_announced() {
        let mut lag = Lag::default();
        let nothing = Position { ours: None, theirs: 0, data: 0 };
        assert!(!lag.watch(s(1.0), nothing, LIMIT) && lag.watch(s(4.0), nothing, LIMIT));
    }

    #[test]
    fn own_delay_is_no_reproach() {
        let mut lag = Lag::default();
        lag.watch(s(1.0), at(5, 9, 0), LIMIT);
        lag.excuse(s(60.0));
        assert!(!lag.watch(s(60.0), at(5, 9, 0), LIMIT) && lag.watch(s(63.0), at(5, 9, 0), LIMIT));
    }
}
