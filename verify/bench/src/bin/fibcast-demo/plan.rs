//! When what happens. All times count from the first route change, whose wall-clock time is fixed before anything starts, so that a
//! server that comes back, and the generator, know which change is due when.

use std::time::Duration;

/// A stretch of time with a steady rate of route changes.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// Route changes per second.
    pub rate: u32,
    /// How long.
    pub lasts: Duration,
}

/// The whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// From the start of the programs to the first change: time for the full table and the first round of packets.
    pub quiet: Duration,
    /// The changes.
    pub phases: Vec<Phase>,
    /// The primary is killed.
    pub kill: Duration,
    /// It is started again.
    pub restart: Duration,
    /// Packets still flow after the last change for this long.
    pub calm: Duration,
}

impl Plan {
    /// 38 s of changes; the 30 s at 10,000 changes/s hold the kill and the return.
    pub fn full() -> Plan {
        Plan {
            quiet: Duration::from_secs(11),
            phases: vec![phase(1_000, 8), phase(10_000, 30)],
            kill: Duration::from_secs(18),
            restart: Duration::from_secs(24),
            calm: Duration::from_secs(2),
        }
    }

    /// For CI: the same with less of everything.
    pub fn short() -> Plan {
        Plan {
            quiet: Duration::from_secs(11),
            phases: vec![phase(1_000, 3), phase(10_000, 15)],
            kill: Duration::from_secs(6),
            restart: Duration::from_secs(9),
            calm: Duration::from_secs(2),
        }
    }

    /// With routing daemons, which load and change routes at their own pace: rates that bgpd and zebra keep up with on two cores, and time for a
    /// zebra to tell its whole table again after the return.
    pub fn with_daemons(short: bool) -> Plan {
        let (slow, fast) = if short { (3, 17) } else { (8, 37) };
        Plan {
            quiet: Duration::from_secs(14),
            phases: vec![phase(500, slow), phase(2_000, fast)],
            kill: Duration::from_secs(slow + 6),
            restart: Duration::from_secs(slow + 10),
            calm: Duration::from_secs(2),
        }
    }

    /// When the last change is due.
    pub fn last_change(&self) -> Duration {
        self.phases.iter().map(|phase| phase.lasts).sum()
    }

    /// The rate that is due at a time.
    pub fn rate_at(&self, at: Duration) -> u32 {
        let mut begin = Duration::ZERO;
        for phase in &self.phases {
            if at >= begin && at < begin + phase.lasts {
                return phase.rate;
            }
            begin += phase.lasts;
        }
        0
    }
}

fn phase(rate: u32, seconds: u64) -> Phase {
    Phase { rate, lasts: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_killed_and_restarted_in_the_middle_of_the_changes_of_daemons() {
        for plan in [Plan::with_daemons(false), Plan::with_daemons(true)] {
            assert_eq!((plan.rate_at(plan.kill), plan.rate_at(plan.restart)), (2_000, 2_000));
            assert!(plan.kill < plan.restart && plan.restart < plan.last_change());
        }
    }

    #[test]
    fn both_plans_kill_and_restart_the_primary_in_the_middle_of_the_fast_changes() {
        for plan in [Plan::full(), Plan::short()] {
            assert_eq!(plan.rate_at(plan.kill), 10_000);
            assert_eq!(plan.rate_at(plan.restart), 10_000);
            assert!(plan.kill < plan.restart && plan.restart < plan.last_change());
            assert_eq!(plan.rate_at(plan.last_change()), 0);
        }
        assert!(Plan::short().last_change() + Plan::short().calm <= Duration::from_secs(30));
    }
}
