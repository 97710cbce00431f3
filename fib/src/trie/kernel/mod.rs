//! Burst lookups: every destination passes one level before the next, without branches that depend on a result.
//!
//! A level that will miss the caches is prefetched one step ahead ([`fetch`]), so the misses of a burst overlap and a lookup costs about
//! one of them. Lookups that end in a long prefix go to a list that is filled by arithmetic instead of a branch, so a burst mispredicts
//! once per list and not once per packet. The same code is compiled for the baseline CPU and with vector compares; [`Kernel::best`] detects
//! once which one this machine can run.

mod v4;
mod v6;

use std::sync::OnceLock;

use super::block::{ELSEWHERE, HANDLE, fetch};
use crate::types::GroupIndex;

/// Destinations that pass the levels together.
const BURST: usize = 64;

/// A trie of one family: its region's base, its root block, and the default route.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) base: *const u8,
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
    /// For every CPU of the architecture.
    pub(crate) const SCALAR: Kernel = Kernel { v4: v4::scalar, v6: v6::scalar, name: "scalar" };

    /// The fastest kernel of this CPU; detected once.
    pub(crate) fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Kernel::all().pop().unwrap_or(Kernel::SCALAR))
    }

    /// All kernels that this CPU can run, the fastest last.
    pub(crate) fn all() -> Vec<Kernel> {
        #[allow(unused_mut)]
        let mut all = vec![Kernel::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            if avx2 {
                all.push(Kernel { v4: v4::avx2, v6: v6::avx2, name: "avx2" });
            }
            if avx2 && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
                all.push(Kernel { v4: v4::avx2, v6: v6::avx512, name: "avx512" });
            }
        }
        all
    }
}

/// Splits off one burst of destinations with room for its results.
#[inline(always)]
#[allow(clippy::type_complexity)]
fn next_burst<'a, D>(
    dst: &'a [D],
    out: &'a mut [GroupIndex],
) -> Option<(&'a [D], &'a [D], &'a mut [GroupIndex], &'a mut [GroupIndex])> {
    let count = dst.len().min(out.len()).min(BURST);
    let (dst, rest_dst) = dst.split_at_checked(count)?;
    let (out, rest_out) = out.split_at_mut_checked(count)?;
    (count > 0).then_some((dst, rest_dst, out, rest_out))
}

/// The word `index` of the block at offset `place`.
///
/// # Safety
/// The word is inside the region and its block has been written.
#[inline(always)]
unsafe fn word(base: *const u8, place: usize, index: usize) -> u32 {
    // SAFETY: by the caller; places and words are aligned to 4 bytes.
    unsafe { base.add(place).cast::<u32>().add(index).read() }
}

/// The 2-byte value `index` of the block at offset `place`; the highest bit is set if it is an index of a word instead of a group.
///
/// # Safety
/// As for [`word`].
#[inline(always)]
unsafe fn short(base: *const u8, place: usize, index: usize) -> u32 {
    // SAFETY: by the caller; places are aligned to 4 bytes.
    let value = unsafe { base.add(place).cast::<i16>().add(index).read() };
    i32::from(value) as u32
}

/// Index of the word that a value points to.
#[inline(always)]
fn elsewhere(value: u32) -> usize {
    (value & (ELSEWHERE - 1)) as usize
}

/// Runs of a block of 64 slots that end at or after `slot`, of which the lowest 6 bits count.
///
/// # Safety
/// `place` is the offset of such a block, or 0.
#[inline(always)]
unsafe fn runs_from(base: *const u8, place: usize, slot: u32) -> usize {
    // SAFETY: such a block begins with its 64 bits, and is aligned to half a line.
    let ends = unsafe { base.add(place).cast::<u64>().read() };
    (ends >> (slot & 63)).count_ones() as usize
}

/// Replaces lookups without a match by the default route.
#[inline(always)]
fn or_default(out: &mut [GroupIndex], default: u32) {
    if default == 0 {
        return;
    }
    for out in out {
        *out = GroupIndex(if out.0 == 0 { default } else { out.0 });
    }
}

/// The offset in a tagged word.
#[inline(always)]
fn place(word: u32) -> usize {
    (word & HANDLE) as usize * 64
}
