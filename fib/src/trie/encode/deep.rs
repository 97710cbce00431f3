//! Nodes of 16 bits: sorted starts of runs and their values, in lines that one wide compare searches.

use super::super::arena::{Demand, LINE};
use super::super::block::{ELSEWHERE, LINES, TABLE, TAG, handle, place};
use super::super::node::{Children, Node};
use super::super::shape::Shape;
use super::Encoder;

/// Runs in a line: 15 starts, one that never matches, 16 values.
const LINE_RUNS: usize = 16;
/// Runs below one line of separators.
const LINES_RUNS: usize = 33 * LINE_RUNS;
/// Parts of a node with more runs than that, by the upper 8 of its 16 bits.
const PARTS: usize = 256;
/// Below this many entries a node with a table goes back to lines.
const FEW: usize = 150;
/// A start that no slot is behind.
const NEVER: u16 = 0x7FFF;

/// A run of slots with one value: first slot, word.
type Run = (u32, u32);

/// Upper bound of words for lines of so many runs: with separators, and each value stored out of line.
fn words(runs: usize) -> usize {
    LINE + runs.div_ceil(LINE_RUNS) * LINE + runs
}

/// Adds the blocks of a node of at most so many runs: its lines, or a table and lines for each part.
pub(super) fn demand(runs: usize, demand: &mut Demand) {
    demand.add(words(runs.min(LINES_RUNS)), 1);
    if runs > LINES_RUNS / 2 {
        // Each part begins with a run, which need not be one of the node's own.
        demand.add(PARTS, 1);
        let full = runs / LINE_RUNS;
        demand.add(words(2 * LINE_RUNS), PARTS);
        demand.add(words(PARTS), full.min(PARTS));
    }
}

impl Encoder {
    pub(super) fn deep(&mut self, shape: &Shape, level: usize, node: &mut Node) {
        if node.entries.len() < FEW || node.parts.is_none() {
            let runs = self.sweep(shape, level, node, 0, 1 << 16);
            self.release(shape, level, node);
            self.release_parts(node);
            if runs.len() <= LINES_RUNS {
                (node.leaf, node.words) = self.lines(&runs);
                return;
            }
            node.parts = Some(vec![0; 2 * PARTS].into());
            node.fresh = true;
        }
        let mut stale = [node.fresh; PARTS];
        for &(slot, len) in &node.dirty {
            let last = slot + (1 << (16 - len)) - 1;
            stale[(slot >> 8) as usize..=(last >> 8) as usize].fill(true);
        }
        node.dirty_children.iter().for_each(|slot| stale[(slot >> 8) as usize] = true);
        // For each part its word, and the words of its block.
        let mut parts = node.parts.take().unwrap_or_default();
        for ((part, stale), first) in parts.chunks_exact_mut(2).zip(stale).zip((0..).step_by(256)) {
            if let ([word, words], true) = (part, stale) {
                let runs = self.sweep(shape, level, node, first, first + 256);
                self.retire_part(*word, *words);
                (*word, *words) = self.lines(&runs);
            }
        }
        self.release(shape, level, node);
        let table = self.arena.alloc(PARTS, |new| {
            new.iter_mut().zip(parts.iter().step_by(2)).for_each(|(new, word)| *new = *word);
        });
        (node.leaf, node.words) = (handle(table) | TABLE, PARTS as u32);
        node.parts = Some(parts);
    }

    /// The runs of slots `first..end` of a node; encodes children where needed.
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
        // The open prefixes at the current slot: ends and values, innermost last.
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
                    self.discard(shape, level + 1, child);
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

    /// Blocks for runs that cover a whole node or part; returns the word and the block's size in words.
    fn lines(&mut self, runs: &[Run]) -> (u32, u32) {
        let (head, tag) = match runs {
            [] => return (0, 0),
            [(_, word)] => return (*word, 0),
            _ if runs.len() <= LINE_RUNS => (0, 0),
            _ => (LINE, LINES),
        };
        let data = runs.len().div_ceil(LINE_RUNS) * LINE;
        // Words that do not fit a value of 2 bytes follow the last line.
        let elsewhere = runs.iter().filter(|run| run.1 >= ELSEWHERE).count();
        let words = head + data + elsewhere;
        let place = self.arena.alloc(words, |new| {
            let (index, rest) = new.split_at_mut(head);
            let firsts = runs.chunks(LINE_RUNS).skip(1).filter_map(|runs| runs.first());
            write_starts(index, firsts.map(|run| run.0));
            let (lines, rest) = rest.split_at_mut(data);
            let mut rest = rest.iter_mut();
            let mut distance = data as u32;
            for (line, runs) in lines.chunks_exact_mut(LINE).zip(runs.chunks(LINE_RUNS)) {
                let (starts, values) = line.split_at_mut(LINE / 2);
                write_starts(starts, runs.iter().skip(1).map(|run| run.0));
                values.fill(0);
                for (place, &(_, word)) in runs.iter().enumerate() {
                    let mut value = word;
                    if word >= ELSEWHERE
                        && let Some(there) = rest.next()
                    {
                        *there = word;
                        value = ELSEWHERE | distance;
                        distance += 1;
                    }
                    if let Some(pair) = values.get_mut(place / 2) {
                        *pair |= value << (place % 2 * 16);
                    }
                }
                distance -= LINE as u32;
            }
        });
        (handle(place) | tag, words as u32)
    }

    pub(super) fn release_parts(&mut self, node: &mut Node) {
        for part in node.parts.take().unwrap_or_default().chunks_exact(2) {
            if let [word, words] = part {
                self.retire_part(*word, *words);
            }
        }
    }

    fn retire_part(&mut self, word: u32, words: u32) {
        if words > 0 && word & TAG != 0 {
            self.arena.retire(place(word), words as usize);
        }
    }
}

/// Starts as a signed compare wants them: "is the slot greater than this" for the slot with its highest bit flipped.
fn write_starts(words: &mut [u32], starts: impl Iterator<Item = u32>) {
    let mut starts = starts.map(|start| (start.wrapping_sub(1) as u16) ^ 0x8000);
    for word in words.iter_mut() {
        let low = starts.next().unwrap_or(NEVER);
        let high = starts.next().unwrap_or(NEVER);
        *word = u32::from(low) | u32::from(high) << 16;
    }
}
