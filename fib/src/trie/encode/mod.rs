//! Encodes the control side's tree into the blocks that workers read. Only what a batch touched is rewritten.
//!
//! | block | covers | holds |
//! |---|---|---|
//! | dense | 8 or 10 bits | the offset of a block for each slot |
//! | narrow | 6 bits (IPv4 /18 to /24) | 64 bits where a run ends, a value of 2 bytes for each run, the last first: mostly one cache line |
//! | wide | 6 bits (IPv6 /26 to /32) | the same with values of 4 bytes |
//! | long | 8 bits (IPv4 /24 to /32) | for each 64 slots such bits and where their values begin, then values of 4 bytes |
//! | line | 16 bits, at most 16 runs | 15 sorted starts and 16 values of 2 bytes: one cache line |
//! | lines | 16 bits, at most 528 runs | a line of separators, then up to 33 of the above |
//! | table | 16 bits | a word for each of its 256 parts, all of them line or lines |
//!
//! A word is a group, or a tagged handle (offset / 64) of a block for the following bits. A value of 2 bytes is a group below 2^15, or the
//! index of the word inside its block (or line). A covering route is written into every run that it is the longest match of, so a lookup
//! never backtracks. Dense slots that one group covers entirely share one uniform block. The default route is not part of the blocks: a
//! lookup that yields 0 takes it at the end, so it can flap without touching a block.

mod deep;
mod dense;
mod runs;

use hashbrown::HashMap;

use super::arena::{Arena, Demand};
use super::node::{Children, Node};
use super::shape::{Kind, Shape};

/// Marks a word as a handle.
pub(crate) const TAG: u32 = 0x8000_0000;
/// With [`TAG`]: of a table.
pub(crate) const TABLE: u32 = 0x4000_0000;
/// With [`TAG`]: of lines.
pub(crate) const LINES: u32 = 0x2000_0000;
/// The handle in a tagged word.
pub(crate) const HANDLE: u32 = 0x1FFF_FFFF;
/// Marks a value of 2 bytes as the index of a word; values below are groups.
pub(crate) const ELSEWHERE: u32 = 0x8000;

/// Writes blocks; holds the uniform ones.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) arena: Arena,
    /// By the kind of their content, level and group.
    uniform: HashMap<(Kind, usize, u32), u32>,
}

/// The tagged word for a block.
fn handle(place: u32) -> u32 {
    TAG | (place / 64)
}

/// The offset of a tagged word's block.
fn place(word: u32) -> u32 {
    (word & HANDLE) * 64
}

impl Encoder {
    pub(crate) fn new(arena: Arena) -> Self {
        Encoder { arena, uniform: HashMap::new() }
    }

    /// Adds the blocks that `encode` may allocate.
    pub(crate) fn demand(&self, shape: &Shape, level: usize, node: &Node, all: bool, demand: &mut Demand) {
        if !all && !node.is_dirty() {
            return;
        }
        let all = all || node.fresh || !node.dirty.is_empty();
        let mut children = 0;
        match &node.children {
            Children::Dense(slots) if all => {
                slots.iter().flatten().for_each(|child| self.demand(shape, level + 1, child, true, demand));
            }
            Children::Sparse(list) if all => {
                list.iter().for_each(|(_, child)| self.demand(shape, level + 1, child, true, demand));
            }
            _ => {
                let dirty = node.dirty_children.iter().filter_map(|&slot| node.child(slot));
                dirty.for_each(|child| self.demand(shape, level + 1, child, false, demand));
            }
        }
        if let Children::Sparse(list) = &node.children {
            children = list.len();
        }
        let runs = 2 * (node.entries.len() + children) + 1;
        match shape.kind(level) {
            Kind::Dense => dense::demand(shape, level, node, demand),
            Kind::Narrow | Kind::Wide => demand.add(runs::words(runs), 1),
            Kind::Long => demand.add(runs::LONG_WORDS, 1),
            Kind::Deep => deep::demand(runs, demand),
        }
    }

    /// Encodes a node and its descendants where they changed. The value for the parent's block is in `node.leaf` afterwards.
    pub(crate) fn encode(&mut self, shape: &Shape, level: usize, node: &mut Node, cover: u32) {
        if node.cover != cover {
            node.cover = cover;
            node.fresh = true;
        }
        match shape.kind(level) {
            Kind::Dense => self.dense(shape, level, node),
            Kind::Narrow | Kind::Wide => self.short(shape, level, node),
            Kind::Long => self.long(shape, level, node),
            Kind::Deep => self.deep(shape, level, node),
        }
        node.dirty.clear();
        node.dirty_children.clear();
        node.fresh = false;
        node.listed = false;
    }

    /// Retires the blocks of a node that is about to be dropped.
    fn discard(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        self.release(shape, level, node);
        if shape.kind(level) == Kind::Deep {
            self.release_parts(node);
        }
    }

    /// Retires a node's own block, which is about to be rewritten.
    fn release(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        if node.words > 0 {
            let place = match shape.kind(level) {
                Kind::Dense | Kind::Narrow | Kind::Wide => node.leaf,
                Kind::Long | Kind::Deep => place(node.leaf),
            };
            self.arena.retire(place, node.words as usize);
        }
        node.words = 0;
    }
}
