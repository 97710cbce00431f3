//! IPv6 input: header validation (RFC 8200 §3) and special addresses (RFC 4291), one packet at a time; see [`super::ipv4_input`].

use std::net::Ipv6Addr;

use super::family_batch::{FamilyBatch, LINK_LOCAL, PacketMeta, TTL_EXPIRED};
use super::martian::SourceFilter;
use super::{Verdict, trailer};
use crate::packet::ethernet::{self, LinkDestination};
use crate::packet::ipv6::{InvalidIpv6, Ipv6Header, is_link_local};
use crate::packet::nd;
use crate::reason::Reason;

/// Offset of the IP header in a frame.
const IP: usize = ethernet::HEADER;

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
    flags |= own.flag_v6(source);
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
