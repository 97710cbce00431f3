//! IPv4 fragmentation on the way (RFC 791 §2.3, §3.2; RFC 1812 §4.2.2.7).

use crate::io::{Packet, Pool};
use crate::packet::{checksum, ethernet, ipv4, put};

/// RFC 791 §3.1: options with this bit go into every piece.
const COPIED: u8 = 0x80;
const MORE: u16 = 0x2000;
const HEADER: usize = ethernet::HEADER;

/// Cuts a frame, rewritten already, into pieces of at most `mtu` bytes of IP. The first is the frame itself, shortened; the others come from
/// `pool` and are handed to `piece` in order. False, and nothing handed over, where a buffer is missing.
pub fn fragment<P: Packet>(
    frame: &mut P,
    mtu: u16,
    pool: &mut impl Pool<P>,
    room: &mut Vec<u8>,
    made: &mut Vec<P>,
) -> bool {
    made.clear();
    let bytes = frame.data();
    let Some(packet) = bytes.get(HEADER..).filter(|_| bytes.len() == frame.length()) else { return false };
    let Ok(header) = ipv4::Header::new_checked(packet, packet.len()) else { return false };
    let (length, payload) = (header.header_length(), header.payload());
    // RFC 791 §3.2: all pieces but the last are whole units of 8 bytes.
    let each = usize::from(mtu).saturating_sub(length) & !7;
    if each == 0 {
        return false;
    }
    let (offset, last) = (header.fragment_offset(), !header.more_fragments());
    let options = copied(header.bytes().get(ipv4::HEADER..).unwrap_or_default());
    let pieces = payload.len().div_ceil(each);
    for (number, data) in payload.chunks(each).enumerate().skip(1) {
        room.clear();
        room.extend_from_slice(bytes.get(..HEADER + ipv4::HEADER).unwrap_or_default());
        room.extend_from_slice(options.as_slice());
        let header_length = ipv4::HEADER + options.as_slice().len();
        room.extend_from_slice(data);
        let more = if last && number + 1 == pieces { 0 } else { MORE };
        let field = more | (offset + (number * each / 8) as u16);
        let ip = room.get_mut(HEADER..).unwrap_or_default();
        seal(ip, header_length, header_length + data.len(), field);
        match pool.packet(room) {
            Some(packet) => made.push(packet),
            None => {
                made.clear();
                return false;
            }
        }
    }
    let first = length + each;
    if !frame.truncate(HEADER + first) {
        made.clear();
        return false;
    }
    if let Some(ip) = frame.data_mut().get_mut(HEADER..) {
        seal(ip, length, first, MORE | offset);
    }
    true
}

/// Writes what differs from piece to piece.
fn seal(ip: &mut [u8], header_length: usize, total: usize, field: u16) {
    put(ip, 0, &[0x40 | (header_length / 4) as u8]);
    put(ip, 2, &(total as u16).to_be_bytes());
    put(ip, 6, &field.to_be_bytes());
    put(ip, 10, &[0, 0]);
    let sum = checksum::checksum(ip.get(..header_length).unwrap_or_default());
    put(ip, 10, &sum.to_be_bytes());
}

/// The options of pieces other than the first, padded to whole words.
struct Copied {
    bytes: [u8; 40],
    length: usize,
}

impl Copied {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length.next_multiple_of(4)).unwrap_or_default()
    }
}

fn copied(options: &[u8]) -> Copied {
    let mut kept = Copied { bytes: [0; 40], length: 0 };
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => options.get(at + 1).map_or(0, |length| usize::from(*length)),
        };
        let Some(option) = options.get(at..at + length).filter(|option| !option.is_empty()) else { break };
        if kind & COPIED != 0 {
            put(&mut kept.bytes, kept.length, option);
            kept.length += length;
        }
        at += length;
    }
    kept
}
