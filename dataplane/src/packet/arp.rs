//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::ethernet::{self, Mac, ipv4_at};
use super::{Malformed, put, take};

/// Length of the packet.
pub const LENGTH: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Operation of an ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpPacket {
    /// Operation.
    pub operation: Operation,
    /// MAC address of the sender.
    pub sender_mac: Mac,
    /// IPv4 address of the sender.
    pub sender: Ipv4Addr,
    /// MAC address of the target, zero in requests.
    pub target_mac: Mac,
    /// IPv4 address of the target.
    pub target: Ipv4Addr,
}

impl ArpPacket {
    /// Parses what follows the Ethernet header.
    ///
    /// # Errors
    /// [`Malformed`] if it is shorter than [`LENGTH`], not IPv4 over Ethernet, or neither request nor reply.
    pub fn new_checked(bytes: &[u8]) -> Result<ArpPacket, Malformed> {
        let wrong = |expected, found| Malformed { layer: "ARP", expected, found };
        let bytes = take::<LENGTH>(bytes, 0).ok_or(wrong("at least 28 bytes", bytes.len()))?;
        let [kind @ .., _, code] = take::<8>(bytes, 0).copied().unwrap_or_default();
        if kind != ETHERNET_IPV4 || bytes.get(6) != Some(&0) {
            return Err(wrong("IPv4 over Ethernet", usize::from(code)));
        }
        let operation = match code {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(wrong("request (1) or reply (2)", usize::from(code))),
        };
        let mac = |at| Mac(take::<6>(bytes, at).copied().unwrap_or_default());
        Ok(ArpPacket {
            operation,
            sender_mac: mac(8),
            sender: ipv4_at(bytes, 14),
            target_mac: mac(18),
            target: ipv4_at(bytes, 24),
        })
    }

    /// The Ethernet frame with this packet to `destination`.
    pub fn build(&self, destination: Mac) -> Vec<u8> {
        let mut bytes = [0; LENGTH];
        put(&mut bytes, 0, &ETHERNET_IPV4);
        let code: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        put(&mut bytes, 6, &code.to_be_bytes());
        put(&mut bytes, 8, &self.sender_mac.0);
        put(&mut bytes, 14, &self.sender.octets());
        put(&mut bytes, 18, &self.target_mac.0);
        put(&mut bytes, 24, &self.target.octets());
        ethernet::build(destination, self.sender_mac, ethernet::ARP, &bytes)
    }

    /// An ARP request: broadcast, or unicast to `known` to probe a neighbor (RFC 1122 §2.3.2.1).
    pub fn request(mac: Mac, address: Ipv4Addr, target: Ipv4Addr, known: Option<Mac>) -> Vec<u8> {
        let packet = ArpPacket {
            operation: Operation::Request,
            sender_mac: mac,
            sender: address,
            target_mac: Mac::default(),
            target,
        };
        packet.build(known.unwrap_or(Mac::BROADCAST))
    }

    /// The reply to this request, from `mac`.
    pub fn reply(&self, mac: Mac) -> Vec<u8> {
        let packet = ArpPacket {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        };
        packet.build(self.sender_mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_reads_as_built() {
        let (mac, own, target) = (Mac([2, 0, 0, 0, 0, 1]), [192, 0, 2, 1].into(), [192, 0, 2, 9].into());
        let frame = ArpPacket::request(mac, own, target, None);
        let packet = ArpPacket::new_checked(&frame[14..]).unwrap();
        assert_eq!(
            (packet.operation, packet.sender, packet.target, packet.sender_mac),
            (Operation::Request, own, target, mac)
        );
        let answer = ArpPacket::new_checked(&packet.reply(Mac([4; 6]))[14..]).unwrap();
        assert_eq!(
            (answer.operation, answer.sender, answer.sender_mac, answer.target),
            (Operation::Reply, target, Mac([4; 6]), own)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = ArpPacket::new_checked(&bytes);
        }
    }
}
