//! IPv4: header checks (RFC 1812 §5.2.2) and addresses that no packet on a wire may have (§5.3.7, §5.3.4).

use std::net::Ipv4Addr;

use super::Verdict;
use super::classify::Cast;
use super::lane::{LAST_HOP, LINK_LOCAL, Lane, Mark, OPTIONS};
use super::options;
use crate::io::{Packet, Places, each};
use crate::packet::ethernet;
use crate::packet::ipv4::{HEADER, Header, Invalid};
use crate::packet::{head, le32, le64};
use crate::reason::Reason;

/// Where the header is in a frame.
const IP: usize = ethernet::HEADER;

/// 169.254.0.0/16, not forwarded (RFC 3927 §7).
const LINK_LOCAL_NET: [u8; 2] = [169, 254];
/// 224.0.0.0/24, spoken on a link by routing protocols among others (RFC 5771 §4).
const LINK_GROUPS: [u8; 3] = [224, 0, 0];

/// All checks of [`ipv4_input`] at once, for frames to our own MAC address: good packets without options go into the lane. Returns the
/// others, whose reason somebody else finds. With `OFFLOAD` a checksum that the device found good is not computed again.
#[inline]
pub fn straight<P: Packet, const OFFLOAD: bool>(
    packets: &[P],
    places: Places,
    lane: &mut Lane<u32>,
) -> Places {
    let mut others = 0;
    let mut lane = lane.adding();
    for at in each(places) {
        let Some(packet) = packets.get(at) else { continue };
        let head = head::<{ IP + HEADER }>(packet.data());
        let (first, second, destination) = (le64(head, IP), le64(head, IP + 8), le32(head, IP + 16));
        // RFC 1071 §2: in ones' complement the order of bytes does not matter, and a sum that verifies is divisible by 65,535.
        let halves = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        let sum = || halves(first) + halves(second) + u64::from(destination);
        let checked = OFFLOAD && packet.has_good_ipv4_checksum();
        let total = u16::from_be_bytes([head[IP + 2], head[IP + 3]]);
        let good = (head[IP] == 0x45)
            & (usize::from(total) >= HEADER)
            & (usize::from(total) + IP <= packet.length())
            & (checked || sum().is_multiple_of(0xffff))
            & is_unicast(head[IP + 12])
            & is_unicast(head[IP + 16])
            & (head[IP + 12..IP + 14] != LINK_LOCAL_NET)
            & (head[IP + 16..IP + 18] != LINK_LOCAL_NET);
        let flags = if head[IP + 8] <= 1 { LAST_HOP } else { 0 };
        lane.add(destination.swap_bytes(), Mark { at: at as u8, flags, length: total }, good);
        others |= Places::from(!good) << at;
    }
    others
}

/// `None`: the packet is in the lane. The time to live is looked at when it is known that the packet goes on.
pub fn ipv4_input(bytes: &[u8], length: usize, cast: Cast, at: u8, lane: &mut Lane<u32>) -> Option<Verdict> {
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
    if is_link_local(header.source()) || is_link_local(destination) {
        flags |= LINK_LOCAL;
    }
    if header.header_length() != HEADER {
        if let Err(refused) = options::check(&header) {
            return Some(Verdict::Drop(refused.reason));
        }
        flags |= OPTIONS;
    }
    lane.adding().add(destination.to_bits(), Mark { at, flags, length: header.total_length() }, true);
    None
}

/// RFC 1812 §5.3.7, §4.2.2.11: "this network", loopback, multicast, class E and broadcast are never a source. Their first byte says so.
#[inline]
fn is_unicast(first: u8) -> bool {
    (first.wrapping_sub(1) < 223) & (first != 127)
}

fn is_martian_source(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !is_unicast(first)
}

/// RFC 3927 §2.7, §7: no router forwards packets from or to these, whatever their time to live.
#[inline]
fn is_link_local(address: Ipv4Addr) -> bool {
    address.to_bits() >> 16 == 0xa9fe
}

/// The same for a destination, of which groups have a meaning of their own.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;

    /// A frame, and what its device says of the checksum.
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
        assert_eq!(straight::<_, true>(&burst, 0b1111, &mut Lane::default()), 0b0010);
        assert_eq!(straight::<_, false>(&burst, 0b1111, &mut Lane::default()), 0b0110);
    }
}
