//! What a router changes in a packet that it forwards: the MAC addresses, and the time to live or hop limit.

use crate::packet::{checksum, ethernet, ipv4, ipv6};

const HEADER: usize = ethernet::HEADER;

/// Writes the new MAC addresses and takes one from the time to live (RFC 1812 §5.3.1), with its checksum (RFC 1624).
/// The caller has seen that the time to live is more than 1; false where the frame has no whole header.
#[inline]
pub fn ipv4(frame: &mut [u8], macs: &[u8; 12]) -> bool {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv4::HEADER }>() else { return false };
    let ttl = head[HEADER + 8];
    let protocol = head[HEADER + 9];
    let field = u16::from_be_bytes([head[HEADER + 10], head[HEADER + 11]]);
    let word = |ttl| u16::from_be_bytes([ttl, protocol]);
    let less = ttl.wrapping_sub(1);
    let [high, low] = checksum::update(field, word(ttl), word(less)).to_be_bytes();
    head[HEADER + 8] = less;
    head[HEADER + 10] = high;
    head[HEADER + 11] = low;
    head[..12].copy_from_slice(macs);
    true
}

/// Writes the new MAC addresses and takes one from the hop limit (RFC 8200 §3), which no checksum covers. As [`ipv4`] otherwise.
#[inline]
pub fn ipv6(frame: &mut [u8], macs: &[u8; 12]) -> bool {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv6::HEADER }>() else { return false };
    head[HEADER + 7] = head[HEADER + 7].wrapping_sub(1);
    head[..12].copy_from_slice(macs);
    true
}
