//! Rate limits of the ICMP messages that the router itself sends (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
//!
//! Each kind of message has a token bucket for each port and one for all ports: bursts (traceroute) are answered and floods are not. No two
//! kinds share a bucket, so a scan of unreachable addresses never costs a "too big", without which path MTU discovery fails (RFC 8201 §4).
//! Workers send errors about forwarded packets, the control thread sends the others; no kind is sent by both.

use std::time::Instant;

use serde::Deserialize;

pub use crate::packet::icmp_kind::Kind;

/// `[icmp]`: rate limits of ICMP messages, of each kind by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages of a kind per second about packets of one port.
    pub per_port: u32,
    /// Messages of a kind per second, all ports together.
    pub total: u32,
    /// Burst size of these token buckets.
    pub burst: u32,
    /// Other limits of [`Kind::Unreachable`].
    pub unreachable: Own,
    /// Other limits of [`Kind::TooBig`].
    pub too_big: Own,
    /// Other limits of [`Kind::TimeExceeded`].
    pub time_exceeded: Own,
    /// Other limits of [`Kind::ParameterProblem`].
    pub parameter_problem: Own,
    /// Other limits of [`Kind::PortUnreachable`].
    pub port_unreachable: Own,
    /// Other limits of [`Kind::EchoReply`].
    pub echo_reply: Own,
}

/// `[icmp.KIND]`: limits of one kind where they differ from those of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// Messages per second about packets of one port.
    pub per_port: Option<u32>,
    /// Messages per second, all ports together.
    pub total: Option<u32>,
    /// Burst size.
    pub burst: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        // Monitoring pings often, and costs nobody but the control thread.
        let echo_reply = Own { per_port: Some(1_000), total: Some(5_000), burst: Some(200) };
        Limits {
            per_port: 200,
            total: 1_000,
            burst: 50,
            unreachable: Own::default(),
            too_big: Own::default(),
            time_exceeded: Own::default(),
            parameter_problem: Own::default(),
            port_unreachable: Own::default(),
            echo_reply,
        }
    }
}

/// The limits of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    per_port: u32,
    total: u32,
    burst: u32,
}

impl Limits {
    /// The share of one of `workers` workers.
    pub fn share(self, workers: u32) -> Limits {
        let part = |whole: u32| whole.div_ceil(workers.max(1));
        let own = |own: Own| Own {
            per_port: own.per_port.map(part),
            total: own.total.map(part),
            burst: own.burst.map(part),
        };
        Limits {
            per_port: part(self.per_port),
            total: part(self.total),
            burst: part(self.burst),
            unreachable: own(self.unreachable),
            too_big: own(self.too_big),
            time_exceeded: own(self.time_exceeded),
            parameter_problem: own(self.parameter_problem),
            port_unreachable: own(self.port_unreachable),
            echo_reply: own(self.echo_reply),
        }
    }

    fn of(&self, kind: Kind) -> Rates {
        let own = match kind {
            Kind::Unreachable => self.unreachable,
            Kind::TooBig => self.too_big,
            Kind::TimeExceeded => self.time_exceeded,
            Kind::ParameterProblem => self.parameter_problem,
            Kind::PortUnreachable => self.port_unreachable,
            Kind::EchoReply => self.echo_reply,
        };
        Rates {
            per_port: own.per_port.unwrap_or(self.per_port),
            total: own.total.unwrap_or(self.total),
            burst: own.burst.unwrap_or(self.burst),
        }
    }
}

/// Tokens are counted in thousandths, so that low rates refill too.
const TOKEN: u64 = 1_000;

#[derive(Debug, Clone)]
struct Bucket {
    rate: u32,
    full: u64,
    level: u64,
    /// Milliseconds since the start when it was refilled.
    filled: u64,
}

impl Bucket {
    fn new(rate: u32, burst: u32) -> Bucket {
        // A rate of 0 switches the messages off.
        let full = if rate == 0 { 0 } else { u64::from(burst.max(1)) * TOKEN };
        Bucket { rate, full, level: full, filled: 0 }
    }

    fn has_token(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.filled);
        self.filled = now;
        self.level = self.level.saturating_add(passed.saturating_mul(u64::from(self.rate))).min(self.full);
        self.level >= TOKEN
    }
}

/// The buckets of one kind.
#[derive(Debug)]
struct Buckets {
    total: Bucket,
    ports: Box<[Bucket]>,
}

/// The token buckets.
#[derive(Debug)]
pub struct Limiter {
    kinds: [Buckets; Kind::COUNT],
    start: Option<Instant>,
    /// Milliseconds since the start.
    now: u64,
}

impl Limiter {
    /// Full buckets for `ports` ports.
    pub fn new(limits: Limits, ports: usize) -> Limiter {
        let buckets = |kind| {
            let Rates { per_port, total, burst } = limits.of(kind);
            Buckets {
                total: Bucket::new(total, burst),
                ports: vec![Bucket::new(per_port, burst); ports].into(),
            }
        };
        Limiter { kinds: Kind::ALL.map(buckets), start: None, now: 0 }
    }

    /// Updates the clock, by which buckets refill.
    pub fn tick(&mut self, now: Instant) {
        let start = *self.start.get_or_insert(now);
        self.now = now.saturating_duration_since(start).as_millis() as u64;
    }

    /// Takes one token of the port and one of all; false if either is empty.
    pub fn allows(&mut self, port: u16, kind: Kind) -> bool {
        let Some(Buckets { total, ports }) = self.kinds.get_mut(kind as usize) else { return false };
        let Some(bucket) = ports.get_mut(usize::from(port)) else { return false };
        if !bucket.has_token(self.now) || !total.has_token(self.now) {
            return false;
        }
        bucket.level -= TOKEN;
        total.level -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits(per_port: u32, total: u32, burst: u32) -> Limits {
        Limits { per_port, total, burst, echo_reply: Own::default(), ..Limits::default() }
    }

    fn taken(limiter: &mut Limiter, port: u16, kind: Kind) -> usize {
        (0..100).filter(|_| limiter.allows(port, kind)).count()
    }

    #[test]
    fn a_rate_of_0_sends_nothing() {
        let mut limiter = Limiter::new(Limits { per_port: 0, ..Limits::default() }, 1);
        limiter.tick(Instant::now());
        assert!(!limiter.allows(0, Kind::TooBig));
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut limiter = Limiter::new(limits(10, 100, 5), 2);
        let mut now = Instant::now();
        limiter.tick(now);
        assert_eq!(taken(&mut limiter, 0, Kind::Unreachable), 5);
        for _ in 0..1_000 {
            now += Duration::from_millis(1);
            limiter.tick(now);
        }
        assert_eq!(taken(&mut limiter, 0, Kind::Unreachable), 5, "no more than a burst is saved up");
        let mut second = 0;
        for _ in 0..1_000 {
            now += Duration::from_millis(1);
            limiter.tick(now);
            second += taken(&mut limiter, 0, Kind::Unreachable);
        }
        assert_eq!(second, 10);
    }

    #[test]
    fn one_port_cannot_use_up_more_than_the_sum() {
        let mut limiter = Limiter::new(limits(10, 10, 5), 2);
        assert_eq!(taken(&mut limiter, 0, Kind::TimeExceeded), 5);
        assert!(!limiter.allows(1, Kind::TimeExceeded));
    }

    #[test]
    fn no_kind_uses_the_tokens_of_another() {
        let mut limiter = Limiter::new(limits(10, 10, 5), 2);
        for kind in Kind::ALL {
            assert_eq!(taken(&mut limiter, 1, kind), 5, "{}", kind.name());
        }
        assert!(!limiter.allows(7, Kind::TooBig), "there is no such port");
    }

    #[test]
    fn a_kind_may_have_limits_of_its_own() {
        let too_big = Own { burst: Some(7), ..Own::default() };
        let mut limiter = Limiter::new(Limits { too_big, ..limits(10, 100, 5) }, 1);
        assert_eq!([Kind::TooBig, Kind::TimeExceeded].map(|kind| taken(&mut limiter, 0, kind)), [7, 5]);
        let shared = Limits { too_big, ..limits(10, 100, 5) }.share(2);
        assert_eq!((shared.per_port, shared.total, shared.burst, shared.too_big.burst), (5, 50, 3, Some(4)));
    }
}
