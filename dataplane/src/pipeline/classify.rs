//! Ethernet: is the frame for this router, and which protocol does it carry?
//!
//! [`super::headers`] does it for plain IPv4 and IPv6 to our own MAC address. All other packets, and those that fail a check there, are examined one
//! by one in [`classify`], which names every reason.

use super::family_batch::FamilyBatch;
use super::martian::SourceFilter;
use super::port::PortFacts;
use super::{Verdict, ipv4_input, ipv6_input, punt};
use crate::io::Packet;
use crate::packet::ethernet::{self, Frame, LinkDestination};
use crate::reason::Reason;

/// The verdict if it is already known; `None` for packets that were added to a family's batch for lookup.
pub fn classify<P: Packet>(
    packet: &P,
    port: &PortFacts,
    at: usize,
    own: &SourceFilter,
    v4: &mut FamilyBatch<u32>,
    v6: &mut FamilyBatch<u128>,
) -> Option<Verdict> {
    let Ok(frame) = Frame::new_checked(packet.data()) else {
        return Some(Verdict::Drop(Reason::ShortFrame));
    };
    let destination = frame.destination();
    let link = if destination == port.mac {
        LinkDestination::Unicast
    } else if destination.is_multicast() {
        LinkDestination::Multicast
    } else if packet.data().starts_with(&[0; ethernet::HEADER]) {
        return Some(Verdict::Drop(Reason::ZeroFrame));
    } else {
        return Some(Verdict::Drop(Reason::OtherHost));
    };
    let length = packet.length().saturating_sub(ethernet::HEADER);
    let (bytes, at) = (frame.payload(), at as u8);
    match frame.ethertype() {
        ethernet::IPV4 => ipv4_input::ipv4_input(bytes, length, link, at, port.allow_class_e, own, v4)
            .map(|found| punt::ipv4(found, bytes, link, port)),
        ethernet::IPV6 => ipv6_input::ipv6_input(bytes, length, link, at, own, v6)
            .map(|found| punt::ipv6(found, bytes, port)),
        ethernet::ARP => Some(punt::arp(bytes)),
        ethertype => Some(punt::other(ethertype, port)),
    }
}
