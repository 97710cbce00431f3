//! IPv6: two dense steps to a block of 64 /32s, then 16 bits at a time by wide compares in lines of sorted starts.

use super::{BURST, View, elsewhere, fetch, next_burst, or_default, place, runs_from, short, word};
use crate::trie::arena::LINE;
use crate::trie::block::{LINES, TABLE};
use crate::types::GroupIndex;

/// Bytes in a line.
const LINE_BYTES: usize = LINE * 4;
/// Values of 2 bytes before those of a line.
const LINE_STARTS: usize = 16;
/// Starts in a line of separators.
const SEPARATORS: usize = 32;

/// How many of the first `lanes` starts at offset `place` are at or before `key` (with its highest bit flipped), one SIMD lane each.
///
/// # Safety
/// `place` is the offset of a line of starts.
#[inline(always)]
unsafe fn starts_upto(base: *const u8, place: usize, key: u16, lanes: usize) -> usize {
    // SAFETY: a line is 32 halves.
    unsafe {
        let starts = base.add(place).cast::<i16>();
        (0..lanes).map(|lane| usize::from(key as i16 > starts.add(lane).read())).sum()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
#[inline]
unsafe fn starts_upto_avx2(base: *const u8, place: usize, key: u16, lanes: usize) -> usize {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpgt_epi16, _mm256_load_si256, _mm256_movemask_epi8, _mm256_set1_epi16,
    };
    // SAFETY: a line is 64 bytes and aligned to them.
    unsafe {
        let starts = base.add(place).cast::<__m256i>();
        let key = _mm256_set1_epi16(key as i16);
        let low = _mm256_movemask_epi8(_mm256_cmpgt_epi16(key, _mm256_load_si256(starts))) as u32;
        if lanes <= LINE_STARTS {
            return low.count_ones() as usize / 2;
        }
        let high = _mm256_movemask_epi8(_mm256_cmpgt_epi16(key, _mm256_load_si256(starts.add(1)))) as u32;
        (u64::from(low) | u64::from(high) << 32).count_ones() as usize / 2
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw,avx512vl,popcnt")]
#[inline]
unsafe fn starts_upto_avx512(base: *const u8, place: usize, key: u16, lanes: usize) -> usize {
    use std::arch::x86_64::{
        _mm256_cmpgt_epi16_mask, _mm256_load_si256, _mm256_set1_epi16, _mm512_cmpgt_epi16_mask,
        _mm512_load_si512, _mm512_set1_epi16,
    };
    // SAFETY: a line is 64 bytes and aligned to them.
    unsafe {
        let starts = base.add(place);
        if lanes <= LINE_STARTS {
            let starts = _mm256_load_si256(starts.cast());
            return _mm256_cmpgt_epi16_mask(_mm256_set1_epi16(key as i16), starts).count_ones() as usize;
        }
        let starts = _mm512_load_si512(starts.cast());
        _mm512_cmpgt_epi16_mask(_mm512_set1_epi16(key as i16), starts).count_ones() as usize
    }
}

/// Indices in a burst, appended to without a branch.
struct List {
    places: [u8; BURST],
    count: usize,
}

impl List {
    #[inline(always)]
    fn new() -> List {
        List { places: [0; BURST], count: 0 }
    }

    /// The indices `0..count`.
    #[inline(always)]
    fn first(count: usize) -> List {
        const PLACES: [u8; BURST] = {
            let mut places = [0; BURST];
            let mut place = 0;
            while place < BURST {
                places[place] = place as u8;
                place += 1;
            }
            places
        };
        List { places: PLACES, count }
    }

    /// Appends if `wanted` is 1, not if it is 0.
    #[inline(always)]
    fn push(&mut self, at: usize, wanted: u32) {
        self.places[self.count & (BURST - 1)] = at as u8;
        self.count += wanted as usize;
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = usize> {
        self.places.iter().take(self.count).map(|&at| at as usize & (BURST - 1))
    }
}

macro_rules! kernel {
    ($name:ident, $starts:ident $(, $feature:meta)?) => {
        /// # Safety
        /// The view's root is a root of this family in a region that a snapshot keeps, and the CPU can run this.
        $(#[$feature])?
        pub(super) unsafe fn $name(view: View, dst: &[u128], out: &mut [GroupIndex]) {
            let base = view.base;
            let (mut all_dst, mut all_out) = (dst, out);
            // Equal slice lengths let the compiler keep one counter.
            while let Some((dst, rest, out, rest_out)) = next_burst(all_dst, all_out) {
                (all_dst, all_out) = (rest, rest_out);
                let mut words = [0u32; BURST];
                let mut keys = [0u16; BURST];
                for (&dst, word_of) in dst.iter().zip(words.iter_mut()) {
                    let high = (dst >> 96) as usize;
                    // SAFETY: a root and a page have 2^13 places.
                    unsafe {
                        let page = word(base, view.root as usize, high >> 19) as usize;
                        *word_of = word(base, page, high >> 6 & 0x1fff);
                        fetch(base, *word_of as usize);
                    }
                }
                // All of them, though some end in this step: a list of those that do not would cost more.
                let mut deeper = List::first(dst.len());
                let (mut tables, mut lines) = (List::new(), List::new());
                for (at, &dst) in dst.iter().enumerate() {
                    let at = at & (BURST - 1);
                    // SAFETY: a block of 64 slots holds 2 words before its values, and one for each of its runs.
                    let found = unsafe {
                        let block = words[at] as usize;
                        word(base, block, 1 + runs_from(base, block, (dst >> 96) as u32))
                    };
                    fetch(base, place(found));
                    words[at] = found;
                    keys[at] = (dst >> 80) as u16;
                    tables.push(at, found / TABLE & 1);
                    lines.push(at, found / LINES & 1);
                }
                let mut shift = 80u32;
                // Each round takes 16 bits; no prefix is longer than 128.
                while deeper.count > 0 {
                    for at in tables.iter() {
                        // SAFETY: the tag says that it is a table, of 2^8 words.
                        unsafe {
                            words[at] = word(base, place(words[at]), usize::from(keys[at] >> 8));
                            fetch(base, place(words[at]));
                        }
                        lines.push(at, words[at] / LINES & 1);
                    }
                    for at in lines.iter() {
                        // SAFETY: the tag says that a line of separators comes first, then one more line than those.
                        unsafe {
                            let separators = place(words[at]);
                            let upto = $starts(base, separators, keys[at] ^ 0x8000, SEPARATORS);
                            words[at] += 1 + upto as u32;
                            fetch(base, separators + (1 + upto) * LINE_BYTES);
                        }
                    }
                    let (mut elsewheres, mut places) = (List::new(), [0u32; BURST]);
                    for at in deeper.iter() {
                        let before = words[at];
                        // It may hold the group itself: then line 0, which is all zero, is read and the group kept.
                        let line = if before >> 31 == 0 { 0 } else { place(before) };
                        // SAFETY: the tag, by now, says that it is a line.
                        let found = unsafe {
                            let upto = $starts(base, line, keys[at] ^ 0x8000, LINE_STARTS);
                            short(base, line, LINE_STARTS + upto)
                        };
                        let found = if before >> 31 == 0 { before } else { found };
                        words[at] = found;
                        places[at] = line as u32;
                        elsewheres.push(at, found >> 31);
                    }
                    (deeper, tables, lines) = (List::new(), List::new(), List::new());
                    shift = shift.saturating_sub(16);
                    for at in elsewheres.iter() {
                        // SAFETY: the value says how far behind the beginning of its line the word is.
                        let found = unsafe { word(base, places[at] as usize, elsewhere(words[at])) };
                        words[at] = found;
                        keys[at] = dst.get(at).map_or(0, |dst| (dst >> shift) as u16);
                        deeper.push(at, found >> 31);
                        tables.push(at, found / TABLE & found >> 31);
                        lines.push(at, found / LINES & found >> 31);
                    }
                }
                for (out, word) in out.iter_mut().zip(words) {
                    *out = GroupIndex(word);
                }
                or_default(out, view.default);
            }
        }
    };
}

kernel!(scalar, starts_upto);
#[cfg(target_arch = "x86_64")]
kernel!(avx2, starts_upto_avx2, target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt"));
#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    starts_upto_avx512,
    target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl")
);
