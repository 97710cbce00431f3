//! Packet I/O on DPDK.

use std::sync::{Arc, Mutex, TryLockError};

use dpdk::{Mempool, RxQueue, TxQueue};

use super::{BURST, Burst, Deal, Io, Packet, PacketMask, Pool, Receive, Transmit};

/// Packet I/O with mbufs.
#[derive(Debug)]
pub struct Dpdk;

type MbufBurst = dpdk::Burst<BURST>;

impl Io for Dpdk {
    type Burst = MbufBurst;
    type Rx = RxQueue;
    type Tx = Tx;
    type Pool = Mempool;
}

impl Packet for dpdk::Packet {
    #[inline]
    fn data(&self) -> &[u8] {
        dpdk::Packet::data(self)
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        dpdk::Packet::data_mut(self)
    }

    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn has_good_ipv4_checksum(&self) -> bool {
        dpdk::Packet::has_good_ipv4_checksum(self)
    }

    fn copy_to(&self, to: &mut [u8]) -> bool {
        let mut rest = to;
        for segment in self.segments() {
            let Some((part, behind)) = rest.split_at_mut_checked(segment.len()) else { return false };
            part.copy_from_slice(segment);
            rest = behind;
        }
        rest.is_empty()
    }

    #[inline]
    fn prefetch(&self) {
        dpdk::Packet::prefetch(self);
    }

    fn truncate(&mut self, length: usize) -> bool {
        dpdk::Packet::truncate(self, length)
    }

    fn grow_front(&mut self, count: usize) -> bool {
        self.prepend(count).is_some()
    }

    fn trim_front(&mut self, count: usize) -> bool {
        dpdk::Packet::trim_front(self, count)
    }
}

impl Burst for MbufBurst {
    type Packet = dpdk::Packet;

    #[inline]
    fn packets(&self) -> &[dpdk::Packet] {
        self
    }

    #[inline]
    fn packets_mut(&mut self) -> &mut [dpdk::Packet] {
        self
    }

    #[inline]
    fn push(&mut self, packet: dpdk::Packet) -> Result<(), dpdk::Packet> {
        MbufBurst::push(self, packet)
    }

    #[inline]
    fn deal(&mut self) -> impl Deal<MbufBurst> {
        MbufBurst::deal(self)
    }

    #[inline]
    fn clear(&mut self) {
        MbufBurst::clear(self);
    }
}

impl Deal<MbufBurst> for dpdk::Deal<'_, BURST> {
    #[inline]
    fn take(&mut self, at: usize) -> Option<dpdk::Packet> {
        dpdk::Deal::take(self, at)
    }

    #[inline]
    fn give(&mut self, mask: PacketMask, to: &mut MbufBurst) {
        dpdk::Deal::give(self, mask, to);
    }

    #[inline]
    fn left(&self) -> PacketMask {
        dpdk::Deal::left(self)
    }
}

impl Receive<MbufBurst> for RxQueue {
    #[inline]
    fn receive(&mut self, burst: &mut MbufBurst) -> usize {
        RxQueue::receive(self, burst)
    }
}

/// A worker's own transmit queue, or one shared by several workers if the device has fewer than workers.
#[derive(Debug)]
pub enum Tx {
    /// Exclusive to one worker.
    Own(TxQueue),
    /// Shared. A worker that finds it locked keeps its packets in order and offers them again: nobody waits.
    Shared(Arc<Mutex<TxQueue>>),
}

impl Transmit<MbufBurst> for Tx {
    #[inline]
    fn send(&mut self, burst: &mut MbufBurst) -> usize {
        match self {
            Tx::Own(queue) => queue.send(burst),
            Tx::Shared(queue) => match queue.try_lock() {
                Ok(mut queue) => queue.send(burst),
                Err(TryLockError::Poisoned(queue)) => queue.into_inner().send(burst),
                Err(TryLockError::WouldBlock) => 0,
            },
        }
    }
}

impl Pool<dpdk::Packet> for Mempool {
    fn packet(&mut self, bytes: &[u8]) -> Option<dpdk::Packet> {
        let mut packet = self.allocate_one()?;
        packet.set_data(bytes).then_some(packet)
    }
}
