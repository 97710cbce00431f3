//! What a router changes in a packet that it forwards: the MAC addresses, and the time to live or hop limit.

use crate::packet::{checksum, ethernet, ipv4, ipv6};
use crate::reason::Reason;

const HEADER: usize = ethernet::HEADER;

/// Writes the new MAC addresses and takes one from the time to live (RFC 1812 §5.3.1), with its checksum (RFC 1624).
#[inline]
pub fn ipv4(frame: &mut [u8], macs: &[u8; 12]) -> Result<(), Reason> {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv4::HEADER }>() else {
        return Err(Reason::ShortPacket);
    };
    let ttl = head[HEADER + 8];
    if ttl <= 1 {
        return Err(Reason::TtlExceeded);
    }
    let protocol = head[HEADER + 9];
    let field = u16::from_be_bytes([head[HEADER + 10], head[HEADER + 11]]);
    let word = |ttl| u16::from_be_bytes([ttl, protocol]);
    let [high, low] = checksum::update(field, word(ttl), word(ttl - 1)).to_be_bytes();
    head[HEADER + 8] = ttl - 1;
    head[HEADER + 10] = high;
    head[HEADER + 11] = low;
    head[..12].copy_from_slice(macs);
    Ok(())
}

/// Writes the new MAC addresses and takes one from the hop limit (RFC 8200 §3), which no checksum covers.
#[inline]
pub fn ipv6(frame: &mut [u8], macs: &[u8; 12]) -> Result<(), Reason> {
    let Some(head) = frame.first_chunk_mut::<{ HEADER + ipv6::HEADER }>() else {
        return Err(Reason::ShortPacket);
    };
    let hop_limit = head[HEADER + 7];
    if hop_limit <= 1 {
        return Err(Reason::TtlExceeded);
    }
    head[HEADER + 7] = hop_limit - 1;
    head[..12].copy_from_slice(macs);
    Ok(())
}
