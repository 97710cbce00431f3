//! A frame with everything but what differs from packet to packet, and the check sums of the rest: a packet costs one copy and a few sums.
//!
//! What differs: destination, TTL or hop limit, IPv4 identification, source port (so that flows spread), signature, and check sums. The rest
//! of the payload is a fixed pattern, so that a packet that came back can be compared as a whole.

use std::net::IpAddr;

use crate::checksum::{fold_wide, sum_wide};
use crate::frame::{ETHERNET, IPV4, IPV6, Mac, VLAN, read, read_u16};
use crate::traffic::signature::{LEN, Signature};

pub const UDP: u8 = 17;
pub const TCP: u8 = 6;
/// IANA calls this range dynamic; nobody listens there.
const DESTINATION_PORT: u16 = 0xfca5;

/// The part of a template that differs between ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLayer {
    pub from: Mac,
    pub to: Mac,
    pub vlan: Option<u16>,
}

impl LinkLayer {
    fn bytes(&self, ethertype: u16) -> Vec<u8> {
        let mut bytes = [self.to, self.from].concat();
        if let Some(id) = self.vlan {
            bytes.extend(VLAN.to_be_bytes());
            bytes.extend(id.to_be_bytes());
        }
        bytes.extend(ethertype.to_be_bytes());
        bytes
    }
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub to: IpAddr,
    pub ttl: u8,
    pub signature: Signature,
}

#[derive(Debug, Clone)]
pub struct Template {
    frame: Vec<u8>,
    /// Offsets of the IP header, the transport header and the signature.
    ip: usize,
    transport: usize,
    payload: usize,
    tcp: bool,
    /// The source port follows the flow.
    own_ports: bool,
    /// Sums of what does not differ: IPv4 header; pseudo header and transport.
    ip_sum: u64,
    transport_sum: u64,
}

impl Template {
    /// Headers and payload of our own. `size` is the frame's in bytes with FCS; what is too small for the headers is enlarged.
    pub fn new(link: &LinkLayer, from: IpAddr, protocol: u8, size: u16) -> Option<Self> {
        let ip_len = if from.is_ipv4() { 20 } else { 40 };
        let transport_len = if protocol == TCP { 20 } else { 8 };
        let least = ETHERNET + ip_len + transport_len + LEN;
        let tag = if link.vlan.is_some() { 4 } else { 0 };
        // A tag makes the frame longer, as on a trunk port of a switch.
        let content = usize::from(size - super::sizes::FCS).max(least) - ETHERNET;
        let mut packet = vec![0; content];
        let length = (content - if from.is_ipv4() { 0 } else { 40 }) as u16;
        match from {
            IpAddr::V4(from) => {
                *packet.get_mut(0)? = 0x45;
                packet.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
                *packet.get_mut(9)? = protocol;
                packet.get_mut(12..16)?.copy_from_slice(&from.octets());
            }
            IpAddr::V6(from) => {
                *packet.get_mut(0)? = 0x60;
                packet.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
                *packet.get_mut(6)? = protocol;
                packet.get_mut(8..24)?.copy_from_slice(&from.octets());
            }
        }
        let transport = packet.get_mut(ip_len..)?;
        let transport_size = transport.len() as u16;
        transport.get_mut(2..4)?.copy_from_slice(&DESTINATION_PORT.to_be_bytes());
        if protocol == TCP {
            // A segment in the middle of a connection: data offset 5, ACK.
            transport.get_mut(12..14)?.copy_from_slice(&[0x50, 0x10]);
            transport.get_mut(14..16)?.copy_from_slice(&[0xff, 0xff]);
        } else {
            transport.get_mut(4..6)?.copy_from_slice(&transport_size.to_be_bytes());
        }
        for (number, byte) in transport.get_mut(transport_len + LEN..)?.iter_mut().enumerate() {
            *byte = (number as u8).wrapping_mul(37).wrapping_add(11);
        }
        let ethertype = if from.is_ipv4() { IPV4 } else { IPV6 };
        let mut frame = link.bytes(ethertype);
        frame.extend(packet);
        Self::finish(frame, ETHERNET + tag, true)
    }

    /// Of a captured IP packet; its addresses, ports and payload stay, but for the destination and the signature. None where there is no
    /// room for one: not UDP or TCP, a fragment, extension headers, too short a payload, or bytes missing.
    pub fn captured(link: &LinkLayer, packet: &[u8]) -> Option<Self> {
        let (ethertype, length) = match packet.first()? >> 4 {
            4 if read_u16(packet, 6)? & 0x3fff == 0 => (IPV4, usize::from(read_u16(packet, 2)?)),
            6 => (IPV6, 40 + usize::from(read_u16(packet, 4)?)),
            _ => return None,
        };
        let mut frame = link.bytes(ethertype);
        let ip = frame.len();
        frame.extend(packet.get(..length)?);
        // Ethernet pads what is shorter.
        let template = Self::finish(frame, ip, false)?;
        (template.frame.len() >= template.payload + LEN).then_some(template)
    }

    /// Clears what differs, and sums up the rest.
    fn finish(mut frame: Vec<u8>, ip: usize, own_ports: bool) -> Option<Self> {
        let layout = Layout::of(frame.get(ip..)?)?;
        let (transport, payload) = (ip + layout.transport, ip + layout.payload);
        let packet = frame.get_mut(ip..)?;
        let rest = packet.len() - layout.transport;
        let addresses = if layout.v4 {
            packet.get_mut(4..6)?.fill(0);
            *packet.get_mut(8)? = 0;
            packet.get_mut(10..12)?.fill(0);
            packet.get_mut(16..20)?.fill(0);
            12..16
        } else {
            *packet.get_mut(7)? = 0;
            packet.get_mut(24..40)?.fill(0);
            8..24
        };
        let segment = packet.get_mut(layout.transport..)?;
        let check = if layout.tcp { 16 } else { 6 };
        segment.get_mut(check..check + 2)?.fill(0);
        if own_ports {
            segment.get_mut(..2)?.fill(0);
        }
        segment.get_mut(layout.payload - layout.transport..)?.get_mut(..LEN)?.fill(0);
        let ip_sum = sum_wide(0, packet.get(..layout.transport)?);
        let protocol = if layout.tcp { TCP } else { UDP };
        let pseudo = sum_wide(u64::from(protocol) + rest as u64, packet.get(addresses)?);
        let transport_sum = sum_wide(pseudo, packet.get(layout.transport..)?);
        // UDP over IPv6 has a check sum, and over IPv4 we send one too (RFC 768, RFC 8200 §8.1).
        if frame.len() < 60 {
            frame.resize(60, 0);
        }
        Some(Self { frame, ip, transport, payload, tcp: layout.tcp, own_ports, ip_sum, transport_sum })
    }

    /// Bytes of the frame without FCS.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    pub fn ip(&self) -> usize {
        self.ip
    }

    /// Writes a packet into `out`; its length.
    #[inline]
    pub fn write(&self, stamp: &Stamp, out: &mut [u8]) -> Option<usize> {
        let length = self.frame.len();
        let frame = out.get_mut(..length)?;
        frame.copy_from_slice(&self.frame);
        let packet = frame.get_mut(self.ip..)?;
        let signature = stamp.signature.bytes(stamp.to);
        let mut transport_sum = sum_wide(self.transport_sum, &signature);
        match stamp.to {
            IpAddr::V4(to) => {
                let (id, to) = ((stamp.signature.seq as u16).to_be_bytes(), to.octets());
                let header: &mut [u8; 20] = packet.first_chunk_mut()?;
                header[4..6].copy_from_slice(&id);
                header[8] = stamp.ttl;
                header[16..20].copy_from_slice(&to);
                let sum = self.ip_sum + u64::from(u16::from_be_bytes(id)) + (u64::from(stamp.ttl) << 8);
                header[10..12].copy_from_slice(&fold_wide(sum_wide(sum, &to)).to_be_bytes());
                transport_sum = sum_wide(transport_sum, &to);
            }
            IpAddr::V6(to) => {
                let to = to.octets();
                let header: &mut [u8; 40] = packet.first_chunk_mut()?;
                header[7] = stamp.ttl;
                header[24..40].copy_from_slice(&to);
                transport_sum = sum_wide(transport_sum, &to);
            }
        }
        if self.own_ports {
            let port = 0xc000 | (stamp.signature.flow as u16 & 0x3fff);
            frame.get_mut(self.transport..self.transport + 2)?.copy_from_slice(&port.to_be_bytes());
            transport_sum += u64::from(port);
        }
        frame.get_mut(self.payload..self.payload + LEN)?.copy_from_slice(&signature);
        let checksum = match fold_wide(transport_sum) {
            0 if !self.tcp => 0xffff,
            other => other,
        };
        let at = self.transport + if self.tcp { 16 } else { 6 };
        frame.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
        Some(length)
    }
}

/// Where the parts of an IP packet are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub v4: bool,
    pub tcp: bool,
    pub transport: usize,
    pub payload: usize,
}

impl Layout {
    /// Of a packet with UDP or TCP right behind its IP header.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let (v4, transport, protocol) = match first >> 4 {
            4 => (true, usize::from(first & 15) * 4, *packet.get(9)?),
            6 => (false, 40, *packet.get(6)?),
            _ => return None,
        };
        let payload = match protocol {
            UDP => transport + 8,
            TCP => transport + usize::from(packet.get(transport + 12)? >> 4) * 4,
            _ => return None,
        };
        Some(Self { v4, tcp: protocol == TCP, transport, payload })
    }

    #[inline]
    pub fn destination(self, packet: &[u8]) -> Option<IpAddr> {
        if self.v4 {
            read::<4>(packet, 16).map(IpAddr::from)
        } else {
            read::<16>(packet, 24).map(IpAddr::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{fold, sum};

    fn link(vlan: Option<u16>) -> LinkLayer {
        LinkLayer { from: [2, 0, 0, 0, 0, 1], to: [2, 0, 0, 0, 0, 2], vlan }
    }

    fn addresses(v6: bool) -> (IpAddr, IpAddr) {
        let (from, to) = if v6 { ("2001:2::9", "2a00:1::5") } else { ("198.18.0.9", "192.0.2.77") };
        (from.parse().unwrap(), to.parse().unwrap())
    }

    fn written(template: &Template, to: IpAddr, ttl: u8, seq: u64) -> Vec<u8> {
        let stamp = Stamp { to, ttl, signature: Signature { warm_up: false, flow: 77, seq } };
        let mut out = [0; 9_300];
        let length = template.write(&stamp, &mut out).unwrap();
        out[..length].to_vec()
    }

    /// A receiver that looks at every check sum, by the plain rules (RFC 1071, RFC 768, RFC 9293 §3.1).
    fn check_sums_are_right(packet: &[u8]) {
        let layout = Layout::of(packet).unwrap();
        if layout.v4 {
            assert_eq!(fold(sum(0, &packet[..layout.transport])), 0, "IPv4 header");
        }
        let addresses = if layout.v4 { 12..20 } else { 8..40 };
        let segment = &packet[layout.transport..];
        let protocol = if layout.tcp { TCP } else { UDP };
        let pseudo = sum(u32::from(protocol) + segment.len() as u32, &packet[addresses]);
        assert_eq!(fold(sum(pseudo, segment)), 0, "transport");
    }

    #[test]
    fn frames_have_the_chosen_size_and_right_check_sums() {
        for (v6, protocol, least) in [(false, UDP, 64), (false, TCP, 70), (true, UDP, 78), (true, TCP, 90)] {
            for size in [64, 65, 78, 90, 91, 512, 1518, 9000] {
                for vlan in [None, Some(7)] {
                    let (from, to) = addresses(v6);
                    let template = Template::new(&link(vlan), from, protocol, size).unwrap();
                    let tag = if vlan.is_some() { 4 } else { 0 };
                    assert_eq!(
                        template.len(),
                        usize::from(size.max(least)) - 4 + tag,
                        "{v6} {protocol} {size}"
                    );
                    for (ttl, seq) in [(64, 0), (1, 0xffff), (255, 0xff_ffff_fffe)] {
                        let frame = written(&template, to, ttl, seq);
                        check_sums_are_right(&frame[template.ip()..]);
                        assert_eq!(frame[12..14] == [0x81, 0], vlan.is_some());
                    }
                }
            }
        }
    }

    #[test]
    fn captured_packet_keeps_everything_but_destination_and_signature() {
        let (from, to) = addresses(false);
        let other = Template::new(&link(None), from, TCP, 200).unwrap();
        let mut packet = written(&other, "9.9.9.9".parse().unwrap(), 3, 4)[14..].to_vec();
        packet[20..22].copy_from_slice(&443_u16.to_be_bytes());
        let template = Template::captured(&link(None), &packet).unwrap();
        let frame = written(&template, to, 64, 5);
        check_sums_are_right(&frame[14..]);
        assert_eq!(frame[34..36], 443_u16.to_be_bytes());
        assert_eq!((frame.len(), &frame[30..34]), (196, &[192, 0, 2, 77][..]));
        assert_eq!(frame[66..], packet[52..], "payload behind the signature");
        assert_eq!(Template::captured(&link(None), &packet[..100]).map(|t| t.len()), None, "cut off");
        packet[6] = 0x20;
        assert!(Template::captured(&link(None), &packet).is_none(), "a fragment");
    }
}
