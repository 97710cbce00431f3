//! IPv4: header checks (RFC 1812 §5.2.2) and addresses that no packet on a wire may have (§5.3.7, §5.3.4).

use std::net::Ipv4Addr;

use super::Verdict;
use super::classify::Cast;
use super::flow_hash;
use super::lane::{LAST_HOP, Lane, Mark, OPTIONS};
use super::options;
use crate::packet::ipv4::{HEADER, Header, Invalid};
use crate::reason::Reason;

/// 224.0.0.0/24, spoken on a link by routing protocols among others (RFC 5771 §4).
const LINK_GROUPS: [u8; 3] = [224, 0, 0];

/// `None`: the packet is in the lane. The time to live is looked at when it is known that the packet goes on.
#[inline]
pub fn ipv4_input(
    bytes: &[u8],
    length: usize,
    cast: Cast,
    at: u8,
    seed: u64,
    lane: &mut Lane<u32>,
) -> Option<Verdict> {
    let header = match Header::new_checked(bytes, length) {
        Ok(header) => header,
        Err(invalid) => return Some(Verdict::Drop(invalid.into())),
    };
    let destination = header.destination();
    if is_martian_source(header.source()) {
        return Some(Verdict::Drop(Reason::MartianSource));
    }
    if is_special(destination) {
        return Some(special(destination));
    }
    // §5.3.4: a router must not forward a packet that it received as a link-layer broadcast.
    if cast == Cast::Many {
        return Some(Verdict::Drop(Reason::LinkBroadcast));
    }
    let mut flags = if header.ttl() <= 1 { LAST_HOP } else { 0 };
    if header.header_length() != HEADER {
        if let Err(refused) = options::check(&header) {
            return Some(Verdict::Drop(refused.reason));
        }
        flags |= OPTIONS;
    }
    let mark = Mark { at, flags, length: header.total_length(), hash: flow_hash::ipv4(&header, seed) };
    lane.push(destination.to_bits(), mark);
    None
}

/// RFC 1812 §5.3.7, §4.2.2.11: "this network", loopback, multicast, class E and broadcast are never a source.
#[inline]
fn is_martian_source(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first == 127 || first >= 224
}

/// The same for a destination, of which groups have a meaning of their own.
#[inline]
fn is_special(address: Ipv4Addr) -> bool {
    is_martian_source(address)
}

/// Groups of the link may be for a routing protocol of this host; beyond it there is no multicast routing, and a limited broadcast is
/// for this link only, of which we ask nothing by it.
#[cold]
fn special(destination: Ipv4Addr) -> Verdict {
    if destination.octets().starts_with(&LINK_GROUPS) {
        Verdict::Group
    } else if destination.is_multicast() {
        Verdict::Drop(Reason::Multicast)
    } else {
        Verdict::Drop(Reason::MartianDestination)
    }
}

impl From<Invalid> for Reason {
    fn from(invalid: Invalid) -> Reason {
        match invalid {
            Invalid::Short => Reason::ShortPacket,
            Invalid::Checksum => Reason::BadChecksum,
            Invalid::Version => Reason::BadVersion,
            Invalid::HeaderLength => Reason::BadHeaderLength,
            Invalid::TotalLength => Reason::BadLength,
        }
    }
}
