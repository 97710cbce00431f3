//! Dense nodes: the offset of a block for each slot, copied with the changes.

use super::super::arena::Demand;
use super::super::node::Node;
use super::super::shape::{Kind, Shape};
use super::{Encoder, runs};

/// Adds a node's block, and uniform ones for slots that changed entries cover or uncover, or that a removed child leaves.
pub(super) fn demand(shape: &Shape, level: usize, node: &Node, demand: &mut Demand) {
    demand.add(1 << shape.width(level), 1);
    let covered = node.cover != 0 || !node.entries.is_empty();
    let uniform = 2 * node.dirty.len() + usize::from(covered);
    for below in shape.levels.iter().skip(level + 1).take_while(|level| level.kind == Kind::Dense) {
        demand.add(1 << below.width, uniform);
    }
    demand.add(runs::words(1), uniform);
}

impl Encoder {
    pub(super) fn dense(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let width = shape.width(level);
        let slots = 1u32 << width;
        let mut covers = node.parts.take().unwrap_or_else(|| vec![0; slots as usize].into());
        let mut touched = std::mem::take(&mut node.dirty_children);
        if node.fresh {
            touched = (0..slots).collect();
            repaint(node, &mut covers, 0, slots, width, &mut Vec::new());
        } else {
            for (slot, len) in std::mem::take(&mut node.dirty) {
                repaint(node, &mut covers, slot, slot + (slots >> len), width, &mut touched);
            }
        }
        let mut updates = Vec::with_capacity(touched.len());
        for (at, &slot) in touched.iter().enumerate() {
            node.fetch_children(&touched, at);
            let cover = covers.get(slot as usize).copied().unwrap_or_default();
            let mut place = None;
            if let Some(child) = node.child_mut(slot) {
                if child.is_dirty() || child.cover != cover {
                    self.encode(shape, level + 1, child, cover);
                }
                if child.is_empty() {
                    self.discard(shape, level + 1, child);
                    node.remove_child(slot);
                } else {
                    place = Some(child.leaf);
                }
            }
            let place = place.unwrap_or_else(|| self.uniform(shape, level + 1, cover));
            updates.push((slot, place));
        }
        node.parts = Some(covers);
        let before = (node.leaf, node.words as usize);
        let place = self.arena.alloc_copy(slots as usize, before, |new| {
            for (slot, place) in updates {
                if let Some(word) = new.get_mut(slot as usize) {
                    *word = place;
                }
            }
        });
        self.release(shape, level, node);
        node.leaf = place;
        node.words = slots;
    }

    /// The block for a dense slot that one group covers entirely.
    pub(super) fn uniform(&mut self, shape: &Shape, level: usize, group: u32) -> u32 {
        if group == 0 {
            return 0;
        }
        let bottom = shape.levels.iter().map(|level| level.kind).find(|kind| *kind != Kind::Dense);
        let key = (bottom.unwrap_or(Kind::Wide), level, group);
        if let Some(&(place, _)) = self.uniform.get(&key) {
            return place;
        }
        let block = match shape.kind(level) {
            Kind::Dense => {
                let below = self.uniform(shape, level + 1, group);
                let words = 1 << shape.width(level);
                (self.arena.alloc(words, |new| new.fill(below)), words as u32)
            }
            kind => self.runs_block(kind, 1 << 63, &[group]),
        };
        self.uniform.insert(key, block);
        block.0
    }
}

/// Writes the groups that cover `first..end` of a dense node without its children; lists slots that changed.
fn repaint(node: &Node, covers: &mut [u32], first: u32, end: u32, width: u8, changed: &mut Vec<u32>) {
    let len = width - (end - first).trailing_zeros() as u8;
    let cover = node.covering(first, len, width).map_or(node.cover, |(_, group)| group);
    let mut new = vec![cover; (end - first) as usize];
    for entry in node.entries.get(node.first_at(first)..).unwrap_or_default() {
        if entry.slot() >= end {
            break;
        }
        let from = (entry.slot() - first) as usize;
        let upto = (from + (1usize << (width - entry.len()))).min(new.len());
        if let Some(part) = new.get_mut(from..upto) {
            part.fill(entry.group());
        }
    }
    let Some(covers) = covers.get_mut(first as usize..end as usize) else { return };
    for ((slot, old), new) in (first..).zip(covers).zip(new) {
        if *old != new {
            *old = new;
            changed.push(slot);
        }
    }
}
