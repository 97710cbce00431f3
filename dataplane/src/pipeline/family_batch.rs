//! The packets of one address family in a burst, side by side, as the lookup wants them.

use fibcast_fib::{Generation, GroupIndex, VrfId};

use crate::io::BURST;

/// Destinations of a burst and what belongs to each.
#[derive(Debug)]
pub struct FamilyBatch<A> {
    destinations: [A; BURST],
    groups: [GroupIndex; BURST],
    metas: [PacketMeta; BURST],
    len: usize,
}

/// What is remembered of a packet from validation to rewriting.
#[derive(Debug, Clone, Copy, Default)]
pub struct PacketMeta {
    /// Place in the burst.
    pub at: u8,
    /// What keeps it off the fast path; 0 for almost all.
    pub flags: u8,
    /// Length of the IP packet in bytes; no longer than 65,575, so larger ones are capped.
    pub length: u16,
}

/// [`PacketMeta::flags`]: the time to live or hop limit does not allow another hop.
pub const TTL_EXPIRED: u8 = 1;
/// [`PacketMeta::flags`]: IPv4 options to look at.
pub const OPTIONS: u8 = 2;
/// [`PacketMeta::flags`]: an address that is not known beyond the link: IPv6 sources, IPv4 sources and destinations.
pub const LINK_LOCAL: u8 = 4;
/// [`PacketMeta::flags`]: the reverse-path check refused it.
pub const REVERSE_PATH: u8 = 8;

/// A place beyond the last is written at and not counted: no branch, no bounds to check.
const _: () = assert!(BURST.is_power_of_two());

impl<A: Copy + Default> Default for FamilyBatch<A> {
    fn default() -> Self {
        FamilyBatch {
            destinations: [A::default(); BURST],
            groups: [GroupIndex::NO_ROUTE; BURST],
            metas: [PacketMeta::default(); BURST],
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

/// Adds packets to a family's batch one after the other; its length lives in a register meanwhile.
#[derive(Debug)]
pub struct Adding<'a, A> {
    batch: &'a mut FamilyBatch<A>,
    len: usize,
}

impl<A: Copy> Adding<'_, A> {
    /// Adds a packet where it is `good`, without a branch. It has room for a whole burst.
    #[inline]
    pub fn add(&mut self, destination: A, meta: PacketMeta, good: bool) {
        let at = self.len % BURST;
        self.batch.destinations[at] = destination;
        self.batch.metas[at] = meta;
        self.len += usize::from(good);
    }
}

impl<A> Drop for Adding<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.batch.len = self.len.min(BURST);
    }
}

impl<A: Key> FamilyBatch<A> {
    /// Forgets the burst before.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// To add packets.
    #[inline]
    pub fn adding(&mut self) -> Adding<'_, A> {
        Adding { len: self.len, batch: self }
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
        for ((meta, destination), group) in
            self.metas.iter().zip(destinations.chunks(1)).zip(groups.chunks_mut(1))
        {
            A::look_up(generation, vrf_of(meta.at), destination, group);
        }
    }

    /// Each packet with its destination and group.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (PacketMeta, A, GroupIndex)> {
        let packets = self.metas.iter().zip(&self.destinations).zip(&self.groups).take(self.len);
        packets.map(|((meta, destination), group)| (*meta, *destination, *group))
    }

    /// Metadata of all packets, to add flags to.
    pub fn metas_mut(&mut self) -> impl Iterator<Item = &mut PacketMeta> {
        self.metas.iter_mut().take(self.len)
    }
}
