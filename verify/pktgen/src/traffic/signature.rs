//! The signature: twelve bytes at the start of the payload, big endian.
//!
//! | bits | field |
//! |---|---|
//! | 63 | warm-up: does not count |
//! | 62–40 | flow |
//! | 39–0 | sequence number over all packets, its lower part; of a warm-up packet the time, µs |
//! | 32 more | check sum over these and the destination |
//!
//! With them the smallest frames are 64 bytes for UDP over IPv4 and 78 bytes over IPv6, as in FD.io CSIT. Time sent and everything else is
//! known from the sequence number.

use std::net::IpAddr;

use crate::checksum::mix;

pub const LEN: usize = 12;
/// Most flows.
pub const MAX_FLOWS: usize = 1 << 23;
pub const SEQ_BITS: u32 = 40;
pub const SEQ_MASK: u64 = (1 << SEQ_BITS) - 1;
const MAGIC: u64 = 0xfb1c_a575_2544_6815;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub warm_up: bool,
    pub flow: u32,
    /// The lower 40 bits.
    pub seq: u64,
}

impl Signature {
    #[inline]
    pub fn bytes(&self, to: IpAddr) -> [u8; LEN] {
        let word = u64::from(self.warm_up) << 63 | u64::from(self.flow) << SEQ_BITS | (self.seq & SEQ_MASK);
        let mut bytes = [0; LEN];
        let (first, last) = bytes.split_at_mut(8);
        first.copy_from_slice(&word.to_be_bytes());
        last.copy_from_slice(&check(word, to).to_be_bytes());
        bytes
    }

    /// The signature in these bytes of a packet to `to`, if there is one.
    #[inline]
    pub fn read(bytes: &[u8; LEN], to: IpAddr) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let word = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        (check(word, to) == u32::from_be_bytes([i, j, k, l])).then_some(Self {
            warm_up: word >> 63 == 1,
            flow: (word >> SEQ_BITS) as u32 & (MAX_FLOWS as u32 - 1),
            seq: word & SEQ_MASK,
        })
    }
}

#[inline]
fn check(word: u64, to: IpAddr) -> u32 {
    let state = mix(MAGIC, &word.to_le_bytes());
    let state = match to {
        IpAddr::V4(to) => mix(state, &to.octets()),
        IpAddr::V6(to) => mix(state, &to.octets()),
    };
    (state ^ (state >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_every_changed_bit_is_found() {
        for to in ["192.0.2.77", "2a00:1::5"] {
            let to: IpAddr = to.parse().unwrap();
            for warm_up in [false, true] {
                let signature = Signature { warm_up, flow: MAX_FLOWS as u32 - 2, seq: SEQ_MASK - 5 };
                let bytes = signature.bytes(to);
                assert_eq!(Signature::read(&bytes, to), Some(signature));
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
        let bytes = Signature { warm_up: false, flow: 1, seq: 2 }.bytes("9.0.0.1".parse().unwrap());
        assert_eq!(Signature::read(&bytes, "9.0.0.2".parse().unwrap()), None);
    }
}
