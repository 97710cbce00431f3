//! A frame with everything but what differs from packet to packet, and the check sums of the rest: a packet costs one copy and a few sums
//! when it is sent, one comparison and the same sums when it is back.
//!
//! What differs: destination, TTL or hop limit, IPv4 identification, source port (so that flows spread), signature, and check sums. The rest
//! of the payload is a fixed pattern, so that a packet that came back can be compared as a whole.

use std::net::IpAddr;

use crate::checksum::{fold_wide, sum_wide};
use crate::frame::{ETHERNET, IPV4, IPV6, Mac, VLAN, read, read_u16};
use crate::traffic::address::Address;
use crate::traffic::signature::{LEN, Signature};

pub const UDP: u8 = 17;
pub const TCP: u8 = 6;
/// IANA calls this range dynamic; nobody listens there.
const DESTINATION_PORT: u16 = 0xfca5;

/// Bytes of the payload that are compared word by word; behind them a call pays.
const MOST_WORDS_BEHIND: usize = 32;

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
    pub to: Address,
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
    /// So many bytes from the IP header on, as words, and which of their bits do not differ. The last word ends with them.
    fixed: Vec<(u64, u64)>,
    fixed_len: usize,
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
        let mut differs: Vec<std::ops::Range<usize>> =
            if layout.v4 { vec![4..6, 8..9, 10..12, 16..20] } else { vec![7..8, 24..40] };
        differs.push(layout.transport + check..layout.transport + check + 2);
        differs.push(layout.payload..layout.payload + LEN);
        if own_ports {
            differs.push(layout.transport..layout.transport + 2);
        }
        // UDP over IPv6 has a check sum, and over IPv4 we send one too (RFC 768, RFC 8200 §8.1).
        if frame.len() < 60 {
            frame.resize(60, 0);
        }
        let packet = frame.get(ip..)?;
        let fixed_len = packet.len().min(layout.payload + LEN + MOST_WORDS_BEHIND);
        let fixed = fixed_words(packet.get(..fixed_len)?, &differs)?;
        Some(Self {
            fixed_len,
            frame,
            ip,
            transport,
            payload,
            tcp: layout.tcp,
            own_ports,
            ip_sum,
            transport_sum,
            fixed,
        })
    }

    /// Bytes of the frame without FCS.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    pub fn ip(&self) -> usize {
        self.ip
    }

    /// Whether the frame has the right EtherType before its IP header.
    #[inline]
    pub fn has_type_of(&self, frame: &[u8], ip: usize) -> bool {
        read_u16(frame, ip.wrapping_sub(2)) == read_u16(&self.frame, self.ip - 2)
    }

    /// Writes a packet into `out`; its length.
    #[inline(always)]
    pub fn write(&self, stamp: &Stamp, out: &mut [u8]) -> Option<usize> {
        let length = self.frame.len();
        let frame = out.get_mut(..length)?;
        copy(&self.frame, frame);
        let packet = frame.get_mut(self.ip..)?;
        let (signature, signature_sum) = stamp.signature.bytes(stamp.to);
        let (header_sum, checksum) = self.check_sums(stamp, signature_sum);
        if stamp.to.is_ipv6() {
            let header: &mut [u8; 40] = packet.first_chunk_mut()?;
            header[7] = stamp.ttl;
            stamp.to.write(header, 24)?;
        } else {
            let header: &mut [u8; 20] = packet.first_chunk_mut()?;
            header[4..6].copy_from_slice(&(stamp.signature.seq as u16).to_be_bytes());
            header[8] = stamp.ttl;
            header[10..12].copy_from_slice(&header_sum.to_be_bytes());
            stamp.to.write(header, 16)?;
        }
        if self.own_ports {
            frame.get_mut(self.transport..self.transport + 2)?.copy_from_slice(&port(stamp).to_be_bytes());
        }
        frame.get_mut(self.payload..self.payload + LEN)?.copy_from_slice(&signature);
        let at = self.check_sum_at();
        frame.get_mut(at..at + 2)?.copy_from_slice(&checksum.to_be_bytes());
        Some(length)
    }

    fn check_sum_at(&self) -> usize {
        self.transport + if self.tcp { 16 } else { 6 }
    }

    /// Those of the IPv4 header and of the segment.
    #[inline(always)]
    fn check_sums(&self, stamp: &Stamp, signature_sum: u64) -> (u16, u16) {
        let to = stamp.to.sum();
        let mut transport_sum = self.transport_sum + signature_sum + to;
        let id = u64::from(stamp.signature.seq as u16);
        // Means nothing with IPv6.
        let header_sum = fold_wide(self.ip_sum + id + (u64::from(stamp.ttl) << 8) + to);
        if self.own_ports {
            transport_sum += u64::from(port(stamp));
        }
        let checksum = match fold_wide(transport_sum) {
            0 if !self.tcp => 0xffff,
            other => other,
        };
        (header_sum, checksum)
    }

    /// Whether a packet from its IP header on is what [`Template::write`] makes of the stamp. Its signature is that of the stamp, and has
    /// this sum.
    #[inline(always)]
    pub fn matches(&self, stamp: &Stamp, signature_sum: u64, packet: &[u8]) -> bool {
        self.compare(stamp, signature_sum, packet).unwrap_or(false)
    }

    #[inline(always)]
    fn compare(&self, stamp: &Stamp, signature_sum: u64, packet: &[u8]) -> Option<bool> {
        let head = self.fixed_len;
        let rest = self.frame.get(self.ip + head..)?;
        let mut differs = 0;
        let mut at = 0;
        for &(word, mask) in &self.fixed {
            let from = at.min(head - 8);
            differs |= (u64::from_ne_bytes(read(packet, from)?) ^ word) & mask;
            at += 8;
        }
        let (header_sum, checksum) = self.check_sums(stamp, signature_sum);
        let variable = if stamp.to.is_ipv6() {
            let header: &[u8; 40] = packet.first_chunk()?;
            header[7] == stamp.ttl && Address::read(header, 24, true) == Some(stamp.to)
        } else {
            let header: &[u8; 20] = packet.first_chunk()?;
            read_u16(header, 4)? == stamp.signature.seq as u16
                && header[8] == stamp.ttl
                && read_u16(header, 10)? == header_sum
                && Address::read(header, 16, false) == Some(stamp.to)
        };
        let ports = !self.own_ports || read_u16(packet, self.transport - self.ip)? == port(stamp);
        Some(
            differs == 0
                && variable
                && ports
                && read_u16(packet, self.check_sum_at() - self.ip)? == checksum
                && (rest.is_empty() || packet.get(head..head + rest.len())? == rest),
        )
    }
}

/// To a slice of the same length. The smallest frames, which are the most frequent ones, are copied without a call.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    if (32..=64).contains(&from.len())
        && let (Some(first), Some(last)) = (from.first_chunk::<32>(), from.last_chunk::<32>())
    {
        // They overlap.
        if let Some(to) = to.first_chunk_mut::<32>() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut::<32>() {
            *to = *last;
        }
    } else {
        to.copy_from_slice(from);
    }
}

/// The source port: it follows the flow, so that flows spread.
#[inline]
fn port(stamp: &Stamp) -> u16 {
    0xc000 | (stamp.signature.flow as u16 & 0x3fff)
}

/// Words of these bytes, and masks of those bits that do not differ.
fn fixed_words(bytes: &[u8], differs: &[std::ops::Range<usize>]) -> Option<Vec<(u64, u64)>> {
    let last = bytes.len().checked_sub(8)?;
    let word = |at: usize| {
        let from = at.min(last);
        let mask = std::array::from_fn(|byte| {
            let byte = from + byte;
            // Every byte once: those before `at` were in the word before.
            if byte < at || differs.iter().any(|range| range.contains(&byte)) { 0 } else { 0xff }
        });
        let mask = u64::from_ne_bytes(mask);
        Some((u64::from_ne_bytes(read(bytes, from)?) & mask, mask))
    };
    (0..bytes.len()).step_by(8).map(word).collect()
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
    #[inline(always)]
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
    pub fn destination(self, packet: &[u8]) -> Option<Address> {
        Address::read(packet, if self.v4 { 16 } else { 24 }, !self.v4)
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
        let stamp =
            Stamp { to: to.into(), ttl, signature: Signature { warm_up: false, core: 3, flow: 77, seq } };
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

    /// The packet built once more is the oracle of the quick comparison. The signature has been read before.
    #[test]
    fn a_packet_matches_if_it_is_what_would_be_written() {
        for (v6, protocol, size) in
            [(false, UDP, 64), (false, TCP, 70), (true, UDP, 78), (true, TCP, 131), (false, UDP, 1518)]
        {
            let (from, to) = addresses(v6);
            let own = Template::new(&link(None), from, protocol, size).unwrap();
            let packet = written(&own, to, 9, 1)[ETHERNET..].to_vec();
            for template in [own, Template::captured(&link(Some(5)), &packet).unwrap()] {
                for (ttl, seq) in [(64, 0x1234), (1, 0xff_ffff)] {
                    let stamp = Stamp {
                        to: to.into(),
                        ttl,
                        signature: Signature { warm_up: false, core: 3, flow: 77, seq },
                    };
                    let (_, sum) = stamp.signature.bytes(to.into());
                    let right = written(&template, to, ttl, seq)[template.ip()..].to_vec();
                    assert!(template.matches(&stamp, sum, &right));
                    let padded = [right.clone(), vec![7; 9]].concat();
                    assert!(template.matches(&stamp, sum, &padded));
                    for length in 0..right.len() {
                        assert!(!template.matches(&stamp, sum, &right[..length]), "{length}");
                    }
                    let signature = template.payload - template.ip..template.payload - template.ip + LEN;
                    for bit in (0..right.len() * 8).filter(|bit| !signature.contains(&(bit / 8))) {
                        let mut wrong = right.clone();
                        wrong[bit / 8] ^= 1 << (bit % 8);
                        assert!(!template.matches(&stamp, sum, &wrong), "{v6} {protocol} {size}: bit {bit}");
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
