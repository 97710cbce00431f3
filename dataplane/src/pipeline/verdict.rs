//! What becomes of each packet of a burst.

use crate::io::{BURST, Places};
use crate::reason::Reason;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent out of the port at this place; the frame is written already.
    Send(u16),
    /// Written for this port, but too large for it.
    Fragment {
        /// Place of the port.
        port: u16,
        /// What it takes.
        mtu: u16,
    },
    /// Larger than this MTU, and not to be fragmented.
    TooBig(u16),
    /// Waits for the next hop with this key.
    Hold(u32),
    /// Given to the control thread: address resolution.
    Control,
    /// Given to the router itself.
    Host,
    /// To a group of the link: given to a routing protocol on this host, if it has a host path.
    PuntMulticast,
    /// Freed and counted; its source may be told.
    Drop(Reason),
}

/// Ports that have a bit in [`Verdicts::ports`]; packets for ports beyond go one by one.
const DIRECT_PORTS: u16 = 64;
/// Not simply sent: the verdict is in the list.
const LISTED: u8 = u8::MAX;

/// The verdicts of a burst. Of packets that are sent, which almost all are, a byte each; so that they leave port by port and not one by one.
#[derive(Debug)]
pub struct Verdicts {
    exits: [u8; BURST],
    ports: u64,
    apart: [Verdict; BURST],
}

impl Default for Verdicts {
    fn default() -> Self {
        Verdicts { exits: [LISTED; BURST], ports: 0, apart: [Verdict::Drop(Reason::ShortFrame); BURST] }
    }
}

impl Verdicts {
    /// Forgets the burst before.
    #[inline]
    pub fn clear(&mut self) {
        self.exits = [LISTED; BURST];
        self.ports = 0;
    }

    /// Any verdict.
    #[inline]
    pub fn set(&mut self, at: usize, verdict: Verdict) {
        if let Some(slot) = self.apart.get_mut(at) {
            *slot = verdict;
        }
    }

    /// [`Verdict::Send`]; returns the port's bit, all of which [`on`](Self::on) takes.
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

    /// Any verdict; returns the bit of the port that the packet is sent on, or none.
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

    /// Packets are sent on these ports.
    #[inline]
    pub fn on(&mut self, ports: u64) {
        self.ports |= ports;
    }

    /// The ports that packets are sent on at once.
    #[inline]
    pub fn ports(&self) -> impl Iterator<Item = usize> + use<> {
        crate::io::each(self.ports)
    }

    /// The packets that are sent on one of those.
    #[inline]
    pub fn places(&self, port: usize) -> Places {
        let exits = self.exits.iter().enumerate();
        exits.fold(0, |places, (at, &exit)| places | Places::from(usize::from(exit) == port) << at)
    }

    /// Of one packet.
    #[inline]
    pub fn of(&self, at: usize) -> Verdict {
        match self.exits.get(at) {
            Some(&exit) if exit != LISTED => Verdict::Send(exit.into()),
            _ => self.apart.get(at).copied().unwrap_or(Verdict::Drop(Reason::ShortFrame)),
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
        assert_eq!((verdicts.places(3), verdicts.places(63), verdicts.places(64)), (0b10_0001, 1 << 63, 0));
        assert_eq!(
            [0, 1, 7, 63].map(|at| verdicts.of(at)),
            [Verdict::Send(3), Verdict::Host, Verdict::Send(64), Verdict::Send(63)]
        );
        verdicts.clear();
        assert_eq!((verdicts.ports().count(), verdicts.places(3)), (0, 0));
    }
}
