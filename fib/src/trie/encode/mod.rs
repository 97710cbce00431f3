//! Encodes the control side's tree into the blocks that workers read ([`super::block`]). Only what a batch touched is rewritten.

mod deep;
mod dense;
mod runs;

use hashbrown::HashMap;

use super::arena::{Arena, Demand};
use super::block::place;
use super::node::{Children, Node};
use super::shape::{Kind, Shape};

/// Writes blocks; holds the uniform ones.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) arena: Arena,
    /// Offset and size in words, by the kind of their content, level and group.
    uniform: HashMap<(Kind, usize, u32), (u32, u32)>,
}

impl Encoder {
    pub(crate) fn new(arena: Arena) -> Self {
        Encoder { arena, uniform: HashMap::new() }
    }

    /// Adds the blocks that take the place of the uniform ones.
    pub(crate) fn demand_uniform(&self, demand: &mut Demand) {
        self.uniform.values().for_each(|&(_, words)| demand.add((words as usize).max(runs::words(1)), 1));
    }

    /// Forgets the uniform blocks, which tries still use; pass them to [`Encoder::retire_uniform`] when they no longer do.
    pub(crate) fn take_uniform(&mut self) -> Vec<(u32, u32)> {
        self.uniform.drain().map(|(_, block)| block).collect()
    }

    /// Retires uniform blocks.
    pub(crate) fn retire_uniform(&mut self, blocks: Vec<(u32, u32)>) {
        blocks.into_iter().for_each(|(place, words)| self.arena.retire(place, words as usize));
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
