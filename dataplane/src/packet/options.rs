//! IPv4 options of an echo request that its reply returns (RFC 1812 §4.3.3.6): record route and timestamp, updated by this router.
//!
//! What forwarded packets have is looked at by [`crate::pipeline::options`].

use std::net::Ipv4Addr;

use super::{ipv4, put, take};

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// RFC 791 §3.1: what a timestamp option collects.
const TIMES: u8 = 0;
const ADDRESSES_AND_TIMES: u8 = 1;
const PRESPECIFIED: u8 = 3;

/// The options of the reply to a packet with this header, padded to 32-bit words; all but record route and timestamp are left out. `now` is
/// the time in milliseconds since midnight UT. `None` if there is a source route or a broken option.
pub fn returned(header: &ipv4::Ipv4Header<'_>, now: u32) -> Option<Vec<u8>> {
    let mut rest = header.bytes().get(ipv4::HEADER..).unwrap_or_default();
    let (own, mut kept) = (header.destination(), Vec::new());
    while let Some(&kind) = rest.first() {
        let length = match kind {
            END => break,
            NO_OPERATION => 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return None,
            _ => usize::from(*rest.get(1)?).max(2),
        };
        let (option, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let mut option = option.to_vec();
        match kind {
            RECORD_ROUTE => record_route(&mut option, own)?,
            TIMESTAMP => timestamp(&mut option, own, now)?,
            _ => continue,
        }
        kept.extend(option);
    }
    kept.resize(kept.len().next_multiple_of(4), END);
    Some(kept)
}

/// RFC 791 §3.1: the address goes where the pointer says, which counts from 1; a full option stays as it is.
fn record_route(option: &mut [u8], own: Ipv4Addr) -> Option<()> {
    let pointer = usize::from(*option.get(2)?);
    if pointer < 4 {
        return None;
    }
    if pointer + 3 <= option.len() {
        put(option, pointer - 1, &own.octets());
        put(option, 2, &[(pointer + 4) as u8]);
    }
    Some(())
}

/// RFC 791 §3.1: type, length, pointer, overflow count and flag of four bits each, then times, each with an address if the flag says so.
fn timestamp(option: &mut [u8], own: Ipv4Addr, now: u32) -> Option<()> {
    let &[_, _, pointer, counts] = option.first_chunk::<4>()?;
    let at = usize::from(pointer).checked_sub(1).filter(|at| *at >= 4)?;
    let (overflow, flag) = (counts >> 4, counts & 0x0f);
    let entry = match flag {
        TIMES => now.to_be_bytes().to_vec(),
        ADDRESSES_AND_TIMES | PRESPECIFIED => [own.octets(), now.to_be_bytes()].concat(),
        _ => return None,
    };
    // Only the next of the addresses that the sender chose adds its time.
    if flag == PRESPECIFIED && take::<4>(option, at) != Some(&own.octets()) {
        return Some(());
    }
    if at + entry.len() <= option.len() {
        put(option, at, &entry);
        put(option, 2, &[pointer + entry.len() as u8]);
    } else if flag != PRESPECIFIED {
        // No room: the count of routers that found none; when that is full too, the packet is an error.
        put(option, 3, &[overflow.checked_add(1).filter(|count| *count < 16)? << 4 | flag]);
    }
    Some(())
}
