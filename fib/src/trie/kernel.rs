//! Lookups of a burst: every destination through a level before the next level, no branch that depends on an answer.
//!
//! What ends in a longer prefix than most goes on a work list, filled by arithmetic and not by a branch, so that a
//! burst mispredicts once per list and not once per packet. The same code is compiled for the plain CPU and for one
//! with AVX2, BMI2 and POPCNT; [`Kernel::best`] looks once which one this machine can run.

use std::sync::OnceLock;

use super::arena::LINE;
use super::encode::{HANDLE, LINES, ONE_LINE, RANK};
use crate::types::GroupIndex;

/// Destinations that go through the levels together.
const BURST: usize = 64;

/// A trie of one family: where its region begins, its root block, what a lookup of 0 means.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) base: *const u32,
    pub(crate) root: u32,
    pub(crate) default: u32,
}

type V4 = unsafe fn(View, &[u32], &mut [GroupIndex]);
type V6 = unsafe fn(View, &[u128], &mut [GroupIndex]);

/// A pair of lookup functions that this CPU can run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub(crate) v4: V4,
    pub(crate) v6: V6,
    pub(crate) name: &'static str,
}

impl Kernel {
    /// For every CPU.
    pub(crate) const SCALAR: Kernel = Kernel { v4: v4_scalar, v6: v6_scalar, name: "scalar" };

    /// The fastest one here; decided once.
    pub(crate) fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Kernel::vector().unwrap_or(Kernel::SCALAR))
    }

    /// The vector one, where the CPU has what it needs.
    pub(crate) fn vector() -> Option<Kernel> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
        {
            return Some(Kernel { v4: v4_avx2, v6: v6_avx2, name: "avx2" });
        }
        None
    }
}

/// The word at `at`.
///
/// # Safety
/// `at` is inside the region and its block is written.
#[inline(always)]
unsafe fn word(base: *const u32, at: usize) -> u32 {
    // SAFETY: by the caller.
    unsafe { base.add(at).read() }
}

/// The value of a slot of a rank block.
///
/// # Safety
/// `line` is the handle of a rank block (or 0) of more than `slot / 64` words.
#[inline(always)]
unsafe fn rank(base: *const u32, line: u32, slot: usize) -> u32 {
    // SAFETY: a head is 4 words, and is aligned to 16 bytes; it says where its values are.
    unsafe {
        let head = base.add(line as usize * LINE + (slot >> 6) * 4);
        let bits = head.cast::<u64>().read();
        let before = head.add(2).read();
        word(base, (before + (bits << (63 - (slot & 63))).count_ones()) as usize)
    }
}

/// How many of `LANES` starts in a line lie at or before `key` (which has its highest bit flipped), lane by lane.
///
/// # Safety
/// `line` is the handle of a line of starts.
#[inline(always)]
unsafe fn starts_upto(base: *const u32, line: usize, key: i16, lanes: usize) -> usize {
    // SAFETY: a line is 32 halves.
    unsafe {
        let starts = base.add(line * LINE).cast::<i16>();
        (0..lanes).map(|lane| usize::from(key > starts.add(lane).read())).sum()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
#[inline]
unsafe fn starts_upto_avx2(base: *const u32, line: usize, key: i16, lanes: usize) -> usize {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpgt_epi16, _mm256_load_si256, _mm256_movemask_epi8, _mm256_set1_epi16,
    };
    // SAFETY: a line is 64 bytes and aligned to them.
    unsafe {
        let starts = base.add(line * LINE).cast::<__m256i>();
        let key = _mm256_set1_epi16(key);
        let low = _mm256_movemask_epi8(_mm256_cmpgt_epi16(key, _mm256_load_si256(starts))) as u32;
        if lanes <= 16 {
            return (low & ((1u64 << (lanes * 2)) - 1) as u32).count_ones() as usize / 2;
        }
        let high = _mm256_movemask_epi8(_mm256_cmpgt_epi16(key, _mm256_load_si256(starts.add(1)))) as u32;
        (u64::from(low) | u64::from(high) << 32).count_ones() as usize / 2
    }
}

macro_rules! kernels {
    ($v4:ident, $v6:ident, $starts:ident $(, $feature:meta)?) => {
        /// # Safety
        /// The view's root is a root of this family in a region that a snapshot keeps, and the CPU can run this.
        $(#[$feature])?
        unsafe fn $v4(view: View, dst: &[u32], out: &mut [GroupIndex]) {
            let base = view.base;
            let root = view.root as usize * LINE;
            for (dst, out) in dst.chunks(BURST).zip(out.chunks_mut(BURST)) {
                let mut tags = 0;
                for (&dst, out) in dst.iter().zip(out.iter_mut()) {
                    // SAFETY: a root has 2^14 handles of rank blocks with 16 heads.
                    let value = unsafe {
                        let chunk = word(base, root + (dst >> 18) as usize);
                        rank(base, chunk, (dst >> 8) as usize & 0x3ff)
                    };
                    let default = if value == 0 { view.default } else { value };
                    *out = GroupIndex(default);
                    tags |= value;
                }
                // Prefixes beyond /24 are rare: most bursts have none, and this is the one branch on an answer.
                if tags >> 31 == 0 {
                    continue;
                }
                let mut long = [0u8; BURST];
                let mut longs = 0;
                for (at, out) in out.iter().enumerate() {
                    long[longs & (BURST - 1)] = at as u8;
                    longs += (out.0 >> 31) as usize;
                }
                for &at in long.iter().take(longs) {
                    let (Some(&dst), Some(out)) = (dst.get(at as usize), out.get_mut(at as usize)) else { continue };
                    // SAFETY: a tagged value is a handle of a rank block with 4 heads.
                    let value = unsafe { rank(base, out.0 & HANDLE, dst as usize & 0xff) };
                    *out = GroupIndex(if value == 0 { view.default } else { value });
                }
            }
        }

        /// # Safety
        /// The view's root is a root of this family in a region that a snapshot keeps, and the CPU can run this.
        $(#[$feature])?
        unsafe fn $v6(view: View, dst: &[u128], out: &mut [GroupIndex]) {
            let base = view.base;
            let root = view.root as usize * LINE;
            for (dst, out) in dst.chunks(BURST).zip(out.chunks_mut(BURST)) {
                let mut values = [0u32; BURST];
                let mut keys = [0u16; BURST];
                let mut list = [0u8; BURST];
                let mut listed = 0;
                for (at, &dst) in dst.iter().enumerate() {
                    let high = (dst >> 96) as u32;
                    // SAFETY: roots and pages have 2^12 handles, of pages and of rank blocks with 4 heads.
                    let value = unsafe {
                        let page = word(base, root + (high >> 20) as usize) as usize * LINE;
                        let chunk = word(base, page + (high >> 8 & 0xfff) as usize);
                        rank(base, chunk, high as usize & 0xff)
                    };
                    values[at & (BURST - 1)] = value;
                    keys[at & (BURST - 1)] = (dst >> 80) as u16;
                    list[listed & (BURST - 1)] = at as u8;
                    listed += (value >> 31) as usize;
                }
                let mut shift = 80u32;
                // Each round takes 16 bits; a trie has no longer prefixes than 128.
                while listed > 0 {
                    let mut next = 0;
                    let mut ranks = [0u8; BURST];
                    let mut lines = [0u8; BURST];
                    let (mut rank_count, mut lines_count) = (0, 0);
                    for &at in list.iter().take(listed) {
                        let tag = values[at as usize & (BURST - 1)] & !HANDLE;
                        ranks[rank_count & (BURST - 1)] = at;
                        rank_count += usize::from(tag == RANK);
                        lines[lines_count & (BURST - 1)] = at;
                        lines_count += usize::from(tag == LINES);
                    }
                    for &at in ranks.iter().take(rank_count) {
                        let place = at as usize & (BURST - 1);
                        // SAFETY: the tag says that it is a rank block; below 16 bits they have 4 heads.
                        let value = unsafe { rank(base, values[place] & HANDLE, (keys[place] >> 8) as usize) };
                        values[place] = value;
                        lines[lines_count & (BURST - 1)] = at;
                        lines_count += usize::from(value & !HANDLE == LINES);
                    }
                    for &at in lines.iter().take(lines_count) {
                        let place = at as usize & (BURST - 1);
                        let line = values[place] & HANDLE;
                        // SAFETY: the tag says that a line of separators comes first, then one more line than those.
                        let upto = unsafe { $starts(base, line as usize, (keys[place] ^ 0x8000) as i16, 32) };
                        values[place] = ONE_LINE | (line + 1 + upto as u32);
                    }
                    for position in 0..listed {
                        let at = list[position & (BURST - 1)];
                        let place = at as usize & (BURST - 1);
                        let before = values[place];
                        // A rank block may have had the group itself: look into line 0, which is all zero, and keep it.
                        let line = if before >> 31 == 0 { 0 } else { (before & HANDLE) as usize };
                        // SAFETY: the tag, by now, says that it is a line.
                        let found = unsafe {
                            let upto = $starts(base, line, (keys[place] ^ 0x8000) as i16, 10);
                            word(base, line * LINE + 5 + upto)
                        };
                        let value = if before >> 31 == 0 { before } else { found };
                        values[place] = value;
                        list[next & (BURST - 1)] = at;
                        next += (value >> 31) as usize;
                    }
                    if shift == 0 {
                        break;
                    }
                    shift -= 16;
                    listed = next;
                    for &at in list.iter().take(listed) {
                        if let Some(&dst) = dst.get(at as usize) {
                            keys[at as usize & (BURST - 1)] = (dst >> shift) as u16;
                        }
                    }
                }
                for (out, value) in out.iter_mut().zip(values) {
                    *out = GroupIndex(if value == 0 { view.default } else { value });
                }
            }
        }
    };
}

kernels!(v4_scalar, v6_scalar, starts_upto);
#[cfg(target_arch = "x86_64")]
kernels!(v4_avx2, v6_avx2, starts_upto_avx2, target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt"));
