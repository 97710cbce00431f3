//! The verdict on each packet of a burst.

use crate::io::{BURST, PacketMask};
use crate::reason::Reason;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent out of the port with this index; the frame is already rewritten.
    Send(u16),
    /// Rewritten for this port, but larger than its MTU.
    Fragment {
        /// Index of the port.
        port: u16,
        /// The MTU.
        mtu: u16,
    },
    /// Larger than this MTU, and must not be fragmented.
    TooBig(u16),
    /// Held until the next hop with this key is resolved.
    Hold(u32),
    /// Address resolution: to the control thread.
    Control,
    /// For the router itself.
    Host,
    /// Multicast: punted to programs on this host if the port has an exception path.
    PuntMulticast,
    /// To the port's TAP interface in the kernel.
    Kernel,
    /// To the control thread, and to the port's TAP interface if it has one.
    PuntBoth,
    /// Dropped and counted; may cause an ICMP error.
    Drop(Reason),
}

/// Ports with a bit in [`Verdicts::ports`]; packets to ports beyond are sent one by one.
const DIRECT_PORTS: u16 = 64;
/// Not a plain send: the verdict is in the list.
const LISTED: u8 = u8::MAX;

/// The verdicts of a burst. Sent packets, which are almost all, take one byte each, so that they leave port by port and not one by one.
#[derive(Debug)]
pub struct Verdicts {
    exits: [u8; BURST],
    ports: u64,
    exceptions: [Verdict; BURST],
}

impl Default for Verdicts {
    fn default() -> Self {
        Verdicts { exits: [LISTED; BURST], ports: 0, exceptions: [Verdict::Drop(Reason::ShortFrame); BURST] }
    }
}

impl Verdicts {
    /// Clears all verdicts.
    #[inline]
    pub fn clear(&mut self) {
        self.exits = [LISTED; BURST];
        self.ports = 0;
    }

    /// Sets any verdict.
    #[inline]
    pub fn set(&mut self, at: usize, verdict: Verdict) {
        if let Some(slot) = self.exceptions.get_mut(at) {
            *slot = verdict;
        }
    }

    /// Sets [`Verdict::Send`]; returns the port's bit for [`on`](Self::on).
    #[inline]
    pub fn send(&mut self, at: usize, port: u16) -> u64 {
        if port >= DIRECT_PORTS {
            self.set(at, Verdict::Send(port));
            return 0;
        }
        if let Some(exit) = self.exits.get_mut(at) {
            *exit = port as u8;
        }
        1 << port
    }

    /// Sets any verdict; returns the bit of the port that the packet is sent to, or 0.
    #[inline]
    pub fn put(&mut self, at: usize, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Send(port) => self.send(at, port),
            other => {
                self.set(at, other);
                0
            }
        }
    }

    /// Records the ports that packets are sent to.
    #[inline]
    pub fn on(&mut self, ports: u64) {
        self.ports |= ports;
    }

    /// The ports that packets are sent to in bulk.
    #[inline]
    pub fn ports(&self) -> impl Iterator<Item = usize> + use<> {
        crate::io::each(self.ports)
    }

    /// The packets sent to one of those ports.
    #[inline]
    pub fn port_mask(&self, port: usize) -> PacketMask {
        let exits = self.exits.iter().enumerate();
        exits.fold(0, |mask, (at, &exit)| mask | PacketMask::from(usize::from(exit) == port) << at)
    }

    /// The verdict on one packet.
    #[inline]
    pub fn of(&self, at: usize) -> Verdict {
        match self.exits.get(at) {
            Some(&exit) if exit != LISTED => Verdict::Send(exit.into()),
            _ => self.exceptions.get(at).copied().unwrap_or(Verdict::Drop(Reason::ShortFrame)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_by_their_port_and_one_by_one() {
        let mut verdicts = Verdicts::default();
        let bits = verdicts.send(0, 3) | verdicts.send(5, 3) | verdicts.send(63, 63) | verdicts.send(7, 64);
        verdicts.on(bits);
        verdicts.set(1, Verdict::Host);
        assert_eq!(verdicts.ports().collect::<Vec<_>>(), [3, 63]);
        assert_eq!(
            (verdicts.port_mask(3), verdicts.port_mask(63), verdicts.port_mask(64)),
            (0b10_0001, 1 << 63, 0)
        );
        assert_eq!(
            [0, 1, 7, 63].map(|at| verdicts.of(at)),
            [Verdict::Send(3), Verdict::Host, Verdict::Send(64), Verdict::Send(63)]
        );
        verdicts.clear();
        assert_eq!((verdicts.ports().count(), verdicts.port_mask(3)), (0, 0));
    }
}
