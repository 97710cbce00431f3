//! Route changes at exact times: drawn prefixes alternate between two gateways.

use std::str::FromStr;

use ipnet::IpNet;

use super::{Rule, mix};

/// A phase with a steady rate, written `10000/s:30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// Changes per second.
    pub rate: u64,
    /// Duration in microseconds.
    pub lasts_us: u64,
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected RATE/s:SECONDSs such as 10000/s:30s, found {text:?}");
        let (rate, lasts) = text.split_once("/s:").ok_or_else(wrong)?;
        let rate: u64 = rate.parse().map_err(|_| wrong())?;
        let seconds: f64 = lasts.strip_suffix('s').unwrap_or(lasts).parse().map_err(|_| wrong())?;
        if rate == 0 || rate > 1_000_000 || !(0.0..=86_400.0).contains(&seconds) {
            return Err(format!(
                "expected 1 to 1000000 changes per second for at most a day, found {text:?}"
            ));
        }
        Ok(Self { rate, lasts_us: (seconds * 1e6) as u64 })
    }
}

/// One change: from `at_us` after the first change on, the prefix uses this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Microseconds after the first change.
    pub at_us: u64,
    /// The prefix.
    pub prefix: IpNet,
    /// The gateway's number.
    pub gateway: u64,
}

/// Draws `count` of these prefixes, each at most once, in an order that depends on the seed alone.
pub fn draw(prefixes: &[IpNet], count: usize, seed: u64) -> Vec<IpNet> {
    // The first steps of a Fisher-Yates shuffle.
    let mut pool = prefixes.to_vec();
    let count = count.min(pool.len());
    for place in 0..count {
        let left = (pool.len() - place) as u64;
        let other = place + (mix(seed ^ mix(place as u64)) % left) as usize;
        pool.swap(place, other);
    }
    pool.truncate(count);
    pool
}

/// All changes of the phases, in order of time. Change *k* moves flapping prefix *k* modulo their number: away from its
/// gateway on even rounds, back to it on odd ones.
pub fn changes<'a>(
    flapping: &'a [IpNet],
    rule: &'a Rule,
    phases: &'a [Phase],
) -> impl Iterator<Item = Change> + 'a {
    let mut begin = 0;
    let times = phases.iter().flat_map(move |phase| {
        let from = begin;
        begin += phase.lasts_us;
        let count = phase.rate * phase.lasts_us / 1_000_000;
        (0..count).map(move |i| from + i * 1_000_000 / phase.rate)
    });
    let rounds = (0u64..).flat_map(move |round| flapping.iter().map(move |prefix| (round, *prefix)));
    times.zip(rounds).map(|(at_us, (round, prefix))| {
        let gateway = if round % 2 == 0 { rule.other_gateway(prefix) } else { rule.gateway(prefix) };
        Change { at_us, prefix, gateway }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablegen::rule::tests::rule;
    use std::collections::HashSet;

    fn prefixes() -> Vec<IpNet> {
        (0..200u8).map(|i| IpNet::new([10, i, 0, 0].into(), 16).unwrap()).collect()
    }

    #[test]
    fn phases_follow_each_other_at_exact_times() {
        let phases: Vec<Phase> =
            ["1000/s:0.003s", "10000/s:0.0002s"].iter().map(|p| p.parse().unwrap()).collect();
        let times: Vec<u64> = changes(&prefixes(), &rule(), &phases).map(|c| c.at_us).collect();
        assert_eq!(times, [0, 1000, 2000, 3000, 3100]);
    }

    #[test]
    fn a_prefix_goes_away_and_comes_back() {
        let (rule, flapping) = (rule(), draw(&prefixes(), 3, 7));
        let phase = [Phase { rate: 1000, lasts_us: 9000 }];
        let all: Vec<Change> = changes(&flapping, &rule, &phase).collect();
        assert_eq!(all.len(), 9);
        for (k, change) in all.iter().enumerate() {
            assert_eq!(change.prefix, flapping[k % 3]);
            let home = change.gateway == rule.gateway(change.prefix);
            assert_eq!(home, (k / 3) % 2 == 1);
        }
    }

    #[test]
    fn drawn_prefixes_are_distinct_and_depend_on_the_seed() {
        let all = prefixes();
        let drawn = draw(&all, 50, 1);
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 50);
        assert_eq!(drawn, draw(&all, 50, 1));
        assert_ne!(drawn, draw(&all, 50, 2));
        assert_eq!(draw(&all, 1000, 1).len(), all.len());
    }

    #[test]
    fn a_phase_that_makes_no_sense_is_refused() {
        for text in ["", "10", "0/s:1s", "x/s:1s", "10/s:-1s", "10/s:x", "10/s:NaNs"] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
    }
}
