//! The blocks that workers read, written by [`super::encode`] and read by [`super::kernel`].
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

/// The tagged word for a block.
pub(super) fn handle(place: u32) -> u32 {
    TAG | (place / 64)
}

/// The offset of a tagged word's block.
pub(super) fn place(word: u32) -> u32 {
    (word & HANDLE) * 64
}

/// Prefetches the cache line at so many bytes from `base`. A hint: an invalid address does nothing.
#[inline(always)]
pub(super) fn fetch(base: *const u8, place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it reads nothing, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(base.wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (base, place);
}
