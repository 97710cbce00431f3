//! Frames of the hosts around a router, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// UDP port of the packets that must not be lost.
pub const PORT: u16 = 7_777;

/// The ones' complement sum of the Internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &kind.to_be_bytes()[..], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn ipv4(
    to: Mac,
    from: Mac,
    [source, target]: [Ipv4Addr; 2],
    (ttl, protocol): (u8, u8),
    payload: &[u8],
) -> Vec<u8> {
    let length = ((20 + payload.len()) as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, ttl, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(target.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    ethernet(to, from, IPV4, &header)
}

/// UDP with a number in it.
pub fn udp(to: Mac, from: Mac, addresses: [Ipv4Addr; 2], ttl: u8, number: u64) -> Vec<u8> {
    let mut payload = [PORT.to_be_bytes(), PORT.to_be_bytes(), 16u16.to_be_bytes(), [0, 0]].concat();
    payload.extend(number.to_be_bytes());
    ipv4(to, from, addresses, (ttl, UDP), &payload)
}

/// The number in a packet of [`udp`], and its destination.
pub fn number(frame: &[u8]) -> Option<(Ipv4Addr, u64)> {
    let is_udp = frame.get(12..14)? == IPV4.to_be_bytes() && *frame.get(23)? == UDP;
    let of_ours = is_udp && frame.get(36..38)? == PORT.to_be_bytes();
    let target: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
    let number: [u8; 8] = frame.get(42..50)?.try_into().ok()?;
    of_ours.then(|| (Ipv4Addr::from(target), u64::from_be_bytes(number)))
}

/// An echo request.
pub fn echo(to: Mac, from: Mac, addresses: [Ipv4Addr; 2]) -> Vec<u8> {
    let mut payload = [8, 0, 0, 0, 0, 7, 0, 7].to_vec();
    payload.extend([7; 24]);
    let sum = checksum(&payload).to_be_bytes();
    payload[2..4].copy_from_slice(&sum);
    ipv4(to, from, addresses, (64, ICMP), &payload)
}

/// An ARP request (RFC 826), or with `reply` the answer to one.
pub fn arp(to: Mac, from: Mac, [sender, target]: [Ipv4Addr; 2], reply: bool) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, if reply { 2 } else { 1 }];
    payload.extend(from);
    payload.extend(sender.octets());
    payload.extend(if reply { to } else { [0; 6] });
    payload.extend(target.octets());
    ethernet(to, from, ARP, &payload)
}

/// Who asks for which address in an ARP request.
pub fn asked(frame: &[u8]) -> Option<(Mac, [Ipv4Addr; 2])> {
    let is_request = frame.get(12..14)? == ARP.to_be_bytes() && frame.get(20..22)? == [0, 1];
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let mac = frame.get(22..28)?.try_into().ok()?;
    is_request.then_some((mac, [address(28)?, address(38)?]))
}

/// A neighbor solicitation (RFC 4861, section 4.3) for an address of the router itself.
pub fn solicitation(to: Mac, from: Mac, [source, target]: [Ipv6Addr; 2]) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(from);
    let length = message.len() as u16;
    let pseudo = [&source.octets()[..], &target.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, ICMPV6]];
    let sum = checksum(&[&pseudo.concat()[..], &message].concat()).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([ICMPV6, 255]);
    packet.extend(source.octets());
    packet.extend(target.octets());
    packet.extend(message);
    ethernet(to, from, IPV6, &packet)
}
