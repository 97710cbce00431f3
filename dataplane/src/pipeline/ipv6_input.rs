//! IPv6 input: header validation (RFC 8200 §3) and special addresses (RFC 4291).

use std::net::Ipv6Addr;

use super::family_batch::{FamilyBatch, LINK_LOCAL, PacketMeta, TTL_EXPIRED};
use super::martian::{self, SourceFilter};
use super::{Verdict, trailer};
use crate::io::{Packet, PacketMask, each};
use crate::packet::ethernet::{self, LinkDestination};
use crate::packet::ipv6::{HEADER, InvalidIpv6, Ipv6Header, is_link_local};
use crate::packet::{head, le64, nd};
use crate::reason::Reason;

/// Offset of the IP header in a frame.
const IP: usize = ethernet::HEADER;

/// Fast path: all checks of [`ipv6_input`] at once, for frames to our own MAC address. Valid packets between global addresses are added to
/// the family's batch. Returns the other packets, which take the exception path.
#[inline]
pub fn fast<P: Packet>(
    packets: &[P],
    mask: PacketMask,
    own: &SourceFilter,
    batch: &mut FamilyBatch<u128>,
) -> PacketMask {
    let mut others = 0;
    let mut batch = batch.adding();
    for at in each(mask) {
        let Some(packet) = packets.get(at) else { continue };
        let head = head::<{ IP + HEADER }>(packet.data());
        let half = |at: usize| le64(head, IP + at).swap_bytes();
        let (source, destination) = (half(8), half(24));
        let total = HEADER + usize::from(u16::from_be_bytes([head[IP + 4], head[IP + 5]]));
        let good = (head[IP] & 0xf0 == 0x60)
            & (total + IP <= packet.length())
            & is_plain(source)
            & is_plain(destination);
        let flags = (if head[IP + 7] <= 1 { TTL_EXPIRED } else { 0 })
            | trailer::flag(total + IP, packet.length())
            | own.flag_v6([source, half(16)]);
        let length = total.min(usize::from(u16::MAX)) as u16;
        let destination = u128::from(destination) << 64 | u128::from(half(32));
        batch.add(destination, PacketMeta { at: at as u8, flags, length }, good);
        others |= PacketMask::from(!good) << at;
    }
    others
}

/// By its upper half the address is neither unspecified nor loopback (RFC 4291 §2.5.2, §2.5.3: both are in ::/64), nor link-local (§2.5.6)
/// or above, which includes multicast (§2.7).
#[inline]
fn is_plain(upper: u64) -> bool {
    (upper != 0) & (upper >> 48 < 0xfe80)
}

/// Exception path. `None`: the packet is in the family's batch. Its hop limit is checked once it is known to be forwarded.
pub fn ipv6_input(
    bytes: &[u8],
    packet_length: usize,
    link: LinkDestination,
    at: u8,
    own: &SourceFilter,
    batch: &mut FamilyBatch<u128>,
) -> Option<Verdict> {
    let header = match Ipv6Header::new_checked(bytes, packet_length) {
        Ok(header) => header,
        Err(invalid) => return Some(Verdict::Drop(invalid.into())),
    };
    let (source, destination) = (header.source(), header.destination());
    // RFC 4291 §2.5.3, §2.7: loopback never leaves a node, a multicast address is never a source. RFC 6890 §2.2.3: mapped addresses never
    // appear on a wire.
    if source.is_multicast() || source.is_loopback() || is_mapped(source) {
        return Some(Verdict::Drop(Reason::MartianSource));
    }
    if destination.is_multicast() {
        return Some(to_group(&header, destination));
    }
    // §2.5.2: the unspecified address is never a destination, and a source only of packets to groups.
    if destination.is_loopback() || destination.is_unspecified() || is_mapped(destination) {
        return Some(Verdict::Drop(Reason::MartianDestination));
    }
    if source.is_unspecified() {
        return Some(Verdict::Drop(Reason::MartianSource));
    }
    if link == LinkDestination::Multicast {
        return Some(Verdict::Drop(Reason::LinkBroadcast));
    }
    // RFC 4291 §2.5.6: never forwarded, so it can only be for this router.
    if is_link_local(destination) {
        return Some(to_link_local(&header));
    }
    let length = u16::try_from(header.total_length()).unwrap_or(u16::MAX);
    let mut flags = if header.hop_limit() <= 1 { TTL_EXPIRED } else { 0 };
    flags |= trailer::flag(IP + header.total_length(), IP + packet_length);
    flags |= own.flag_v6(martian::halves(source));
    if is_link_local(source) {
        flags |= LINK_LOCAL;
    }
    batch.adding().add(destination.to_bits(), PacketMeta { at, flags, length }, true);
    None
}

/// RFC 4291 §2.5.5.2: an IPv4-mapped address.
#[inline]
fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_bits() >> 32 == 0xffff
}

/// Neighbor discovery and routing protocols use link-local groups; other multicast is dropped.
#[cold]
fn to_group(header: &Ipv6Header<'_>, destination: Ipv6Addr) -> Verdict {
    let [_, scope, ..] = destination.octets();
    match (scope & 0x0f, header.next_header()) {
        (2, nd::ICMPV6) => Verdict::Control,
        (2, _) => Verdict::PuntMulticast,
        _ => Verdict::Drop(Reason::Multicast),
    }
}

/// RFC 4861 §4: solicitations and advertisements go to the control thread, all other packets to the host.
fn to_link_local(header: &Ipv6Header<'_>) -> Verdict {
    if header.next_header() == nd::ICMPV6 && matches!(header.payload().first(), Some(133..=137)) {
        Verdict::Control
    } else {
        Verdict::Host
    }
}

impl From<InvalidIpv6> for Reason {
    fn from(invalid: InvalidIpv6) -> Reason {
        match invalid {
            InvalidIpv6::Short => Reason::ShortPacket,
            InvalidIpv6::Version => Reason::BadVersion,
            InvalidIpv6::PayloadLength => Reason::BadLength,
        }
    }
}
