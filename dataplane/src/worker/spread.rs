//! Software RSS: spreads the flows of a port over all workers if its device has fewer queues than there are workers.
//!
//! The worker that polls the queue hashes each packet's flow and passes it to the flow's worker by a bounded ring; packets of a flow use
//! one ring and keep their order. A packet counts as received where it is processed: a ring is like a device queue. A full ring drops with
//! [`Reason::SpreadFull`](crate::reason::Reason::SpreadFull).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::io::{BURST, Burst, Deal, Io, Packet, PacketOf, each};
use crate::packet::{ethernet, take};
use crate::pipeline::{flow_hash, vlan};

/// Most packets that wait for one worker.
pub const RING: usize = 1_024;

/// Another than that of next hops, or each worker would have the flows of few of them.
const SEED: u64 = u64::from_be_bytes(*b"soft RSS");

/// A packet and the index of its port of arrival.
type Steered<I> = (u16, PacketOf<I>);

/// Ports with software RSS, by port index. The watch thread may change it while workers run.
pub type SoftwareRss = Arc<[AtomicBool]>;

/// Software RSS of one worker.
pub struct Spread<I: Io> {
    rings: Arc<[ArrayQueue<Steered<I>>]>,
    me: usize,
    ports: SoftwareRss,
    /// Taken from the ring, but of another port than the burst before it.
    next: Option<Steered<I>>,
    mine: I::Burst,
}

/// Result of steering a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dealt {
    /// Packets steered to other workers.
    pub steered: u32,
    /// Packets dropped because of a full ring.
    pub refused: u32,
    /// Bytes of the dropped packets.
    pub bytes: u64,
}

impl<I: Io> Spread<I> {
    /// One for each of `workers` workers.
    pub fn among(workers: usize, ports: &SoftwareRss) -> Vec<Spread<I>> {
        let rings: Arc<[_]> = (0..workers).map(|_| ArrayQueue::new(RING)).collect();
        let one = |me| Spread {
            rings: rings.clone(),
            me,
            ports: ports.clone(),
            next: None,
            mine: I::Burst::default(),
        };
        (0..workers).map(one).collect()
    }

    /// Whether this port uses software RSS.
    #[inline]
    pub fn deals(&self, port: usize) -> bool {
        self.ports.get(port).is_some_and(|port| port.load(Ordering::Relaxed))
    }

    /// Steers packets to other workers; the rest stays in the burst, in order.
    pub fn deal(&mut self, port: u16, burst: &mut I::Burst) -> Dealt {
        let mut dealt = Dealt::default();
        let mut hand = burst.deal();
        for at in each(hand.left()) {
            let Some(packet) = hand.take(at) else { continue };
            let to = ((u64::from(flow(packet.data())) * self.rings.len() as u64) >> 32) as usize;
            if to == self.me {
                let _ = self.mine.push(packet);
                continue;
            }
            let bytes = packet.length() as u64;
            match self.rings.get(to).map(|ring| ring.push((port, packet))) {
                Some(Ok(())) => dealt.steered += 1,
                _ => {
                    dealt.refused += 1;
                    dealt.bytes += bytes;
                }
            }
        }
        drop(hand);
        std::mem::swap(burst, &mut self.mine);
        dealt
    }

    /// Fills an empty burst with packets that others steered here, of one port, which is returned.
    pub fn take(&mut self, burst: &mut I::Burst) -> Option<u16> {
        let ring = self.rings.get(self.me)?;
        let (port, first) = self.next.take().or_else(|| ring.pop())?;
        let _ = burst.push(first);
        while burst.packets().len() < BURST
            && let Some(steered) = ring.pop()
        {
            if steered.0 != port {
                self.next = Some(steered);
                break;
            }
            let _ = burst.push(steered.1);
        }
        Some(port)
    }

    /// Whether no steered packet waits here.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next.is_none() && self.rings.get(self.me).is_none_or(ArrayQueue::is_empty)
    }
}

impl<I: Io> std::fmt::Debug for Spread<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spread").field("me", &self.me).field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// The flow hash of a frame as it came, tagged or not: 0 where it is no IP packet. Only lengths are checked here: whatever the bytes are, the
/// same ones take the same way.
pub fn flow(frame: &[u8]) -> u32 {
    let ethertype = |at| take::<2>(frame, at).map_or(0, |bytes| u16::from_be_bytes(*bytes));
    let (kind, at) = match ethertype(12) {
        ethernet::VLAN => (ethertype(16), ethernet::HEADER + vlan::TAG),
        kind => (kind, ethernet::HEADER),
    };
    let packet = frame.get(at..).unwrap_or_default();
    match kind {
        ethernet::IPV4 => flow_hash::of_ipv4(packet, SEED),
        ethernet::IPV6 => flow_hash::of_ipv6(packet, SEED),
        _ => 0,
    }
}
