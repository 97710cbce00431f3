//! When a replayed update is due.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Pace of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// With the recorded time intervals.
    Recorded,
    /// This many changes per second.
    PerSecond(f64),
}

/// Microseconds since 1970 by the system's clock.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_micros() as u64
}

/// Maps each change of a replay to its due time.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pace: Pace,
    /// When the first change is due, microseconds since 1970.
    begin_us: u64,
    /// Recorded time of the first change.
    first_us: u64,
}

impl Schedule {
    /// A schedule that starts at `begin_us` with the change recorded at `first_us`.
    pub fn new(pace: Pace, begin_us: u64, first_us: u64) -> Self {
        Self { pace, begin_us, first_us }
    }

    /// Due time of change number `k`, recorded at `recorded_us`, in microseconds since 1970.
    pub fn due_us(&self, k: u64, recorded_us: u64) -> u64 {
        let after = match self.pace {
            Pace::Recorded => recorded_us.saturating_sub(self.first_us),
            Pace::PerSecond(rate) => (k as f64 * 1e6 / rate) as u64,
        };
        self.begin_us.saturating_add(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_pace_keeps_distances_and_a_time_that_goes_back_is_due_at_once() {
        let schedule = Schedule::new(Pace::Recorded, 1_000, 500);
        assert_eq!([500, 750, 400].map(|t| schedule.due_us(9, t)), [1_000, 1_250, 1_000]);
    }

    #[test]
    fn a_rate_spreads_changes_evenly() {
        let schedule = Schedule::new(Pace::PerSecond(10_000.0), 1_000, 500);
        assert_eq!([0, 1, 10_000].map(|k| schedule.due_us(k, 500)), [1_000, 1_100, 1_001_000]);
    }
}
