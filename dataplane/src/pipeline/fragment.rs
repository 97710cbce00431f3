//! IPv4 fragmentation by a router (RFC 791 §2.3, §3.2; RFC 1812 §4.2.2.7).

use crate::io::{Packet, Pool};
use crate::packet::{checksum, ethernet, ipv4, put};
use crate::reason::Reason;

/// RFC 791 §3.1: options with this bit are copied into every fragment.
const COPIED: u8 = 0x80;
const MORE: u16 = 0x2000;
const HEADER: usize = ethernet::HEADER;

/// Copies a segmented frame into one buffer of `pool`; `None` if it is contiguous already, or no buffer is large enough. Drivers with fixed
/// buffer sizes (e1000) receive a large frame in several buffers.
pub fn gather<P: Packet>(frame: &P, pool: &mut impl Pool<P>, room: &mut Vec<u8>) -> Option<P> {
    let length = frame.length();
    if frame.data().len() == length || length > room.capacity() {
        return None;
    }
    room.resize(length, 0);
    frame.copy_to(room).then(|| pool.packet(room)).flatten()
}

/// Splits a rewritten frame into fragments of at most `mtu` bytes of IP. The frame itself, shortened, is the first; the others come from
/// `pool` and are appended to `made` in order. An error, with nothing appended, if a buffer is missing or the frame is segmented.
///
/// # Errors
/// The drop reason, with nothing appended to `made`: a packet buffer is missing, or the frame is segmented.
pub fn fragment<P: Packet>(
    frame: &mut P,
    mtu: u16,
    pool: &mut impl Pool<P>,
    room: &mut Vec<u8>,
    made: &mut Vec<P>,
) -> Result<(), Reason> {
    made.clear();
    let bytes = frame.data();
    if bytes.len() != frame.length() {
        return Err(Reason::Oversized);
    }
    let packet = bytes.get(HEADER..).ok_or(Reason::ShortPacket)?;
    let header = ipv4::Header::new_checked(packet, packet.len()).map_err(|_| Reason::BadLength)?;
    let (length, payload) = (header.header_length(), header.payload());
    // RFC 791 §3.2: all fragments but the last are multiples of 8 bytes.
    let each = usize::from(mtu).saturating_sub(length) & !7;
    if each == 0 {
        return Err(Reason::TooBig);
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
                return Err(Reason::NoBuffer);
            }
        }
    }
    let first = length + each;
    if !frame.truncate(HEADER + first) {
        made.clear();
        return Err(Reason::Oversized);
    }
    if let Some(ip) = frame.data_mut().get_mut(HEADER..) {
        seal(ip, length, first, MORE | offset);
    }
    Ok(())
}

/// Writes the fields that differ between fragments.
fn seal(ip: &mut [u8], header_length: usize, total: usize, field: u16) {
    put(ip, 0, &[0x40 | (header_length / 4) as u8]);
    put(ip, 2, &(total as u16).to_be_bytes());
    put(ip, 6, &field.to_be_bytes());
    put(ip, 10, &[0, 0]);
    let sum = checksum::checksum(ip.get(..header_length).unwrap_or_default());
    put(ip, 10, &sum.to_be_bytes());
}

/// The options of fragments other than the first, padded to 32-bit words.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::MemoryPool;

    /// A frame whose first buffer holds all but ten bytes.
    struct InTwoBuffers(Vec<u8>);

    impl Packet for InTwoBuffers {
        fn data(&self) -> &[u8] {
            &self.0[..self.0.len() - 10]
        }

        fn data_mut(&mut self) -> &mut [u8] {
            let end = self.0.len() - 10;
            &mut self.0[..end]
        }

        fn length(&self) -> usize {
            self.0.len()
        }

        fn copy_to(&self, to: &mut [u8]) -> bool {
            to.copy_from_slice(&self.0);
            true
        }

        fn truncate(&mut self, _: usize) -> bool {
            false
        }

        fn grow_front(&mut self, _: usize) -> bool {
            false
        }

        fn trim_front(&mut self, _: usize) -> bool {
            false
        }
    }

    impl Pool<InTwoBuffers> for MemoryPool {
        fn packet(&mut self, bytes: &[u8]) -> Option<InTwoBuffers> {
            Pool::<Vec<u8>>::packet(self, bytes).map(InTwoBuffers)
        }
    }

    #[test]
    fn a_frame_in_several_buffers_is_gathered_in_one_where_there_is_room() {
        let frame = InTwoBuffers((0..3_014).map(|at| at as u8).collect());
        let mut pool = MemoryPool::default();
        let whole = gather(&frame, &mut pool, &mut Vec::with_capacity(4_000)).unwrap();
        assert_eq!(whole.0, frame.0);
        assert!(gather(&frame, &mut pool, &mut Vec::with_capacity(3_000)).is_none());
        let mut pool = MemoryPool::default();
        pool.limit(Some(0));
        assert!(gather(&frame, &mut pool, &mut Vec::with_capacity(4_000)).is_none());
        assert!(gather(&vec![0; 60], &mut MemoryPool::default(), &mut Vec::new()).is_none(), "it is in one");
    }

    #[test]
    fn a_frame_in_several_buffers_is_oversized_whatever_the_pool_has() {
        let mut frame = InTwoBuffers(vec![0x45; 3_014]);
        let (mut pool, mut room, mut made) = (MemoryPool::default(), Vec::new(), Vec::new());
        assert_eq!(fragment(&mut frame, 1_500, &mut pool, &mut room, &mut made), Err(Reason::Oversized));
        assert!(made.is_empty());
    }
}
