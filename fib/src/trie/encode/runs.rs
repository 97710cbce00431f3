//! Nodes of 64 or 256 slots: a bit where a run of equal values ends, a value for each run, that of the last run first.
//!
//! Ends rather than starts, so that shifting out the bits before a slot leaves the runs from there on: the CPU takes the shift distance
//! from the address as it is.

use super::super::block::{ELSEWHERE, TAG, handle};
use super::super::node::{Children, Node};
use super::super::shape::{Kind, Shape};
use super::Encoder;

/// Words before the values of a block of 64 slots.
const HEAD: usize = 2;
/// Words before the values of a block of 256 slots.
const LONG_HEAD: usize = 16;
/// Most words of a long block.
pub(super) const LONG_WORDS: usize = LONG_HEAD + 256;

/// Upper bound of words of a block of 64 slots with so many runs: for each a value of 4 bytes, or one of 2 and the word that it points to.
pub(super) fn words(runs: usize) -> usize {
    let runs = runs.min(64);
    HEAD + runs.div_ceil(2) + runs
}

/// Where runs end, a bit each, and their values, the last run's first.
struct Runs {
    ends: u64,
    values: [u32; 64],
    count: usize,
}

impl Runs {
    fn of(slots: &[u32; 64]) -> Runs {
        let mut runs = Runs { ends: 0, values: [0; 64], count: 0 };
        let mut after = slots[63] ^ 1;
        for (slot, &value) in slots.iter().enumerate().rev() {
            let ends = value != after;
            after = value;
            // Never past the last value: there is at most one for each of 64 slots.
            runs.values[runs.count & 63] = value;
            runs.count += usize::from(ends);
            runs.ends |= u64::from(ends) << slot;
        }
        runs
    }

    fn values(&self) -> &[u32] {
        self.values.get(..self.count).unwrap_or_default()
    }
}

impl Encoder {
    /// A node of 64 slots, narrow or wide.
    pub(super) fn short(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let slots = self.paint::<64>(shape, level, node);
        let runs = Runs::of(&slots);
        self.release(shape, level, node);
        (node.leaf, node.words) = match runs.values() {
            [group] if group & TAG == 0 => (self.uniform(shape, level, *group), 0),
            values => self.runs_block(shape.kind(level), runs.ends, values),
        };
    }

    pub(super) fn long(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let slots = self.paint::<256>(shape, level, node);
        self.release(shape, level, node);
        if slots.iter().all(|value| *value == slots[0]) {
            (node.leaf, node.words) = (slots[0], 0);
            return;
        }
        let mut words = [0; LONG_WORDS];
        let mut count = LONG_HEAD;
        for (place, slots) in slots.as_chunks().0.iter().enumerate() {
            let runs = Runs::of(slots);
            let head = [runs.ends as u32, (runs.ends >> 32) as u32, count as u32 - 1, 0];
            words[place * 4..place * 4 + 4].copy_from_slice(&head);
            words[count..count + runs.count].copy_from_slice(runs.values());
            count += runs.count;
        }
        let place = self.arena.alloc(count, |new| new[..count].copy_from_slice(&words[..count]));
        (node.leaf, node.words) = (handle(place), count as u32);
    }

    /// The block of a node of 64 slots: its offset and size in words.
    pub(super) fn runs_block(&mut self, kind: Kind, ends: u64, values: &[u32]) -> (u32, u32) {
        match kind {
            Kind::Narrow => self.narrow_block(ends, values),
            _ => self.wide_block(ends, values),
        }
    }

    /// A block with values of 2 bytes: its offset and size in words.
    fn narrow_block(&mut self, ends: u64, values: &[u32]) -> (u32, u32) {
        let mut words = [0u32; HEAD + 32 + 64];
        (words[0], words[1]) = (ends as u32, (ends >> 32) as u32);
        let mut end = HEAD + values.len().div_ceil(2);
        for (place, &value) in values.iter().enumerate() {
            let short = if value < ELSEWHERE {
                value
            } else {
                words[end] = value;
                end += 1;
                ELSEWHERE | (end as u32 - 1)
            };
            words[HEAD + place / 2] |= short << (place % 2 * 16);
        }
        let place = self.arena.alloc(end, |new| new[..end].copy_from_slice(&words[..end]));
        (place, end as u32)
    }

    /// A block with values of 4 bytes: its offset and size in words.
    fn wide_block(&mut self, ends: u64, values: &[u32]) -> (u32, u32) {
        let end = HEAD + values.len();
        let place = self.arena.alloc(end, |new| {
            (new[0], new[1]) = (ends as u32, (ends >> 32) as u32);
            new[HEAD..end].copy_from_slice(values);
        });
        (place, end as u32)
    }

    /// The word of each slot; encodes children where needed.
    fn paint<const SLOTS: usize>(&mut self, shape: &Shape, level: usize, node: &mut Node) -> [u32; SLOTS] {
        let mut painted = [node.cover; SLOTS];
        for entry in &node.entries {
            let first = entry.slot() as usize;
            let end = first + (SLOTS >> entry.len());
            if let Some(part) = painted.get_mut(first..end) {
                part.fill(entry.group());
            }
        }
        let Children::Sparse(list) = &mut node.children else { return painted };
        list.retain_mut(|(slot, child)| {
            let Some(word) = painted.get_mut(*slot as usize) else { return true };
            if child.is_dirty() || child.cover != *word {
                self.encode(shape, level + 1, child, *word);
            }
            if child.is_empty() {
                self.discard(shape, level + 1, child);
                return false;
            }
            *word = child.leaf;
            true
        });
        painted
    }
}
