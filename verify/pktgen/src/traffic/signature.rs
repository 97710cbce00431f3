//! The signature: twelve bytes at the start of the payload, big endian.
//!
//! | bits | field |
//! |---|---|
//! | 63 | warm-up: does not count |
//! | 62–59 | core that sent it |
//! | 58–36 | flow, among those of the core |
//! | 35–0 | sequence number over all packets of the core, its lower part; of a warm-up packet the time, µs |
//! | 32 more | check sum over these and the destination |
//!
//! With them the smallest frames are 64 bytes for UDP over IPv4 and 78 bytes over IPv6, as in FD.io CSIT. Time sent and everything else is
//! known from the sequence number.

use super::address::Address;
use crate::checksum::mix;

pub const LEN: usize = 12;
/// Most flows.
pub const MAX_FLOWS: usize = 1 << FLOW_BITS;
pub const SEQ_BITS: u32 = 36;
pub const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;
const FLOW_BITS: u32 = 23;
const CORE_BITS: u32 = 4;
/// Most cores.
pub const MAX_CORES: usize = 1 << CORE_BITS;
const MAGIC: u64 = 0xfb1c_a575_2544_6815;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub warm_up: bool,
    pub core: u8,
    pub flow: u32,
    /// Its lower bits.
    pub seq: u64,
}

impl Signature {
    /// The first eight bytes, and the last four, of a packet to `to`.
    #[inline(always)]
    fn words(&self, to: Address) -> (u64, u32) {
        let word = u64::from(self.warm_up) << 63
            | u64::from(self.core) << (SEQ_BITS + FLOW_BITS)
            | u64::from(self.flow) << SEQ_BITS
            | (self.seq & SEQ_MASK);
        (word, check(word, to))
    }

    /// Its bytes in a packet to `to`, and their sum as [`sum_wide`](crate::checksum::sum_wide) has it.
    #[inline(always)]
    pub fn bytes(&self, to: Address) -> ([u8; LEN], u64) {
        let (word, check) = self.words(to);
        let mut bytes = [0; LEN];
        let (first, last) = bytes.split_at_mut(8);
        first.copy_from_slice(&word.to_be_bytes());
        last.copy_from_slice(&check.to_be_bytes());
        (bytes, sum(word, check))
    }

    /// The signature in these bytes of a packet to `to`, if there is one, and their sum.
    #[inline(always)]
    pub fn read(bytes: &[u8; LEN], to: Address) -> Option<(Self, u64)> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let found = u32::from_be_bytes([i, j, k, l]);
        let signature = Self {
            warm_up: word >> 63 == 1,
            core: (word >> (SEQ_BITS + FLOW_BITS)) as u8 & (MAX_CORES as u8 - 1),
            flow: (word >> SEQ_BITS) as u32 & (MAX_FLOWS as u32 - 1),
            seq: word & SEQ_MASK,
        };
        (check(word, to) == found).then_some((signature, sum(word, found)))
    }
}

#[inline(always)]
fn sum(word: u64, check: u32) -> u64 {
    (word >> 32) + (word & 0xffff_ffff) + u64::from(check)
}

#[inline(always)]
fn check(word: u64, to: Address) -> u32 {
    let [high, low] = to.words();
    // Of an IPv4 address the first one is none.
    let state = mix(MAGIC, word);
    let state = if to.is_ipv6() { mix(state, high) } else { state };
    let state = mix(state, low);
    (state ^ (state >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn reads_back_and_every_changed_bit_is_found() {
        for to in ["192.0.2.77", "2a00:1::5"] {
            let to = address(to);
            for warm_up in [false, true] {
                let signature = Signature { warm_up, core: 9, flow: MAX_FLOWS as u32 - 2, seq: SEQ_MASK - 5 };
                let (bytes, sum) = signature.bytes(to);
                assert_eq!(sum, crate::checksum::sum_wide(0, &bytes));
                assert_eq!(Signature::read(&bytes, to), Some((signature, sum)));
                for bit in 0..LEN * 8 {
                    let mut wrong = bytes;
                    wrong[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(Signature::read(&wrong, to), None, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn belongs_to_its_destination() {
        let (bytes, _) = Signature { warm_up: false, core: 0, flow: 1, seq: 2 }.bytes(address("9.0.0.1"));
        assert_eq!(Signature::read(&bytes, address("9.0.0.2")), None);
    }
}
