//! From the control side's tree to blocks that workers read: only what a batch touched is written anew.
//!
//! | block | covers | holds |
//! |---|---|---|
//! | dense | 14 bits (IPv4 root) or 12 (IPv6 root and pages) | a handle per slot |
//! | rank | 10 bits (IPv4 /14 to /24) or 8 | per 64 slots: bits where a run starts, and where its values begin; values |
//! | line | 16 bits, at most 11 runs | 10 sorted starts, 11 values: one cache line |
//! | lines | 16 bits, at most 363 runs | a line of separators, then up to 33 of the above |
//!
//! A value is a group, or a tagged handle of a block for the bits that follow. A covering route is written into every
//! run that it is the longest match of, so that a lookup never goes back up. Where nothing but one group covers the
//! whole of a dense slot, all such slots share one uniform block. The default route is no part of this: a lookup
//! that yields 0 takes it at the end, so that it can flap without a block being touched.

use hashbrown::HashMap;

use super::arena::{Arena, Blocks, LINE};
use super::node::{Children, Node, Shape};

/// Marks a value as the handle of a rank block.
pub(crate) const RANK: u32 = 0x8000_0000;
/// Marks a value as the handle of a line block.
pub(crate) const ONE_LINE: u32 = 0xA000_0000;
/// Marks a value as the handle of a lines block.
pub(crate) const LINES: u32 = 0xC000_0000;
/// The handle in a tagged value.
pub(crate) const HANDLE: u32 = 0x1FFF_FFFF;
/// Runs that fit in one line.
const LINE_RUNS: usize = 11;
/// Runs that fit below one line of separators.
const LINES_RUNS: usize = 33 * LINE_RUNS;
/// Below this many entries a node in two steps goes back to lines.
const FEW: usize = 100;
/// A start that no slot is behind.
const NEVER: u16 = 0x7FFF;

/// Writes blocks; knows the uniform ones.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) arena: Arena,
    /// By words per dense slot's block (its kind) and group.
    uniform: HashMap<(usize, u32), u32>,
}

/// A run of slots with one value: first slot, value.
type Run = (u32, u32);

impl Encoder {
    pub(crate) fn new(arena: Arena) -> Self {
        Encoder { arena, uniform: HashMap::new() }
    }

    /// Lines that `encode` may need at most.
    pub(crate) fn need(&self, shape: &Shape, level: usize, node: &Node, all: bool) -> usize {
        if !all && !node.is_dirty() {
            return 0;
        }
        let all = all || node.fresh || !node.dirty.is_empty();
        let below: usize = match &node.children {
            Children::Dense(slots) if all => {
                slots.iter().flatten().map(|child| self.need(shape, level + 1, child, true)).sum()
            }
            Children::Sparse(list) if all => {
                list.iter().map(|(_, child)| self.need(shape, level + 1, child, true)).sum()
            }
            _ => node
                .dirty_children
                .iter()
                .filter_map(|&slot| node.child(slot))
                .map(|child| self.need(shape, level + 1, child, false))
                .sum(),
        };
        let width = shape.widths.get(level).copied().unwrap_or_default();
        let slots = 1usize << width;
        let own = match self.kind(shape, level) {
            // The block, and uniform ones for what the changed entries cover or uncover.
            Kind::Dense => slots / LINE + node.dirty.len().min(slots) * 2 * 264 + 264,
            Kind::Rank => (slots / 16 + slots).div_ceil(LINE) + 4,
            Kind::Deep => {
                let children = match &node.children {
                    Children::Sparse(list) => list.len(),
                    Children::Dense(_) => 0,
                };
                let runs = 2 * (node.entries.len() + children) + 1;
                let two_steps = if runs > LINES_RUNS / 2 { 24 + 256 * 5 } else { 0 };
                (runs / LINE_RUNS + 2).next_multiple_of(4) + two_steps
            }
        };
        own + below
    }

    fn kind(&self, shape: &Shape, level: usize) -> Kind {
        if level < shape.dense {
            Kind::Dense
        } else if shape.widths.get(level) == Some(&16) {
            Kind::Deep
        } else {
            Kind::Rank
        }
    }

    /// Brings a node's blocks, and those below it, up to date. Its value is in `node.leaf` afterwards.
    pub(crate) fn encode(&mut self, shape: &Shape, level: usize, node: &mut Node, cover: u32) {
        if node.cover != cover {
            node.cover = cover;
            node.fresh = true;
        }
        match self.kind(shape, level) {
            Kind::Dense => self.dense(shape, level, node),
            Kind::Rank => self.rank(shape, level, node),
            Kind::Deep => self.deep(shape, level, node),
        }
        node.dirty.clear();
        node.dirty_children.clear();
        node.fresh = false;
        node.listed = false;
    }

    fn dense(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let width = shape.widths.get(level).copied().unwrap_or_default();
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
        for slot in touched {
            let cover = covers.get(slot as usize).copied().unwrap_or_default();
            let mut value = None;
            if let Some(child) = node.child_mut(slot) {
                if child.is_dirty() || child.cover != cover {
                    self.encode(shape, level + 1, child, cover);
                }
                if child.is_empty() {
                    self.discard(child);
                    node.remove_child(slot);
                } else {
                    value = Some(child.leaf);
                }
            }
            let value = value.unwrap_or_else(|| self.uniform(shape, level + 1, cover));
            updates.push((slot, value));
        }
        node.parts = Some(covers);
        let old = (node.leaf as usize, node.words as usize);
        let line = self.arena.alloc(slots as usize, |new, _, blocks| {
            match old.1 {
                0 => new.fill(0),
                words => new.copy_from_slice(blocks.words(old.0 * LINE, words)),
            }
            for (slot, value) in updates {
                if let Some(word) = new.get_mut(slot as usize) {
                    *word = value;
                }
            }
        });
        self.arena.retire(node.leaf, if node.words == 0 { 0 } else { slots as usize });
        node.leaf = line;
        node.words = slots;
    }

    /// The block for a dense slot that one group covers from end to end.
    fn uniform(&mut self, shape: &Shape, level: usize, group: u32) -> u32 {
        if group == 0 {
            return 0;
        }
        let width = shape.widths.get(level).copied().unwrap_or_default();
        let slots = 1usize << width;
        if let Some(&line) = self.uniform.get(&(slots, group)) {
            return line;
        }
        let line = if level < shape.dense {
            let below = self.uniform(shape, level + 1, group);
            self.arena.alloc(slots, |new, _, _| new.fill(below))
        } else {
            let words = slots / 64;
            self.arena.alloc(words * 4 + 1, |new, line, _| {
                let value_at = line as usize * LINE + words * 4;
                for word in new.chunks_exact_mut(4).take(words) {
                    word.copy_from_slice(&[1, 0, value_at as u32 - 1, 0]);
                }
                if let Some(value) = new.get_mut(words * 4) {
                    *value = group;
                }
            })
        };
        self.uniform.insert((slots, group), line);
        line
    }

    fn rank(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let width = shape.widths.get(level).copied().unwrap_or_default();
        let words = 1usize << (width - 6);
        let below_dense = level == shape.dense;
        let mut stale = 0u32;
        if node.fresh {
            stale = u32::MAX;
        }
        for &(slot, len) in &node.dirty {
            let last = slot + (1 << (width - len)) - 1;
            (slot >> 6..=last >> 6).for_each(|word| stale |= 1 << word);
        }
        node.dirty_children.iter().for_each(|slot| stale |= 1 << (slot >> 6));

        let mut starts = [0u64; 16];
        let mut values = [0u32; 1024 + 64];
        let mut count = 0;
        let old = if node.words == 0 { None } else { Some((node.leaf & HANDLE) as usize * LINE) };
        for (word, start) in starts.iter_mut().enumerate().take(words) {
            if let (Some(old), 0) = (old, stale >> word & 1) {
                let head = self.arena.blocks().words(old + word * 4, 4);
                let bits = u64::from(head[0]) | u64::from(head[1]) << 32;
                let runs = bits.count_ones() as usize;
                let from = self.arena.blocks().words(head[2] as usize + 1, runs);
                values[count..count + runs].copy_from_slice(from);
                *start = bits;
                count += runs;
                continue;
            }
            let painted = self.paint(shape, level, node, word as u32 * 64);
            let mut bits = 1u64;
            values[count] = painted[0];
            count += 1;
            for slot in 1..64 {
                let starts_here = painted[slot] != painted[slot - 1];
                values[count] = painted[slot];
                count += usize::from(starts_here);
                bits |= u64::from(starts_here) << slot;
            }
            *start = bits;
        }
        let values = &values[..count];
        let one = count == words && values.iter().all(|&value| value == values[0]) && values[0] & RANK == 0;
        self.release(node);
        if one {
            node.words = 0;
            node.leaf = if below_dense { self.uniform(shape, level, values[0]) } else { values[0] };
            return;
        }
        let line = self.rank_block(&starts[..words], values);
        node.words = (words * 4 + count) as u32;
        node.leaf = if below_dense { line } else { RANK | line };
    }

    fn rank_block(&mut self, starts: &[u64], values: &[u32]) -> u32 {
        let heads = starts.len() * 4;
        self.arena.alloc(heads + values.len(), |new, line, _| {
            let mut before = (line as usize * LINE + heads) as u32 - 1;
            for (head, &bits) in new.chunks_exact_mut(4).zip(starts) {
                head.copy_from_slice(&[bits as u32, (bits >> 32) as u32, before, 0]);
                before += bits.count_ones();
            }
            if let Some(place) = new.get_mut(heads..heads + values.len()) {
                place.copy_from_slice(values);
            }
        })
    }

    /// The values of 64 slots of a rank node, children encoded where they must be.
    fn paint(&mut self, shape: &Shape, level: usize, node: &mut Node, base: u32) -> [u32; 64] {
        let width = shape.widths.get(level).copied().unwrap_or_default();
        let cover = node.covering(base, width - 6, width).map_or(node.cover, |(_, group)| group);
        let mut painted = [cover; 64];
        for entry in node.entries.get(node.first_at(base)..).unwrap_or_default() {
            if entry.slot() >= base + 64 {
                break;
            }
            let first = (entry.slot() - base) as usize;
            let end = (first + (1usize << (width - entry.len()))).min(64);
            painted[first..end].fill(entry.group());
        }
        let Children::Sparse(list) = &mut node.children else { return painted };
        let mut place = list.partition_point(|(slot, _)| *slot < base);
        while let Some((slot, child)) = list.get_mut(place).filter(|(slot, _)| *slot < base + 64) {
            let value = &mut painted[(*slot - base) as usize];
            if child.is_dirty() || child.cover != *value {
                self.encode(shape, level + 1, child, *value);
            }
            if child.is_empty() {
                self.discard(child);
                list.remove(place);
                continue;
            }
            *value = child.leaf;
            place += 1;
        }
        painted
    }

    fn deep(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        let few = node.entries.len() < FEW;
        if few || node.parts.is_none() {
            let runs = self.sweep(shape, level, node, 0, 1 << 16);
            self.release(node);
            self.release_parts(node);
            if runs.len() <= LINES_RUNS {
                (node.leaf, node.words) = self.lines(&runs);
                return;
            }
            node.parts = Some(vec![0; 256].into());
            node.fresh = true;
        }
        let mut stale = [node.fresh; 256];
        for &(slot, len) in &node.dirty {
            let last = slot + (1 << (16 - len)) - 1;
            stale[(slot >> 8) as usize..=(last >> 8) as usize].fill(true);
        }
        node.dirty_children.iter().for_each(|slot| stale[(slot >> 8) as usize] = true);
        let mut parts = node.parts.take().unwrap_or_default();
        for ((part, stale), first) in parts.iter_mut().zip(stale).zip((0..).step_by(256)) {
            if stale {
                let runs = self.sweep(shape, level, node, first, first + 256);
                self.retire_lines(*part);
                *part = self.lines(&runs).0;
            }
        }
        let mut starts = [0u64; 4];
        let mut values = Vec::with_capacity(256);
        for (bits, parts) in starts.iter_mut().zip(parts.chunks_exact(64)) {
            let mut last = None;
            for (slot, &part) in parts.iter().enumerate() {
                if last != Some(part) {
                    *bits |= 1 << slot;
                    values.push(part);
                    last = Some(part);
                }
            }
        }
        self.release(node);
        node.leaf = RANK | self.rank_block(&starts, &values);
        node.words = (16 + values.len()) as u32;
        node.parts = Some(parts);
    }

    /// The runs of slots `first..end` of a node, children encoded where they must be.
    fn sweep(&mut self, shape: &Shape, level: usize, node: &mut Node, first: u32, end: u32) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut emit = |slot: u32, value: u32| {
            if slot >= end {
                return;
            }
            if runs.last().is_some_and(|run| run.0 == slot) {
                runs.pop();
            }
            if runs.last().is_none_or(|run| run.1 != value) {
                runs.push((slot, value));
            }
        };
        // What lies open at the slot reached: ends and values, innermost last.
        let cover = if first == 0 && end == 1 << 16 { None } else { node.covering(first, 8, 16) };
        let mut open = vec![(end, cover.map_or(node.cover, |(_, group)| group))];
        emit(first, open[0].1);
        let close = |open: &mut Vec<(u32, u32)>, upto: u32, emit: &mut dyn FnMut(u32, u32)| {
            while let [.., below, top] = open.as_slice()
                && top.0 <= upto
            {
                emit(top.0, below.1);
                open.pop();
            }
        };
        let at = node.first_at(first);
        let mut entries = node.entries.get(at..).unwrap_or_default().iter().copied().peekable();
        let Children::Sparse(list) = &mut node.children else { return runs };
        let mut place = list.partition_point(|(slot, _)| *slot < first);
        loop {
            let child_slot = list.get(place).map(|(slot, _)| *slot).filter(|&slot| slot < end);
            let next = entries
                .next_if(|entry| entry.slot() < end && child_slot.is_none_or(|slot| entry.slot() <= slot));
            if let Some(entry) = next {
                close(&mut open, entry.slot(), &mut emit);
                emit(entry.slot(), entry.group());
                open.push(((entry.slot() + (1 << (16 - entry.len()))).min(end), entry.group()));
            } else if let Some((slot, child)) = list.get_mut(place).filter(|(slot, _)| *slot < end) {
                let slot = *slot;
                close(&mut open, slot, &mut emit);
                let cover = open.last().map_or(0, |top| top.1);
                if child.is_dirty() || child.cover != cover {
                    self.encode(shape, level + 1, child, cover);
                }
                if child.is_empty() {
                    self.discard(child);
                    list.remove(place);
                    continue;
                }
                emit(slot, child.leaf);
                emit(slot + 1, cover);
                place += 1;
            } else {
                break;
            }
        }
        close(&mut open, end, &mut emit);
        runs
    }

    /// Blocks for runs that cover a node from end to end; returns the value and its words.
    fn lines(&mut self, runs: &[Run]) -> (u32, u32) {
        match runs {
            [] => (0, 0),
            [(_, value)] => (*value, 0),
            _ if runs.len() <= LINE_RUNS => {
                let line = self.arena.alloc(LINE, |new, _, _| write_line(new, runs));
                (ONE_LINE | line, LINE as u32)
            }
            _ => {
                let words = (1 + runs.len().div_ceil(LINE_RUNS)) * LINE;
                let line = self.arena.alloc(words, |new, _, _| {
                    let (index, rest) = new.split_at_mut(LINE);
                    let firsts = runs.chunks(LINE_RUNS).skip(1).filter_map(|runs| runs.first());
                    write_starts(index, firsts.map(|run| run.0), 32);
                    for (line, runs) in rest.chunks_exact_mut(LINE).zip(runs.chunks(LINE_RUNS)) {
                        write_line(line, runs);
                    }
                });
                (LINES | line, words as u32)
            }
        }
    }

    /// Retires the blocks of a node that is about to be dropped, or encoded anew.
    fn discard(&mut self, node: &mut Node) {
        self.release(node);
        if node.parts.as_ref().is_some_and(|parts| parts.len() == 256) {
            self.release_parts(node);
        }
    }

    fn release(&mut self, node: &mut Node) {
        if node.words > 0 {
            self.arena.retire(node.leaf & HANDLE, node.words as usize);
        }
        node.words = 0;
    }

    fn release_parts(&mut self, node: &mut Node) {
        for part in node.parts.take().unwrap_or_default() {
            self.retire_lines(part);
        }
    }

    fn retire_lines(&mut self, value: u32) {
        let words = lines_words(self.arena.blocks(), value);
        if words > 0 {
            self.arena.retire(value & HANDLE, words);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Dense,
    Rank,
    Deep,
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
        new[from..upto].fill(entry.group());
    }
    let Some(covers) = covers.get_mut(first as usize..end as usize) else { return };
    for ((slot, old), new) in (first..).zip(covers).zip(new) {
        if *old != new {
            *old = new;
            changed.push(slot);
        }
    }
}

/// Words of a line or lines block behind a tagged value; 0 for a group.
fn lines_words(blocks: Blocks<'_>, value: u32) -> usize {
    match value & !HANDLE {
        ONE_LINE => LINE,
        LINES => {
            let index = blocks.words((value & HANDLE) as usize * LINE, LINE);
            let halves = index.iter().flat_map(|word| [*word as u16, (*word >> 16) as u16]);
            (2 + halves.filter(|&start| start != NEVER).count()) * LINE
        }
        _ => 0,
    }
}

/// Starts as a signed compare wants them: "is the slot greater than this" for the slot with its highest bit flipped.
fn write_starts(words: &mut [u32], starts: impl Iterator<Item = u32>, room: usize) {
    let mut starts = starts.map(|start| (start.wrapping_sub(1) as u16) ^ 0x8000);
    for word in words.iter_mut().take(room / 2) {
        let low = starts.next().unwrap_or(NEVER);
        let high = starts.next().unwrap_or(NEVER);
        *word = u32::from(low) | u32::from(high) << 16;
    }
}

fn write_line(line: &mut [u32], runs: &[Run]) {
    write_starts(line, runs.iter().skip(1).map(|run| run.0), LINE_RUNS - 1);
    for (word, run) in line.iter_mut().skip(5).zip(runs) {
        *word = run.1;
    }
}
