//! Extracts prefixes and next hops from BGP UPDATE messages and path attributes (RFC 4271, RFC 4760).

use std::net::IpAddr;

use super::cursor::{Afi, Cursor};
use super::error::{At, Problem};
use super::route::{Event, Route};

const NEXT_HOP: u8 = 3;
const MULTI_EXIT_DISC: u8 = 4;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;
const EXTENDED_LENGTH: u8 = 0x10;
const SAFI_UNICAST: u8 = 1;

/// The path attributes that determine forwarding.
#[derive(Default)]
struct Attributes<'a> {
    next_hop: Option<IpAddr>,
    metric: u32,
    reach: Option<Cursor<'a>>,
    unreach: Option<Cursor<'a>>,
}

/// Parses path attributes; those without effect on forwarding are skipped by their length.
fn attributes<'a>(mut c: Cursor<'a>) -> Result<Attributes<'a>, At> {
    let mut found = Attributes::default();
    while !c.is_empty() {
        let flags = c.u8("attribute flags")?;
        let kind = c.u8("an attribute type")?;
        let len = if flags & EXTENDED_LENGTH != 0 {
            usize::from(c.u16("an attribute length")?)
        } else {
            usize::from(c.u8("an attribute length")?)
        };
        let mut value = c.part(len, "a path attribute")?;
        match kind {
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

/// The next-hop field of MP_REACH_NLRI. 4 bytes: IPv4; 16: IPv6; 32: IPv6 followed by a link-local address (RFC 2545 §3), which is useless
/// away from that link.
fn next_hop_field(c: &mut Cursor<'_>) -> Result<IpAddr, At> {
    let at = c.offset();
    let len = c.u8("a next hop length")?;
    let mut field = c.part(usize::from(len), "a next hop")?;
    match len {
        4 => field.address(Afi::V4, "a next hop"),
        16 | 32 => field.address(Afi::V6, "a next hop"),
        other => Err(At::new(
            at,
            Problem::Unexpected {
                expected: "a next hop of 4, 16 or 32 bytes",
                found: format!("{other} bytes"),
            },
        )),
    }
}

/// Next hop and metric of one RIB entry's attributes.
///
/// RFC 6396 §4.3.4: MP_REACH_NLRI contains only the next hop's length and the next hop. Some writers put the whole attribute there; its
/// first byte is then the high byte of the address family, 0, which is no next-hop length.
pub(super) fn rib_entry(attrs: Cursor<'_>) -> Result<(IpAddr, u32), At> {
    let at = attrs.offset();
    let found = attributes(attrs)?;
    if let Some(mut reach) = found.reach {
        if reach.peek() == Some(0) {
            reach.bytes(3, "a family")?;
        }
        return Ok((next_hop_field(&mut reach)?, found.metric));
    }
    match found.next_hop {
        Some(next_hop) => Ok((next_hop, found.metric)),
        None => Err(no_next_hop(at)),
    }
}

fn no_next_hop(at: u64) -> At {
    let problem =
        Problem::Unexpected { expected: "a NEXT_HOP or MP_REACH_NLRI attribute", found: "none".to_owned() };
    At::new(at, problem)
}

/// Appends the routes of one BGP message; only UPDATE has any.
pub(super) fn message(mut c: Cursor<'_>, time_us: u64, peer: IpAddr, out: &mut Vec<Route>) -> Result<(), At> {
    let at = c.offset();
    let marker = c.bytes(16, "a BGP marker")?;
    if marker.iter().any(|b| *b != 0xff) {
        let problem = Problem::Unexpected {
            expected: "a BGP marker (16 bytes of 0xff)",
            found: format!("{marker:02x?}"),
        };
        return Err(At::new(at, problem));
    }
    let len = c.u16("a BGP message length")?;
    let kind = c.u8("a BGP message type")?;
    let body_len = usize::from(len).checked_sub(19).ok_or_else(|| {
        let problem =
            Problem::Unexpected { expected: "a BGP message length of at least 19", found: len.to_string() };
        At::new(at + 16, problem)
    })?;
    let body = c.part(body_len, "a BGP message")?;
    c.end("the BGP message")?;
    match kind {
        2 => update(body, time_us, peer, out),
        1 | 3 | 4 | 5 => Ok(()),
        other => {
            let problem =
                Problem::Unexpected { expected: "a BGP message type from 1 to 5", found: other.to_string() };
            Err(At::new(at + 18, problem))
        }
    }
}

fn update(mut c: Cursor<'_>, time_us: u64, peer: IpAddr, out: &mut Vec<Route>) -> Result<(), At> {
    let len = usize::from(c.u16("the length of withdrawn routes")?);
    let mut withdrawn = c.part(len, "withdrawn routes")?;
    while !withdrawn.is_empty() {
        let prefix = withdrawn.prefix(Afi::V4)?;
        out.push(Route { time_us, peer, prefix, event: Event::Withdraw });
    }
    let len = usize::from(c.u16("the length of path attributes")?);
    let attrs = c.part(len, "path attributes")?;
    let at = attrs.offset();
    let found = attributes(attrs)?;
    let metric = found.metric;

    if let Some(mut unreach) = found.unreach
        && let Some(afi) = unicast_family(&mut unreach)?
    {
        while !unreach.is_empty() {
            let prefix = unreach.prefix(afi)?;
            out.push(Route { time_us, peer, prefix, event: Event::Withdraw });
        }
    }
    if let Some(mut reach) = found.reach
        && let Some(afi) = unicast_family(&mut reach)?
    {
        let next_hop = next_hop_field(&mut reach)?;
        reach.u8("the reserved byte of MP_REACH_NLRI")?;
        while !reach.is_empty() {
            let prefix = reach.prefix(afi)?;
            out.push(Route { time_us, peer, prefix, event: Event::Announce { next_hop, metric } });
        }
    }
    if !c.is_empty() {
        let next_hop = found.next_hop.ok_or_else(|| no_next_hop(at))?;
        while !c.is_empty() {
            let prefix = c.prefix(Afi::V4)?;
            out.push(Route { time_us, peer, prefix, event: Event::Announce { next_hop, metric } });
        }
    }
    Ok(())
}

/// Reads AFI and SAFI. `None`: neither IPv4 nor IPv6 unicast, to be ignored.
fn unicast_family(c: &mut Cursor<'_>) -> Result<Option<Afi>, At> {
    let afi = c.u16("an address family")?;
    let safi = c.u8("a subsequent address family")?;
    Ok(if safi == SAFI_UNICAST { Afi::from_number(afi) } else { None })
}
