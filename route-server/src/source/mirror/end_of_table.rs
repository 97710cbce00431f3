//! Detects the end of a sender's table, which neither FPM nor netlink announces.
//!
//! A route that an operator's helper installs last, the *sentinel*, arrives after all others, because zebra sends each table in the order
//! of prefixes. Without one, a quiet time counts as the end: no new route arrived. It is at least 5 s, because zebra pauses for a second
//! within a table.
//!
//! After a restart of the sender, stale routes may still be on their way after a sentinel that a daemon restored early. So while routes are
//! stale, the sentinel only counts once none of them has been refreshed for a little while.

use std::time::{Duration, Instant};

use super::side::Figures;

/// How long no stale route may have been refreshed for the sentinel to count.
const SETTLE: Duration = Duration::from_secs(2);

/// How the end of the table is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum How {
    /// By the sentinel, or by quiet time.
    #[default]
    Either,
    /// By the sentinel only.
    Sentinel,
    /// By quiet time only.
    Quiet,
}

/// Detects the end of a sender's table.
#[derive(Debug)]
pub struct EndOfTable {
    how: How,
    quiet: Duration,
    /// Time since which the sender sends its table; none: no sender, or the end was detected.
    telling: Option<Telling>,
}

#[derive(Debug)]
struct Telling {
    /// Nothing was stale at the beginning.
    first: bool,
    sentinel: bool,
    heard: u64,
    heard_at: Instant,
}

impl Telling {
    /// A counter that grows while the table is being sent.
    fn progress(&self, figures: &Figures) -> u64 {
        if self.first { figures.fresh } else { figures.refreshed }
    }
}

impl EndOfTable {
    /// Without a sender.
    pub fn new(how: How, quiet: Duration) -> Self {
        Self { how, quiet, telling: None }
    }

    /// A sender starts to send its table.
    pub fn begin(&mut self, now: Instant, figures: &Figures) {
        let mut telling = Telling { first: figures.stale == 0, sentinel: false, heard: 0, heard_at: now };
        telling.heard = telling.progress(figures);
        self.telling = Some(telling);
    }

    /// The sender is lost.
    pub fn gone(&mut self) {
        self.telling = None;
    }

    /// The sentinel arrived.
    pub fn sentinel(&mut self) {
        if let Some(telling) = self.telling.as_mut().filter(|_| self.how != How::Quiet) {
            telling.sentinel = true;
        }
    }

    /// Whether a table is being sent whose end was not detected.
    pub fn waits(&self) -> bool {
        self.telling.is_some()
    }

    /// Whether the end is reached; true once.
    pub fn reached(&mut self, now: Instant, figures: &Figures) -> bool {
        let Some(telling) = &mut self.telling else { return false };
        let progress = telling.progress(figures);
        if progress != telling.heard {
            (telling.heard, telling.heard_at) = (progress, now);
        }
        let quiet_for = now.saturating_duration_since(telling.heard_at);
        let by_sentinel = telling.sentinel && (figures.stale == 0 || quiet_for >= SETTLE);
        // A sender that has sent nothing is probably still starting.
        let has_routes = figures.live > figures.stale;
        let by_quiet = self.how != How::Sentinel && has_routes && quiet_for >= self.quiet;
        let reached = by_sentinel || by_quiet;
        if reached {
            self.telling = None;
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(5);

    fn figures(live: u64, stale: u64, refreshed: u64) -> Figures {
        Figures { live, stale, refreshed, fresh: live }
    }

    fn at(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn a_first_table_ends_with_its_sentinel_at_once() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Either, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert!(!end.reached(now, &figures(10, 0, 0)));
        end.sentinel();
        assert!(end.reached(now, &figures(10, 0, 0)));
        assert!(!end.reached(at(now, 60_000), &figures(10, 0, 0)), "true once");
    }

    #[test]
    fn without_a_sentinel_a_table_ends_when_nothing_new_was_heard_for_the_quiet_time() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Either, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert!(!end.reached(at(now, 60_000), &figures(0, 0, 0)), "an empty table has no end");
        assert!(!end.reached(at(now, 61_000), &figures(7, 0, 0)));
        assert!(!end.reached(at(now, 65_900), &figures(7, 0, 0)));
        assert!(end.reached(at(now, 66_000), &figures(7, 0, 0)));
    }

    #[test]
    fn while_routes_are_stale_the_sentinel_waits_until_none_of_them_comes_any_more() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Sentinel, QUIET);
        end.begin(now, &figures(10, 10, 0));
        end.sentinel();
        assert!(!end.reached(at(now, 1_900), &figures(10, 10, 0)));
        assert!(!end.reached(at(now, 2_000), &figures(10, 5, 5)), "half of them came back");
        assert!(!end.reached(at(now, 3_900), &figures(10, 5, 5)));
        assert!(end.reached(at(now, 4_000), &figures(10, 5, 5)), "the other half is gone for good");
        end.begin(now, &figures(10, 10, 5));
        end.sentinel();
        assert!(end.reached(now, &figures(10, 0, 15)), "all came back");
    }

    #[test]
    fn each_way_can_be_the_only_one() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Sentinel, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert!(!end.reached(at(now, 600_000), &figures(7, 0, 0)));
        assert!(!end.reached(at(now, 900_000), &figures(7, 0, 0)));
        let mut end = EndOfTable::new(How::Quiet, QUIET);
        end.begin(now, &figures(0, 0, 0));
        end.sentinel();
        assert!(!end.reached(now, &figures(7, 0, 0)));
        assert!(end.reached(at(now, 5_000), &figures(7, 0, 0)));
    }
}
