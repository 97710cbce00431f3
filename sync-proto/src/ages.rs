//! How old the records of a table are. A record knows the serial of its last change; this knows the times of serials.

use std::collections::VecDeque;
use std::time::Duration;

/// Most times. Older ones are thinned out first: what changed then is reported as younger than it is, never as older.
const LIMIT: usize = 1024;
/// Shortest interval of times.
const STEP: Duration = Duration::from_millis(100);

/// When a table reached which serial.
#[derive(Debug, Clone, Default)]
pub struct Ages(VecDeque<(u64, Duration)>);

impl Ages {
    /// The table is at this serial now. To be called after each commit, or some.
    pub fn note(&mut self, serial: u64, now: Duration) {
        match self.0.back_mut() {
            Some((last, _)) if *last == serial => return,
            // Another table.
            Some((last, _)) if *last > serial => self.0.clear(),
            Some((last, at)) if now < *at + STEP => {
                *last = serial;
                return;
            }
            _ => {}
        }
        self.0.push_back((serial, now));
        if self.0.len() > LIMIT {
            let mut at = 0;
            self.0.retain(|_| {
                at += 1;
                at > LIMIT / 2 || at % 2 == 1
            });
        }
    }

    /// Age of a record that last changed at this serial.
    pub fn of(&self, serial: u64, now: Duration) -> Duration {
        let at = self.0.partition_point(|(noted, _)| *noted < serial);
        self.0.get(at).map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_is_as_old_as_the_commit_that_changed_it() {
        let mut ages = Ages::default();
        assert_eq!(ages.of(5, s(1)), Duration::ZERO);
        // What is there from before counts from the start.
        ages.note(5, s(10));
        ages.note(5, s(20));
        ages.note(9, s(30));
        assert_eq!([1, 5, 6, 9].map(|serial| ages.of(serial, s(40)).as_secs()), [30, 30, 10, 10]);
        // Not noted yet.
        assert_eq!(ages.of(10, s(40)), Duration::ZERO);
        // Another table.
        ages.note(2, s(50));
        assert_eq!(ages.of(1, s(60)), s(10));
    }

    #[test]
    fn many_commits_take_no_room_and_make_nothing_older_than_it_is() {
        let mut ages = Ages::default();
        let at = |serial: u64| Duration::from_millis(serial * 10);
        for serial in 1..1_000_000 {
            ages.note(serial, at(serial));
        }
        assert!(ages.0.len() <= LIMIT);
        let now = at(1_000_000);
        let mut before = now;
        for serial in 1..1_000_000 {
            let (reported, true_age) = (ages.of(serial, now), now - at(serial));
            assert!(reported <= true_age + STEP, "{serial}: {reported:?} instead of {true_age:?}");
            assert!(reported <= before);
            before = reported;
            if true_age < s(40) {
                assert!(true_age <= reported + STEP, "{serial}: {reported:?} instead of {true_age:?}");
            }
        }
        assert!(ages.of(1, now) > now / 2, "the oldest are still reported as old");
    }
}
