//! IPv4 input: header validation (RFC 1812 §5.2.2) and martian addresses (§5.3.7, §5.3.4).

use std::net::Ipv4Addr;

use super::Verdict;
use super::family_batch::{FamilyBatch, LINK_LOCAL, OPTIONS, PacketMeta, TTL_EXPIRED};
use super::martian::SourceFilter;
use super::{options, trailer};
use crate::io::{Packet, PacketMask, each};
use crate::packet::ethernet::{self, LinkDestination};
use crate::packet::ipv4::{HEADER, InvalidIpv4, Ipv4Header};
use crate::packet::{head, le32, le64};
use crate::reason::Reason;

/// Offset of the IP header in a frame.
const IP: usize = ethernet::HEADER;

/// 169.254.0.0/16, not forwarded (RFC 3927 §7).
const LINK_LOCAL_NET: [u8; 2] = [169, 254];
/// 224.0.0.0/24, the local network control block, used by routing protocols (RFC 5771 §4).
const LINK_GROUPS: [u8; 3] = [224, 0, 0];

/// A plain header in the first eight bytes, which are one load: version 4 with a header of 20 bytes, and neither a total length nor a
/// fragment offset of 32 KiB or more. So the end of a plain fragment cannot pass 65,535 (see [`ends_beyond`](Ipv4Header::ends_beyond)).
const PLAIN: u64 = 0x45;
const PLAIN_MASK: u64 = u64::from_le_bytes([0xff, 0, 0x80, 0, 0, 0, 0x10, 0]);

/// Fast path: all checks of [`ipv4_input`] at once, for frames to our own MAC address. Valid packets without options are added to the
/// family's batch. Returns the other packets, which take the exception path. With `OFFLOAD`, a checksum that the device verified is not
/// computed again.
#[inline]
pub fn fast<P: Packet, const OFFLOAD: bool>(
    packets: &[P],
    mask: PacketMask,
    own: &SourceFilter,
    batch: &mut FamilyBatch<u32>,
) -> PacketMask {
    let mut others = 0;
    let mut batch = batch.adding();
    for at in each(mask) {
        let Some(packet) = packets.get(at) else { continue };
        let head = head::<{ IP + HEADER }>(packet.data());
        let (first, second, destination) = (le64(head, IP), le64(head, IP + 8), le32(head, IP + 16));
        // RFC 1071 §2: the ones' complement sum does not depend on byte order; a valid header's sum is divisible by 65,535.
        let halves = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        let sum = || halves(first) + halves(second) + u64::from(destination);
        let checked = OFFLOAD && packet.has_good_ipv4_checksum();
        let total = u16::from_be_bytes([head[IP + 2], head[IP + 3]]);
        let end = usize::from(total) + IP;
        let good = (first & PLAIN_MASK == PLAIN)
            & (usize::from(total) >= HEADER)
            & (end <= packet.length())
            & (checked || sum().is_multiple_of(0xffff))
            & is_unicast(head[IP + 12])
            & is_unicast(head[IP + 16])
            & (head[IP + 12..IP + 14] != LINK_LOCAL_NET)
            & (head[IP + 16..IP + 18] != LINK_LOCAL_NET);
        let flags = (if head[IP + 8] <= 1 { TTL_EXPIRED } else { 0 })
            | trailer::flag(end, packet.length())
            | own.flag_v4((second >> 32) as u32);
        batch.add(destination.swap_bytes(), PacketMeta { at: at as u8, flags, length: total }, good);
        others |= PacketMask::from(!good) << at;
    }
    others
}

/// Exception path. `None`: the packet is in the family's batch. Its time to live is checked once it is known to be forwarded. With `class_e`,
/// addresses of class E are as good as others. `own` holds the sources that nobody else has.
pub fn ipv4_input(
    bytes: &[u8],
    length: usize,
    link: LinkDestination,
    at: u8,
    class_e: bool,
    own: &SourceFilter,
    batch: &mut FamilyBatch<u32>,
) -> Option<Verdict> {
    let header = match Ipv4Header::new_checked(bytes, length) {
        Ok(header) => header,
        Err(invalid) => return Some(Verdict::Drop(invalid.into())),
    };
    if header.ends_beyond() {
        return Some(Verdict::Drop(Reason::BadFragment));
    }
    let destination = header.destination();
    if is_martian_source(header.source(), class_e) {
        return Some(Verdict::Drop(Reason::MartianSource));
    }
    if is_special(destination, class_e) {
        return Some(special(destination));
    }
    // §5.3.4: a router must not forward a packet that it received as a link-layer broadcast.
    if link == LinkDestination::Multicast {
        return Some(Verdict::Drop(Reason::LinkBroadcast));
    }
    let mut flags = if header.ttl() <= 1 { TTL_EXPIRED } else { 0 };
    flags |= trailer::flag(IP + usize::from(header.total_length()), IP + length);
    flags |= own.flag_v4(u32::from_le_bytes(header.source().octets()));
    if is_link_local(header.source()) || is_link_local(destination) {
        flags |= LINK_LOCAL;
    }
    if header.header_length() != HEADER {
        if let Err(refused) = options::check(&header) {
            return Some(Verdict::Drop(refused.reason));
        }
        flags |= OPTIONS;
    }
    batch.adding().add(destination.to_bits(), PacketMeta { at, flags, length: header.total_length() }, true);
    None
}

/// RFC 1812 §5.3.7, §4.2.2.11: "this network", loopback, multicast, class E and broadcast are invalid sources. The first byte decides.
#[inline]
fn is_unicast(first: u8) -> bool {
    (first.wrapping_sub(1) < 223) & (first != 127)
}

/// Whether the address cannot be that of a host. RFC 1112 §4 reserves class E (240.0.0.0/4); Linux takes all of it but the limited broadcast.
fn is_martian_source(address: Ipv4Addr, class_e: bool) -> bool {
    let [first, ..] = address.octets();
    !(is_unicast(first) || (class_e && first >= 240 && !address.is_broadcast()))
}

/// RFC 3927 §2.7, §7: a router forwards no packets from or to these addresses, whatever their time to live.
#[inline]
fn is_link_local(address: Ipv4Addr) -> bool {
    address.to_bits() >> 16 == 0xa9fe
}

/// The same for a destination; multicast groups are handled separately.
fn is_special(address: Ipv4Addr, class_e: bool) -> bool {
    is_martian_source(address, class_e)
}

/// Link-local groups may be for a routing protocol of this host. Beyond the link there is no multicast routing, and a limited broadcast is
/// for this link only; the router uses none.
#[cold]
fn special(destination: Ipv4Addr) -> Verdict {
    if destination.octets().starts_with(&LINK_GROUPS) {
        Verdict::PuntMulticast
    } else if destination.is_multicast() {
        Verdict::Drop(Reason::Multicast)
    } else {
        Verdict::Drop(Reason::MartianDestination)
    }
}

impl From<InvalidIpv4> for Reason {
    fn from(invalid: InvalidIpv4) -> Reason {
        match invalid {
            InvalidIpv4::Short => Reason::ShortPacket,
            InvalidIpv4::Checksum => Reason::BadChecksum,
            InvalidIpv4::Version => Reason::BadVersion,
            InvalidIpv4::HeaderLength => Reason::BadHeaderLength,
            InvalidIpv4::TotalLength => Reason::BadLength,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;

    /// A frame, and whether its device verified the checksum.
    struct Checked(Vec<u8>, bool);

    impl Packet for Checked {
        fn data(&self) -> &[u8] {
            &self.0
        }
        fn data_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
        fn length(&self) -> usize {
            self.0.len()
        }
        fn has_good_ipv4_checksum(&self) -> bool {
            self.1
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

    fn frame(spoilt: bool) -> Vec<u8> {
        let mut frame = vec![0; IP];
        frame.extend([0x45, 0, 0, 20, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let field = checksum::checksum(&frame[IP..]) ^ u16::from(spoilt);
        frame[IP + 10..IP + 12].copy_from_slice(&field.to_be_bytes());
        frame
    }

    #[test]
    fn a_checksum_that_the_device_found_good_is_not_computed_again_where_the_offload_is_in_use() {
        let burst = [(false, false), (true, false), (true, true), (false, true)]
            .map(|(spoilt, good)| Checked(frame(spoilt), good));
        assert_eq!(
            fast::<_, true>(&burst, 0b1111, &SourceFilter::default(), &mut FamilyBatch::default()),
            0b0010
        );
        assert_eq!(
            fast::<_, false>(&burst, 0b1111, &SourceFilter::default(), &mut FamilyBatch::default()),
            0b0110
        );
    }
}
