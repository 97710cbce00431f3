//! IPv4 fragmentation by a router (RFC 791 §2.3, §3.2; RFC 1812 §4.2.2.7).

use crate::io::{Packet, Pool};
use crate::packet::{checksum, ethernet, ipv4, put};
use crate::reason::Reason;

/// RFC 791 §3.1: options with this bit are copied into every fragment.
const COPIED: u8 = 0x80;
const MORE: u16 = 0x2000;
const HEADER: usize = ethernet::HEADER;

/// Room for the work on one frame, reserved once: nothing is allocated per packet.
#[derive(Debug)]
pub struct Scratch {
    /// A segmented frame, contiguous.
    whole: Vec<u8>,
    /// One fragment.
    piece: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        let longest = usize::from(u16::MAX) + HEADER;
        Scratch { whole: Vec::with_capacity(longest), piece: Vec::with_capacity(longest) }
    }
}

/// Splits a rewritten frame into fragments of at most `mtu` bytes of IP. The frame itself becomes the first; the others come from `pool` and
/// are appended to `made` in order. A segmented frame is replaced by a first fragment from `pool`, so that a frame in several buffers
/// (drivers receive large ones so) needs no buffer of its own length.
///
/// # Errors
/// The drop reason, with nothing appended to `made`: a packet buffer is missing, the MTU has no room for 8 bytes behind the header, or the
/// lengths are not those of an IPv4 packet.
pub fn fragment<P: Packet>(
    frame: &mut P,
    mtu: u16,
    pool: &mut impl Pool<P>,
    scratch: &mut Scratch,
    made: &mut Vec<P>,
) -> Result<(), Reason> {
    made.clear();
    let Scratch { whole, piece: room } = scratch;
    let segmented = frame.data().len() != frame.length();
    if segmented {
        if frame.length() > whole.capacity() {
            return Err(Reason::Oversized);
        }
        whole.resize(frame.length(), 0);
        if !frame.copy_to(whole) {
            return Err(Reason::Oversized);
        }
    }
    let bytes: &[u8] = if segmented { whole } else { frame.data() };
    let packet = bytes.get(HEADER..).ok_or(Reason::ShortPacket)?;
    let header = ipv4::Ipv4Header::new_checked(packet, packet.len()).map_err(|_| Reason::BadLength)?;
    if header.ends_beyond() {
        return Err(Reason::BadFragment);
    }
    let (length, payload) = (header.header_length(), header.payload());
    // RFC 791 §3.2: all fragments but the last are multiples of 8 bytes.
    let each = usize::from(mtu).saturating_sub(length) & !7;
    if each == 0 {
        return Err(Reason::TooBig);
    }
    // RFC 791 §3.2: a fragment of a fragment keeps the offset of the whole, and more follow its last one if more followed it.
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
        // Within 13 bits: the end of the packet is not beyond 65,535.
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
    if segmented {
        match bytes.get(..HEADER + first).and_then(|bytes| pool.packet(bytes)) {
            Some(packet) => *frame = packet,
            None => {
                made.clear();
                return Err(Reason::NoBuffer);
            }
        }
    } else if !frame.truncate(HEADER + first) {
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

    /// A rewritten frame of this length, from the first byte of IP, with this flags-and-offset field.
    fn frame(length: usize, field: u16) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        frame.extend([0x45, 0, 0, 0, 0, 1, 0, 0, 63, 17, 0, 0, 192, 0, 2, 7, 10, 1, 2, 3]);
        frame.extend((ipv4::HEADER..length).map(|at| at as u8));
        seal(&mut frame[HEADER..], ipv4::HEADER, length, field);
        frame
    }

    /// Header fields of a fragment: total length, offset in bytes, more fragments.
    fn read(bytes: &[u8]) -> (u16, u32, bool) {
        let ip = &bytes[HEADER..];
        let header = ipv4::Ipv4Header::new_checked(ip, ip.len()).unwrap();
        (header.total_length(), u32::from(header.fragment_offset()) * 8, header.more_fragments())
    }

    fn cut(mut frame: Vec<u8>, mtu: u16) -> Result<Vec<Vec<u8>>, Reason> {
        let mut made = Vec::new();
        fragment(&mut frame, mtu, &mut MemoryPool::default(), &mut Scratch::default(), &mut made)?;
        made.insert(0, frame);
        Ok(made)
    }

    #[test]
    fn a_frame_in_several_buffers_is_cut_like_one_in_a_single_buffer() {
        let (mut pool, mut scratch) = (MemoryPool::default(), Scratch::default());
        let whole = frame(3_000, 0);
        let (mut chained, mut made) = (InTwoBuffers(whole.clone()), Vec::new());
        assert_eq!(fragment(&mut chained, 1_500, &mut pool, &mut scratch, &mut made), Ok(()));
        let pieces: Vec<Vec<u8>> = std::iter::once(chained).chain(made).map(|piece| piece.0).collect();
        assert_eq!(pieces, cut(whole.clone(), 1_500).unwrap());
        for buffers in 0..3 {
            pool.limit(Some(buffers));
            let (mut chained, mut made) = (InTwoBuffers(whole.clone()), Vec::new());
            assert_eq!(
                fragment(&mut chained, 1_500, &mut pool, &mut scratch, &mut made),
                Err(Reason::NoBuffer)
            );
            assert!(made.is_empty());
        }
    }

    #[test]
    fn a_frame_longer_than_any_packet_is_refused() {
        let (mut chained, mut made) = (InTwoBuffers(vec![0x45; 65_536 + HEADER]), Vec::new());
        let cut =
            fragment(&mut chained, 1_500, &mut MemoryPool::default(), &mut Scratch::default(), &mut made);
        assert_eq!(cut, Err(Reason::Oversized));
        assert!(made.is_empty());
    }

    #[test]
    fn the_last_fragment_holds_the_rest_whatever_it_is() {
        for rest in [1, 7, 8, 9, 1_479, 1_480] {
            let pieces = cut(frame(20 + 1_480 + rest, 0), 1_500).unwrap();
            let read: Vec<_> = pieces.iter().map(|piece| read(piece)).collect();
            assert_eq!(read, [(1_500, 0, true), (20 + rest as u16, 1_480, false)]);
        }
        assert_eq!(cut(frame(20 + 1_480 + 1_481, 0), 1_500).unwrap().len(), 3);
    }

    #[test]
    fn the_longest_packet_keeps_its_offsets_within_13_bits() {
        for field in [0, MORE] {
            let pieces = cut(frame(65_535, field), 1_500).unwrap();
            let mut end = 0;
            for (at, piece) in pieces.iter().enumerate() {
                let (total, offset, more) = read(piece);
                assert_eq!((offset, more), (end, at + 1 < pieces.len() || field == MORE));
                end = offset + u32::from(total) - 20;
            }
            assert_eq!(end, 65_515);
        }
    }

    #[test]
    fn a_fragment_is_cut_up_to_the_last_byte_of_a_packet_and_not_beyond() {
        // Its end: 65,535 bytes with the header, then one more.
        let offset = (65_535 - 2_007) / 8;
        let pieces = cut(frame(2_007, offset), 1_500).unwrap();
        let read: Vec<_> = pieces.iter().map(|piece| read(piece)).collect();
        let start = u32::from(offset) * 8;
        assert_eq!(read, [(1_500, start, true), (2_007 - 1_480, start + 1_480, false)]);
        assert_eq!(cut(frame(2_008, offset), 1_500), Err(Reason::BadFragment));
        assert_eq!(cut(frame(2_000, 0x1fff), 1_500), Err(Reason::BadFragment));
    }

    #[test]
    fn an_mtu_without_room_for_8_bytes_is_too_small() {
        for (mtu, pieces) in [(28, Some(10)), (35, Some(10)), (36, Some(5))] {
            assert_eq!(cut(frame(100, 0), mtu).ok().map(|made| made.len()), pieces, "{mtu}");
        }
        for mtu in [0, 1, 19, 20, 27] {
            assert_eq!(cut(frame(100, 0), mtu), Err(Reason::TooBig), "{mtu}");
        }
    }
}
