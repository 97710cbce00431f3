//! One MRT record: its header, and the decoder for its type (RFC 6396 §2 and §4).

use super::attributes::AsSize;
use super::cursor::{Afi, Cursor};
use super::decoder::Decoder;
use super::error::{At, Problem};
use super::{message, table};

const BGP: u16 = 5;
const TABLE_DUMP: u16 = 12;
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

/// Replaces the entries by those of one record, whose header is at `header_at`. After an error there are none.
pub(super) fn decode(d: &mut Decoder, header: Header, header_at: u64, body: &[u8]) -> Result<(), At> {
    d.entries.clear();
    let before = d.savepoint();
    let done = by_type(d, header, header_at, body);
    if done.is_err() {
        d.back_to(before);
    }
    done
}

fn by_type(d: &mut Decoder, header: Header, header_at: u64, body: &[u8]) -> Result<(), At> {
    let mut c = Cursor::new(body, header_at + Header::LEN as u64);
    d.time_us = u64::from(header.seconds) * 1_000_000;
    let (kind, subtype) = (header.kind, header.subtype);
    d.in_table = matches!((kind, subtype), (TABLE_DUMP | TABLE_DUMP_V2, _) | (BGP4MP | BGP4MP_ET, 2));
    match (kind, subtype) {
        (TABLE_DUMP, 1) => table::table_dump(c, Afi::V4, AsSize::Two, d),
        (TABLE_DUMP, 2) => table::table_dump(c, Afi::V6, AsSize::Two, d),
        (TABLE_DUMP, 3) => table::table_dump(c, Afi::V4, AsSize::Four, d),
        (TABLE_DUMP, 4) => table::table_dump(c, Afi::V6, AsSize::Four, d),
        (TABLE_DUMP_V2, 1) => table::peer_index(c, d),
        (TABLE_DUMP_V2, 2) => table::rib(c, Afi::V4, false, d),
        (TABLE_DUMP_V2, 4) => table::rib(c, Afi::V6, false, d),
        (TABLE_DUMP_V2, 6) => table::rib_generic(c, false, d),
        (TABLE_DUMP_V2, 8) => table::rib(c, Afi::V4, true, d),
        (TABLE_DUMP_V2, 10) => table::rib(c, Afi::V6, true, d),
        (TABLE_DUMP_V2, 12) => table::rib_generic(c, true, d),
        (BGP4MP, 0..=2 | 4..=11) => message::bgp4mp(c, subtype, d),
        (BGP4MP_ET, 0..=2 | 4..=11) => {
            d.time_us += microseconds(&mut c)?;
            message::bgp4mp(c, subtype, d)
        }
        (BGP, 1) => message::bgp_update(c, d),
        (BGP, 3) => message::bgp_state_change(c, d),
        // Multicast and geographic tables; the name of a table's file; other BGP messages;
        // NULL, START, DIE, I_AM_DEAD, PEER_DOWN; OSPFv2, IS-IS and OSPFv3.
        (TABLE_DUMP_V2, 3 | 5 | 7 | 9 | 11)
        | (BGP4MP | BGP4MP_ET, 3)
        | (BGP, 0 | 2 | 4..=7)
        | (0..=4 | 11 | 32 | 33 | 48 | 49, _) => {
            d.pass_over();
            Ok(())
        }
        _ => Err(At::new(header_at, Problem::UnknownRecord { kind, subtype })),
    }
}

/// The fraction of a time stamp in BGP4MP_ET (RFC 6396 §3).
fn microseconds(c: &mut Cursor<'_>) -> Result<u64, At> {
    let at = c.offset();
    let fraction = c.u32("the microseconds of a time stamp")?;
    if fraction >= 1_000_000 {
        let (what, limit) = ("microseconds of a time stamp", 999_999);
        return Err(At::new(at, Problem::OverLimit { what, limit, found: u64::from(fraction) }));
    }
    Ok(u64::from(fraction))
}
