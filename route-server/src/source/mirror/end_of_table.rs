//! Detects the end of a sender's table, which neither FPM nor a routing daemon's kernel table announces.
//!
//! Only a proof may sweep, because a table that is taken for complete too early costs good routes. The proof has two parts:
//! * The *sentinel* is a route that sorts after all others. zebra sends its table in the order of prefixes, so the sentinel says that what
//!   zebra had when the session began has arrived. It may be old: staticd keeps it, tells it to a restarted zebra at once, and a file may
//!   restore it before bgpd has a single route.
//! * The *session's sentinel* carries the number of this session (zebra's TCP port). An operator's helper (`fibcast-sentinel`) installs it
//!   when the routing daemons have converged, so it cannot be left over from before.
//!
//! Both may still overtake routes in zebra's queues. So they only count once no stale route has been refreshed for a little while.
//! A table that was ready before is complete without a proof if nothing is stale any more: there is nothing to sweep.
//!
//! A *quiet* time, in which no new route arrived, is no proof. It gives the first readiness at most. It is at least 5 s, because zebra
//! pauses for a second within a table.

use std::time::{Duration, Instant};

use super::side::Figures;

/// How long no stale route may have been refreshed for the sentinels to count.
const SETTLE: Duration = Duration::from_secs(2);

/// What makes a source ready the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum How {
    /// The sentinel, or a quiet time.
    #[default]
    Either,
    /// The sentinel only.
    Sentinel,
    /// A quiet time only. Sentinels are ignored: stale routes stay until they are replaced or withdrawn.
    Quiet,
}

/// What the end of a table was detected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Sentinels: the table is complete.
    Sentinel,
    /// All routes that were stale were announced again or withdrawn: nothing is left to sweep.
    Refreshed,
    /// A quiet time: no more routes came, but the table may be incomplete.
    Quiet,
}

impl End {
    /// Its name in status, log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            End::Sentinel => "sentinel",
            End::Refreshed => "refreshed",
            End::Quiet => "quiet",
        }
    }

    /// Whether what is still stale may be withdrawn.
    pub fn is_complete(self) -> bool {
        self != End::Quiet
    }
}

/// Detects the end of a sender's table.
#[derive(Debug)]
pub struct EndOfTable {
    how: How,
    quiet: Duration,
    /// The source has been ready.
    ready: bool,
    /// The RIB has routes of a table that this detector knows nothing of.
    restarted: bool,
    /// The table whose completeness is not proved; none: no sender, or the end was detected.
    telling: Option<Telling>,
}

#[derive(Debug)]
struct Telling {
    /// Nothing was stale at the beginning.
    first: bool,
    sentinel: bool,
    of_session: bool,
    heard: u64,
    heard_at: Instant,
    /// The quiet time has passed.
    quiet: bool,
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
        Self { how, quiet, ready: false, restarted: false, telling: None }
    }

    /// The RIB has routes from before a panic, which the end of the next table withdraws: it takes the same proof as for stale routes.
    pub fn restarted(&mut self) {
        self.restarted = true;
    }

    /// A sender starts to send its table.
    pub fn begin(&mut self, now: Instant, figures: &Figures) {
        let first = figures.stale == 0;
        let mut telling =
            Telling { first, sentinel: false, of_session: false, heard: 0, heard_at: now, quiet: false };
        telling.heard = telling.progress(figures);
        self.telling = Some(telling);
    }

    /// The sender is lost.
    pub fn gone(&mut self) {
        self.telling = None;
    }

    /// The sentinel arrived, for all tables.
    pub fn sentinel(&mut self) {
        if let Some(telling) = self.telling.as_mut().filter(|_| self.how != How::Quiet) {
            telling.sentinel = true;
        }
    }

    /// The sentinel of this session arrived.
    pub fn sentinel_of_session(&mut self) {
        if let Some(telling) = self.telling.as_mut().filter(|_| self.how != How::Quiet) {
            telling.of_session = true;
        }
    }

    /// Whether a table is being sent, and neither its end nor a quiet time was seen.
    pub fn waits(&self) -> bool {
        self.telling.as_ref().is_some_and(|telling| !telling.quiet)
    }

    /// Whether the sender is quiet and stale routes are left of which nobody knows whether they are valid.
    pub fn is_unproved(&self) -> bool {
        self.telling.as_ref().is_some_and(|telling| telling.quiet && !telling.first)
    }

    /// Whether a quiet time makes a source ready that never was.
    pub fn gives_readiness(&self) -> bool {
        self.how != How::Sentinel || self.telling.as_ref().is_some_and(|telling| telling.sentinel)
    }

    /// What has been detected by `now`, each once: the end of the table, or before it a quiet time.
    pub fn reached(&mut self, now: Instant, figures: &Figures) -> Option<End> {
        let ready = self.gives_readiness();
        let telling = self.telling.as_mut()?;
        if !self.ready && !telling.first && figures.stale == 0 {
            // The few routes of a session that ended early were announced again: that is no more than the beginning of a first table.
            (telling.first, telling.heard, telling.heard_at) = (true, figures.fresh, now);
        }
        let progress = telling.progress(figures);
        if progress != telling.heard {
            (telling.heard, telling.heard_at) = (progress, now);
        }
        let quiet_for = now.saturating_duration_since(telling.heard_at);
        let proved = match telling.first && !self.restarted {
            true => telling.sentinel,
            false => telling.sentinel && telling.of_session && quiet_for >= SETTLE,
        };
        let end = match () {
            () if proved => End::Sentinel,
            () if !telling.first && figures.stale == 0 => End::Refreshed,
            () if telling.quiet || quiet_for < self.quiet => return None,
            // A sender that has sent nothing is probably still starting.
            () if telling.first && (self.how == How::Sentinel || figures.live == 0) => return None,
            () => {
                telling.quiet = true;
                self.ready |= ready;
                return Some(End::Quiet);
            }
        };
        (self.telling, self.ready, self.restarted) = (None, true, false);
        Some(end)
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

    fn after_a_restart(how: How, now: Instant) -> EndOfTable {
        let mut end = EndOfTable::new(how, QUIET);
        // It has been ready: an earlier table was complete.
        end.begin(now, &figures(0, 0, 0));
        end.ready = true;
        end.begin(now, &figures(10, 10, 0));
        end
    }

    #[test]
    fn after_a_panic_the_plain_sentinel_is_no_proof() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Either, QUIET);
        end.restarted();
        end.begin(now, &figures(0, 0, 0));
        end.sentinel();
        assert_eq!(end.reached(at(now, 0), &figures(1, 0, 0)), None);
        end.sentinel_of_session();
        assert_eq!(end.reached(at(now, 1_000), &figures(1, 0, 0)), None);
        assert_eq!(end.reached(at(now, 2_100), &figures(1, 0, 0)), Some(End::Sentinel));
        end.begin(at(now, 9_000), &figures(0, 0, 0));
        end.sentinel();
        assert_eq!(end.reached(at(now, 9_000), &figures(1, 0, 0)), Some(End::Sentinel));
    }

    #[test]
    fn a_first_table_ends_with_its_sentinel_at_once() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Either, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert_eq!(end.reached(now, &figures(10, 0, 0)), None);
        end.sentinel();
        assert_eq!(end.reached(now, &figures(10, 0, 0)), Some(End::Sentinel));
        assert_eq!(end.reached(at(now, 60_000), &figures(10, 0, 0)), None, "once");
    }

    #[test]
    fn without_a_sentinel_a_quiet_time_gives_the_first_readiness_and_a_later_sentinel_the_proof() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Either, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert_eq!(end.reached(at(now, 60_000), &figures(0, 0, 0)), None, "an empty table has no end");
        assert_eq!(end.reached(at(now, 61_000), &figures(7, 0, 0)), None);
        assert_eq!(end.reached(at(now, 65_900), &figures(7, 0, 0)), None);
        assert_eq!(end.reached(at(now, 66_000), &figures(7, 0, 0)), Some(End::Quiet));
        assert!(!end.waits() && !end.is_unproved(), "nothing is stale");
        assert_eq!(end.reached(at(now, 99_000), &figures(7, 0, 0)), None, "once");
        end.sentinel();
        assert_eq!(end.reached(at(now, 99_000), &figures(9, 0, 0)), Some(End::Sentinel));
    }

    #[test]
    fn no_quiet_time_and_no_old_sentinel_sweeps_whatever_the_key_says() {
        for how in [How::Either, How::Sentinel, How::Quiet] {
            let now = Instant::now();
            let mut end = after_a_restart(how, now);
            end.sentinel();
            assert_eq!(end.reached(at(now, 5_000), &figures(10, 9, 1)), None);
            assert_eq!(end.reached(at(now, 10_000), &figures(10, 9, 1)), Some(End::Quiet), "{how:?}");
            assert!(end.is_unproved());
            for hour in 1..100 {
                assert_eq!(end.reached(at(now, hour * 3_600_000), &figures(10, 9, 1)), None, "{how:?}");
            }
        }
        assert!(!End::Quiet.is_complete());
    }

    #[test]
    fn a_sentinel_of_the_session_without_the_one_that_ends_the_walk_proves_nothing() {
        let now = Instant::now();
        let mut end = after_a_restart(How::Either, now);
        end.sentinel_of_session();
        assert_eq!(end.reached(at(now, 4_000), &figures(10, 9, 0)), None);
        end.sentinel();
        assert_eq!(end.reached(at(now, 4_000), &figures(10, 9, 0)), Some(End::Sentinel));
    }

    #[test]
    fn sentinels_wait_until_no_stale_route_comes_any_more() {
        let now = Instant::now();
        let mut end = after_a_restart(How::Sentinel, now);
        end.sentinel();
        end.sentinel_of_session();
        assert_eq!(end.reached(at(now, 1_900), &figures(10, 10, 0)), None);
        assert_eq!(end.reached(at(now, 2_000), &figures(10, 5, 5)), None, "half of them came back");
        assert_eq!(end.reached(at(now, 3_900), &figures(10, 5, 5)), None);
        assert_eq!(end.reached(at(now, 4_000), &figures(10, 5, 5)), Some(End::Sentinel), "the rest is gone");
    }

    #[test]
    fn a_table_of_which_nothing_is_stale_any_more_needs_no_proof() {
        for how in [How::Either, How::Sentinel, How::Quiet] {
            let now = Instant::now();
            let mut end = after_a_restart(how, now);
            assert_eq!(end.reached(now, &figures(10, 1, 9)), None);
            assert_eq!(end.reached(now, &figures(10, 0, 10)), Some(End::Refreshed), "{how:?}");
        }
    }

    #[test]
    fn the_routes_of_a_session_that_ended_early_are_no_table() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Sentinel, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert_eq!(end.reached(now, &figures(3, 0, 0)), None);
        end.begin(now, &figures(3, 3, 0));
        assert_eq!(end.reached(now, &figures(3, 0, 3)), None, "all three of them came back");
        assert_eq!(end.reached(at(now, 60_000), &figures(900, 0, 3)), None);
        end.sentinel();
        assert_eq!(end.reached(at(now, 60_000), &figures(1000, 0, 3)), Some(End::Sentinel));
    }

    #[test]
    fn the_key_decides_what_makes_ready_the_first_time() {
        let now = Instant::now();
        let mut end = EndOfTable::new(How::Sentinel, QUIET);
        end.begin(now, &figures(0, 0, 0));
        assert_eq!(end.reached(at(now, 600_000), &figures(7, 0, 0)), None);
        assert_eq!(end.reached(at(now, 900_000), &figures(7, 0, 0)), None);
        let mut end = EndOfTable::new(How::Quiet, QUIET);
        end.begin(now, &figures(0, 0, 0));
        end.sentinel();
        assert_eq!(end.reached(now, &figures(7, 0, 0)), None);
        assert_eq!(end.reached(at(now, 5_000), &figures(7, 0, 0)), Some(End::Quiet));
    }
}
