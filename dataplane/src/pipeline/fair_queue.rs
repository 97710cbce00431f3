//! A bounded queue that no port can fill for the others.
//!
//! Dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): a port may have as many entries as there is free
//! room. One port that floods gets half of the queue, two get a third each, and there is always room for a port that has little to say. Rarely
//! used ports reserve nothing.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_queue::ArrayQueue;

/// Ports with a share of their own; ports whose indices differ by a multiple of this have one together.
const PORTS: usize = 256;

/// What has come from a port.
pub trait FromPort {
    /// Index of the port whose share it takes.
    fn port_of_share(&self) -> u16;
}

/// See the module's documentation. One thread pushes, another one pops.
#[derive(Debug)]
pub struct FairQueue<T> {
    queue: ArrayQueue<T>,
    held: Box<[AtomicU32]>,
}

/// Whether a port that has `held` of the `length` entries may have one more of `capacity`.
pub fn has_room(held: usize, length: usize, capacity: usize) -> bool {
    held < capacity.saturating_sub(length)
}

impl<T: FromPort> FairQueue<T> {
    /// With room for so many entries in all.
    pub fn new(capacity: usize) -> FairQueue<T> {
        FairQueue { queue: ArrayQueue::new(capacity), held: (0..PORTS).map(|_| AtomicU32::new(0)).collect() }
    }

    fn held(&self, port: u16) -> Option<&AtomicU32> {
        self.held.get(usize::from(port) % PORTS)
    }

    /// Whether a port may add an entry.
    pub fn has_room(&self, port: u16) -> bool {
        let held = self.held(port).map_or(0, |held| held.load(Ordering::Relaxed));
        has_room(held as usize, self.queue.len(), self.queue.capacity())
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The entry, if its port has its share.
    pub fn push(&self, entry: T) -> Result<(), T> {
        let port = entry.port_of_share();
        if !self.has_room(port) {
            return Err(entry);
        }
        // Before the other thread can take it.
        self.held(port).inspect(|held| _ = held.fetch_add(1, Ordering::Relaxed));
        self.queue.push(entry).inspect_err(|_| self.release(port))
    }

    /// The oldest entry.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop().inspect(|entry| self.release(entry.port_of_share()))
    }

    fn release(&self, port: u16) {
        self.held(port).inspect(|held| _ = held.fetch_sub(1, Ordering::Relaxed));
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
