//! The tries of a VRF: the control side's tree of all routes, and the blocks made from it that workers read.
//!
//! [`shape`] defines the bits of each level, [`node`] is the tree, [`encode`] makes blocks of what changed, [`arena`] is their memory,
//! [`kernel`] reads them, and [`extent`] does for the scrubber. This is the only module of the crate with `unsafe`: a 4-byte handle instead of an 8-byte counted pointer keeps
//! the lookup in the caches and the copy of a root at a few microseconds (figures in the README).
#![allow(unsafe_code)]

pub(crate) mod arena;
mod block;
mod encode;
mod extent;
mod kernel;
mod node;
mod shape;

use arena::Region;
pub(crate) use arena::{Arena, Demand, Snapshot};
pub(crate) use encode::Encoder;
pub(crate) use extent::Run;
pub(crate) use kernel::Kernel;
use kernel::View;
use node::Node;
pub(crate) use shape::{Shape, V4, V6};

use crate::types::GroupIndex;

/// All routes of one family in one VRF. Prefixes are left-aligned in 128 bits.
#[derive(Debug)]
pub(crate) struct Family {
    shape: &'static Shape,
    /// Group of the default route, which is not part of the tree.
    default: u32,
    root: Node,
    count: usize,
}

/// What a generation holds of a family.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Root {
    place: u32,
    default: u32,
}

impl Family {
    pub(crate) fn new(shape: &'static Shape) -> Self {
        Family { shape, default: 0, root: Node::new(shape, 0), count: 0 }
    }

    /// Points a prefix to a group (`NO_ROUTE` removes it); returns the previous group.
    pub(crate) fn set(&mut self, bits: u128, len: u8, group: GroupIndex) -> GroupIndex {
        let before = match len {
            0 => std::mem::replace(&mut self.default, group.0),
            _ => self.root.set(self.shape, 0, 0, bits, len, group.0),
        };
        self.count += usize::from(before == 0 && group.0 != 0);
        self.count -= usize::from(before != 0 && group.0 == 0);
        GroupIndex(before)
    }

    /// Prefetches what [`Family::set`] will read.
    pub(crate) fn fetch(&self, bits: u128, len: u8) {
        self.root.fetch_path(self.shape, bits, len);
    }

    pub(crate) fn get(&self, bits: u128, len: u8) -> Option<GroupIndex> {
        match len {
            0 => (self.default != 0).then_some(GroupIndex(self.default)),
            _ => self.root.exact(self.shape, bits, len).map(GroupIndex),
        }
    }

    pub(crate) fn longest(&self, bits: u128) -> Option<(u8, GroupIndex)> {
        let default = (self.default != 0).then_some((0, self.default));
        self.root.longest(self.shape, bits).or(default).map(|(len, group)| (len, GroupIndex(group)))
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Up to `limit` prefixes in order, starting at (`bits`, `len`).
    pub(crate) fn page(&self, from: (u128, u8), limit: usize) -> Vec<(u128, u8, GroupIndex)> {
        let mut found = Vec::new();
        if from == (0, 0) && self.default != 0 {
            found.push((0, 0, self.default));
        }
        self.root.page(self.shape, from, limit, &mut found);
        found.into_iter().map(|(bits, len, group)| (bits, len, GroupIndex(group))).collect()
    }

    /// Adds the blocks that [`Family::encode`] may allocate.
    pub(crate) fn demand(&self, encoder: &Encoder, demand: &mut Demand) {
        if !self.is_clean() {
            encoder.demand(self.shape, 0, &self.root, false, demand);
        }
    }

    /// Encodes the changed nodes.
    pub(crate) fn encode(&mut self, encoder: &mut Encoder) {
        if !self.is_clean() {
            encoder.encode(self.shape, 0, &mut self.root, 0);
        }
    }

    /// Bits of an address.
    pub(crate) fn width(&self) -> u8 {
        self.shape.levels.iter().map(|level| level.width).sum()
    }

    /// The last address, left-aligned.
    pub(crate) fn last(&self) -> u128 {
        u128::MAX << (128 - u32::from(self.width()))
    }

    /// Marks all nodes, so that [`Family::encode`] writes every block.
    pub(crate) fn refresh(&mut self) {
        if self.root.words > 0 {
            self.root.refresh();
        }
    }

    /// Discards the record of changes after a roll-back.
    pub(crate) fn settle(&mut self) {
        let made = self.root.words > 0;
        self.root.settle();
        self.root.fresh = !made;
    }

    fn is_clean(&self) -> bool {
        !self.root.is_dirty()
            || (self.root.words == 0 && self.root.dirty.is_empty() && self.root.dirty_children.is_empty())
    }

    pub(crate) fn root(&self) -> Root {
        Root { place: self.root.leaf, default: self.default }
    }

    pub(crate) fn memory(&self) -> usize {
        self.root.memory()
    }
}

impl Root {
    pub(crate) fn lookup_v4(self, snapshot: &Snapshot, kernel: Kernel, dst: &[u32], out: &mut [GroupIndex]) {
        // SAFETY: the snapshot keeps the blocks that this IPv4 root reaches; the kernel was chosen for this CPU.
        unsafe { (kernel.v4)(self.view(&snapshot.region), dst, out) }
    }

    pub(crate) fn lookup_v6(self, snapshot: &Snapshot, kernel: Kernel, dst: &[u128], out: &mut [GroupIndex]) {
        // SAFETY: the snapshot keeps the blocks that this IPv6 root reaches; the kernel was chosen for this CPU.
        unsafe { (kernel.v6)(self.view(&snapshot.region), dst, out) }
    }

    fn view(self, region: &Region) -> View {
        View { base: region.base(), root: self.place, default: self.default }
    }
}
