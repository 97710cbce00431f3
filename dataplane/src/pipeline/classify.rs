//! Ethernet: is the frame for us, and which protocol does it carry?

use super::lane::Lane;
use super::port::PortFacts;
use super::{Verdict, ipv4_input, ipv6_input};
use crate::io::Packet;
use crate::packet::ethernet::{self, Frame};
use crate::reason::Reason;

/// How the frame reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cast {
    /// To our MAC address.
    One,
    /// To a group of stations or all of them.
    Many,
}

/// A verdict where there is one already; `None` for packets that went into a lane, to be looked up.
#[inline]
pub fn classify<P: Packet>(
    packet: &P,
    port: &PortFacts,
    at: usize,
    seed: u64,
    v4: &mut Lane<u32>,
    v6: &mut Lane<u128>,
) -> Option<Verdict> {
    let Ok(frame) = Frame::new_checked(packet.data()) else {
        return Some(Verdict::Drop(Reason::ShortFrame));
    };
    let destination = frame.destination();
    let cast = if destination == port.mac {
        Cast::One
    } else if destination.is_multicast() {
        Cast::Many
    } else {
        return Some(Verdict::Drop(Reason::OtherStation));
    };
    let length = packet.length().saturating_sub(ethernet::HEADER);
    let (bytes, at) = (frame.payload(), at as u8);
    match frame.ethertype() {
        ethernet::IPV4 => ipv4_input::ipv4_input(bytes, length, cast, at, seed, v4),
        ethernet::IPV6 => ipv6_input::ipv6_input(bytes, length, cast, at, seed, v6),
        ethernet::ARP => Some(Verdict::Control),
        _ => Some(Verdict::Drop(Reason::UnknownEthertype)),
    }
}
