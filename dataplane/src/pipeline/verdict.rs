//! The verdict on each packet of a burst.

use wide::u8x32;

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

/// Not a plain send: the verdict is in the list. Ports with this index and beyond are there too.
pub(super) const LISTED: u8 = u8::MAX;

/// The verdicts of a burst. Sent packets, which are almost all, take one byte each, so that they leave port by port and not one by one.
#[derive(Debug)]
pub struct Verdicts {
    exits: [u8; BURST],
    exceptions: [Verdict; BURST],
}

impl Default for Verdicts {
    fn default() -> Self {
        Verdicts { exits: [LISTED; BURST], exceptions: [Verdict::Drop(Reason::ShortFrame); BURST] }
    }
}

impl Verdicts {
    /// Clears all verdicts.
    #[inline]
    pub fn clear(&mut self) {
        self.exits = [LISTED; BURST];
    }

    /// Sets any verdict.
    #[inline]
    pub fn set(&mut self, at: usize, verdict: Verdict) {
        let exit = match verdict {
            Verdict::Send(port) if port < LISTED.into() => port as u8,
            _ => LISTED,
        };
        if let (Some(slot), Some(exception)) = (self.exits.get_mut(at), self.exceptions.get_mut(at)) {
            *slot = exit;
            *exception = verdict;
        }
    }

    /// The port that each packet is sent to, or [`LISTED`].
    #[inline]
    pub(super) fn exits_mut(&mut self) -> &mut [u8; BURST] {
        &mut self.exits
    }

    /// The packets sent to the same port as this one, which is returned; `None` if it is not sent, or to a port beyond [`LISTED`].
    #[inline]
    pub fn with(&self, at: usize) -> Option<(u8, PacketMask)> {
        let exit = self.exits.get(at).copied().filter(|exit| *exit != LISTED)?;
        Some((exit, self.mask(exit)))
    }

    /// The packets that are sent, but for those to ports beyond [`LISTED`].
    #[inline]
    pub fn sent(&self) -> PacketMask {
        !self.mask(LISTED)
    }

    #[inline]
    fn mask(&self, exit: u8) -> PacketMask {
        let halves = self.exits.as_chunks::<32>().0.iter().rev();
        halves.fold(0, |mask, half| {
            mask << 32 | PacketMask::from(u8x32::new(*half).simd_eq(u8x32::splat(exit)).to_bitmask())
        })
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
        for (at, port) in [(0, 3), (5, 3), (63, 254), (7, 255), (8, 300), (9, 100)] {
            verdicts.set(at, Verdict::Send(port));
        }
        verdicts.set(1, Verdict::Host);
        assert_eq!(verdicts.sent(), 1 << 63 | 1 << 9 | 0b10_0001);
        assert_eq!((verdicts.with(5), verdicts.with(63)), (Some((3, 0b10_0001)), Some((254, 1 << 63))));
        assert_eq!([1, 2, 7, 8, 64].map(|at| verdicts.with(at)), [None; 5]);
        let sent = [0, 7, 8, 9, 63].map(|at| verdicts.of(at));
        assert_eq!(sent, [3, 255, 300, 100, 254].map(Verdict::Send));
        assert_eq!(verdicts.of(1), Verdict::Host);
        verdicts.set(0, Verdict::Host);
        assert_eq!((verdicts.sent() & 1, verdicts.of(0)), (0, Verdict::Host));
        verdicts.clear();
        assert_eq!((verdicts.sent(), verdicts.with(5)), (0, None));
    }
}
