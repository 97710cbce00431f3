//! Packet I/O in plain memory: queues that a test fills and reads, and whose transmit side can be made to refuse.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BURST, Burst, Deal, Io, Packet, PacketMask, Pool, Receive, Transmit, each};

/// Packets as byte vectors.
#[derive(Debug)]
pub struct Memory;

impl Io for Memory {
    type Burst = MemoryBurst;
    type Rx = MemoryQueue;
    type Tx = MemoryQueue;
    type Pool = MemoryPool;
}

impl Packet for Vec<u8> {
    fn data(&self) -> &[u8] {
        self
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self
    }

    fn length(&self) -> usize {
        self.len()
    }

    fn truncate(&mut self, length: usize) -> bool {
        let fits = length <= self.len();
        if fits {
            Vec::truncate(self, length);
        }
        fits
    }

    fn grow_front(&mut self, count: usize) -> bool {
        self.splice(..0, std::iter::repeat_n(0, count));
        true
    }

    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.len();
        if fits {
            self.drain(..count);
        }
        fits
    }
}

/// Up to [`BURST`] packets.
#[derive(Debug, Default)]
pub struct MemoryBurst(Vec<Vec<u8>>);

impl Burst for MemoryBurst {
    type Packet = Vec<u8>;

    fn packets(&self) -> &[Vec<u8>] {
        &self.0
    }

    fn packets_mut(&mut self) -> &mut [Vec<u8>] {
        &mut self.0
    }

    fn push(&mut self, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.0.len() >= BURST {
            return Err(packet);
        }
        self.0.push(packet);
        Ok(())
    }

    fn deal(&mut self) -> impl Deal<MemoryBurst> {
        MemoryDeal(self.0.drain(..).map(Some).collect())
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

struct MemoryDeal(Vec<Option<Vec<u8>>>);

impl Deal<MemoryBurst> for MemoryDeal {
    fn take(&mut self, at: usize) -> Option<Vec<u8>> {
        self.0.get_mut(at)?.take()
    }

    fn give(&mut self, mask: PacketMask, to: &mut MemoryBurst) {
        for at in each(mask) {
            if to.0.len() < BURST {
                to.0.extend(self.take(at));
            }
        }
    }

    fn left(&self) -> PacketMask {
        let mask = self.0.iter().enumerate().filter(|(_, packet)| packet.is_some());
        mask.fold(0, |mask, (at, _)| mask | 1 << at)
    }
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    /// How many more packets are accepted; none: unlimited.
    room: Option<usize>,
}

/// A queue. Clones refer to the same queue, so a test holds the other end.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue(Arc<Mutex<Queue>>);

impl MemoryQueue {
    /// Appends a packet.
    pub fn put(&self, packet: Vec<u8>) {
        self.lock().packets.push_back(packet);
    }

    /// Removes the oldest packet.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.lock().packets.pop_front()
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.lock().packets.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a transmit queue: accepts `room` more packets and then refuses; `None` removes the limit.
    pub fn limit(&self, room: Option<usize>) {
        self.lock().room = room;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receive<MemoryBurst> for MemoryQueue {
    fn receive(&mut self, burst: &mut MemoryBurst) -> usize {
        let mut queue = self.lock();
        let count = queue.packets.len().min(BURST - burst.0.len());
        burst.0.extend(queue.packets.drain(..count));
        count
    }
}

impl Transmit<MemoryBurst> for MemoryQueue {
    fn send(&mut self, burst: &mut MemoryBurst) -> usize {
        let mut queue = self.lock();
        let count = burst.0.len().min(queue.room.unwrap_or(usize::MAX));
        queue.packets.extend(burst.0.drain(..count));
        queue.room = queue.room.map(|room| room - count);
        count
    }
}

/// A pool that is exhausted only on a test's request. Clones refer to the same pool.
#[derive(Debug, Clone, Default)]
pub struct MemoryPool(Arc<Mutex<Option<usize>>>);

impl MemoryPool {
    /// Provides `left` more packets; `None` removes the limit.
    pub fn limit(&self, left: Option<usize>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

impl Pool<Vec<u8>> for MemoryPool {
    fn packet(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = left.as_mut() {
            *left = left.checked_sub(1)?;
        }
        Some(bytes.to_vec())
    }
}
