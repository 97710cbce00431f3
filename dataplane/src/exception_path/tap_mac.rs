//! The MAC address of a TAP interface, which may differ from that of its port.
//!
//! The kernel drops unicast frames for a MAC address other than the interface's. Two actors change that address: udev, if its
//! `MACAddressPolicy=persistent` acts after the creation, and an operator. A change soon after the start is attributed to udev and reverted
//! once; a later one is intended and kept. In both cases frames are adapted: frames to the kernel get the interface's address instead of
//! the port's, and frames that leave unchanged get the port's.

use std::time::{Duration, Instant};

use crate::packet::ethernet::Mac;

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

    /// Adapts a frame that the port received to the interface.
    pub fn to_kernel(&self, frame: &mut [u8]) {
        if let Some(destination) = frame.first_chunk_mut::<6>()
            && *destination == self.port.0
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([6, 0, 0, 0, 0, 9]);

    #[test]
    fn frames_follow_the_interface_and_leave_with_the_ports_address() {
        let start = Instant::now();
        let mut mac = TapMac::new(PORT, start);
        let frame = |destination: Mac, source: Mac| [&destination.0[..], &source.0, &[8, 0, 1]].concat();
        let mut to_port = frame(PORT, OTHER);
        mac.to_kernel(&mut to_port);
        assert_eq!(to_port, frame(PORT, OTHER), "nothing has changed");
        assert_eq!(mac.reported(OTHER, start + SETTLING), Some(Change::Follow));
        let group = Mac([1, 0, 0x5e, 0, 0, 5]);
        for (before, after) in
            [(frame(PORT, PORT), frame(OTHER, PORT)), (frame(group, PORT), frame(group, PORT))]
        {
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
