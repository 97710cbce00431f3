//! IPv4: two dense steps to a block of 64 /24s, whose first line usually holds the result.

use super::{BURST, View, elsewhere, fetch, next_burst, or_default, place, runs_from, short, word};
use crate::trie::block::TAG;
use crate::types::GroupIndex;

/// Heads of a block for the last 8 bits, of 4 words each.
const HEADS: usize = 4;

/// The block of 64 /24s that covers an address.
///
/// # Safety
/// The view's root is a root of this family in a region that a snapshot keeps.
#[inline(always)]
unsafe fn block(view: View, dst: u32) -> usize {
    // SAFETY: a root has 2^8 places of pages, a page 2^10 of blocks.
    unsafe {
        let page = word(view.base, view.root as usize, (dst >> 24) as usize) as usize;
        word(view.base, page, (dst >> 14) as usize & 0x3ff) as usize
    }
}

/// Resolves the values that point to a word, which the first pass left in `out`.
fn long(view: View, dst: &[u32], out: &mut [GroupIndex]) {
    let base = view.base;
    let mut list = [0u8; BURST];
    let mut listed = 0;
    for (at, value) in out.iter().enumerate() {
        list[listed & (BURST - 1)] = at as u8;
        listed += (value.0 >> 31) as usize;
    }
    let listed = list.get(..listed).unwrap_or_default();
    for &at in listed {
        let (Some(&dst), Some(out)) = (dst.get(at as usize), out.get_mut(at as usize)) else { continue };
        // SAFETY: the value, which is that of this address's block, says at which word of it the word is.
        *out = GroupIndex(unsafe { word(base, block(view, dst), elsewhere(out.0)) });
        fetch(base, place(out.0));
    }
    for &at in listed {
        let (Some(&dst), Some(out)) = (dst.get(at as usize), out.get_mut(at as usize)) else { continue };
        let tagged = out.0 & TAG != 0;
        let long = if tagged { place(out.0) } else { 0 };
        let head = (dst as usize >> 6 & (HEADS - 1)) * 4;
        // SAFETY: a tagged word is the handle of a block with 4 heads, each of which says how many words stand before the first of its
        // values.
        let found = unsafe {
            let before = word(base, long, head + 2) as usize;
            word(base, long, before + runs_from(base, long + head * 4, dst))
        };
        *out = GroupIndex(if tagged { found } else { out.0 });
    }
}

macro_rules! kernel {
    ($name:ident $(, $feature:meta)?) => {
        /// # Safety
        /// The view's root is a root of this family in a region that a snapshot keeps, and the CPU can run this.
        $(#[$feature])?
        pub(super) unsafe fn $name(view: View, dst: &[u32], out: &mut [GroupIndex]) {
            let base = view.base;
            let (mut all_dst, mut all_out) = (dst, out);
            // Equal slice lengths let the compiler keep one counter.
            while let Some((dst, rest, out, rest_out)) = next_burst(all_dst, all_out) {
                (all_dst, all_out) = (rest, rest_out);
                for (&dst, out) in dst.iter().zip(out.iter_mut()) {
                    // SAFETY: by the caller.
                    unsafe {
                        let block = block(view, dst);
                        fetch(base, block);
                        *out = GroupIndex(block as u32);
                    }
                }
                for (&dst, out) in dst.iter().zip(out.iter_mut()) {
                    // SAFETY: a block of 64 slots holds 4 times 2 bytes before its values, and one for each of its runs.
                    let value = unsafe {
                        let block = out.0 as usize;
                        short(base, block, 3 + runs_from(base, block, dst >> 8))
                    };
                    *out = GroupIndex(value);
                }
                // Prefixes beyond /24 are rare: most bursts have none, and this is the one branch on a result. The compiler vectorizes it
                // as a loop of its own.
                let values = out.iter().fold(0, |values, value| values | value.0);
                if values >> 31 != 0 {
                    long(view, dst, out);
                }
                or_default(out, view.default);
            }
        }
    };
}

kernel!(scalar);
#[cfg(target_arch = "x86_64")]
kernel!(avx2, target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt"));
