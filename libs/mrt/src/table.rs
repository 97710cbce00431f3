//! Routes of tables: TABLE_DUMP and TABLE_DUMP_V2 (RFC 6396 §4.2 and §4.3, RFC 8050 §4).

use std::net::IpAddr;

use ipnet::IpNet;

use super::attributes::{AsSize, Attributes, unicast_family};
use super::cursor::{Afi, Cursor};
use super::decoder::Decoder;
use super::error::At;
use super::route::Event;

/// One record of a table, which is about one prefix.
struct Rib<'a> {
    afi: Afi,
    prefix: IpNet,
    /// From the number of entries on.
    entries: Cursor<'a>,
}

/// RFC 6396 §4.3.1; only the peers' addresses are used.
pub(super) fn peer_index(mut c: Cursor<'_>, d: &mut Decoder) -> Result<(), At> {
    c.u32("the collector's identifier")?;
    let name = usize::from(c.u16("the length of a view name")?);
    c.bytes(name, "a view name")?;
    let count = c.u16("the number of peers")?;
    let mut found = Vec::new();
    for _ in 0..count {
        let kind = c.u8("a peer type")?;
        c.u32("a peer's identifier")?;
        found.push(c.address(if kind & 1 == 0 { Afi::V4 } else { Afi::V6 }, "a peer's address")?);
        c.bytes(if kind & 2 == 0 { 2 } else { 4 }, "a peer's AS number")?;
    }
    c.end("the peer index table")?;
    d.peers = found;
    d.pass_over();
    Ok(())
}

/// TABLE_DUMP (RFC 6396 §4.2). Subtypes 3 and 4 are those of bgpdump and OpenBGPD with AS numbers of 4 bytes.
pub(super) fn table_dump(mut c: Cursor<'_>, afi: Afi, as_size: AsSize, d: &mut Decoder) -> Result<(), At> {
    c.u16("a view number")?;
    c.u16("a sequence number")?;
    let prefix = c.address_and_length(afi)?;
    c.u8("the status")?;
    c.u32("an originated time")?;
    let peer = c.address(afi, "a peer's address")?;
    c.bytes(as_size as usize, "a peer's AS number")?;
    let len = usize::from(c.u16("the length of path attributes")?);
    let attributes = Attributes::parse(c.part(len, "path attributes")?, as_size)?;
    c.end("the path attributes")?;
    let at = Place { afi, prefix, peer, path_id: None };
    entry(&at, &attributes, d)
}

/// BGP4MP_ENTRY (RFC 6396 appendix B.2.4), written by OpenBGPD. `c` is behind the addresses.
pub(super) fn bgp4mp_entry(
    mut c: Cursor<'_>,
    peer: IpAddr,
    as_size: AsSize,
    d: &mut Decoder,
) -> Result<(), At> {
    c.u16("a view number")?;
    c.u16("the status")?;
    c.u32("the time of the last change")?;
    let Some(afi) = unicast_family(&mut c)? else {
        d.pass_over();
        return Ok(());
    };
    let next_hop = super::attributes::next_hop_field(&mut c)?;
    let prefix = c.prefix(afi)?;
    let len = usize::from(c.u16("the length of path attributes")?);
    let attributes = Attributes::parse(c.part(len, "path attributes")?, as_size)?;
    c.end("the path attributes")?;
    let (metric, as_path_len) = (attributes.metric, attributes.as_path_len);
    d.route(peer, None, prefix, Event::Announce { next_hop, metric, as_path_len });
    Ok(())
}

/// RIB_IPV4_UNICAST, RIB_IPV6_UNICAST and their forms with path identifiers.
pub(super) fn rib(mut c: Cursor<'_>, afi: Afi, declared: bool, d: &mut Decoder) -> Result<(), At> {
    c.u32("a sequence number")?;
    let prefix = c.prefix(afi)?;
    entries(&Rib { afi, prefix, entries: c }, declared, d)
}

/// RIB_GENERIC (RFC 6396 §4.3.3) and its form with path identifiers, which are those of the entries.
pub(super) fn rib_generic(mut c: Cursor<'_>, declared: bool, d: &mut Decoder) -> Result<(), At> {
    c.u32("a sequence number")?;
    let Some(afi) = unicast_family(&mut c)? else {
        d.pass_over();
        return Ok(());
    };
    let prefix = c.prefix(afi)?;
    entries(&Rib { afi, prefix, entries: c }, declared, d)
}

/// Reads the entries as the record's type declares them, and in the other way if that does not fit.
///
/// What fits is decided by framing: all lengths of entries and attributes end where the record does, each peer is in the index, and no entry
/// is without attributes: read without identifiers, the upper half of a small identifier is a length of 0. Where earlier records of the
/// file fitted in the other way only, that is tried first.
fn entries(rib: &Rib<'_>, declared: bool, d: &mut Decoder) -> Result<(), At> {
    let before = d.savepoint();
    let first = declared != d.misdeclared(declared);
    match rows(rib, first, true, d) {
        Ok(()) => {
            if first != declared {
                d.counts.misdeclared_paths += 1;
            }
            return Ok(());
        }
        Err(_) => d.back_to(before),
    }
    if rows(rib, !first, true, d).is_ok() {
        if first == declared {
            d.counts.misdeclared_paths += 1;
            d.set_misdeclared(declared);
        }
        return Ok(());
    }
    d.back_to(before);
    rows(rib, declared, false, d)
}

/// The entries, with or without identifiers. `strict`: an entry without attributes is an error.
fn rows(rib: &Rib<'_>, with_ids: bool, strict: bool, d: &mut Decoder) -> Result<(), At> {
    let mut c = rib.entries;
    let count = c.u16("the number of RIB entries")?;
    for _ in 0..count {
        let at = c.offset();
        let index = c.u16("a peer index")?;
        c.u32("an originated time")?;
        let path_id = if with_ids { Some(c.u32("a path identifier")?) } else { None };
        let len = usize::from(c.u16("the length of path attributes")?);
        if strict && len == 0 {
            return Err(At::unexpected(at, "path attributes", "none"));
        }
        let attributes = Attributes::parse(c.part(len, "path attributes")?, AsSize::Four)?;
        let Some(&peer) = d.peers.get(usize::from(index)) else {
            let expected = "the index of a peer in the peer index table before it";
            return Err(At::unexpected(at, expected, format!("{index} of {} peers", d.peers.len())));
        };
        entry(&Place { afi: rib.afi, prefix: rib.prefix, peer, path_id }, &attributes, d)?;
    }
    c.end("the RIB entries")
}

/// Whose route to what.
struct Place {
    afi: Afi,
    prefix: IpNet,
    peer: IpAddr,
    path_id: Option<u32>,
}

fn entry(at: &Place, attributes: &Attributes<'_>, d: &mut Decoder) -> Result<(), At> {
    let (metric, as_path_len) = (attributes.metric, attributes.as_path_len);
    match attributes.entry_next_hop(at.afi)? {
        Some(next_hop) => {
            d.route(at.peer, at.path_id, at.prefix, Event::Announce { next_hop, metric, as_path_len });
        }
        None => d.counts.without_next_hop += 1,
    }
    Ok(())
}
