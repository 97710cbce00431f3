//! Packets that wait for their next hop's MAC address (RFC 1122 §2.3.2.2, RFC 4861 §7.2.2).
//!
//! The queue is bounded for each next hop and in total, and divided among the ports of arrival ([`super::fair_queue`]); a newer packet
//! replaces the oldest of its next hop or port. A packet that waited too long is returned as
//! unreachable.

use std::time::{Duration, Instant};

use super::fair_queue;
use crate::reason::Reason;

/// Most packets of one worker that wait for one next hop.
pub const PER_NEXT_HOP: usize = 16;
/// Most packets of one worker that wait in total.
pub const IN_ALL: usize = 1_024;
/// Longest wait: [`crate::neighbor::PROBES`] requests, one second each.
pub const LONGEST: Duration = Duration::from_secs(3);

/// A held packet.
#[derive(Debug)]
pub struct Held<P> {
    /// The packet as received.
    pub packet: P,
    /// Index of the port of arrival.
    pub port: u16,
    /// Sent by the router itself: not counted as received.
    pub own: bool,
    next_hop: u32,
    until: Option<Instant>,
}

/// Oldest first. The default is without storage; [`Hold::new`] allocates everything.
#[derive(Debug)]
pub struct Hold<P> {
    held: Vec<Held<P>>,
    received: usize,
}

impl<P> Default for Hold<P> {
    fn default() -> Self {
        Hold { held: Vec::new(), received: 0 }
    }
}

impl<P> Hold<P> {
    /// Empty, with storage for [`IN_ALL`] packets.
    pub fn new() -> Self {
        Hold { held: Vec::with_capacity(IN_ALL + 1), received: 0 }
    }

    /// Adds a packet; returns the one that it displaced.
    pub fn push(&mut self, packet: P, port: u16, own: bool, next_hop: u32) -> Option<Held<P>> {
        let oldest = self.displaced(port, next_hop);
        let lost = oldest.map(|at| self.held.remove(at));
        self.held.push(Held { packet, port, own, next_hop, until: None });
        self.received += usize::from(!own);
        self.received -= usize::from(lost.as_ref().is_some_and(|lost| !lost.own));
        lost
    }

    /// Index of the packet that one more for this next hop displaces.
    fn displaced(&self, port: u16, next_hop: u32) -> Option<usize> {
        let mut same = self.held.iter().enumerate().filter(|(_, held)| held.next_hop == next_hop);
        let oldest = same.next().map(|(at, _)| at).filter(|_| same.count() + 1 >= PER_NEXT_HOP);
        if oldest.is_some() {
            return oldest;
        }
        let mut of_port = self.held.iter().enumerate().filter(|(_, held)| held.port == port);
        let oldest = of_port.next().map(|(at, _)| at);
        let held = usize::from(oldest.is_some()) + of_port.count();
        // A port without a packet here finds the queue full where the others have all of it.
        (!fair_queue::has_room(held, self.held.len(), IN_ALL)).then_some(oldest.unwrap_or(0))
    }

    /// Takes up to `limit` packets that are `ready` or expired, in order; `gone` is true for expired ones.
    pub fn take(
        &mut self,
        now: Instant,
        limit: usize,
        mut ready: impl FnMut(&Held<P>) -> bool,
        mut with: impl FnMut(Held<P>, bool),
    ) {
        let (mut at, mut taken) = (0, 0);
        while taken < limit
            && let Some(held) = self.held.get_mut(at)
        {
            // The clock is read by the consumer, not for each packet.
            let over = *held.until.get_or_insert(now + LONGEST) <= now;
            let is_ready = ready(held);
            if !is_ready && !over {
                at += 1;
                continue;
            }
            let held = self.held.remove(at);
            self.received -= usize::from(!held.own);
            taken += 1;
            with(held, !is_ready);
        }
    }

    /// Number of received packets that wait.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Whether no packet waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Removes all packets, when a worker stops.
    pub fn drain(&mut self) -> impl Iterator<Item = Held<P>> {
        self.received = 0;
        self.held.drain(..)
    }
}

/// Drop reason of a packet that expired (`gone`) or was displaced.
pub fn reason(gone: bool) -> Reason {
    if gone { Reason::NeighborUnreachable } else { Reason::HoldFull }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(next_hops: u32, each: usize) -> (Hold<usize>, Vec<usize>) {
        let (mut hold, mut lost) = (Hold::new(), Vec::new());
        for number in 0..each {
            for next_hop in 0..next_hops {
                lost.extend(hold.push(number, 0, false, next_hop).map(|held| held.packet));
            }
        }
        (hold, lost)
    }

    #[test]
    fn the_newest_packets_for_a_next_hop_are_kept() {
        let (mut hold, lost) = filled(1, PER_NEXT_HOP + 3);
        assert_eq!((lost, hold.received()), (vec![0, 1, 2], PER_NEXT_HOP));
        let mut kept = Vec::new();
        hold.take(Instant::now(), usize::MAX, |_| true, |held, gone| kept.push((held.packet, gone)));
        assert_eq!(kept.first(), Some(&(3, false)));
        assert_eq!((kept.len(), hold.received()), (PER_NEXT_HOP, 0));
    }

    #[test]
    fn many_next_hops_share_one_bound() {
        let (hold, lost) = filled(1_000, 1);
        assert_eq!((hold.received(), lost.len()), (IN_ALL / 2, 1_000 - IN_ALL / 2));
    }

    #[test]
    fn a_scan_from_one_port_displaces_no_packet_of_another() {
        let mut hold = Hold::new();
        assert!(hold.push(7_000, 1, false, 9_999).is_none());
        let lost: Vec<u16> =
            (0..5_000u32).filter_map(|n| hold.push(n, 0, false, n)).map(|held| held.port).collect();
        assert!(!lost.is_empty() && lost.iter().all(|port| *port == 0));
        assert!(hold.push(7_001, 2, false, 9_998).is_none(), "a third port finds room");
    }

    #[test]
    fn who_waited_too_long_is_handed_back() {
        let (mut hold, _) = filled(1, 1);
        let now = Instant::now();
        let mut gone = 0;
        for seconds in [0, 2, 4] {
            hold.take(
                now + Duration::from_secs(seconds),
                9,
                |_| false,
                |_, is_gone| gone += u32::from(is_gone),
            );
            assert_eq!(gone, u32::from(seconds == 4));
        }
        assert!(hold.is_empty());
    }
}
