//! The timers of a node's role in one table, which yields the time of the next call.

use std::time::Duration;

/// The timers of all roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Agent: offer a batch to the sink again.
    SinkRetry,
    /// Agent: empty the sink, because there is no capable server.
    Expiry,
    /// Relay: stop being ready after the loss of all servers.
    Readiness,
    /// Clients downstream: stop waiting for one that is gone, or for what it has to install.
    Acknowledge,
    /// Route server: continue work at once.
    Work,
    /// Route server: refresh or expire the lease of an origin.
    Lease,
    /// Route server: routes of an origin become eligible for best path, or cease to be.
    Eligibility,
    /// Route server: sweep the routes of a lost origin.
    Sweep,
    /// Route server: become ready without what is missing.
    ReadyTimeout,
}

const COUNT: usize = Timer::ReadyTimeout as usize + 1;

/// Due time of each timer; none: not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timers([Option<Duration>; COUNT]);

impl Timers {
    /// Sets a timer, or stops it.
    pub fn set(&mut self, timer: Timer, due: Option<Duration>) {
        if let Some(at) = self.0.get_mut(timer as usize) {
            *at = due;
        }
    }

    /// When a timer is due, if it is set.
    pub fn get(&self, timer: Timer) -> Option<Duration> {
        self.0.get(timer as usize).copied().flatten()
    }

    /// Whether a timer is set and due by `now`.
    pub fn is_due(&self, timer: Timer, now: Duration) -> bool {
        self.get(timer).is_some_and(|at| at <= now)
    }

    /// When the first of them is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_that_is_set_comes_first() {
        let mut timers = Timers::default();
        assert_eq!(timers.next_timeout(), None);
        timers.set(Timer::Lease, Some(Duration::from_secs(3)));
        timers.set(Timer::ReadyTimeout, Some(Duration::from_secs(2)));
        assert_eq!(timers.next_timeout(), Some(Duration::from_secs(2)));
        assert!(timers.is_due(Timer::ReadyTimeout, Duration::from_secs(2)));
        assert!(!timers.is_due(Timer::Lease, Duration::from_secs(2)));
        timers.set(Timer::ReadyTimeout, None);
        assert_eq!(timers.next_timeout(), Some(Duration::from_secs(3)));
    }
}
