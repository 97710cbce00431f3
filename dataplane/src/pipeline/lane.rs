//! The packets of one address family in a burst, side by side, as the lookup wants them.

use fibcast_fib::GroupIndex;

use crate::io::BURST;

/// Destinations of a burst and what belongs to each.
#[derive(Debug)]
pub struct Lane<A> {
    destinations: [A; BURST],
    groups: [GroupIndex; BURST],
    marks: [Mark; BURST],
    len: usize,
}

/// What is remembered of a packet from validation to rewriting.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    /// Place in the burst.
    pub at: u8,
    /// Length of the IP packet in bytes; no longer than 65,575, so larger ones are capped.
    pub length: u16,
    /// Flow hash.
    pub hash: u32,
}

impl<A: Copy + Default> Default for Lane<A> {
    fn default() -> Self {
        Lane {
            destinations: [A::default(); BURST],
            groups: [GroupIndex::NO_ROUTE; BURST],
            marks: [Mark::default(); BURST],
            len: 0,
        }
    }
}

impl<A: Copy + Default> Lane<A> {
    /// Forgets the burst before.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a packet. A lane has room for a whole burst.
    #[inline]
    pub fn push(&mut self, destination: A, mark: Mark) {
        let at = self.len;
        if let (Some(to), Some(slot)) = (self.destinations.get_mut(at), self.marks.get_mut(at)) {
            *to = destination;
            *slot = mark;
            self.len = at + 1;
        }
    }

    /// What to look up and where the answers go, both of one length.
    #[inline]
    pub fn lookup(&mut self) -> (&[A], &mut [GroupIndex]) {
        let len = self.len.min(BURST);
        (self.destinations.get(..len).unwrap_or_default(), self.groups.get_mut(..len).unwrap_or_default())
    }

    /// Each packet with its destination and group.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Mark, A, GroupIndex)> {
        let packets = self.marks.iter().zip(&self.destinations).zip(&self.groups).take(self.len);
        packets.map(|((mark, destination), group)| (*mark, *destination, *group))
    }
}
