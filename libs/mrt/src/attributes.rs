//! BGP path attributes (RFC 4271 §4.3, RFC 4760): those that determine forwarding and best path.

use std::net::IpAddr;

use super::cursor::{Afi, Cursor};
use super::error::At;

const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MULTI_EXIT_DISC: u8 = 4;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;
const EXTENDED_LENGTH: u8 = 0x10;
const SAFI_UNICAST: u8 = 1;

/// Bytes of an AS number in AS_PATH, by what the record's type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AsSize {
    Two = 2,
    Four = 4,
}

/// The attributes of one route or UPDATE.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    next_hop: Option<IpAddr>,
    pub metric: u32,
    pub as_path_len: u32,
    pub reach: Option<Cursor<'a>>,
    pub unreach: Option<Cursor<'a>>,
}

impl<'a> Attributes<'a> {
    /// Parses path attributes; those without effect are skipped by their length. Of an attribute that occurs twice the first counts
    /// (RFC 7606 §3 (g)).
    pub(super) fn parse(mut c: Cursor<'a>, as_size: AsSize) -> Result<Self, At> {
        let mut found = Self::default();
        let mut seen = 0u16;
        while !c.is_empty() {
            let flags = c.u8("attribute flags")?;
            let kind = c.u8("an attribute type")?;
            let len = if flags & EXTENDED_LENGTH != 0 {
                usize::from(c.u16("an attribute length")?)
            } else {
                usize::from(c.u8("an attribute length")?)
            };
            let mut value = c.part(len, "a path attribute")?;
            if kind > MP_UNREACH_NLRI || seen & (1 << kind) != 0 {
                continue;
            }
            seen |= 1 << kind;
            match kind {
                AS_PATH => found.as_path_len = as_path_len(value, as_size)?,
                NEXT_HOP => {
                    found.next_hop = Some(value.address(Afi::V4, "NEXT_HOP")?);
                    value.end("NEXT_HOP")?;
                }
                MULTI_EXIT_DISC => {
                    found.metric = value.u32("MULTI_EXIT_DISC")?;
                    value.end("MULTI_EXIT_DISC")?;
                }
                MP_REACH_NLRI => found.reach = Some(value),
                MP_UNREACH_NLRI => found.unreach = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Next hop of prefixes in the NLRI field of an UPDATE.
    pub(super) fn next_hop(&self) -> Option<IpAddr> {
        self.next_hop
    }

    /// Next hop of a table's entry; none for a route of the collector's host itself.
    ///
    /// RFC 6396 §4.3.4: MP_REACH_NLRI contains only the next hop's length and the next hop. Some writers put the whole attribute there; its
    /// first byte is then the high byte of the address family, 0, which is no next-hop length.
    ///
    /// An IPv4 route with an IPv6 next hop (RFC 8950) has its next hop in MP_REACH_NLRI, with or without NEXT_HOP 0.0.0.0.
    pub(super) fn entry_next_hop(&self, afi: Afi) -> Result<Option<IpAddr>, At> {
        let plain = self.next_hop.filter(|address| afi == Afi::V4 && !address.is_unspecified());
        match (plain, self.reach) {
            (None, Some(mut reach)) => {
                let whole = reach.peek() == Some(0);
                if whole {
                    reach.bytes(3, "a family")?;
                }
                let next_hop = next_hop_field(&mut reach)?;
                if !whole {
                    reach.end("the next hop in MP_REACH_NLRI")?;
                }
                Ok(Some(next_hop))
            }
            _ => Ok(plain.or(self.next_hop)),
        }
    }
}

/// Length of an AS_PATH. Some writers use the other size than the record's type says, which shows in segments that do not end where the
/// attribute does.
fn as_path_len(value: Cursor<'_>, as_size: AsSize) -> Result<u32, At> {
    let other = if as_size == AsSize::Two { AsSize::Four } else { AsSize::Two };
    segments(value, as_size).or_else(|error| segments(value, other).map_err(|_| error))
}

fn segments(mut c: Cursor<'_>, as_size: AsSize) -> Result<u32, At> {
    let mut len = 0;
    while !c.is_empty() {
        let at = c.offset();
        let kind = c.u8("a segment of AS_PATH")?;
        let count = c.u8("the length of a segment of AS_PATH")?;
        c.bytes(usize::from(count) * as_size as usize, "a segment of AS_PATH")?;
        len += match kind {
            1 => 1,
            2 => u32::from(count),
            3 | 4 => 0,
            other => return Err(At::unexpected(at, "a segment type of AS_PATH from 1 to 4", other)),
        };
    }
    Ok(len)
}

/// The next-hop field of MP_REACH_NLRI. 4 bytes: IPv4; 16: IPv6; 32: IPv6 followed by a link-local address (RFC 2545 §3), which is useless
/// away from that link, but some routers have nothing else.
pub(super) fn next_hop_field(c: &mut Cursor<'_>) -> Result<IpAddr, At> {
    let at = c.offset();
    let len = c.u8("a next hop length")?;
    let mut field = c.part(usize::from(len), "a next hop")?;
    match len {
        4 => field.address(Afi::V4, "a next hop"),
        16 => field.address(Afi::V6, "a next hop"),
        32 => {
            let global = field.address(Afi::V6, "a next hop")?;
            if global.is_unspecified() { field.address(Afi::V6, "a next hop") } else { Ok(global) }
        }
        other => Err(At::unexpected(at, "a next hop of 4, 16 or 32 bytes", format!("{other} bytes"))),
    }
}

/// Reads AFI and SAFI. `None`: neither IPv4 nor IPv6 unicast, to be ignored.
pub(super) fn unicast_family(c: &mut Cursor<'_>) -> Result<Option<Afi>, At> {
    let afi = c.u16("an address family")?;
    let safi = c.u8("a subsequent address family")?;
    Ok(if safi == SAFI_UNICAST { Afi::from_number(afi) } else { None })
}
