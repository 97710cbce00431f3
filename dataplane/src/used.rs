//! Directly connected hosts that packets went to recently: workers set marks, the control thread collects them.
//!
//! A fixed bit set, indexed by a hash of port and address. A worker writes a bit at most once between two collections, and otherwise only
//! reads. Two hosts that share a bit both count as used, at the cost of one needless probe.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use fibcast_fib::PortId;

const WORDS: usize = 1_024;

/// Marks set by one worker.
#[derive(Debug)]
pub struct Used {
    words: Box<[AtomicU64]>,
}

impl Default for Used {
    fn default() -> Self {
        Used { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// Marks collected from all workers.
#[derive(Debug, Default)]
pub struct Marks {
    words: Vec<u64>,
}

impl Used {
    /// Marks a host that a packet goes to.
    #[inline]
    pub fn mark(&self, port: PortId, address: IpAddr) {
        let (word, bit) = bit_of(port, address);
        if let Some(word) = self.words.get(word)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Adds the marks since the last call to `marks`.
    pub fn collect(&self, marks: &mut Marks) {
        marks.words.resize(WORDS, 0);
        for (word, sum) in self.words.iter().zip(&mut marks.words) {
            if word.load(Ordering::Relaxed) != 0 {
                *sum |= word.swap(0, Ordering::Relaxed);
            }
        }
    }
}

impl Marks {
    /// Whether packets went to this host, or to one that shares its bit.
    pub fn contain(&self, port: PortId, address: IpAddr) -> bool {
        let (word, bit) = bit_of(port, address);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }
}

#[inline]
fn bit_of(port: PortId, address: IpAddr) -> (usize, u64) {
    let bits = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
    };
    let mixed = (bits ^ u64::from(port.0) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 54) as usize, 1 << (mixed >> 48 & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_collected_once() {
        let (used, other) = (Used::default(), Used::default());
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap());
        used.mark(PortId(1), a);
        other.mark(PortId(2), b);
        let mut marks = Marks::default();
        used.collect(&mut marks);
        other.collect(&mut marks);
        assert!(marks.contain(PortId(1), a) && marks.contain(PortId(2), b));
        assert!(!marks.contain(PortId(2), a) && !marks.contain(PortId(1), b));
        let mut again = Marks::default();
        used.collect(&mut again);
        assert!(!again.contain(PortId(1), a));
    }

    #[test]
    fn hosts_of_a_subnet_rarely_share_a_bit() {
        let used = Used::default();
        (0..256u32).for_each(|host| used.mark(PortId(0), IpAddr::V4((0x0a00_0000 + host).into())));
        let mut marks = Marks::default();
        used.collect(&mut marks);
        let set: u32 = marks.words.iter().map(|word| word.count_ones()).sum();
        assert!(set > 250, "{set}");
    }
}
