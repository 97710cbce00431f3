//! TCP and UDP checksums that a sender on the same machine left to an interface that computes none.
//!
//! A Linux host, a container or a guest behind a veth pair or a bridge sends with `CHECKSUM_PARTIAL`: the field holds the sum over the
//! pseudo-header, and the sending interface is to add the rest. A virtual one passes the packet on as it is. `net_af_packet` and `net_af_xdp`
//! do not tell (the packet ring does, as `TP_STATUS_CSUMNOTREADY`, which the driver drops), so on their ports the field itself is looked at:
//! one that is exactly the sum over the pseudo-header, in a packet whose checksum is not right, is finished. A packet that was damaged on the
//! way looks like this once in 65,536 times.

use crate::io::Packet;
use crate::packet::checksum::{self, fold, sum};
use crate::packet::{ethernet, ipv4, ipv6, put, take};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// IEEE 802.1Q: length of a tag.
const TAG: usize = 4;

/// Where the upper layer of a packet is, and the sum over its pseudo-header.
struct UpperLayer {
    protocol: u8,
    start: usize,
    end: usize,
    pseudo: u16,
}

/// Finishes the unfinished checksums of a burst. Segmented frames stay as they are: these drivers deliver none.
#[inline(never)]
pub fn finish_all<P: Packet>(packets: &mut [P]) {
    for packet in packets.iter_mut().filter(|packet| packet.data().len() == packet.length()) {
        finish(packet.data_mut());
    }
}

/// Finishes the checksum of a received frame, tagged or not, if it was left unfinished.
pub fn finish(frame: &mut [u8]) {
    let Some(layer) = upper_layer(frame) else { return };
    let at = match layer.protocol {
        // RFC 9293 §3.1, RFC 768.
        TCP => 16,
        _ => 6,
    };
    let Some(bytes) = frame.get_mut(layer.start..layer.end) else { return };
    if take::<2>(bytes, at).map(|field| u16::from_be_bytes(*field)) != Some(layer.pseudo) {
        return;
    }
    let sum = sum(bytes);
    if fold(u64::from(sum) + u64::from(layer.pseudo)) == 0xffff {
        // Whole: it happens to be the same number.
        return;
    }
    // The field is part of the sum. RFC 768: a UDP checksum of zero is sent as all ones.
    let field = if layer.protocol == UDP && sum == 0xffff { 0xffff } else { !sum };
    put(bytes, at, &field.to_be_bytes());
}

fn upper_layer(frame: &[u8]) -> Option<UpperLayer> {
    let mut ip = ethernet::HEADER;
    if *take::<2>(frame, ip - 2)? == ethernet::VLAN.to_be_bytes() {
        ip += TAG;
    }
    let ethertype = u16::from_be_bytes(*take::<2>(frame, ip - 2)?);
    let bytes = frame.get(ip..)?;
    match ethertype {
        ethernet::IPV4 => {
            let header = ipv4::Ipv4Header::measured(bytes, bytes.len()).ok()?;
            // The kernel finishes checksums before it fragments.
            if header.more_fragments() || header.fragment_offset() != 0 {
                return None;
            }
            let end = ip + usize::from(header.total_length());
            layer(header.protocol(), ip + header.header_length(), end, take::<8>(bytes, 12)?)
        }
        ethernet::IPV6 => {
            let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
            let (mut next, mut start) = (header.next_header(), ipv6::HEADER);
            for _ in 0..ipv6::MOST_HEADERS {
                match (next, take::<4>(bytes, start)?) {
                    (HOP_BY_HOP | DESTINATION_OPTIONS, &[following, length, ..])
                    // RFC 8200 §8.1: with segments left, the pseudo-header has another destination.
                    | (ROUTING, &[following, length, _, 0]) => {
                        next = following;
                        start += 8 + usize::from(length) * 8;
                    }
                    _ => break,
                }
            }
            layer(next, ip + start, ip + header.total_length(), take::<32>(bytes, 8)?)
        }
        _ => None,
    }
}

fn layer(protocol: u8, start: usize, end: usize, addresses: &[u8]) -> Option<UpperLayer> {
    if !matches!(protocol, TCP | UDP) {
        return None;
    }
    let length = end.checked_sub(start)? as u64;
    let pseudo = fold(u64::from(checksum::sum(addresses)) + length + u64::from(protocol));
    Some(UpperLayer { protocol, start, end, pseudo })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame with a whole checksum, and the same with an unfinished one, as Linux sends it.
    fn pair(v6: bool, tagged: bool, protocol: u8, extensions: &[u8], payload: &[u8]) -> [Vec<u8>; 2] {
        let at = if protocol == TCP { 16 } else { 6 };
        let mut segment = vec![0x11; if protocol == TCP { 20 } else { 8 }];
        segment.extend(payload);
        segment[at..at + 2].fill(0);
        let addresses: Vec<u8> = (0..if v6 { 32 } else { 8 }).map(|n| n * 7 + 32).collect();
        let mut pseudo = addresses.clone();
        pseudo.extend([0, protocol]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        let unfinished = checksum::sum(&pseudo);
        let mut whole = !checksum::sum(&[&pseudo[..], &segment].concat());
        if whole == 0 && protocol == UDP {
            whole = 0xffff;
        }
        [whole, unfinished].map(|field| {
            segment[at..at + 2].copy_from_slice(&field.to_be_bytes());
            let mut frame = vec![2; 12];
            if tagged {
                frame.extend([0x81, 0, 0, 7]);
            }
            let length = (extensions.len() + segment.len()) as u16;
            if v6 {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([if extensions.is_empty() { protocol } else { DESTINATION_OPTIONS }, 64]);
                frame.extend(&addresses);
                frame.extend(extensions);
            } else {
                frame.extend([0x08, 0, 0x45, 0]);
                frame.extend((length + 20).to_be_bytes());
                frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend(&addresses);
            }
            frame.extend(&segment);
            frame
        })
    }

    fn finished(mut frame: Vec<u8>) -> Vec<u8> {
        finish(&mut frame);
        frame
    }

    #[test]
    fn fragments_other_protocols_and_damaged_packets_stay_as_they_are() {
        let [whole, unfinished] = pair(false, false, UDP, &[], &[9; 30]);
        // The first and the last fragment; ICMP.
        for (at, byte) in [(20, 0x20), (21, 1), (23, 1)] {
            let mut other = unfinished.clone();
            other[at] = byte;
            assert_eq!(finished(other.clone()), other);
        }
        let mut damaged = whole.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(finished(damaged.clone()), damaged);
        // RFC 768: no checksum.
        let mut without = whole;
        without[40..42].fill(0);
        assert_eq!(finished(without.clone()), without);
        // A trailer is not part of the packet.
        let trailed = [&unfinished[..], &[0xee; 6]].concat();
        assert_eq!(finished(trailed)[..unfinished.len()], finished(unfinished)[..]);
    }

    #[test]
    fn a_segment_routing_header_with_segments_left_is_left_alone() {
        let [_, unfinished] = pair(true, false, TCP, &[TCP, 0, 0, 1, 0, 0, 0, 0], &[1; 9]);
        let mut routed = unfinished;
        routed[20] = ROUTING;
        assert_eq!(finished(routed.clone()), routed);
    }

    proptest! {
        #[test]
        fn an_unfinished_checksum_becomes_the_whole_one_and_a_whole_one_stays(
            v6 in any::<bool>(),
            tagged in any::<bool>(),
            tcp in any::<bool>(),
            extended in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..1_400),
        ) {
            let protocol = if tcp { TCP } else { UDP };
            let extension = [protocol, 0, 1, 4, 0, 0, 0, 0];
            let extensions = if v6 && extended { &extension[..] } else { &[] };
            let [whole, unfinished] = pair(v6, tagged, protocol, extensions, &payload);
            prop_assert_eq!(&finished(unfinished), &whole);
            prop_assert_eq!(&finished(whole.clone()), &whole);
        }

        #[test]
        fn any_bytes_are_taken(mut frame in prop::collection::vec(any::<u8>(), 0..120), kind in 0..3usize) {
            if let Some(field) = frame.get_mut(12..14) {
                field.copy_from_slice(&[[0x08, 0], [0x86, 0xdd], [0x81, 0]][kind]);
            }
            let before = frame.len();
            finish(&mut frame);
            prop_assert_eq!(frame.len(), before);
        }
    }
}
