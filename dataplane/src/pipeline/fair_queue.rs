//! A bounded queue that no port can fill for the others.
//!
//! Dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): a port may have as many entries as there is free
//! room. One port that floods gets half of the queue, two get a third each, and there is always room for a port that has little to say. Rarely
//! used ports reserve nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

/// Ports with a share of their own; ports whose indices differ by a multiple of this have one together.
const PORTS: usize = 256;

/// What has come from a port.
pub trait FromPort {
    /// Index of the port whose share it takes.
    fn port_of_share(&self) -> u16;
}

/// What each port holds of something that ports share.
#[derive(Debug)]
pub struct Shares(Box<[AtomicU32]>);

impl Default for Shares {
    fn default() -> Shares {
        Shares((0..PORTS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Shares {
    fn of(&self, port: u16) -> Option<&AtomicU32> {
        self.0.get(usize::from(port) % PORTS)
    }

    /// How much a port holds.
    pub fn held(&self, port: u16) -> usize {
        self.of(port).map_or(0, |held| held.load(Ordering::Relaxed)) as usize
    }

    /// A port holds one more.
    pub fn take(&self, port: u16) {
        self.of(port).inspect(|held| _ = held.fetch_add(1, Ordering::Relaxed));
    }

    /// And one less.
    pub fn release(&self, port: u16) {
        self.of(port).inspect(|held| _ = held.fetch_sub(1, Ordering::Relaxed));
    }
}

/// See the module's documentation. Any thread may push and pop; where two push at the same moment, their ports may have one more than their share.
#[derive(Debug)]
pub struct FairQueue<T> {
    queue: ArrayQueue<T>,
    shares: Shares,
    refused: AtomicU64,
}

/// Whether a port that has `held` of the `length` entries may have one more of `capacity`.
pub fn has_room(held: usize, length: usize, capacity: usize) -> bool {
    held < capacity.saturating_sub(length)
}

impl<T: FromPort> FairQueue<T> {
    /// With room for so many entries in all.
    pub fn new(capacity: usize) -> FairQueue<T> {
        FairQueue { queue: ArrayQueue::new(capacity), shares: Shares::default(), refused: AtomicU64::new(0) }
    }

    /// Whether a port may add an entry.
    pub fn has_room(&self, port: u16) -> bool {
        has_room(self.shares.held(port), self.queue.len(), self.queue.capacity())
    }

    /// How many entries a port may add now, if no other does.
    pub fn room(&self, port: u16) -> usize {
        let free = self.queue.capacity().saturating_sub(self.queue.len());
        // Each entry takes one of the free places, and counts as held.
        free.saturating_sub(self.shares.held(port)).div_ceil(2)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The entry, if its port has its share.
    pub fn push(&self, entry: T) -> Result<(), T> {
        let port = entry.port_of_share();
        if !self.has_room(port) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(entry);
        }
        // Before another thread can take it.
        self.shares.take(port);
        self.queue.push(entry).inspect_err(|_| {
            self.shares.release(port);
            self.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Entries that found no room since the last call.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// The oldest entry.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop().inspect(|entry| self.shares.release(entry.port_of_share()))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FromPort for u16 {
        fn port_of_share(&self) -> u16 {
            *self
        }
    }

    fn flood(queue: &FairQueue<u16>, port: u16) -> usize {
        (0..10_000).filter(|_| queue.push(port).is_ok()).count()
    }

    #[test]
    fn a_port_that_floods_leaves_room_for_every_other() {
        let queue = FairQueue::new(512);
        assert_eq!(flood(&queue, 0), 256);
        for port in 1..=8 {
            assert!(flood(&queue, port) > 0, "port {port}");
        }
        assert!(queue.len() < 512);
    }

    #[test]
    fn the_room_of_a_port_is_what_it_can_add() {
        let queue = FairQueue::new(512);
        for (port, entries) in [(0, 100), (1, 37), (2, 1), (0, 1), (3, 0)] {
            (0..entries).for_each(|_| _ = queue.push(port));
            let room = queue.room(port);
            assert_eq!(queue.has_room(port), room > 0);
            assert_eq!(flood(&queue, port), room, "port {port}");
            assert_eq!(queue.room(port), 0);
        }
        assert!(queue.take_refused() > 10_000 && queue.take_refused() == 0);
    }

    #[test]
    fn threads_that_push_together_lose_no_share() {
        let queue = FairQueue::new(64);
        std::thread::scope(|scope| {
            for port in 0..4u16 {
                let queue = &queue;
                scope.spawn(move || (0..5_000).for_each(|_| _ = queue.push(port)));
            }
            scope.spawn(|| (0..20_000).for_each(|_| _ = queue.pop()));
        });
        while queue.pop().is_some() {}
        for port in 0..4 {
            assert_eq!(queue.room(port), 32, "port {port}: all room is back");
        }
    }

    #[test]
    fn who_floods_with_others_gets_as_much_as_they() {
        let queue = FairQueue::new(512);
        for turn in 0..10_000 {
            let _ = queue.push(turn % 4);
        }
        let mut of = [0; 4];
        while let Some(port) = queue.pop() {
            of[usize::from(port)] += 1;
        }
        assert!(of.iter().all(|held| (100..=103).contains(held)), "{of:?}");
        assert_eq!(flood(&queue, 1), 256, "all room is back");
    }
}
