//! Packets in flight: detects losses and duplicates.
//!
//! A packet costs eight bytes here: the time at which it was sent, and what has become of it. They are written and read in the order of
//! sequence numbers, so that the processor's prefetcher follows.

use crate::traffic::signature::{SEQ_BITS, SEQ_MASK};

/// A packet that has not returned after this time is lost, unless the scenario says otherwise (RFC 2544 §23).
#[cfg(test)]
pub const LOST_AFTER_NS: u64 = 2_000_000_000;

const WAITING: u64 = 1;
const BACK: u64 = 2;
const LOST: u64 = 3;
const STATE: u64 = 3;
const STATE_BITS: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// First return.
    First {
        sent_ns: u64,
    },
    Duplicate,
    /// Returned after it was counted as lost; it stays lost.
    Late,
    /// Never sent by this process, or too long ago to tell.
    Unknown,
}

/// Tracks the latest `capacity` packets by sequence number.
#[derive(Debug)]
pub struct Ledger {
    slots: Vec<u64>,
    /// Times are kept relative to this one.
    base_ns: u64,
    next: u64,
    /// All before have returned or are lost.
    oldest: u64,
    in_flight: usize,
    lost_after_ns: u64,
    window: Option<Window>,
    pub lost: u64,
}

/// Limits packets in flight, without those that are overdue.
#[derive(Debug)]
struct Window {
    most: usize,
    /// A packet in flight for longer no longer counts.
    overdue_ns: u64,
    /// All before have returned, are lost or overdue.
    punctual: u64,
    filled: usize,
}

impl Ledger {
    /// Times must not be before `base_ns`. `window`: the most packets in flight, and when one no longer counts for it.
    pub fn new(window: Option<(usize, u64)>, lost_after_ns: u64, capacity: usize, base_ns: u64) -> Self {
        let capacity = capacity.max(window.map_or(0, |(most, _)| most)).next_power_of_two();
        let window = window.map(|(most, overdue_ns)| Window { most, overdue_ns, punctual: 0, filled: 0 });
        Self {
            slots: vec![0; capacity],
            base_ns,
            next: 0,
            oldest: 0,
            in_flight: 0,
            lost_after_ns,
            window,
            lost: 0,
        }
    }

    /// The sequence number for a packet sent now, or `None` while the window or the memory of packets in flight is full.
    #[inline(always)]
    pub fn send(&mut self, now_ns: u64) -> Option<u64> {
        if self.next - self.oldest >= self.slots.len() as u64 {
            return None;
        }
        if let Some(window) = &mut self.window {
            if window.filled >= window.most {
                return None;
            }
            window.filled += 1;
        }
        let (seq, since_ns) = (self.next, now_ns.saturating_sub(self.base_ns));
        *self.slot(seq)? = since_ns << STATE_BITS | WAITING;
        self.next += 1;
        self.in_flight += 1;
        Some(seq)
    }

    /// The whole sequence number of a packet that carries its lower bits; none if it cannot be one of the latest.
    #[inline(always)]
    pub fn whole(&self, lower: u64) -> Option<u64> {
        let near = (self.next & !SEQ_MASK) | (lower & SEQ_MASK);
        let seq = if near < self.next { near } else { near.checked_sub(1 << SEQ_BITS)? };
        (self.next - seq <= self.slots.len() as u64).then_some(seq)
    }

    /// When it was sent, for a packet that is known.
    #[inline]
    pub fn sent_ns(&self, seq: u64) -> u64 {
        let mask = self.slots.len() - 1;
        self.base_ns + (self.slots.get(seq as usize & mask).copied().unwrap_or(0) >> STATE_BITS)
    }

    #[inline(always)]
    pub fn receive(&mut self, lower: u64) -> Outcome {
        let Some(seq) = self.whole(lower) else { return Outcome::Unknown };
        let base_ns = self.base_ns;
        let Some(slot) = self.slot(seq) else { return Outcome::Unknown };
        let before = *slot;
        *slot = before & !STATE | BACK;
        match before & STATE {
            WAITING => {
                self.in_flight -= 1;
                if let Some(window) = &mut self.window {
                    window.filled -= usize::from(seq >= window.punctual);
                }
                Outcome::First { sent_ns: base_ns + (before >> STATE_BITS) }
            }
            BACK => Outcome::Duplicate,
            LOST => Outcome::Late,
            _ => Outcome::Unknown,
        }
    }

    /// Counts packets that are in flight for too long as lost, with their time of sending. Call it often; it only checks the oldest.
    #[inline]
    pub fn expire(&mut self, now_ns: u64, mut lost: impl FnMut(u64)) {
        self.expire_window(now_ns);
        let mask = self.slots.len() - 1;
        let since_ns = now_ns.saturating_sub(self.base_ns);
        while self.oldest < self.next {
            let Some(slot) = self.slots.get_mut(self.oldest as usize & mask) else { return };
            if *slot & STATE == WAITING {
                let sent_ns = *slot >> STATE_BITS;
                if since_ns.saturating_sub(sent_ns) < self.lost_after_ns {
                    return;
                }
                *slot = *slot & !STATE | LOST;
                lost(self.base_ns + sent_ns);
                self.lost += 1;
                self.in_flight -= 1;
            }
            self.oldest += 1;
        }
    }

    fn expire_window(&mut self, now_ns: u64) {
        let mask = self.slots.len() - 1;
        let since_ns = now_ns.saturating_sub(self.base_ns);
        let Some(window) = &mut self.window else { return };
        while window.punctual < self.next {
            let Some(slot) = self.slots.get(window.punctual as usize & mask) else { return };
            if *slot & STATE == WAITING {
                if since_ns.saturating_sub(*slot >> STATE_BITS) < window.overdue_ns {
                    return;
                }
                window.filled -= 1;
            }
            window.punctual += 1;
        }
    }

    pub fn sent(&self) -> u64 {
        self.next
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    #[inline(always)]
    fn slot(&mut self, seq: u64) -> Option<&mut u64> {
        let mask = self.slots.len() - 1;
        self.slots.get_mut(seq as usize & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windowed(window: usize, overdue_ns: u64) -> Ledger {
        Ledger::new(Some((window, overdue_ns)), LOST_AFTER_NS, 8, 0)
    }

    #[test]
    fn window_closes_and_opens_when_a_packet_is_back() {
        let mut ledger = windowed(2, LOST_AFTER_NS);
        assert_eq!((ledger.send(0), ledger.send(0), ledger.send(0)), (Some(0), Some(1), None));
        assert_eq!(ledger.receive(1), Outcome::First { sent_ns: 0 });
        assert_eq!(ledger.send(6), Some(2));
    }

    #[test]
    fn without_a_window_only_the_memory_of_packets_in_flight_limits() {
        let mut ledger = Ledger::new(None, LOST_AFTER_NS, 8, 0);
        assert_eq!((0..8).map_while(|now| ledger.send(now)).count(), 8);
        assert_eq!(ledger.send(8), None);
        ledger.receive(0);
        ledger.expire(9, |_| ());
        assert_eq!(ledger.send(10), Some(8));
    }

    #[test]
    fn packet_that_comes_twice_is_a_duplicate() {
        let mut ledger = windowed(4, LOST_AFTER_NS);
        ledger.send(0);
        ledger.receive(0);
        ledger.expire(2, |_| ());
        assert_eq!(ledger.receive(0), Outcome::Duplicate);
    }

    #[test]
    fn packet_not_back_in_time_is_lost_once_and_late_if_it_comes() {
        let mut ledger = Ledger::new(Some((1, LOST_AFTER_NS)), LOST_AFTER_NS, 8, 5);
        ledger.send(10);
        ledger.expire(10 + LOST_AFTER_NS - 1, |_| ());
        assert_eq!((ledger.lost, ledger.in_flight()), (0, 1));
        let mut lost = Vec::new();
        ledger.expire(10 + LOST_AFTER_NS, |sent_ns| lost.push(sent_ns));
        ledger.expire(11 + LOST_AFTER_NS, |sent_ns| lost.push(sent_ns));
        assert_eq!(lost, [10]);
        assert_eq!((ledger.lost, ledger.in_flight()), (1, 0));
        assert!(ledger.send(11 + LOST_AFTER_NS).is_some(), "a loss does not close the window for ever");
        assert_eq!(ledger.receive(0), Outcome::Late);
        assert_eq!(ledger.receive(0), Outcome::Duplicate);
    }

    #[test]
    fn packet_that_is_overdue_leaves_the_window_and_may_still_come() {
        let mut ledger = windowed(1, 5);
        assert_eq!((ledger.send(0), ledger.send(4)), (Some(0), None));
        ledger.expire(4, |_| ());
        assert_eq!(ledger.send(4), None);
        ledger.expire(5, |_| ());
        assert_eq!((ledger.send(5), ledger.send(5), ledger.in_flight()), (Some(1), None, 2));
        assert_eq!(ledger.receive(0), Outcome::First { sent_ns: 0 });
        assert_eq!(ledger.send(6), None, "it had left the window before");
        assert_eq!(ledger.receive(1), Outcome::First { sent_ns: 5 });
        assert_eq!((ledger.send(6), ledger.in_flight(), ledger.lost), (Some(2), 1, 0));
    }

    #[test]
    fn sequence_never_sent_is_unknown() {
        let mut ledger = windowed(4, LOST_AFTER_NS);
        assert_eq!(ledger.receive(0), Outcome::Unknown);
        ledger.send(0);
        assert_eq!(ledger.receive(8), Outcome::Unknown, "same slot, other number");
        assert_eq!(ledger.receive(1), Outcome::Unknown);
    }

    #[test]
    fn lower_bits_suffice_for_the_whole_number() {
        let mut ledger = Ledger::new(None, LOST_AFTER_NS, 8, 0);
        ledger.next = (1 << SEQ_BITS) - 2;
        ledger.oldest = ledger.next;
        let sent: Vec<u64> = (0..4).map_while(|now| ledger.send(now)).collect();
        assert_eq!(sent[3], (1 << SEQ_BITS) + 1);
        for seq in sent {
            assert_eq!(ledger.whole(seq & SEQ_MASK), Some(seq));
        }
        assert_eq!(ledger.whole(2), None, "not sent yet");
        assert_eq!(ledger.receive(1), Outcome::First { sent_ns: 3 });
    }
}
