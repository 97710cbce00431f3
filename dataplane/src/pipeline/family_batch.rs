//! The packets of one address family in a burst, in the layout that the lookup needs.

use fibcast_fib::{Generation, GroupIndex, VrfId};

use crate::io::BURST;

/// Destinations of a burst with the metadata of each packet.
#[derive(Debug)]
pub struct FamilyBatch<A> {
    destinations: [A; BURST],
    groups: [GroupIndex; BURST],
    metas: [PacketMeta; BURST],
    len: usize,
}

/// Packet metadata from validation to rewriting.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct PacketMeta {
    /// Index in the burst.
    pub at: u8,
    /// Flags that keep the packet off the fast path; 0 for almost all.
    pub flags: u8,
    /// Length of the IP packet in bytes, capped to 16 bits.
    pub length: u16,
}

impl PacketMeta {
    /// From one number: the index in the lowest byte, then flags and length.
    #[inline(always)]
    pub fn from_bits(bits: u32) -> PacketMeta {
        let [at, flags, low, high] = bits.to_le_bytes();
        PacketMeta { at, flags, length: u16::from_le_bytes([low, high]) }
    }
}

/// [`PacketMeta::flags`]: the time to live or hop limit expires here.
pub const TTL_EXPIRED: u8 = 1;
/// [`PacketMeta::flags`]: the IPv4 header has options.
pub const OPTIONS: u8 = 2;
/// [`PacketMeta::flags`]: a link-local address: an IPv6 source, an IPv4 source or destination.
pub const LINK_LOCAL: u8 = 4;
/// [`PacketMeta::flags`]: the reverse-path check failed.
pub const REVERSE_PATH: u8 = 8;

/// [`PacketMeta::flags`]: bytes follow the IP packet in a frame that may be longer than its link takes.
pub const TRAILER: u8 = 16;
/// [`PacketMeta::flags`]: the source may be an own address or an edge of a connected subnet ([`super::martian`]).
pub const OWN_SOURCE: u8 = 32;

/// Writes past the end go to a masked index and are not counted: neither a branch nor a bounds check.
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

/// A destination address type that the table can look up.
pub trait Destination: Copy + Default {
    /// Looks up destinations in one VRF.
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[Self], groups: &mut [GroupIndex]);
}

impl Destination for u32 {
    #[inline]
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[u32], groups: &mut [GroupIndex]) {
        generation.lookup_v4(vrf, destinations, groups);
    }
}

impl Destination for u128 {
    #[inline]
    fn look_up(generation: &Generation, vrf: VrfId, destinations: &[u128], groups: &mut [GroupIndex]) {
        generation.lookup_v6(vrf, destinations, groups);
    }
}

/// Appends packets to a family's batch; keeps the length in a register.
#[derive(Debug)]
pub struct Appender<'a, A> {
    batch: &'a mut FamilyBatch<A>,
    len: usize,
}

impl<A: Copy> Appender<'_, A> {
    /// Appends a packet if it is `good`, without a branch. There is room for a whole burst.
    #[inline]
    pub fn add(&mut self, destination: A, meta: PacketMeta, good: bool) {
        let at = self.len % BURST;
        self.batch.destinations[at] = destination;
        self.batch.metas[at] = meta;
        self.len += usize::from(good);
    }
}

impl<A> Drop for Appender<'_, A> {
    #[inline]
    fn drop(&mut self) {
        self.batch.len = self.len.min(BURST);
    }
}

impl FamilyBatch<u32> {
    /// Fills the empty batch with the first `count` packets of the burst: their destinations as in memory, and [`PacketMeta::from_bits`].
    #[inline]
    pub fn fill(&mut self, count: usize, destinations: &[u32; BURST], metas: &[u32; BURST]) {
        self.len = count.min(BURST);
        // All, of which `len` count: loops of a constant length are vectors.
        for (to, destination) in self.destinations.iter_mut().zip(destinations) {
            *to = destination.swap_bytes();
        }
        for (to, meta) in self.metas.iter_mut().zip(metas) {
            *to = PacketMeta::from_bits(*meta);
        }
    }
}

impl<A: Destination> FamilyBatch<A> {
    /// Empties the batch.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Starts appending.
    #[inline]
    pub fn adding(&mut self) -> Appender<'_, A> {
        Appender { len: self.len, batch: self }
    }

    /// The group of each packet, by its place in the batch.
    #[inline]
    pub fn groups(&self) -> &[GroupIndex; BURST] {
        &self.groups
    }

    /// Writes the group of each packet to its place in the burst.
    #[inline]
    pub fn spread_groups(&self, to: &mut [GroupIndex; BURST]) {
        for (meta, group) in self.metas.iter().zip(&self.groups).take(self.len) {
            to[usize::from(meta.at) % BURST] = *group;
        }
    }

    /// Looks up all destinations, each in the VRF of its port. `vrf_of` maps a packet's index to its VRF; it is called only if the burst
    /// arrived on several ports.
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

    /// Each packet's metadata with its destination and group.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (PacketMeta, A, GroupIndex)> {
        let packets = self.metas.iter().zip(&self.destinations).zip(&self.groups).take(self.len);
        packets.map(|((meta, destination), group)| (*meta, *destination, *group))
    }

    /// Metadata of all packets.
    pub fn metas(&self) -> impl Iterator<Item = PacketMeta> {
        self.metas.iter().copied().take(self.len)
    }

    /// Metadata of all packets, to set flags.
    pub fn metas_mut(&mut self) -> impl Iterator<Item = &mut PacketMeta> {
        self.metas.iter_mut().take(self.len)
    }
}
