//! The memory of all tries of a table: one reserved region, blocks of whole or half cache lines that are written once.
//!
//! A block is written while it is allocated and never again, so a generation that refers to it needs no lock and no reference count per
//! block. A block that a batch replaces is *retired*: earlier generations may still reach it. Each generation holds a [`Token`]; a retired
//! block is reused when nobody else holds the token of the newest generation that can reach it, nor that of any older one. A handle is the
//! *offset* of a block in bytes from the region's start: 4 bytes where a pointer takes 8, and no shift to form an address. Offset 0 and the
//! 32 KiB after it stay zero forever: "no route", at every level.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

/// `u32` words in a line.
pub(crate) const LINE: usize = 16;
/// Bytes in a line.
const LINE_BYTES: usize = 64;
/// Lines that stay zero: everything that a lookup may touch from offset 0 on. No block is larger.
const ZERO_LINES: usize = 512;
/// Size classes of blocks.
const CLASSES: usize = ZERO_LINES + 1;
/// Blocks of this class and above are not split. They are pages, of which every batch needs some: those that the previous batch replaced
/// allow a withdrawing batch when everything else is used.
const WHOLE: usize = 64;
/// Least and most lines of a region: an offset has 32 bits.
const MIN_LINES: usize = 1 << 16;
const MAX_LINES: usize = 1 << 26;

/// Reserved address space. The system provides memory for the pages that are written.
#[derive(Debug)]
pub(crate) struct Region {
    /// The allocation.
    start: NonNull<u8>,
    /// The first line in it.
    base: NonNull<u8>,
    lines: usize,
}

// SAFETY: the region owns its memory. Blocks are written by the one `Arena` only, before a handle to them leaves it;
// other threads get handles through a release/acquire hand-off (`Publisher`), and only ever read.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn layout(lines: usize) -> Option<Layout> {
        // With the alignment of any allocation the system zeroes page by page on first touch; with a larger alignment the allocator would
        // write all of it. So there is one line more, to align by hand.
        Layout::from_size_align((lines + 1) * LINE_BYTES, 16).ok()
    }

    fn reserve(bytes: usize) -> Option<Region> {
        let mut lines = (bytes / LINE_BYTES).clamp(MIN_LINES, MAX_LINES);
        // A machine that does not grant so much address space gets a smaller table.
        while lines >= MIN_LINES {
            // SAFETY: the layout is not of size zero.
            if let Some(start) = NonNull::new(unsafe { alloc_zeroed(Self::layout(lines)?) }) {
                // SAFETY: less than a line is skipped, and there is one more than is used.
                let base = unsafe { start.add(start.align_offset(LINE_BYTES)) };
                want_large_pages(base, lines * LINE_BYTES);
                return Some(Region { start, base, lines });
            }
            lines /= 2;
        }
        None
    }

    /// Bytes from the base on.
    pub(crate) fn bytes(&self) -> usize {
        self.lines * LINE_BYTES
    }

    /// Base address of all offsets.
    #[inline]
    pub(crate) fn base(&self) -> *const u8 {
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

/// Requests pages of 2 MiB: lookups touch the whole region, and with pages of 4 KiB many of them wait for the TLB. Only a hint: without
/// such pages lookups are a little slower.
fn want_large_pages(base: NonNull<u8>, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        const PAGE: usize = 4096;
        let skipped = base.align_offset(PAGE).min(bytes);
        // SAFETY: a hint about whole pages inside the region, which changes no byte of it.
        unsafe { libc::madvise(base.add(skipped).as_ptr().cast(), bytes - skipped, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (base, bytes);
}

/// Held by a generation while it may reach the blocks of its era.
#[derive(Debug)]
pub(crate) struct Token;

#[derive(Debug)]
struct Era {
    token: Arc<Token>,
    /// Blocks whose last possible reader is this era's generation.
    retired: Vec<(u32, u32)>,
}

/// Allocates blocks; owned by the control side.
#[derive(Debug)]
pub(crate) struct Arena {
    region: Arc<Region>,
    /// Lines of the region, and the first that was never used.
    limit: usize,
    next: usize,
    /// Offsets of free blocks by size: half a line, then by lines.
    free: Vec<Vec<u32>>,
    /// Oldest first; the last one is the current era.
    eras: VecDeque<Era>,
    /// Half lines in use.
    used: usize,
    /// Half lines ever retired.
    retired: u64,
    /// Whether the current batch needs more than the lines that were never used.
    short: bool,
}

/// Upper bound of the blocks that a batch may allocate.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// Number of blocks of each class.
    blocks: [usize; CLASSES],
    lines: usize,
}

impl Demand {
    pub(crate) fn new() -> Self {
        Demand { blocks: [0; CLASSES], lines: 0 }
    }

    /// Adds `times` blocks of at most `words` words.
    pub(crate) fn add(&mut self, words: usize, times: usize) {
        let size = Size::of(words);
        if let Some(blocks) = self.blocks.get_mut(size.class()) {
            *blocks += times;
        }
        self.lines += size.halves().div_ceil(2) * times;
    }

    /// Total bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.lines * LINE_BYTES
    }
}

/// A block's size: half a line, or whole lines, rounded up so that blocks that grow by a leaf often find a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Half,
    Lines(usize),
}

impl Size {
    fn of(words: usize) -> Size {
        match words.div_ceil(LINE) {
            0 | 1 if words <= LINE / 2 => Size::Half,
            lines @ 0..=8 => Size::Lines(lines),
            lines @ 9..=32 => Size::Lines(lines.next_multiple_of(2)),
            lines => Size::Lines(lines.next_multiple_of(4)),
        }
    }

    fn halves(self) -> usize {
        match self {
            Size::Half => 1,
            Size::Lines(lines) => 2 * lines,
        }
    }

    /// Index of its list of free blocks.
    fn class(self) -> usize {
        match self {
            Size::Half => 0,
            Size::Lines(lines) => lines,
        }
    }
}

impl Arena {
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let region = Arc::new(Region::reserve(bytes)?);
        let eras = VecDeque::from([Era { token: Arc::new(Token), retired: Vec::new() }]);
        let limit = region.lines;
        Some(Arena {
            region,
            limit,
            next: ZERO_LINES,
            free: vec![Vec::new(); CLASSES],
            eras,
            used: 0,
            retired: 0,
            short: false,
        })
    }

    /// Whether all of `demand` can be allocated: from fresh lines if they suffice, otherwise by splitting larger free blocks until there is
    /// a free one for each.
    ///
    /// The blocks that are finally allocated may be smaller and come in any order. Each takes the smallest free block that fits, so the one
    /// it displaces finds another at least as large.
    pub(crate) fn reserve(&mut self, demand: &Demand) -> bool {
        self.short = demand.lines > self.limit - self.next;
        if !self.short {
            return true;
        }
        for (class, &wanted) in demand.blocks.iter().enumerate().rev() {
            while self.free.get(class).is_some_and(|free| free.len() < wanted) {
                let lines = class.max(1);
                let surplus = (class + 1..WHOLE)
                    .find(|&larger| self.free.get(larger).map(Vec::len) > demand.blocks.get(larger).copied());
                let (place, has) =
                    match surplus.and_then(|larger| Some((self.free.get_mut(larger)?.pop()?, larger))) {
                        Some(found) => found,
                        None if self.next + lines <= self.limit => {
                            self.next += lines;
                            (((self.next - lines) * LINE_BYTES) as u32, lines)
                        }
                        None => return false,
                    };
                self.split(place, class, has);
            }
        }
        true
    }

    /// Splits a free block of `lines` lines into one of a smaller class and the rest.
    fn split(&mut self, place: u32, class: usize, lines: usize) {
        self.give(place, class as u32);
        if class == 0 {
            self.give(place + (LINE_BYTES / 2) as u32, 0);
        }
        let used = class.max(1);
        let (mut place, mut left) = (place + (used * LINE_BYTES) as u32, lines - used);
        while left > 0 {
            // The largest class that there is.
            let piece = match left {
                0..=8 => left,
                9..=32 => left & !1,
                _ => left & !3,
            };
            self.give(place, piece as u32);
            place += (piece * LINE_BYTES) as u32;
            left -= piece;
        }
    }

    /// Bytes of the region.
    pub(crate) fn limit(&self) -> usize {
        self.limit * LINE_BYTES
    }

    /// Bytes of blocks in use, retired ones not included.
    pub(crate) fn used(&self) -> usize {
        self.used * LINE_BYTES / 2
    }

    /// Bytes of all blocks ever retired. The difference between two generations is what the earlier one keeps from being reused.
    pub(crate) fn retired(&self) -> u64 {
        self.retired * (LINE_BYTES as u64 / 2)
    }

    /// What a generation holds of the arena.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let token = match self.eras.back() {
            // Nothing was retired since the last snapshot: both reach the same blocks.
            Some(era) if era.retired.is_empty() => era.token.clone(),
            _ => {
                let token = Arc::new(Token);
                self.eras.push_back(Era { token: token.clone(), retired: Vec::new() });
                token
            }
        };
        Snapshot { region: self.region.clone(), _token: token }
    }

    /// Frees the retired blocks that no generation reaches.
    pub(crate) fn reclaim(&mut self) {
        while self.eras.len() > 1 {
            let Some(oldest) = self.eras.front_mut() else { break };
            // Acquire, by `get_mut`: the last reader's last read happened before it dropped the token.
            if Arc::get_mut(&mut oldest.token).is_none() {
                return;
            }
            let Some(era) = self.eras.pop_front() else { break };
            for (place, class) in era.retired {
                self.give(place, class);
            }
        }
        if let Some(present) = self.eras.front_mut()
            && Arc::get_mut(&mut present.token).is_some()
        {
            for (place, class) in std::mem::take(&mut present.retired) {
                self.give(place, class);
            }
        }
    }

    /// Allocates a block and fills it by `write`; words that it leaves unwritten are undefined. The batch called `reserve` before. Blocks
    /// of more than half a line are aligned to a line.
    pub(crate) fn alloc(&mut self, words: usize, write: impl FnOnce(&mut [u32])) -> u32 {
        let size = Size::of(words);
        let Some(place) = self.take(size).map(|place| place as usize) else {
            debug_assert!(false, "a batch allocated more lines than it reserved");
            return 0;
        };
        self.used += size.halves();
        debug_assert!(place >= ZERO_LINES * LINE_BYTES);
        debug_assert!(place + size.halves() * LINE_BYTES / 2 <= self.limit * LINE_BYTES);
        // SAFETY: the block is inside the region and not part of any block that somebody can reach: it is fresh, or was
        // freed when no generation was left that could. So this is the only reference to it, and it is aligned to half a line.
        let block = unsafe {
            std::slice::from_raw_parts_mut(
                self.region.base.as_ptr().add(place).cast::<u32>(),
                size.halves() * LINE / 2,
            )
        };
        write(block);
        place as u32
    }

    /// Allocates a block of as many words as `before`, copies its content (if it has any words) and applies `edit`.
    pub(crate) fn alloc_copy(
        &mut self,
        words: usize,
        before: (u32, usize),
        edit: impl FnOnce(&mut [u32]),
    ) -> u32 {
        let region = self.region.clone();
        let old = Blocks { region: &region }.words(before.0, before.1);
        self.alloc(words, |new| {
            let (copied, rest) = new.split_at_mut(old.len().min(new.len()));
            copied.copy_from_slice(old.get(..copied.len()).unwrap_or_default());
            rest.fill(0);
            edit(new);
        })
    }

    /// A free block of this size.
    fn take(&mut self, size: Size) -> Option<u32> {
        let class = size.class();
        let lines = class.max(1);
        loop {
            if let Some(place) = self.free.get_mut(class).and_then(Vec::pop) {
                return Some(place);
            }
            let larger = self.free.iter_mut().enumerate().take(WHOLE).skip(class + 1);
            let (place, has) =
                match larger.into_iter().find_map(|(has, free)| Some((free.pop_if(|_| self.short)?, has))) {
                    Some(found) => found,
                    None if self.next + lines <= self.limit => {
                        self.next += lines;
                        (((self.next - lines) * LINE_BYTES) as u32, lines)
                    }
                    None => return None,
                };
            self.split(place, class, has);
        }
    }

    /// Retires a block: later generations do not refer to it.
    pub(crate) fn retire(&mut self, place: u32, words: usize) {
        if place == 0 {
            return;
        }
        let size = Size::of(words);
        self.used -= size.halves();
        self.retired += size.halves() as u64;
        if let Some(present) = self.eras.back_mut() {
            present.retired.push((place, size.class() as u32));
        }
    }

    /// Whether a batch of so many changes certainly fits into fresh lines, without looking at what it touches. It may rewrite every block
    /// with each value in its long form, and each change may add at most a node's table, or pages and uniform blocks.
    pub(crate) fn surely_has_room(&mut self, changes: usize) -> bool {
        const CHANGE: usize = 1_024;
        let fresh = self.limit - self.next;
        let sure = CHANGE.checked_mul(changes).is_some_and(|lines| lines + 3 * self.used <= fresh);
        self.short &= !sure;
        sure
    }

    /// Read access to the written blocks.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks { region: &self.region }
    }

    fn give(&mut self, place: u32, class: u32) {
        if let Some(free) = self.free.get_mut(class as usize) {
            free.push(place);
        }
    }
}

/// Read access for the writer itself: what a new block copies from an old one.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    region: &'a Region,
}

impl<'a> Blocks<'a> {
    /// The `words` words of a written block.
    pub(crate) fn words(self, place: u32, words: usize) -> &'a [u32] {
        assert!(place as usize + words * 4 <= self.region.lines * LINE_BYTES && place.is_multiple_of(4));
        // SAFETY: inside the region, which is initialized (zero) memory; written blocks are never written again, and a block under
        // construction has no offset yet that a caller could know.
        unsafe {
            std::slice::from_raw_parts(self.region.base.as_ptr().add(place as usize).cast::<u32>(), words)
        }
    }
}

/// Keeps the blocks of a generation unchanged.
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
        let block = arena.alloc(16, |words| words.fill(7));
        let first = arena.snapshot();
        arena.retire(block, 16);
        let second = arena.snapshot();
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_| ()), block);
        drop(second);
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_| ()), block);
        assert_eq!(arena.blocks().words(block, 1), [7]);
        drop(first);
        arena.reclaim();
        assert_eq!(arena.alloc(16, |_| ()), block);
    }

    #[test]
    fn an_older_generation_keeps_blocks_that_a_newer_one_retired() {
        let mut arena = Arena::new(0).unwrap();
        let block = arena.alloc(16, |_| ());
        let old = arena.snapshot();
        let other = arena.alloc(16, |_| ());
        arena.retire(other, 16);
        let new = arena.snapshot();
        arena.retire(block, 16);
        drop(new);
        arena.reclaim();
        assert_ne!(arena.alloc(16, |_| ()), block);
        drop(old);
    }

    #[test]
    fn where_memory_is_short_a_larger_free_block_is_broken_up() {
        let mut arena = Arena::new(0).unwrap();
        let mut demand = Demand::new();
        let all = (arena.limit - arena.next) / 64;
        demand.add(512, 2 * all);
        assert!(arena.reserve(&demand));
        let blocks: Vec<u32> = (0..2 * all).map(|_| arena.alloc(512, |_| ())).collect();
        assert!(!arena.reserve(&demand));
        arena.retire(blocks[0], 512);
        arena.reclaim();
        let mut small = Demand::new();
        small.add(128, 3);
        small.add(8, 1);
        assert!(arena.reserve(&small));
        let mut places: Vec<u32> = (0..3).map(|_| arena.alloc(128, |_| ())).collect();
        places.push(arena.alloc(8, |_| ()));
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 4);
        demand = Demand::new();
        demand.add(512, 1);
        assert!(!arena.reserve(&demand));
    }

    #[test]
    fn two_small_blocks_share_a_line_and_larger_ones_begin_with_one() {
        let mut arena = Arena::new(0).unwrap();
        let first = arena.alloc(8, |words| words.fill(1));
        let large = arena.alloc(9, |words| words.fill(2));
        let second = arena.alloc(5, |words| words.fill(3));
        assert_eq!(second ^ first, 32);
        assert_eq!(large % 64, 0);
        assert_eq!(arena.used(), 128);
        assert_eq!(arena.blocks().words(first, 8), [1; 8]);
        assert_eq!(arena.blocks().words(second, 8), [3; 8]);
    }
}
