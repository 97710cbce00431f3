//! What the engines of several cores share: the routers' MAC addresses, which the first one learns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::Mac;

/// The engine that answers for the ports.
pub const FIRST: u8 = 0;
/// Beyond a MAC address's 48 bits: it is known.
const KNOWN: u64 = 1 << 48;

/// The router's MAC address on each port.
#[derive(Debug, Clone)]
pub struct Routers(Arc<[AtomicU64]>);

impl Routers {
    pub fn new(ports: usize) -> Self {
        Self((0..ports).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn put(&self, port: usize, mac: Option<Mac>) {
        if let (Some(known), Some([a, b, c, d, e, f])) = (self.0.get(port), mac) {
            let word = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
            known.store(word | KNOWN, Ordering::Relaxed);
        }
    }

    pub fn get(&self, port: usize) -> Option<Mac> {
        let word = self.0.get(port)?.load(Ordering::Relaxed);
        let [.., a, b, c, d, e, f] = word.to_be_bytes();
        (word & KNOWN != 0).then_some([a, b, c, d, e, f])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_engine_learns_the_others_know() {
        let routers = Routers::new(2);
        let others = routers.clone();
        assert_eq!(others.get(0), None);
        routers.put(1, Some([0; 6]));
        routers.put(1, None);
        assert_eq!((others.get(0), others.get(1), others.get(2)), (None, Some([0; 6]), None));
        routers.put(1, Some([2, 3, 4, 5, 6, 255]));
        assert_eq!(others.get(1), Some([2, 3, 4, 5, 6, 255]));
    }
}
