//! IPv4: header checks (RFC 1812 §5.2.2) and addresses that no packet on a wire may have (§5.3.7, §5.3.4).

use std::net::Ipv4Addr;

use super::Verdict;
use super::classify::Cast;
use super::flow_hash;
use super::lane::{Lane, Mark};
use crate::packet::ipv4::{Header, Invalid};
use crate::reason::Reason;

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
    if destination.is_multicast() {
        return Some(Verdict::Drop(Reason::Multicast));
    }
    if is_martian_destination(destination) {
        return Some(Verdict::Drop(Reason::MartianDestination));
    }
    // §5.3.4: a router must not forward a packet that it received as a link-layer broadcast.
    if cast == Cast::Many {
        return Some(Verdict::Drop(Reason::LinkBroadcast));
    }
    let mark = Mark { at, length: header.total_length(), hash: flow_hash::ipv4(&header, seed) };
    lane.push(destination.to_bits(), mark);
    None
}

/// RFC 1812 §5.3.7, §4.2.2.11: "this network", loopback, multicast and broadcast are never a source.
#[inline]
fn is_martian_source(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first == 127 || address.is_multicast() || address.is_broadcast()
}

/// As a destination, a limited broadcast is for this link only, and we ask nothing by it.
#[inline]
fn is_martian_destination(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first == 0 || first == 127 || address.is_broadcast()
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
