//! IPv6: header checks (RFC 8200 §3) and addresses with a scope or meaning of their own (RFC 4291).

use std::net::Ipv6Addr;

use super::Verdict;
use super::classify::Cast;
use super::flow_hash;
use super::lane::{LAST_HOP, LINK_LOCAL, Lane, Mark};
use crate::packet::ipv6::{Header, Invalid, is_link_local};
use crate::packet::nd;
use crate::reason::Reason;

/// `None`: the packet is in the lane. The hop limit is looked at when it is known that the packet goes on.
#[inline]
pub fn ipv6_input(
    bytes: &[u8],
    length: usize,
    cast: Cast,
    at: u8,
    seed: u64,
    lane: &mut Lane<u128>,
) -> Option<Verdict> {
    let header = match Header::new_checked(bytes, length) {
        Ok(header) => header,
        Err(invalid) => return Some(Verdict::Drop(invalid.into())),
    };
    let (source, destination) = (header.source(), header.destination());
    // RFC 4291 §2.5.3, §2.7: loopback never leaves a node, a group never sends.
    if source.is_multicast() || source.is_loopback() {
        return Some(Verdict::Drop(Reason::MartianSource));
    }
    if destination.is_multicast() {
        return Some(to_group(&header, destination));
    }
    if destination.is_loopback() || destination.is_unspecified() {
        return Some(Verdict::Drop(Reason::MartianDestination));
    }
    if cast == Cast::Many {
        return Some(Verdict::Drop(Reason::LinkBroadcast));
    }
    // RFC 4291 §2.5.6: never forwarded, so it can only be for ourselves.
    if is_link_local(destination) {
        return Some(to_link_local(&header));
    }
    let length = u16::try_from(header.total_length()).unwrap_or(u16::MAX);
    let mut flags = if header.hop_limit() <= 1 { LAST_HOP } else { 0 };
    if is_link_local(source) {
        flags |= LINK_LOCAL;
    }
    lane.push(destination.to_bits(), Mark { at, flags, length, hash: flow_hash::ipv6(&header, seed) });
    None
}

/// Neighbour discovery and routing protocols come to link-local groups; all else to groups has no business here.
#[cold]
fn to_group(header: &Header<'_>, destination: Ipv6Addr) -> Verdict {
    let [_, scope, ..] = destination.octets();
    match (scope & 0x0f, header.next_header()) {
        (2, nd::ICMPV6) => Verdict::Control,
        (2, _) => Verdict::Group,
        _ => Verdict::Drop(Reason::Multicast),
    }
}

/// RFC 4861 §4: solicitations and advertisements are for the control thread, whoever else gets packets for the router itself.
fn to_link_local(header: &Header<'_>) -> Verdict {
    if header.next_header() == nd::ICMPV6 && matches!(header.payload().first(), Some(133..=137)) {
        Verdict::Control
    } else {
        Verdict::Host
    }
}

impl From<Invalid> for Reason {
    fn from(invalid: Invalid) -> Reason {
        match invalid {
            Invalid::Short => Reason::ShortPacket,
            Invalid::Version => Reason::BadVersion,
            Invalid::PayloadLength => Reason::BadLength,
        }
    }
}
