//! What a worker does when nothing comes: [`Policy`] as configured, [`Rest`] as it goes.

use std::time::Duration;

use serde::Deserialize;

/// Idle policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Polls without a pause: shortest delay, a core of its own.
    #[default]
    Spin,
    /// Lets others run between polls that found nothing.
    Yield,
    /// Sleeps between polls that found nothing, longer and longer up to [`LONGEST`].
    Sleep,
}

/// Longest sleep, which bounds the delay that the policy adds.
pub const LONGEST: Duration = Duration::from_micros(100);
const SHORTEST: Duration = Duration::from_micros(5);
/// Polls that find nothing before the first sleep: a gap between bursts is no idleness.
const PATIENCE: u32 = 64;
/// Sleeps after which a worker counts as asleep and lets go of its generation.
const ASLEEP: u32 = 1_000;

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The next turn at once.
    Poll,
    /// Let others run first.
    Yield,
    /// Sleep first.
    Sleep(Duration),
    /// Sleep first, without a generation.
    SleepDeeply(Duration),
}

/// How long nothing has come.
#[derive(Debug)]
pub struct Rest {
    policy: Policy,
    empty: u32,
}

impl Rest {
    /// Awake.
    pub fn new(policy: Policy) -> Rest {
        Rest { policy, empty: 0 }
    }

    /// What to do after a turn that brought `packets`.
    #[inline]
    pub fn after(&mut self, packets: usize) -> Action {
        if packets != 0 {
            self.empty = 0;
            return Action::Poll;
        }
        self.empty = self.empty.saturating_add(1);
        match self.policy {
            Policy::Spin => Action::Poll,
            Policy::Yield => Action::Yield,
            Policy::Sleep => match self.empty.checked_sub(PATIENCE) {
                None => Action::Poll,
                Some(sleeps) if sleeps >= ASLEEP => Action::SleepDeeply(LONGEST),
                Some(sleeps) => Action::Sleep((SHORTEST * (1 << (sleeps / 8).min(8))).min(LONGEST)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_never_sleeps_and_yield_always_yields() {
        let (mut spin, mut gentle) = (Rest::new(Policy::Spin), Rest::new(Policy::Yield));
        for _ in 0..10_000 {
            assert_eq!((spin.after(0), gentle.after(0)), (Action::Poll, Action::Yield));
        }
    }

    #[test]
    fn sleep_backs_off_to_a_bound_and_a_packet_wakes_it() {
        let mut rest = Rest::new(Policy::Sleep);
        let mut slept = Vec::new();
        for _ in 0..2_000 {
            match rest.after(0) {
                Action::Sleep(pause) | Action::SleepDeeply(pause) => slept.push(pause),
                _ => assert!(slept.is_empty()),
            }
        }
        assert!(slept.is_sorted() && slept.first() == Some(&SHORTEST) && slept.last() == Some(&LONGEST));
        assert_eq!(rest.after(0), Action::SleepDeeply(LONGEST));
        assert_eq!(rest.after(3), Action::Poll);
        assert_eq!(rest.after(0), Action::Poll);
    }
}
