//! What a router changes in a forwarded packet: the MAC addresses, and the time to live or hop limit.
//!
//! The fast path writes what [`super::headers`] has computed for eight packets together ([`forward`]); [`ipv4`] and [`ipv6`] are for one packet.

use super::headers::Head;
use crate::packet::{ethernet, ipv4, ipv6, le32};

const HEADER: usize = ethernet::HEADER;
/// The eight bytes that change: they contain the time to live and the checksum of IPv4, and the hop limit of IPv6.
const CHANGED: usize = HEADER + 4;

/// Writes the new MAC addresses and the bytes that change.
#[inline]
pub fn forward(head: &mut Head, macs: &[u8; 12], [first, second]: [u32; 2]) {
    head[..12].copy_from_slice(macs);
    let bytes = (u64::from(second) << 32 | u64::from(first)).to_le_bytes();
    head[CHANGED..CHANGED + 8].copy_from_slice(&bytes);
}

/// The bytes that [`forward`] is to write into a valid packet; `None` if it is no IP packet.
pub fn words(head: &Head) -> Option<[u32; 2]> {
    let (first, second) = (le32(head, CHANGED), le32(head, CHANGED + 4));
    match u16::from_be_bytes([head[12], head[13]]) {
        ethernet::IPV4 => Some([first, word_v4(second)]),
        ethernet::IPV6 => Some([first.wrapping_sub(1 << 24), second]),
        _ => None,
    }
}

/// Writes the new MAC addresses and decrements the time to live (RFC 1812 §5.3.1) with its checksum (RFC 1624). The caller has checked that
/// the time to live is above 1. False if the frame has no complete header.
#[inline]
pub fn ipv4(frame: &mut [u8], macs: &[u8; 12]) -> bool {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv4::HEADER }>() else { return false };
    // Time to live, protocol, checksum: one word, read and written at once.
    let [a, b, c, d] = word_v4(le32(head, HEADER + 8)).to_le_bytes();
    [head[HEADER + 8], head[HEADER + 9], head[HEADER + 10], head[HEADER + 11]] = [a, b, c, d];
    head[..12].copy_from_slice(macs);
    true
}

/// Time to live, protocol and checksum after the time to live was decremented.
#[inline]
fn word_v4(word: u32) -> u32 {
    word.wrapping_sub(1) & 0xffff | less(word >> 16) << 16
}

/// A checksum field, read little-endian, after the time to live was decremented.
///
/// RFC 1624 §3, equation 3, with m' = m - 0x0100 adds 0x0100 with end-around carry; byte-swapped, it adds 1. As for the two zeros of the
/// field: 0xffff never results, as it never does from equation 3 for a header that is not all zero.
#[inline]
fn less(field: u32) -> u32 {
    let more = field + 1;
    (more + u32::from(more >= 0xffff)) & 0xffff
}

/// Writes the new MAC addresses and decrements the hop limit (RFC 8200 §3), which no checksum covers. Otherwise like [`ipv4`].
#[inline]
pub fn ipv6(frame: &mut [u8], macs: &[u8; 12]) -> bool {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv6::HEADER }>() else { return false };
    head[HEADER + 7] = head[HEADER + 7].wrapping_sub(1);
    head[..12].copy_from_slice(macs);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_checksum_changes_as_equation_3_of_rfc_1624_says(ttl in 2u8..=255, protocol: u8, field: u16) {
            let mut frame = [0; HEADER + ipv4::HEADER];
            frame[HEADER + 8..HEADER + 10].copy_from_slice(&[ttl, protocol]);
            frame[HEADER + 10..HEADER + 12].copy_from_slice(&field.to_be_bytes());
            prop_assert!(ipv4(&mut frame, &[7; 12]));
            let word = |ttl| u16::from_be_bytes([ttl, protocol]);
            let expected = checksum::update(field, word(ttl), word(ttl - 1));
            prop_assert_eq!(u16::from_be_bytes([frame[HEADER + 10], frame[HEADER + 11]]), expected);
            prop_assert_eq!(&frame[HEADER + 8..HEADER + 10], &[ttl - 1, protocol]);
        }
    }

    #[test]
    fn every_checksum_field_changes_as_equation_3_says() {
        for field in 0..=u16::MAX {
            let expected = checksum::update(field, 0x4011, 0x3f11);
            assert_eq!((less(field.swap_bytes().into()) as u16).swap_bytes(), expected, "{field:#06x}");
        }
    }
}
