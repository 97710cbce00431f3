//! Transmit buffer of one device for one worker.

use std::collections::VecDeque;

use crate::counters::Traffic;
use crate::io::{BURST, Burst, Deal, Io, Packet, PacketMask, PacketOf, Transmit, each};

/// Transmit buffer of one device for one worker: a burst that goes to the driver once the worker has processed what it received, and behind
/// it, for a device that takes no more, a bounded queue.
pub struct TxBuffer<I: Io> {
    queue: I::Tx,
    /// Older than everything in `backlog`.
    staged: I::Burst,
    /// The staged packets that the router itself sends: one bit each.
    own: PacketMask,
    /// Sums of the staged packets.
    sums: Sums,
    backlog: VecDeque<(PacketOf<I>, bool)>,
    own_in_backlog: usize,
    limit: usize,
    pub(super) taken: Sums,
    /// Times that the driver took fewer packets than offered (TX backpressure).
    pub(super) backpressure: u64,
}

/// Forwarded packets, and those of the router itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) passed: Traffic,
    pub(super) own: Traffic,
}

impl<I: Io> TxBuffer<I> {
    /// Empty; up to `limit` packets wait if the queue takes no more.
    pub(super) fn new(queue: I::Tx, limit: usize) -> TxBuffer<I> {
        TxBuffer {
            queue,
            staged: I::Burst::default(),
            own: 0,
            sums: Sums::default(),
            backlog: VecDeque::with_capacity(limit),
            own_in_backlog: 0,
            limit,
            taken: Sums::default(),
            backpressure: 0,
        }
    }

    /// Appends a packet, or returns it if there is no room.
    #[inline]
    pub(super) fn push(&mut self, packet: PacketOf<I>, own: bool) -> Result<(), PacketOf<I>> {
        if !self.backlog.is_empty() {
            return self.wait(packet, own);
        }
        self.stage(packet, own).or_else(|packet| self.wait(packet, own))
    }

    #[inline]
    fn stage(&mut self, packet: PacketOf<I>, own: bool) -> Result<(), PacketOf<I>> {
        let at = self.staged.packets().len();
        let one = Traffic { packets: 1, bytes: packet.length() as u64 };
        self.staged.push(packet)?;
        self.own |= PacketMask::from(own) << at;
        *(if own { &mut self.sums.own } else { &mut self.sums.passed }) += one;
        Ok(())
    }

    /// Appends received packets of a burst, in order, as far as there is room without waiting. `lengths` are those of all packets of the burst.
    #[inline]
    pub(super) fn give(&mut self, deal: &mut impl Deal<I::Burst>, mask: PacketMask, lengths: &[u32; BURST]) {
        let before = deal.left();
        deal.give(mask, &mut self.staged);
        let given = before & !deal.left();
        let bytes = lengths.iter().enumerate().map(|(at, length)| {
            // All ones for a packet that was given.
            let all = ((given >> at & 1) as u32).wrapping_neg();
            u64::from(length & all)
        });
        self.sums.passed += Traffic { packets: given.count_ones().into(), bytes: bytes.sum() };
    }

    #[cold]
    fn wait(&mut self, packet: PacketOf<I>, own: bool) -> Result<(), PacketOf<I>> {
        if self.backlog.len() >= self.limit {
            return Err(packet);
        }
        self.backlog.push_back((packet, own));
        self.own_in_backlog += usize::from(own);
        Ok(())
    }

    /// Received packets that wait.
    #[inline]
    pub(super) fn held(&self) -> usize {
        let staged = self.staged.packets().len() - self.own.count_ones() as usize;
        staged + self.backlog.len() - self.own_in_backlog
    }

    /// Whether no packet waits for the driver.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.staged.packets().is_empty()
    }

    /// Offers the waiting packets to the driver, and refills as long as it takes all.
    #[inline]
    pub(super) fn flush(&mut self) {
        while !self.is_empty() {
            let sent = self.queue.send(&mut self.staged);
            self.own = self.own.checked_shr(sent as u32).unwrap_or(0);
            let left = if self.is_empty() { Sums::default() } else { self.recount() };
            let offered = std::mem::replace(&mut self.sums, left);
            self.taken.passed += offered.passed - left.passed;
            self.taken.own += offered.own - left.own;
            if !self.is_empty() {
                self.backpressure += 1;
                return;
            }
            if self.backlog.is_empty() {
                return;
            }
            self.refill();
        }
    }

    /// Sums of the staged packets, after the driver took a part of them.
    #[cold]
    fn recount(&self) -> Sums {
        let packets = self.staged.packets();
        let bytes = packets.iter().map(|packet| packet.length() as u64).sum();
        let mut sums = Sums { passed: Traffic { packets: packets.len() as u64, bytes }, ..Sums::default() };
        for packet in each(self.own).filter_map(|at| packets.get(at)) {
            let one = Traffic { packets: 1, bytes: packet.length() as u64 };
            sums.own += one;
            sums.passed -= one;
        }
        sums
    }

    #[cold]
    fn refill(&mut self) {
        while self.staged.packets().len() < BURST
            && let Some((packet, own)) = self.backlog.pop_front()
        {
            self.own_in_backlog -= usize::from(own);
            let _ = self.stage(packet, own);
        }
    }

    /// Whether everything appended now is staged for the next call of the driver.
    #[inline]
    pub(super) fn has_no_backlog(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Frees the waiting packets; returns how many were the router's own.
    pub(super) fn clear(&mut self) -> usize {
        let own = self.own.count_ones() as usize + self.own_in_backlog;
        self.staged.clear();
        self.backlog.clear();
        (self.own, self.own_in_backlog, self.sums) = (0, 0, Sums::default());
        own
    }
}
