//! Extracts routes from MRT records: TABLE_DUMP_V2 and BGP4MP (RFC 6396, RFC 8050).

use std::net::IpAddr;

use super::bgp;
use super::cursor::{Afi, Cursor};
use super::error::{At, Problem};
use super::route::{Event, Route};

const TABLE_DUMP_V2: u16 = 13;
const BGP4MP: u16 = 16;
const BGP4MP_ET: u16 = 17;

/// MRT common header without the fraction of the timestamp (RFC 6396 §2).
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub seconds: u32,
    pub kind: u16,
    pub subtype: u16,
    pub len: u32,
}

impl Header {
    pub(super) const LEN: usize = 12;

    pub(super) fn parse(bytes: [u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            seconds: u32::from_be_bytes([a, b, c, d]),
            kind: u16::from_be_bytes([e, f]),
            subtype: u16::from_be_bytes([g, h]),
            len: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// Appends the routes of one record. `header_at` is the offset of its header.
pub(super) fn routes(
    header: Header,
    header_at: u64,
    body: &[u8],
    peers: &mut Vec<IpAddr>,
    out: &mut Vec<Route>,
) -> Result<(), At> {
    let mut c = Cursor::new(body, header_at + Header::LEN as u64);
    let mut time_us = u64::from(header.seconds) * 1_000_000;
    let unknown =
        || At::new(header_at, Problem::UnknownRecord { kind: header.kind, subtype: header.subtype });
    match header.kind {
        TABLE_DUMP_V2 => match header.subtype {
            1 => {
                *peers = peer_index_table(c)?;
                Ok(())
            }
            2 => rib(c, Afi::V4, false, time_us, peers, out),
            4 => rib(c, Afi::V6, false, time_us, peers, out),
            8 => rib(c, Afi::V4, true, time_us, peers, out),
            10 => rib(c, Afi::V6, true, time_us, peers, out),
            // Multicast, generic and geographic tables: known, but without unicast routes.
            3 | 5 | 6 | 7 | 9 | 11 | 12 => Ok(()),
            _ => Err(unknown()),
        },
        BGP4MP | BGP4MP_ET => {
            if header.kind == BGP4MP_ET {
                let at = c.offset();
                let fraction = c.u32("the microseconds of a time stamp")?;
                if fraction >= 1_000_000 {
                    let (what, limit) = ("microseconds of a time stamp", 999_999);
                    return Err(At::new(at, Problem::OverLimit { what, limit, found: u64::from(fraction) }));
                }
                time_us += u64::from(fraction);
            }
            match header.subtype {
                // A *_LOCAL message was sent by the collector, not received (RFC 6396 §4.4.4), and a state
                // change carries no route.
                0 | 5 | 6 | 7 => Ok(()),
                1 => bgp4mp(c, 2, time_us, out),
                4 => bgp4mp(c, 4, time_us, out),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

/// RFC 6396 §4.3.1; only the peers' addresses are used.
fn peer_index_table(mut c: Cursor<'_>) -> Result<Vec<IpAddr>, At> {
    c.u32("the collector's identifier")?;
    let name = usize::from(c.u16("the length of a view name")?);
    c.bytes(name, "a view name")?;
    let count = c.u16("the number of peers")?;
    let mut peers = Vec::new();
    for _ in 0..count {
        let kind = c.u8("a peer type")?;
        c.u32("a peer's identifier")?;
        peers.push(c.address(if kind & 1 == 0 { Afi::V4 } else { Afi::V6 }, "a peer's address")?);
        c.bytes(if kind & 2 == 0 { 2 } else { 4 }, "a peer's AS number")?;
    }
    c.end("the peer index table")?;
    Ok(peers)
}

/// RFC 6396 §4.3.2, with RFC 8050 §4 if the subtype has path identifiers.
fn rib(
    mut c: Cursor<'_>,
    afi: Afi,
    add_path: bool,
    time_us: u64,
    peers: &[IpAddr],
    out: &mut Vec<Route>,
) -> Result<(), At> {
    c.u32("a sequence number")?;
    let prefix = c.prefix(afi)?;
    let count = c.u16("the number of RIB entries")?;
    for _ in 0..count {
        let at = c.offset();
        let index = c.u16("a peer index")?;
        c.u32("an originated time")?;
        if add_path {
            c.u32("a path identifier")?;
        }
        let len = usize::from(c.u16("the length of path attributes")?);
        let (next_hop, metric) = bgp::rib_entry(c.part(len, "path attributes")?)?;
        let Some(peer) = peers.get(usize::from(index)) else {
            let expected = "the index of a peer in the peer index table before it";
            let found = format!("{index} of {} peers", peers.len());
            return Err(At::new(at, Problem::Unexpected { expected, found }));
        };
        out.push(Route { time_us, peer: *peer, prefix, event: Event::Announce { next_hop, metric } });
    }
    c.end("the RIB entries")
}

/// RFC 6396 §4.4.2 and §4.4.3; AS numbers have `as_len` bytes.
fn bgp4mp(mut c: Cursor<'_>, as_len: usize, time_us: u64, out: &mut Vec<Route>) -> Result<(), At> {
    c.bytes(as_len * 2, "AS numbers")?;
    c.u16("an interface index")?;
    let at = c.offset();
    let family = c.u16("an address family")?;
    let Some(afi) = Afi::from_number(family) else {
        let problem = Problem::Unexpected { expected: "address family 1 or 2", found: family.to_string() };
        return Err(At::new(at, problem));
    };
    let peer = c.address(afi, "a peer's address")?;
    c.address(afi, "a local address")?;
    // Some collectors write an empty record when a session opens.
    if c.is_empty() { Ok(()) } else { bgp::message(c, time_us, peer, out) }
}
