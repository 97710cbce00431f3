//! Routes of BGP messages as collectors recorded them: BGP4MP and BGP4MP_ET (RFC 6396 §4.4, RFC 8050 §3), and BGP, their predecessor.

use std::net::IpAddr;

use super::attributes::{AsSize, Attributes, next_hop_field, unicast_family};
use super::cursor::{Afi, Cursor};
use super::decoder::Decoder;
use super::error::At;
use super::paths::Stream;
use super::route::Event;
use super::table;

const ESTABLISHED: u16 = 6;

/// Who sent a message, and how its record declares it.
#[derive(Clone, Copy)]
struct From {
    peer: IpAddr,
    as_size: AsSize,
    /// Whether prefixes have path identifiers.
    with_ids: bool,
    /// The collector sent it (RFC 6396 §4.4.4): its routes are none of the peer's.
    local: bool,
}

/// A record of type BGP4MP or BGP4MP_ET, behind its time stamp.
pub(super) fn bgp4mp(mut c: Cursor<'_>, subtype: u16, d: &mut Decoder) -> Result<(), At> {
    // Subtypes that differ in one thing each: size of AS numbers, direction, path identifiers.
    let as_size = if matches!(subtype, 4 | 5 | 7 | 9 | 11) { AsSize::Four } else { AsSize::Two };
    let (local, with_ids) = (matches!(subtype, 6 | 7 | 10 | 11), matches!(subtype, 8..=11));
    c.bytes(as_size as usize * 2, "AS numbers")?;
    c.u16("an interface index")?;
    let at = c.offset();
    let family = c.u16("an address family")?;
    let afi = Afi::from_number(family).ok_or_else(|| At::unexpected(at, "address family 1 or 2", family))?;
    let peer = c.address(afi, "a peer's address")?;
    c.address(afi, "a local address")?;
    match subtype {
        0 | 5 => state_change(c, peer, d),
        2 => table::bgp4mp_entry(c, peer, as_size, d),
        // Some collectors write an empty record when a session opens.
        _ if c.is_empty() => {
            d.pass_over();
            Ok(())
        }
        _ => message(c, From { peer, as_size, with_ids, local }, d),
    }
}

/// BGP_UPDATE (RFC 6396 appendix B.1.2), in files until 2000: IPv4 peers, and UPDATEs without their header.
pub(super) fn bgp_update(mut c: Cursor<'_>, d: &mut Decoder) -> Result<(), At> {
    c.u16("a peer's AS number")?;
    let peer = c.address(Afi::V4, "a peer's address")?;
    c.u16("the collector's AS number")?;
    c.address(Afi::V4, "a local address")?;
    update(c, From { peer, as_size: AsSize::Two, with_ids: false, local: false }, d)
}

/// BGP_STATE_CHANGE (RFC 6396 appendix B.1.4).
pub(super) fn bgp_state_change(mut c: Cursor<'_>, d: &mut Decoder) -> Result<(), At> {
    c.u16("a peer's AS number")?;
    let peer = c.address(Afi::V4, "a peer's address")?;
    state_change(c, peer, d)
}

fn state_change(mut c: Cursor<'_>, peer: IpAddr, d: &mut Decoder) -> Result<(), At> {
    let old = c.u16("the old state")?;
    let new = c.u16("the new state")?;
    d.pass_over();
    if old == ESTABLISHED && new != ESTABLISHED {
        d.session_end(peer);
    }
    Ok(())
}

/// One BGP message; only UPDATE has routes.
fn message(mut c: Cursor<'_>, from: From, d: &mut Decoder) -> Result<(), At> {
    let at = c.offset();
    let marker = c.bytes(16, "a BGP marker")?;
    if marker.iter().any(|b| *b != 0xff) {
        return Err(At::unexpected(at, "a BGP marker (16 bytes of 0xff)", format!("{marker:02x?}")));
    }
    let len = c.u16("a BGP message length")?;
    let kind = c.u8("a BGP message type")?;
    let body_len = usize::from(len)
        .checked_sub(19)
        .ok_or_else(|| At::unexpected(at + 16, "a BGP message length of at least 19", len))?;
    let body = c.part(body_len, "a BGP message")?;
    c.end("the BGP message")?;
    match kind {
        2 => update(body, from, d)?,
        // Whoever sends a NOTIFICATION, it closes the session (RFC 4271 §6).
        3 => {
            d.pass_over();
            d.session_end(from.peer);
        }
        1 | 4 | 5 => d.pass_over(),
        other => return Err(At::unexpected(at + 18, "a BGP message type from 1 to 5", other)),
    }
    Ok(())
}

fn update(mut c: Cursor<'_>, from: From, d: &mut Decoder) -> Result<(), At> {
    let len = usize::from(c.u16("the length of withdrawn routes")?);
    let withdrawn = c.part(len, "withdrawn routes")?;
    let len = usize::from(c.u16("the length of path attributes")?);
    let attrs = c.part(len, "path attributes")?;
    let at = attrs.offset();
    let found = Attributes::parse(attrs, from.as_size)?;
    let (metric, as_path_len) = (found.metric, found.as_path_len);
    let announce = |next_hop| Event::Announce { next_hop, metric, as_path_len };

    let mut lists = [(Afi::V4, withdrawn, Event::Withdraw); 4];
    let [_, unreach, reach, nlri] = &mut lists;
    *unreach = (Afi::V4, Cursor::default(), Event::Withdraw);
    (*reach, *nlri) = (*unreach, *unreach);
    if let Some(mut value) = found.unreach
        && let Some(afi) = unicast_family(&mut value)?
    {
        *unreach = (afi, value, Event::Withdraw);
    }
    if let Some(mut value) = found.reach
        && let Some(afi) = unicast_family(&mut value)?
    {
        let next_hop = next_hop_field(&mut value)?;
        value.u8("the reserved byte of MP_REACH_NLRI")?;
        *reach = (afi, value, announce(next_hop));
    }
    if !c.is_empty() {
        let expected = "a NEXT_HOP attribute with the prefixes";
        let next_hop = found.next_hop().ok_or_else(|| At::unexpected(at, expected, "none"))?;
        *nlri = (Afi::V4, c, announce(next_hop));
    }
    for family in [Afi::V4, Afi::V6] {
        let of_family = lists.map(|(afi, list, _)| if afi == family { list } else { Cursor::default() });
        let stream = Stream { peer: from.peer, local: from.local, afi: family };
        let with_ids = d.evidence.with_ids(stream, &of_family, from.with_ids);
        d.counts.misdeclared_paths += u64::from(with_ids != from.with_ids);
        for (list, (_, _, event)) in of_family.into_iter().zip(lists) {
            prefixes(list, family, with_ids, event, from, d)?;
        }
    }
    if from.local {
        d.pass_over();
    }
    Ok(())
}

/// Takes over one list of prefixes; of a message that the collector sent, it is only checked.
fn prefixes(
    mut list: Cursor<'_>,
    afi: Afi,
    with_ids: bool,
    event: Event,
    from: From,
    d: &mut Decoder,
) -> Result<(), At> {
    while !list.is_empty() {
        let path_id = if with_ids { Some(list.u32("a path identifier")?) } else { None };
        let prefix = list.prefix(afi)?;
        if !from.local {
            d.route(from.peer, path_id, prefix, event);
        }
    }
    Ok(())
}
