//! The MAC address of a TAP interface, which may differ from that of its port.
//!
//! The kernel drops unicast frames for a MAC address other than the interface's. Two actors change that address: udev, if its
//! `MACAddressPolicy=persistent` acts after the creation, and an operator. A change soon after the start is attributed to udev and reverted
//! once; a later one is intended and kept. In both cases frames are adapted: frames to the kernel get the interface's address instead of
//! the port's, and frames that leave unchanged get the port's.

use std::time::{Duration, Instant};

use crate::packet::ethernet::{self, Mac};
use crate::packet::{checksum, ipv6, nd, put, take};

/// A change within this time after the start is attributed to udev.
const SETTLING: Duration = Duration::from_secs(10);

/// Reaction to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Restore the port's address.
    SetAgain,
    /// Keep it.
    Follow,
}

/// The MAC address of one interface.
#[derive(Debug)]
pub struct TapMac {
    port: Mac,
    tap: Mac,
    made: Instant,
    set_again: bool,
}

impl TapMac {
    /// For an interface that was created with its port's address.
    pub fn new(port: Mac, made: Instant) -> TapMac {
        TapMac { port, tap: port, made, set_again: false }
    }

    /// The kernel reported the interface's address. `None` if it has not changed.
    pub fn reported(&mut self, mac: Mac, now: Instant) -> Option<Change> {
        if std::mem::replace(&mut self.tap, mac) == mac {
            return None;
        }
        let udev = mac != self.port && !self.set_again && now.saturating_duration_since(self.made) < SETTLING;
        self.set_again |= udev;
        Some(if udev { Change::SetAgain } else { Change::Follow })
    }

    /// Adapts a received frame to the interface. A unicast frame was for the port that it arrived on, which may be another one.
    pub fn to_kernel(&self, frame: &mut [u8]) {
        if let Some(destination) = frame.first_chunk_mut::<6>()
            && !Mac(*destination).is_multicast()
        {
            *destination = self.tap.0;
        }
    }

    /// Adapts a frame of the interface to the port.
    pub fn to_wire(&self, frame: &mut [u8]) {
        if let Some(source) = frame.get_mut(6..12)
            && *source == self.tap.0
        {
            source.copy_from_slice(&self.port.0);
            if self.tap != self.port {
                self.advertise(frame);
            }
        }
    }

    /// Router and neighbor discovery name the sender's MAC address in an option as well (RFC 4861 §4.6.1).
    fn advertise(&self, frame: &mut [u8]) {
        let Some((header, message)) =
            frame.get_mut(ethernet::HEADER..).and_then(|ip| ip.split_at_mut_checked(ipv6::HEADER))
        else {
            return;
        };
        let Ok(ip) = ipv6::Ipv6Header::new_checked(header, usize::MAX) else { return };
        let (source, destination) = (ip.source(), ip.destination());
        let Some(message) = message.get_mut(..ip.total_length() - ipv6::HEADER) else { return };
        let mut at = match (ip.next_header(), message.first()) {
            (nd::ICMPV6, Some(133)) => 8,
            (nd::ICMPV6, Some(134)) => 16,
            (nd::ICMPV6, Some(135 | 136)) => 24,
            _ => return,
        };
        while let Some(&[kind, units]) = take::<2>(message, at).filter(|option| option[1] != 0) {
            if matches!(kind, 1 | 2) && take::<6>(message, at + 2) == Some(&self.tap.0) {
                put(message, at + 2, &self.port.0);
            }
            at += usize::from(units) * 8;
        }
        put(message, 2, &[0, 0]);
        let field = checksum::pseudo_v6(source, destination, nd::ICMPV6, message);
        put(message, 2, &field.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([6, 0, 0, 0, 0, 9]);
    /// Of another port.
    const NEIGHBOR: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn frames_follow_the_interface_and_leave_with_the_ports_address() {
        let start = Instant::now();
        let mut mac = TapMac::new(PORT, start);
        let frame = |destination: Mac, source: Mac| [&destination.0[..], &source.0, &[8, 0, 1]].concat();
        for destination in [PORT, NEIGHBOR] {
            let mut to_port = frame(destination, OTHER);
            mac.to_kernel(&mut to_port);
            assert_eq!(to_port, frame(PORT, OTHER));
        }
        assert_eq!(mac.reported(OTHER, start + SETTLING), Some(Change::Follow));
        let group = Mac([1, 0, 0x5e, 0, 0, 5]);
        for (before, after) in [
            (frame(PORT, PORT), frame(OTHER, PORT)),
            (frame(NEIGHBOR, PORT), frame(OTHER, PORT)),
            (frame(group, PORT), frame(group, PORT)),
        ] {
            let mut found = before;
            mac.to_kernel(&mut found);
            assert_eq!(found, after);
        }
        let mut hello = frame(group, OTHER);
        mac.to_wire(&mut hello);
        assert_eq!(hello, frame(group, PORT));
        mac.to_wire(&mut [0; 5]);
        mac.to_kernel(&mut [0; 5]);
    }

    #[test]
    fn an_advertisement_names_the_ports_address() {
        let start = Instant::now();
        let mut mac = TapMac::new(PORT, start);
        mac.reported(OTHER, start + SETTLING);
        let (source, all) = (OTHER.link_local(), "ff02::1".parse().unwrap());
        let mut advertisement = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        // MTU, then the source link-layer address.
        advertisement.extend([5, 1, 0, 0, 0, 0, 5, 220, 1, 1]);
        advertisement.extend(OTHER.0);
        let field = checksum::pseudo_v6(source, all, 58, &advertisement);
        put(&mut advertisement, 2, &field.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0, 0, advertisement.len() as u8, 58, 255];
        packet.extend(source.octets().into_iter().chain(std::net::Ipv6Addr::octets(&all)));
        packet.extend(advertisement);
        let mut frame = ethernet::build(Mac([0x33, 0x33, 0, 0, 0, 1]), OTHER, ethernet::IPV6, &packet);
        mac.to_wire(&mut frame);
        assert_eq!((&frame[6..12], &frame[80..86]), (&PORT.0[..], &PORT.0[..]));
        assert_eq!(checksum::pseudo_v6(source, all, 58, &frame[54..86]), 0);
        // Any bytes.
        for length in 0..frame.len() {
            let mut cut = frame[..length].to_vec();
            if length >= 12 {
                cut[6..12].copy_from_slice(&OTHER.0);
            }
            mac.to_wire(&mut cut);
        }
    }

    #[test]
    fn a_change_soon_after_the_start_is_put_right_once() {
        let start = Instant::now();
        let mut mac = TapMac::new(PORT, start);
        assert_eq!(mac.reported(PORT, start), None);
        assert_eq!(mac.reported(OTHER, start), Some(Change::SetAgain));
        assert_eq!(mac.reported(OTHER, start), None, "reported again of the same");
        assert_eq!(mac.reported(PORT, start), Some(Change::Follow));
        assert_eq!(mac.reported(OTHER, start), Some(Change::Follow), "no quarrel with whoever insists");
    }
}
