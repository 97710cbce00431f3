//! The memory of all tries of a table: one reserved region of 64-byte lines, blocks that are written once.
//!
//! A block is written while it is allocated and never again, so that a generation that refers to it needs no lock
//! and no reference count per block. A block that a batch replaces is *retired*: generations taken so far may still
//! reach it. Each generation holds a [`Token`]; a retired block is used again when the token of the newest
//! generation that can reach it, and of every older one, is held by nobody else. Handles are line numbers, 4 bytes
//! where a pointer takes 8. Line 0 and the 64 KiB from there on are zero for ever: "nothing here", at every level.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

/// `u32` words in a line.
pub(crate) const LINE: usize = 16;
/// Lines that stay zero, as many as the largest block (an IPv4 root) has.
const ZERO_LINES: usize = 1024;
/// Least and most lines of a region.
const MIN_LINES: usize = 1 << 16;
const MAX_LINES: usize = 1 << 28;

/// Reserved address space; the system gives memory to the pages that are written.
#[derive(Debug)]
pub(crate) struct Region {
    /// What the system gave.
    start: NonNull<u8>,
    /// The first line in it.
    base: NonNull<u32>,
    lines: usize,
}

// SAFETY: the region owns its memory. Blocks are written by the one `Arena` only, before a handle to them leaves it;
// other threads get handles through a release/acquire hand-off (`Publisher`), and only ever read.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn layout(lines: usize) -> Option<Layout> {
        // With the alignment of any allocation it is the system that zeroes, page by page when they are touched; with
        // a larger one the library would write all of it. So there is one line more, to align by hand.
        Layout::from_size_align((lines + 1) * 64, 16).ok()
    }

    fn reserve(bytes: usize) -> Option<Region> {
        let mut lines = (bytes / 64).clamp(MIN_LINES, MAX_LINES);
        // A machine that does not hand out so much address space gets a smaller table.
        while lines >= MIN_LINES {
            // SAFETY: the layout is not of size zero.
            if let Some(start) = NonNull::new(unsafe { alloc_zeroed(Self::layout(lines)?) }) {
                // SAFETY: less than a line is skipped, and there is one more than is used.
                let base = unsafe { start.add(start.align_offset(64)) }.cast::<u32>();
                return Some(Region { start, base, lines });
            }
            lines /= 2;
        }
        None
    }

    /// Where the kernels count from.
    #[inline]
    pub(crate) fn base(&self) -> *const u32 {
        self.base.as_ptr()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout(self.lines) {
            // SAFETY: allocated by `reserve` with this layout, and nobody holds the region any more.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

/// Held by a generation as long as it may reach the blocks of its time.
#[derive(Debug)]
pub(crate) struct Token;

#[derive(Debug)]
struct Era {
    token: Arc<Token>,
    /// Blocks that this era's generation is the last one to reach.
    retired: Vec<(u32, u32)>,
}

/// Hands out blocks; owned by the control side.
#[derive(Debug)]
pub(crate) struct Arena {
    region: Arc<Region>,
    limit: usize,
    next: usize,
    /// Free blocks by size class.
    free: Vec<Vec<u32>>,
    /// Oldest first; the last one is the present.
    eras: VecDeque<Era>,
    used: usize,
}

/// Rounds a size up, so that blocks that grow by a leaf often find a free one.
fn class(lines: usize) -> usize {
    match lines {
        0..=8 => lines,
        9..=32 => lines.next_multiple_of(2),
        _ => lines.next_multiple_of(4),
    }
}

impl Arena {
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let region = Arc::new(Region::reserve(bytes)?);
        let eras = VecDeque::from([Era { token: Arc::new(Token), retired: Vec::new() }]);
        let limit = region.lines;
        Some(Arena { region, limit, next: ZERO_LINES, free: vec![Vec::new(); ZERO_LINES + 1], eras, used: 0 })
    }

    /// Whether `lines` more can be handed out whatever sizes they come in.
    pub(crate) fn has_room(&self, lines: usize) -> bool {
        self.next + lines <= self.limit
    }

    /// Bytes of the region.
    pub(crate) fn limit(&self) -> usize {
        self.limit * 64
    }

    /// Bytes of blocks in use, retired ones not included.
    pub(crate) fn used(&self) -> usize {
        self.used * 64
    }

    /// What a generation holds.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let token = match self.eras.back() {
            // Nothing was retired since the last one: both reach the same blocks.
            Some(era) if era.retired.is_empty() => era.token.clone(),
            _ => {
                let token = Arc::new(Token);
                self.eras.push_back(Era { token: token.clone(), retired: Vec::new() });
                token
            }
        };
        Snapshot { region: self.region.clone(), _token: token }
    }

    /// Makes retired blocks free again that no generation reaches.
    pub(crate) fn reclaim(&mut self) {
        while self.eras.len() > 1 {
            let Some(oldest) = self.eras.front_mut() else { break };
            // Acquire, by `get_mut`: the last reader's last look was before it gave the token back.
            if Arc::get_mut(&mut oldest.token).is_none() {
                return;
            }
            let Some(era) = self.eras.pop_front() else { break };
            for (line, lines) in era.retired {
                self.give(line, lines);
            }
        }
        if let Some(present) = self.eras.front_mut()
            && Arc::get_mut(&mut present.token).is_some()
        {
            for (line, lines) in std::mem::take(&mut present.retired) {
                self.give(line, lines);
            }
        }
    }

    /// A new block, filled by `write`: words that it leaves hold anything. `has_room` was asked before the batch began.
    pub(crate) fn alloc(&mut self, words: usize, write: impl FnOnce(&mut [u32], u32, Blocks<'_>)) -> u32 {
        let lines = class(words.div_ceil(LINE));
        let line = match self.free.get_mut(lines).and_then(Vec::pop) {
            Some(line) => line as usize,
            None if self.next + lines <= self.limit => {
                self.next += lines;
                self.next - lines
            }
            None => {
                debug_assert!(false, "a batch needed more lines than it asked for");
                return 0;
            }
        };
        self.used += lines;
        // SAFETY: the lines are inside the region and not part of any block that somebody can reach: they are fresh,
        // or were freed when no generation was left that could. So this is the only reference to them.
        let block = unsafe {
            std::slice::from_raw_parts_mut(self.region.base.as_ptr().add(line * LINE), lines * LINE)
        };
        write(block, line as u32, Blocks { region: &self.region });
        line as u32
    }

    /// Says that what is built from now on does not refer to this block.
    pub(crate) fn retire(&mut self, line: u32, words: usize) {
        if line == 0 {
            return;
        }
        let lines = class(words.div_ceil(LINE));
        self.used -= lines;
        if let Some(present) = self.eras.back_mut() {
            present.retired.push((line, lines as u32));
        }
    }

    /// The blocks that are written.
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks { region: &self.region }
    }

    fn give(&mut self, line: u32, lines: u32) {
        if let Some(free) = self.free.get_mut(lines as usize) {
            free.push(line);
        }
    }
}

/// Read access for the writer itself: what a new block copies from an old one.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    region: &'a Region,
}

impl<'a> Blocks<'a> {
    /// `words` words from word `at` on (counted from the region's start), of a block that is written.
    pub(crate) fn words(self, at: usize, words: usize) -> &'a [u32] {
        assert!(at + words <= self.region.lines * LINE);
        // SAFETY: inside the region, which is initialized (zero) memory; written blocks are never written again, and
        // a block under construction has no handle yet that a caller could know.
        unsafe { std::slice::from_raw_parts(self.region.base.as_ptr().add(at), words) }
    }
}

/// Keeps the blocks of a generation as they are.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) region: Arc<Region>,
    _token: Arc<Token>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_only_when_no_generation_reaches_it() {
        let mut arena = Arena::new(0).unwrap();
        let block = arena.alloc(16, |words, _, _| words.fill(7));
        let first = arena.snapshot();
        arena.retire(block, 16);
        let second = arena.snapshot();
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_, _, _| ()), block);
        drop(second);
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_, _, _| ()), block);
        assert_eq!(arena.blocks().words(block as usize * LINE, 1), [7]);
        drop(first);
        arena.reclaim();
        assert_eq!(arena.alloc(16, |_, _, _| ()), block);
    }

    #[test]
    fn an_older_generation_keeps_blocks_that_a_newer_one_retired() {
        let mut arena = Arena::new(0).unwrap();
        let block = arena.alloc(16, |_, _, _| ());
        let old = arena.snapshot();
        let other = arena.alloc(16, |_, _, _| ());
        arena.retire(other, 16);
        let new = arena.snapshot();
        arena.retire(block, 16);
        drop(new);
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_, _, _| ()), block);
        drop(old);
    }
}
