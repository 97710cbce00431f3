//! What a worker reads: an immutable snapshot of tries, groups, adjacencies and neighbors.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use crate::audit::Audit;
use crate::cow::CowVec;
use crate::groups::{Compiled, Many, Slot};
use crate::neighbors::Neighbors;
use crate::table::Roots;
use crate::trie::{Kernel, Run, Snapshot};
use crate::types::{Adjacency, AdjacencyState, GroupIndex, NextHop, PortId, SingleHop, Special, VrfId};

/// The immutable set {tries, groups, adjacencies, neighbors, serial}.
///
/// Created by [`crate::Fib::generation`], published to the workers by [`crate::Publisher`], freed on the publisher's thread.
#[derive(Debug)]
pub struct Generation {
    pub(crate) serial: u64,
    pub(crate) kernel: Kernel,
    pub(crate) vrfs: Arc<[Option<Roots>]>,
    pub(crate) blocks: Snapshot,
    pub(crate) trie_bytes: usize,
    /// Bytes of blocks that were ever replaced up to this generation.
    pub(crate) trie_retired: u64,
    pub(crate) groups: CowVec<Compiled>,
    pub(crate) slots: CowVec<Slot>,
    pub(crate) single_hop: CowVec<SingleHop>,
    pub(crate) neighbors: Neighbors,
    pub(crate) audit: OnceLock<Arc<Audit>>,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward<'a> {
    /// No route covers the destination.
    NoRoute,
    /// Write this header and send the packet out of its port.
    Via(&'a Adjacency),
    /// The next hop's link-layer address is not known yet.
    Incomplete {
        /// The next hop to resolve.
        next_hop: &'a NextHop,
    },
    /// The destination itself is on this port's link: look it up with [`Generation::neighbor`].
    Connected(PortId),
    /// Drop it, with or without an ICMP error, or deliver it to this host.
    Special(Special),
}

/// Bytes that a generation holds. What generations share is counted in each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Tries of all VRFs and both families.
    pub tries: usize,
    /// Groups, adjacencies and neighbors.
    pub groups: usize,
}

impl Generation {
    /// Serial of the last applied batch.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Longest-prefix match of a burst of IPv4 destinations, in host byte order.
    ///
    /// Writes as many results as the shorter of the two slices has. A VRF that does not exist has no routes.
    pub fn lookup_v4(&self, vrf: VrfId, dst: &[u32], out: &mut [GroupIndex]) {
        let (dst, out) = pairs(dst, out);
        match self.roots(vrf) {
            Some(roots) => roots.v4.lookup_v4(&self.blocks, self.kernel, dst, out),
            None => out.fill(GroupIndex::NO_ROUTE),
        }
    }

    /// Longest-prefix match of a burst of IPv6 destinations, in host byte order.
    ///
    /// Writes as many results as the shorter of the two slices has. A VRF that does not exist has no routes.
    pub fn lookup_v6(&self, vrf: VrfId, dst: &[u128], out: &mut [GroupIndex]) {
        let (dst, out) = pairs(dst, out);
        match self.roots(vrf) {
            Some(roots) => roots.v6.lookup_v6(&self.blocks, self.kernel, dst, out),
            None => out.fill(GroupIndex::NO_ROUTE),
        }
    }

    /// The addresses that have the result of this one, left-aligned, from it on.
    pub(crate) fn run(&self, vrf: VrfId, v4: bool, bits: u128) -> Run {
        let root = self.roots(vrf).map(|roots| if v4 { roots.v4 } else { roots.v6 });
        root.map_or(Run { value: Some(GroupIndex::NO_ROUTE), last: u128::MAX }, |root| {
            root.run(&self.blocks, v4, bits)
        })
    }

    /// Fast path for a group with a single reachable next hop. The MTU is 0 for all other groups; [`forward`](Self::forward) handles those.
    #[inline]
    pub fn single_hop(&self, group: GroupIndex) -> &SingleHop {
        self.single_hop.get(group.0).unwrap_or(&SingleHop::NONE)
    }

    /// The forwarding decision of a group for a flow.
    ///
    /// The flow hash selects one of several members. If that member is unreachable, the next reachable one takes the flow, so a silent
    /// neighbor costs no packet while another member of the group is reachable.
    #[inline]
    pub fn forward(&self, group: GroupIndex, flow_hash: u32) -> Forward<'_> {
        self.forward_by(group, || flow_hash)
    }

    /// Like [`forward`](Self::forward), but computes the hash only if the group has several members.
    #[inline]
    pub fn forward_by(&self, group: GroupIndex, flow_hash: impl FnOnce() -> u32) -> Forward<'_> {
        match self.groups.get(group.0) {
            Some(Compiled::One(next_hop)) => self.via(*next_hop),
            Some(other) => self.by_other(other, flow_hash),
            None => Forward::NoRoute,
        }
    }

    /// Out of line, so that a group of one next hop costs a comparison and no jump by a table.
    #[inline(never)]
    fn by_other(&self, group: &Compiled, flow_hash: impl FnOnce() -> u32) -> Forward<'_> {
        match group {
            Compiled::One(next_hop) => self.via(*next_hop),
            Compiled::Many(many) => self.among(many, flow_hash()),
            Compiled::Special(special) => Forward::Special(*special),
            Compiled::None => Forward::NoRoute,
        }
    }

    /// The adjacency of a directly connected host.
    pub fn neighbor(&self, port: PortId, address: IpAddr) -> Option<&Adjacency> {
        self.neighbors.get(port, address)
    }

    /// The directly connected hosts, in no particular order.
    pub fn neighbors(&self) -> impl Iterator<Item = (PortId, IpAddr, &Adjacency)> {
        self.neighbors.iter()
    }

    /// Bytes that this generation keeps from being freed and that its successor does not use.
    pub(crate) fn retained(&self, next: &Generation) -> usize {
        size_of::<Generation>()
            + next.trie_retired.saturating_sub(self.trie_retired) as usize
            + self.groups.not_in(&next.groups)
            + self.slots.not_in(&next.slots)
            + self.single_hop.not_in(&next.single_hop)
            + self.neighbors.not_in(&next.neighbors)
    }

    /// Bytes in use.
    pub fn memory(&self) -> Memory {
        Memory {
            tries: self.trie_bytes,
            groups: self.groups.memory()
                + self.slots.memory()
                + self.single_hop.memory()
                + self.neighbors.memory(),
        }
    }

    #[inline]
    fn roots(&self, vrf: VrfId) -> Option<Roots> {
        self.vrfs.get(vrf.0 as usize).copied().flatten()
    }

    #[inline]
    fn via(&self, next_hop: u32) -> Forward<'_> {
        let Some(slot) = self.slots.get(next_hop) else { return Forward::NoRoute };
        match (slot.next_hop.gateway, slot.next_hop.port) {
            (None, Some(port)) => Forward::Connected(port),
            _ if slot.adjacency.state == AdjacencyState::Reachable => Forward::Via(&slot.adjacency),
            _ => Forward::Incomplete { next_hop: &slot.next_hop },
        }
    }

    fn among(&self, many: &Many, flow_hash: u32) -> Forward<'_> {
        let at = |place: usize| many.members.get(place).map(|&next_hop| self.via(next_hop));
        let Some(wanted) = at(usize::from(many.buckets.pick(flow_hash))) else { return Forward::NoRoute };
        if !matches!(wanted, Forward::Incomplete { .. }) {
            return wanted;
        }
        self.instead(many, flow_hash).unwrap_or(wanted)
    }

    /// Selects a member for a flow whose own member is unreachable. A few other hashes are tried first, so that the flows of a failed
    /// member spread over all others instead of a single one; then any reachable member.
    #[cold]
    fn instead(&self, many: &Many, flow_hash: u32) -> Option<Forward<'_>> {
        let usable = |place: usize| {
            many.members
                .get(place)
                .map(|&next_hop| self.via(next_hop))
                .filter(|forward| !matches!(forward, Forward::Incomplete { .. }))
        };
        let draws = (1..=4u32).map(|draw| {
            let hash = (flow_hash ^ draw.wrapping_mul(0x85EB_CA6B)).wrapping_mul(0xC2B2_AE35).rotate_left(13);
            usize::from(many.buckets.pick(hash))
        });
        draws.chain(0..many.members.len()).find_map(usable)
    }

    /// Whether packets of a group may leave by this port: the question of a strict reverse-path check (RFC 3704 §2.2).
    pub fn leads_to(&self, group: GroupIndex, port: PortId) -> bool {
        let leads = |next_hop: &u32| {
            self.slots
                .get(*next_hop)
                .is_some_and(|slot| slot.next_hop.port.unwrap_or(slot.adjacency.port) == port)
        };
        match self.groups.get(group.0) {
            Some(Compiled::One(next_hop)) => leads(next_hop),
            Some(Compiled::Many(many)) => many.members.iter().any(leads),
            _ => false,
        }
    }
}

/// The destinations and results that both slices have.
#[inline]
fn pairs<'a, A>(dst: &'a [A], out: &'a mut [GroupIndex]) -> (&'a [A], &'a mut [GroupIndex]) {
    let count = dst.len().min(out.len());
    (&dst[..count], &mut out[..count])
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(audit) = self.audit.get() {
            audit.dropped();
        }
    }
}
