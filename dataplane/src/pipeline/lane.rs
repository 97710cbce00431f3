//! The packets of one address family in a burst, side by side, as the lookup wants them.

use fibcast_fib::{Generation, GroupIndex, VrfId};

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
    /// What keeps it off the straight way; 0 for almost all.
    pub flags: u8,
    /// Length of the IP packet in bytes; no longer than 65,575, so larger ones are capped.
    pub length: u16,
    /// Flow hash.
    pub hash: u32,
}

/// [`Mark::flags`]: the time to live or hop limit does not allow another hop.
pub const LAST_HOP: u8 = 1;
/// [`Mark::flags`]: IPv4 options to look at.
pub const OPTIONS: u8 = 2;
/// [`Mark::flags`]: an IPv6 source address that is not known beyond the link.
pub const LINK_LOCAL: u8 = 4;
/// [`Mark::flags`]: the reverse-path check refused it.
pub const REVERSE_PATH: u8 = 8;

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

/// An address family that can be looked up.
pub trait Key: Copy + Default {
    /// All destinations of one VRF.
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[Self], groups: &mut [GroupIndex]);
}

impl Key for u32 {
    #[inline]
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[u32], groups: &mut [GroupIndex]) {
        generation.lookup_v4(vrf, destinations, groups);
    }
}

impl Key for u128 {
    #[inline]
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[u128], groups: &mut [GroupIndex]) {
        generation.lookup_v6(vrf, destinations, groups);
    }
}

impl<A: Key> Lane<A> {
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

    /// Looks all destinations up in the VRF of their port; `vrf_of` says it by the packet's place, and is asked only where the burst
    /// came by more than one.
    #[inline]
    pub fn look_up(
        &mut self,
        generation: &Generation,
        vrf: VrfId,
        mixed: bool,
        vrf_of: impl Fn(u8) -> VrfId,
    ) {
        let len = self.len.min(BURST);
        let destinations = self.destinations.get(..len).unwrap_or_default();
        let groups = self.groups.get_mut(..len).unwrap_or_default();
        if !mixed {
            return A::look_up(generation, vrf, destinations, groups);
        }
        for ((mark, destination), group) in
            self.marks.iter().zip(destinations.chunks(1)).zip(groups.chunks_mut(1))
        {
            A::look_up(generation, vrf_of(mark.at), destination, group);
        }
    }

    /// Each packet with its destination and group.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (Mark, A, GroupIndex)> {
        let packets = self.marks.iter().zip(&self.destinations).zip(&self.groups).take(self.len);
        packets.map(|((mark, destination), group)| (*mark, *destination, *group))
    }

    /// The marks, to add flags to.
    pub fn marks_mut(&mut self) -> impl Iterator<Item = &mut Mark> {
        self.marks.iter_mut().take(self.len)
    }
}
