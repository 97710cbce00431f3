//! IPv4 options (RFC 791 §3.1) of forwarded packets: record route is filled in, source routes are refused, all others are ignored.
//!
//! RFC 1812 §5.2.4.1 lets a router refuse source routes, and RFC 7126 §4.3, §4.4 recommends it. §4.2.2.6, §5.2.4.2: a router records its
//! route. Timestamps (§5.2.4.3) are forwarded unchanged.

use std::net::Ipv4Addr;

use crate::packet::{checksum, ethernet, ipv4, put};
use crate::reason::Reason;

const END: u8 = 0;
const NOTHING: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Why a packet with options is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The drop reason.
    pub reason: Reason,
    /// Offset in the IP header: the pointer of the ICMP parameter problem.
    pub pointer: u8,
}

/// Validates the options of a header; returns the offset of the record route option, if any.
///
/// # Errors
/// [`Refused`]: a source route, or an option with an invalid length or pointer.
#[cold]
pub fn check(header: &ipv4::Ipv4Header<'_>) -> Result<Option<usize>, Refused> {
    let bytes = header.bytes();
    let (mut at, mut record) = (ipv4::HEADER, None);
    while let Some(&kind) = bytes.get(at) {
        let bad = |offset: usize| Refused { reason: Reason::BadOption, pointer: (at + offset) as u8 };
        match kind {
            END => break,
            NOTHING => {
                at += 1;
                continue;
            }
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                return Err(Refused { reason: Reason::SourceRoute, pointer: at as u8 });
            }
            _ => {}
        }
        let length = usize::from(*bytes.get(at + 1).ok_or(bad(0))?);
        if length < 2 || at + length > bytes.len() {
            return Err(bad(1));
        }
        if kind == RECORD_ROUTE {
            // RFC 791: the pointer counts from 1 at the option's type; 4 is the first address.
            if length < 3 || bytes.get(at + 2).is_none_or(|pointer| *pointer < 4) {
                return Err(bad(2));
            }
            record.get_or_insert(at);
        }
        at += length;
    }
    Ok(record)
}

/// Writes the outgoing port's address into a record route option with room, and updates the checksum.
#[cold]
pub fn record_route(frame: &mut [u8], own: Ipv4Addr) {
    let Some(packet) = frame.get_mut(ethernet::HEADER..) else { return };
    // The frame may continue in other buffers; its length was checked on input.
    let Ok(header) = ipv4::Ipv4Header::new_checked(packet, usize::from(u16::MAX)) else { return };
    let header_length = header.header_length();
    let Ok(Some(at)) = check(&header) else { return };
    let (Some(&option), Some(&pointer)) = (packet.get(at + 1), packet.get(at + 2)) else { return };
    let slot = at + usize::from(pointer) - 1;
    if usize::from(pointer) + 3 > usize::from(option) || slot + 4 > header_length {
        return;
    }
    put(packet, slot, &own.octets());
    put(packet, at + 2, &[pointer + 4]);
    put(packet, 10, &[0, 0]);
    let field = checksum::checksum(packet.get(..header_length).unwrap_or_default());
    put(packet, 10, &field.to_be_bytes());
}
