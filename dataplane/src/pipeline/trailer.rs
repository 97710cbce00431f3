//! Bytes behind the IP packet of a frame: the padding of a short frame, and whatever a sender, a switch or a driver (a frame check sequence)
//! appended.
//!
//! RFC 894, RFC 2464 §3: they are not part of the IP packet, so they count for no MTU and make no packet "too big". They travel along as far
//! as the outgoing link takes them; where the frame would be longer than that, they are cut off.

use super::family_batch::TRAILER;
use crate::io::Packet;
use crate::packet::{ethernet, ipv4, ipv6, take};

/// Every link takes frames of this length: no port has a smaller MTU than IPv6 needs (RFC 8200 §5).
pub const ALWAYS_FITS: usize = ethernet::HEADER + 1_280;

/// [`TRAILER`] if a frame of `length` bytes, whose IP packet ends at `end`, has a trailer and may be longer than its link takes. So padded
/// short frames stay on the fast path.
#[inline]
pub fn flag(end: usize, length: usize) -> u8 {
    if length > end.max(ALWAYS_FITS) { TRAILER } else { 0 }
}

/// Cuts off the trailer of a frame with a valid IP packet if the frame is longer than a link with this MTU takes. Without effect on a
/// segmented frame.
#[cold]
pub fn trim<P: Packet>(packet: &mut P, mtu: u16) {
    if packet.length() <= ethernet::HEADER + usize::from(mtu) {
        return;
    }
    let bytes = packet.data();
    let field = |at| take::<2>(bytes, at).map(|bytes| usize::from(u16::from_be_bytes(*bytes)));
    let total = match take::<2>(bytes, 12).map(|bytes| u16::from_be_bytes(*bytes)) {
        Some(ethernet::IPV4) => field(ethernet::HEADER + 2).filter(|total| *total >= ipv4::HEADER),
        Some(ethernet::IPV6) => field(ethernet::HEADER + 4).map(|payload| ipv6::HEADER + payload),
        _ => None,
    };
    if let Some(total) = total {
        packet.truncate((ethernet::HEADER + total).max(ethernet::MIN_FRAME));
    }
}
