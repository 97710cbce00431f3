//! ICMP errors about dropped packets, and their rate limits.
//!
//! RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f): a token bucket for each port and one for all, so that bursts (traceroute) are answered and floods
//! are not. [`crate::packet::icmp_error`] decides which packets may cause an error.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::options;
use super::port::{PortFacts, error_source_v4, error_source_v6};
use crate::packet::ethernet::{self, Frame};
use crate::packet::icmp_error::{Error, build_v4, build_v6, may_answer_v4, may_answer_v6};
use crate::packet::{ipv4, ipv6};
use crate::reason::Reason;

/// `[icmp]`: rate limits of ICMP errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Errors per second about packets of one port.
    pub per_port: u32,
    /// Errors per second in total.
    pub total: u32,
    /// Burst size of both token buckets.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { per_port: 200, total: 1_000, burst: 50 }
    }
}

impl Limits {
    /// The share of one of `workers` workers.
    pub fn share(self, workers: u32) -> Limits {
        let part = |whole: u32| whole.div_ceil(workers.max(1));
        Limits { per_port: part(self.per_port), total: part(self.total), burst: part(self.burst) }
    }
}

/// Tokens are counted in thousandths, so that low rates refill too.
const TOKEN: u64 = 1_000;

#[derive(Debug, Clone)]
struct Bucket {
    rate: u32,
    burst: u32,
    level: u64,
}

impl Bucket {
    fn new(rate: u32, burst: u32) -> Bucket {
        Bucket { rate, burst, level: u64::from(burst) * TOKEN }
    }

    fn refill(&mut self, milliseconds: u64) {
        let level = self.level.saturating_add(milliseconds.saturating_mul(u64::from(self.rate)));
        self.level = level.min(u64::from(self.burst) * TOKEN);
    }
}

/// The token buckets.
#[derive(Debug)]
pub struct Limiter {
    total: Bucket,
    ports: Box<[Bucket]>,
    filled: Option<Instant>,
}

impl Limiter {
    /// Full buckets for `ports` ports.
    pub fn new(limits: Limits, ports: usize) -> Limiter {
        Limiter {
            total: Bucket::new(limits.total, limits.burst.max(1)),
            ports: vec![Bucket::new(limits.per_port, limits.burst.max(1)); ports].into(),
            filled: None,
        }
    }

    /// Refills the buckets by the elapsed time.
    pub fn refill(&mut self, now: Instant) {
        let Some(before) = self.filled else {
            self.filled = Some(now);
            return;
        };
        let passed = now.saturating_duration_since(before).as_millis() as u64;
        if passed != 0 {
            self.filled = Some(before + Duration::from_millis(passed));
            self.total.refill(passed);
            self.ports.iter_mut().for_each(|bucket| bucket.refill(passed));
        }
    }

    /// Takes one token of the port and one of all; false if either is empty.
    pub fn allows(&mut self, port: u16) -> bool {
        let Some(bucket) = self.ports.get_mut(usize::from(port)) else { return false };
        if bucket.level < TOKEN || self.total.level < TOKEN {
            return false;
        }
        bucket.level -= TOKEN;
        self.total.level -= TOKEN;
        true
    }
}

/// Whether this drop reason causes an ICMP error.
#[inline]
pub fn is_told(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TtlExceeded
            | Reason::NoRoute
            | Reason::Unreachable
            | Reason::Prohibited
            | Reason::NeighborUnreachable
            | Reason::TooBig
            | Reason::SourceRoute
            | Reason::BadOption
            | Reason::LinkLocal
    )
}

/// RFC 792, RFC 1812 §4.3.3, §5.2.7.1.
fn error_v4(reason: Reason, mtu: u16, header: &ipv4::Header<'_>) -> Option<Error> {
    let unreachable = |code| Error { kind: 3, code, argument: 0 };
    Some(match reason {
        Reason::TtlExceeded => Error { kind: 11, code: 0, argument: 0 },
        Reason::NoRoute => unreachable(0),
        Reason::Unreachable | Reason::NeighborUnreachable => unreachable(1),
        // RFC 1191 §4: the next hop's MTU in the low half.
        Reason::TooBig => Error { argument: mtu.into(), ..unreachable(4) },
        Reason::SourceRoute => unreachable(5),
        Reason::Prohibited => unreachable(13),
        Reason::BadOption => {
            let pointer = options::check(header).err().map_or(0, |refused| refused.pointer);
            Error { kind: 12, code: 0, argument: u32::from(pointer) << 24 }
        }
        _ => return None,
    })
}

/// RFC 4443 §3.
fn error_v6(reason: Reason, mtu: u16) -> Option<Error> {
    let unreachable = |code| Error { kind: 1, code, argument: 0 };
    Some(match reason {
        Reason::TtlExceeded => Error { kind: 3, code: 0, argument: 0 },
        Reason::NoRoute => unreachable(0),
        Reason::Prohibited => unreachable(1),
        // Beyond scope of source address.
        Reason::LinkLocal => unreachable(2),
        Reason::Unreachable | Reason::NeighborUnreachable => unreachable(3),
        Reason::TooBig => Error { kind: 2, code: 0, argument: mtu.into() },
        _ => return None,
    })
}

/// Writes the error about a frame that arrived on the port with index `port` into `room`, without MAC addresses; false if none is due.
pub fn write(
    room: &mut Vec<u8>,
    frame: &[u8],
    reason: Reason,
    mtu: u16,
    ports: &[PortFacts],
    port: u16,
) -> bool {
    let (Ok(frame), Some(facts)) = (Frame::new_checked(frame), ports.get(usize::from(port))) else {
        return false;
    };
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let Ok(header) = ipv4::Header::new_checked(bytes, usize::from(u16::MAX)) else { return false };
            let Some(error) = error_v4(reason, mtu, &header).filter(|_| may_answer_v4(&header)) else {
                return false;
            };
            let source = error_source_v4(ports, facts, header.source());
            build_v4(room, error, source, &header, bytes);
            true
        }
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Header::new_checked(bytes, usize::MAX) else { return false };
            let to_groups = reason == Reason::TooBig;
            let Some(error) = error_v6(reason, mtu).filter(|_| may_answer_v6(&header, to_groups)) else {
                return false;
            };
            let source = error_source_v6(ports, facts, header.source());
            build_v6(room, error, source, &header, bytes);
            true
        }
        _ => false,
    }
}

/// Writes "too big" about a packet of this host itself into `room`, as [`write()`] does. Its source is the packet's destination: a kernel
/// drops packets from its own addresses.
pub fn write_to_self(room: &mut Vec<u8>, frame: &[u8], mtu: u16) -> bool {
    let Ok(frame) = Frame::new_checked(frame) else { return false };
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let Ok(header) = ipv4::Header::new_checked(bytes, bytes.len()) else { return false };
            let Some(error) = error_v4(Reason::TooBig, mtu, &header).filter(|_| may_answer_v4(&header))
            else {
                return false;
            };
            build_v4(room, error, header.destination(), &header, bytes);
            true
        }
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Header::new_checked(bytes, bytes.len()) else { return false };
            let Some(error) = error_v6(Reason::TooBig, mtu).filter(|_| may_answer_v6(&header, false)) else {
                return false;
            };
            build_v6(room, error, header.destination(), &header, bytes);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut limiter = Limiter::new(Limits { per_port: 10, total: 100, burst: 5 }, 2);
        let mut now = Instant::now();
        limiter.refill(now);
        let allowed = |limiter: &mut Limiter| (0..100).filter(|_| limiter.allows(0)).count();
        assert_eq!(allowed(&mut limiter), 5);
        for _ in 0..1_000 {
            now += Duration::from_millis(1);
            limiter.refill(now);
        }
        assert_eq!(allowed(&mut limiter), 5, "no more than a burst is saved up");
        let mut second = 0;
        for _ in 0..1_000 {
            now += Duration::from_millis(1);
            limiter.refill(now);
            second += allowed(&mut limiter);
        }
        assert_eq!(second, 10);
    }

    #[test]
    fn one_port_cannot_use_up_more_than_the_sum() {
        let mut limiter = Limiter::new(Limits { per_port: 10, total: 10, burst: 5 }, 2);
        assert_eq!((0..9).filter(|_| limiter.allows(0)).count(), 5);
        assert!(!limiter.allows(1));
    }
}
