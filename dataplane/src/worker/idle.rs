//! What a worker does without traffic: [`Policy`] as configured, [`Rest`] as its state.

use std::time::Duration;

use serde::Deserialize;

/// Idle policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Polls without pause: lowest latency, needs a core of its own.
    #[default]
    Spin,
    /// Yields the CPU between empty polls.
    Yield,
    /// Sleeps between empty polls: longer while nothing arrives, up to [`LONGEST`], shorter the more packets arrive.
    Sleep,
}

/// Longest sleep; bounds the latency that the policy adds.
pub const LONGEST: Duration = Duration::from_micros(100);
const SHORTEST: Duration = Duration::from_micros(5);
/// Packets in one turn that count as a burst: more will follow, and the receive queue must not overflow.
const BURST: usize = 16;
/// Empty polls before the first sleep after a burst: a gap between bursts is not idleness.
const AFTER_BURST: u32 = 64;
/// The same after fewer packets. A poll of several virtual ports costs half a microsecond, which would dominate the load of single packets.
const AFTER_FEW: u32 = 4;
/// Sleeps after which a worker drops its generation.
const ASLEEP: u32 = 1_000;

/// What to do after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleAction {
    /// Poll again at once.
    Poll,
    /// Yield the CPU first.
    Yield,
    /// Sleep first.
    Sleep(Duration),
    /// Sleep first, without holding a generation.
    SleepDeeply(Duration),
}

/// How long nothing has arrived, and how long the next sleep is.
///
/// A sleep without packets doubles the next one, a few packets halve it, so there are about as many sleeps as arrivals.
#[derive(Debug)]
pub struct Rest {
    policy: Policy,
    /// Empty polls left before the next sleep.
    polls: u32,
    pause: Duration,
    /// Sleeps since the last packet.
    sleeps: u32,
}

impl Rest {
    /// Awake.
    pub fn new(policy: Policy) -> Rest {
        Rest { policy, polls: AFTER_BURST, pause: SHORTEST, sleeps: 0 }
    }

    /// What to do after a turn that brought `packets`.
    #[inline]
    pub fn after(&mut self, packets: usize) -> IdleAction {
        if packets != 0 {
            self.sleeps = 0;
            (self.polls, self.pause) = if packets >= BURST {
                (AFTER_BURST, SHORTEST)
            } else {
                (AFTER_FEW, (self.pause / 2).max(SHORTEST))
            };
            return IdleAction::Poll;
        }
        match self.policy {
            Policy::Spin => IdleAction::Poll,
            Policy::Yield => IdleAction::Yield,
            Policy::Sleep if self.polls != 0 => {
                self.polls -= 1;
                IdleAction::Poll
            }
            Policy::Sleep => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST);
                self.sleeps = self.sleeps.saturating_add(1);
                if self.sleeps > ASLEEP { IdleAction::SleepDeeply(pause) } else { IdleAction::Sleep(pause) }
            }
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
            assert_eq!((spin.after(0), gentle.after(0)), (IdleAction::Poll, IdleAction::Yield));
        }
    }

    /// Number of empty turns until the next sleep, and its length.
    fn until_sleep(rest: &mut Rest) -> (u32, Duration) {
        (0..)
            .find_map(|polls| match rest.after(0) {
                IdleAction::Sleep(pause) | IdleAction::SleepDeeply(pause) => Some((polls, pause)),
                _ => None,
            })
            .unwrap()
    }

    #[test]
    fn sleep_backs_off_to_a_bound_and_a_burst_wakes_it() {
        let mut rest = Rest::new(Policy::Sleep);
        assert_eq!(until_sleep(&mut rest), (AFTER_BURST, SHORTEST));
        let slept: Vec<Duration> = (0..2_000)
            .map(|_| until_sleep(&mut rest))
            .map(|(polls, pause)| {
                assert_eq!(polls, 0);
                pause
            })
            .collect();
        assert!(slept.is_sorted() && slept.last() == Some(&LONGEST));
        assert_eq!(rest.after(0), IdleAction::SleepDeeply(LONGEST));
        assert_eq!(rest.after(BURST), IdleAction::Poll);
        assert_eq!(until_sleep(&mut rest), (AFTER_BURST, SHORTEST));
    }

    #[test]
    fn packets_that_come_one_by_one_cost_about_a_sleep_each() {
        for gap in [10, 25, 60, 250].map(Duration::from_micros) {
            let mut rest = Rest::new(Policy::Sleep);
            let (mut slept, mut sleeps, mut packets) = (Duration::ZERO, 0, 0);
            while packets < 1_000 {
                let arrived = (slept.as_nanos() / gap.as_nanos()) as usize - packets;
                packets += arrived;
                if let IdleAction::Sleep(pause) | IdleAction::SleepDeeply(pause) = rest.after(arrived) {
                    slept += pause;
                    sleeps += 1;
                }
            }
            let fewest = slept.as_nanos() / LONGEST.as_nanos();
            assert!(sleeps <= 2 * 1_000.max(fewest), "{gap:?}: {sleeps} sleeps");
        }
    }
}
