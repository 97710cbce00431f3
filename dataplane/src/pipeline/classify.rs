//! Ethernet: is the frame for this router, and which protocol does it carry?
//!
//! [`sort`] splits a burst without branches that depend on a packet. Packets that are not plain IPv4 or IPv6 to our own MAC address, or
//! fail the checks of their family there, are examined one by one in [`classify`], which names every reason.

use super::family_batch::FamilyBatch;
use super::martian::SourceFilter;
use super::port::PortFacts;
use super::{Verdict, ipv4_input, ipv6_input, punt};
use crate::io::{BURST, Packet, PacketMask};
use crate::packet::ethernet::{self, Frame, LinkDestination, Mac};
use crate::packet::{head, le64};
use crate::reason::Reason;

/// A burst, split by protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sorted {
    /// IPv4 to our own MAC address, not yet validated.
    pub v4: PacketMask,
    /// The same for IPv6.
    pub v6: PacketMask,
    /// All other packets.
    pub others: PacketMask,
    /// Total length of all frames in bytes.
    pub bytes: u64,
}

/// Splits a burst that arrived on a port with this MAC address.
#[inline]
pub fn sort<P: Packet>(packets: &[P], mac: Mac) -> Sorted {
    let [a, b, c, d, e, f] = mac.0;
    let own = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let (mut v4, mut v6, mut all, mut bytes) = (0, 0, 0, 0);
    for (at, packet) in packets.iter().take(BURST).enumerate() {
        let head = head::<{ ethernet::HEADER }>(packet.data());
        let ours = (le64(head, 0) ^ own) << 16 == 0;
        let ethertype = u16::from_be_bytes([head[12], head[13]]);
        v4 |= PacketMask::from(ours & (ethertype == ethernet::IPV4)) << at;
        v6 |= PacketMask::from(ours & (ethertype == ethernet::IPV6)) << at;
        all |= 1 << at;
        bytes += packet.length() as u64;
    }
    Sorted { v4, v6, others: all & !(v4 | v6), bytes }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::each;

    fn frame(destination: [u8; 6], ethertype: u16) -> Vec<u8> {
        ethernet::build(Mac(destination), Mac([2; 6]), ethertype, &[])
    }

    #[test]
    fn a_burst_is_parted_by_address_and_ethertype() {
        let own = [2, 0, 0, 0, 0, 9];
        let burst = [
            frame(own, ethernet::IPV4),
            frame([2, 0, 0, 0, 0, 8], ethernet::IPV4),
            frame(own, ethernet::IPV6),
            frame(own, ethernet::ARP),
            frame([0xff; 6], ethernet::IPV4),
            own.to_vec(),
            frame(own, ethernet::IPV4),
        ];
        let sorted = sort(&burst, Mac(own));
        let bytes = burst.iter().map(|frame| frame.len() as u64).sum();
        assert_eq!(sorted, Sorted { v4: 0b100_0001, v6: 0b100, others: 0b011_1010, bytes });
        assert_eq!(each(sorted.others).collect::<Vec<_>>(), [1, 3, 4, 5]);
    }

    #[test]
    fn a_full_burst_has_a_bit_for_each_packet() {
        let burst = vec![frame([2; 6], ethernet::IPV6); BURST];
        let sorted = sort(&burst, Mac([2; 6]));
        assert_eq!((sorted.v6.count_ones() as usize, sorted.v4 | sorted.others), (BURST, 0));
        assert!(each(sorted.v6).eq(0..BURST));
    }
}
