//! ICMP and ICMPv6 error messages (RFC 792, RFC 1191 §4; RFC 4443 §3): which packets may cause one, and the message itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{checksum, ethernet, ipv4, ipv6, nd, put};

/// Type, code and parameter of an IPv4 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The 32 bits after the checksum: next-hop MTU, pointer or zero.
    pub argument: u32,
}

const ICMP: u8 = 1;
/// RFC 1812 §4.3.2.3: largest IPv4 error message in bytes.
const MAX_V4: usize = 576;
/// RFC 4443 §2.4 (c): largest IPv6 error message, the minimum MTU of IPv6.
const MAX_V6: usize = 1_280;
const TTL: u8 = 64;
/// RFC 1812 §4.3.2.5: errors have precedence 6 (internetwork control, the class selector CS6 of RFC 2474 §4.2.2.2).
const PRECEDENCE: u8 = 0xc0;
/// RFC 1812 §4.3.2.5: and the type of service of the packet that they are about, as in Linux (`icmp_send`). The two bits of ECN are not
/// part of it: an error is no ECN-capable transport (RFC 3168 §5).
const TYPE_OF_SERVICE: u8 = 0x1c;
const ICMP_HEADER: usize = 8;

/// RFC 1812 §4.3.2.7: no error about an error, a fragment other than the first, a broadcast or multicast, or a source that is not a single
/// host. Link-layer broadcasts and martian sources were checked on input.
pub fn may_answer_v4(header: &ipv4::Ipv4Header<'_>) -> bool {
    let [first, ..] = header.source().octets();
    // Class E is refused on input, unless it is used for hosts.
    let (source, destination) = (header.source(), header.destination());
    let nobody = first == 0 || first == 127 || source.is_multicast() || source.is_broadcast();
    let error = header.protocol() == ICMP
        // RFC 792, RFC 950, RFC 1256: echo, router discovery, timestamp, information, address mask. All other types are errors.
        && !matches!(header.payload().first(), Some(0 | 8..=10 | 13..=18));
    header.fragment_offset() == 0
        && !nobody
        && !destination.is_multicast()
        && !destination.is_broadcast()
        && !error
}

/// RFC 4443 §2.4 (e): no error about an error or redirect, to a group (except with `to_groups`), or from a source that is not a single
/// host.
pub fn may_answer_v6(header: &ipv6::Ipv6Header<'_>, to_groups: bool) -> bool {
    let source = header.source();
    !source.is_unspecified()
        && !source.is_multicast()
        && !source.is_loopback()
        && (to_groups || !header.destination().is_multicast())
        && !is_error_v6(header)
}

/// Whether the packet is an ICMPv6 error, also behind extension headers (RFC 8200 §4). Headers that cannot be parsed are no error. Behind
/// more headers than any packet has a use for, it may be one, so nothing is said (RFC 4443 §2.4 (e.1)).
fn is_error_v6(header: &ipv6::Ipv6Header<'_>) -> bool {
    let (mut next, mut bytes) = (header.next_header(), header.payload());
    for _ in 0..ipv6::MOST_HEADERS {
        let length = match (next, bytes) {
            (nd::ICMPV6, [kind, ..]) => return *kind < 128 || *kind == 137,
            // Hop-by-hop, routing, destination options: length in units of 8 bytes, not counting the first.
            (0 | 43 | 60, [_, units, ..]) => 8 + usize::from(*units) * 8,
            // The protocol of a fragment other than the first is unknown.
            (44, [_, _, high, low, ..]) if u16::from_be_bytes([*high, *low]) & 0xfff8 == 0 => 8,
            _ => return false,
        };
        next = bytes.first().copied().unwrap_or(59);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    true
}

/// Writes a frame with the message into `room`, MAC addresses left zero. `room` is cleared first.
///
/// `original` is the IP packet as received, as far as it is contiguous.
pub fn build_v4(
    room: &mut Vec<u8>,
    error: Error,
    source: Ipv4Addr,
    header: &ipv4::Ipv4Header<'_>,
    original: &[u8],
) {
    let whole = usize::from(header.total_length()).min(original.len());
    let quoted = original.get(..whole.min(MAX_V4 - ipv4::HEADER - ICMP_HEADER)).unwrap_or_default();
    let total = ipv4::HEADER + ICMP_HEADER + quoted.len();
    room.clear();
    room.resize(ethernet::HEADER + total, 0);
    put(room, 12, &ethernet::IPV4.to_be_bytes());
    let packet = room.get_mut(ethernet::HEADER..).unwrap_or_default();
    put(packet, 0, &[0x45, PRECEDENCE | header.tos() & TYPE_OF_SERVICE]);
    put(packet, 2, &(total as u16).to_be_bytes());
    put(packet, 8, &[TTL, ICMP]);
    put(packet, 12, &source.octets());
    put(packet, 16, &header.source().octets());
    let field = checksum::checksum(packet.get(..ipv4::HEADER).unwrap_or_default());
    put(packet, 10, &field.to_be_bytes());
    let message = packet.get_mut(ipv4::HEADER..).unwrap_or_default();
    put(message, 0, &[error.kind, error.code]);
    put(message, 4, &error.argument.to_be_bytes());
    put(message, ICMP_HEADER, quoted);
    let field = checksum::checksum(message);
    put(message, 2, &field.to_be_bytes());
}

/// Like [`build_v4`] for IPv6. The traffic class is 0, as in Linux: RFC 4443 asks for none.
pub fn build_v6(
    room: &mut Vec<u8>,
    error: Error,
    source: Ipv6Addr,
    header: &ipv6::Ipv6Header<'_>,
    original: &[u8],
) {
    let whole = header.total_length().min(original.len());
    let quoted = original.get(..whole.min(MAX_V6 - ipv6::HEADER - ICMP_HEADER)).unwrap_or_default();
    let length = ICMP_HEADER + quoted.len();
    room.clear();
    room.resize(ethernet::HEADER + ipv6::HEADER + length, 0);
    put(room, 12, &ethernet::IPV6.to_be_bytes());
    let packet = room.get_mut(ethernet::HEADER..).unwrap_or_default();
    put(packet, 0, &[0x60]);
    put(packet, 4, &(length as u16).to_be_bytes());
    put(packet, 6, &[nd::ICMPV6, TTL]);
    put(packet, 8, &source.octets());
    put(packet, 24, &header.source().octets());
    let message = packet.get_mut(ipv6::HEADER..).unwrap_or_default();
    put(message, 0, &[error.kind, error.code]);
    put(message, 4, &error.argument.to_be_bytes());
    put(message, ICMP_HEADER, quoted);
    let field = checksum::pseudo_v6(source, header.source(), nd::ICMPV6, message);
    put(message, 2, &field.to_be_bytes());
}
