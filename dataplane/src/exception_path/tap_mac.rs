//! The MAC address of a TAP interface, which is not always that of its port.
//!
//! The kernel throws away what is sent to a MAC address that the interface does not have. Two change it: udev, where its
//! `MACAddressPolicy=persistent` is slower than the start of this process, and an operator. The former is put right once, within a short time
//! after the start; the latter is meant and stays. In either case frames follow: to the kernel go those for the port's address with the
//! interface's, and those that leave the port as they are carry the port's.

use std::time::{Duration, Instant};

use crate::packet::ethernet::Mac;

/// How long after the start a change is taken for udev's.
const SETTLING: Duration = Duration::from_secs(10);

/// What to do about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Give the interface the port's address again.
    SetAgain,
    /// Leave it.
    Follow,
}

/// The address of one interface.
#[derive(Debug)]
pub struct TapMac {
    port: Mac,
    tap: Mac,
    made: Instant,
    set_again: bool,
}

impl TapMac {
    /// Of an interface that was made with its port's address.
    pub fn new(port: Mac, made: Instant) -> TapMac {
        TapMac { port, tap: port, made, set_again: false }
    }

    /// The kernel told of the interface. `None` where its address is as it was.
    pub fn told(&mut self, mac: Mac, now: Instant) -> Option<Change> {
        if std::mem::replace(&mut self.tap, mac) == mac {
            return None;
        }
        let udev = mac != self.port && !self.set_again && now.saturating_duration_since(self.made) < SETTLING;
        self.set_again |= udev;
        Some(if udev { Change::SetAgain } else { Change::Follow })
    }

    /// Makes a frame that the port received one for the interface.
    pub fn to_kernel(&self, frame: &mut [u8]) {
        if let Some(destination) = frame.first_chunk_mut::<6>()
            && *destination == self.port.0
        {
            *destination = self.tap.0;
        }
    }

    /// Makes a frame of the interface one of the port.
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
        assert_eq!(mac.told(OTHER, start + SETTLING), Some(Change::Follow));
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
        assert_eq!(mac.told(PORT, start), None);
        assert_eq!(mac.told(OTHER, start), Some(Change::SetAgain));
        assert_eq!(mac.told(OTHER, start), None, "told again of the same");
        assert_eq!(mac.told(PORT, start), Some(Change::Follow));
        assert_eq!(mac.told(OTHER, start), Some(Change::Follow), "no quarrel with whoever insists");
    }
}
