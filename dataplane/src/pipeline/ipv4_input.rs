//! IPv4 input: header validation (RFC 1812 §5.2.2) and martian addresses (§5.3.7, §5.3.4), one packet at a time. Almost all packets pass the same
//! checks in [`super::headers`] instead.

use std::net::Ipv4Addr;

use super::Verdict;
use super::family_batch::{FamilyBatch, LINK_LOCAL, OPTIONS, PacketMeta, TTL_EXPIRED};
use super::martian::SourceFilter;
use super::{options, trailer};
use crate::packet::ethernet::{self, LinkDestination};
use crate::packet::ipv4::{HEADER, InvalidIpv4, Ipv4Header};
use crate::reason::Reason;

/// Offset of the IP header in a frame.
const IP: usize = ethernet::HEADER;

/// 224.0.0.0/24, the local network control block, used by routing protocols (RFC 5771 §4).
const LINK_GROUPS: [u8; 3] = [224, 0, 0];

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
    flags |= own.flag_v4(header.source());
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
