//! How far the result of a lookup reaches, as the blocks have it: for the scrubber, which sees every run of equal results this way, also one
//! that no address of its own choice would hit.
//!
//! The same words are read as by [`super::kernel`], one address at a time and with each offset checked: where memory is damaged, a handle may
//! lead anywhere.

use super::arena::{LINE, Region, Snapshot};
use super::block::{ELSEWHERE, LINES, TABLE, TAG, place};
use super::{Root, V4, V6};
use crate::types::GroupIndex;

/// Addresses with one result, from the one that was asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The result; none: a handle leads out of the region.
    pub(crate) value: Option<GroupIndex>,
    /// The last address, left-aligned, with all ones behind it.
    pub(crate) last: u128,
}

/// The end of the prefix of `len` bits around an address.
fn end(bits: u128, len: u32) -> u128 {
    bits | u128::MAX.checked_shr(len).unwrap_or(0)
}

/// An address with other bits from `len` on: `slot` in the next `width` of them, then ones.
fn end_of_slot(bits: u128, len: u32, slot: u32, width: u32) -> u128 {
    let below = u128::MAX >> len;
    end(bits & !below | u128::from(slot) << (128 - len - width), len + width)
}

/// Blocks of a region. Errors are lengths of the prefix that cannot be read.
struct Blocks<'a>(&'a Region);

/// Value and last address.
type Found = Result<(u32, u128), u32>;

impl Blocks<'_> {
    fn word(&self, place: usize, index: usize, len: u32) -> Result<u32, u32> {
        let at = place + index * 4;
        if at + 4 > self.0.bytes() {
            return Err(len);
        }
        // SAFETY: inside the region, which is zeroed when it is reserved. The scrubber runs on the thread that writes blocks.
        Ok(unsafe { self.0.base().add(at).cast::<u32>().read_unaligned() })
    }

    fn half(&self, place: usize, index: usize, len: u32) -> Result<u32, u32> {
        Ok(self.word(place, index / 2, len)? >> (index % 2 * 16) & 0xffff)
    }

    /// Of the 64 bits at `place`: how many runs end at `slot` or after it, and the last slot of the first of them.
    fn runs_from(&self, place: usize, slot: u32, len: u32) -> Result<(usize, u32), u32> {
        let ends = u64::from(self.word(place, 0, len)?) | u64::from(self.word(place, 1, len)?) << 32;
        let rest = ends >> slot;
        let last = if rest == 0 { 63 } else { slot + rest.trailing_zeros() };
        Ok((rest.count_ones() as usize, last))
    }

    /// Of the first `lanes` starts at `place`: how many are at or before `key`, and the first one behind it.
    fn starts(&self, place: usize, key: u32, lanes: usize, len: u32) -> Result<(usize, u32), u32> {
        let (mut upto, mut next) = (0, 1 << 16);
        for lane in 0..lanes {
            let start = (self.half(place, lane, len)? ^ 0x8000) + 1;
            upto += usize::from(start <= key);
            next = if start > key { start.min(next) } else { next };
        }
        Ok((upto, next))
    }

    fn v4(&self, root: u32, bits: u128) -> Found {
        let address = (bits >> 96) as u32;
        let page = self.word(root as usize, (address >> 24) as usize, 8)?;
        if page == 0 {
            return Ok((0, end(bits, 8)));
        }
        let block = self.word(page as usize, (address >> 14 & 0x3ff) as usize, 18)? as usize;
        if block == 0 {
            return Ok((0, end(bits, 18)));
        }
        let (runs, last) = self.runs_from(block, address >> 8 & 63, 18)?;
        let value = self.half(block, 3 + runs, 18)?;
        let last = end_of_slot(bits, 18, last, 6);
        if value & ELSEWHERE == 0 {
            return Ok((value, last));
        }
        let word = self.word(block, (value & (ELSEWHERE - 1)) as usize, 24)?;
        if word & TAG == 0 {
            return Ok((word, last));
        }
        let (long, head) = (place(word) as usize, (address >> 6 & 3) as usize * 4);
        let (runs, last) = self.runs_from(long + head * 4, address & 63, 26)?;
        let before = self.word(long, head + 2, 26)? as usize;
        Ok((self.word(long, before + runs, 26)?, end_of_slot(bits, 26, last, 6)))
    }

    fn v6(&self, root: u32, bits: u128) -> Found {
        let high = (bits >> 96) as usize;
        let page = self.word(root as usize, high >> 19, 13)?;
        if page == 0 {
            return Ok((0, end(bits, 13)));
        }
        let block = self.word(page as usize, high >> 6 & 0x1fff, 26)? as usize;
        if block == 0 {
            return Ok((0, end(bits, 26)));
        }
        let (runs, last) = self.runs_from(block, high as u32 & 63, 26)?;
        let mut word = self.word(block, 1 + runs, 26)?;
        if word & TAG == 0 {
            return Ok((word, end_of_slot(bits, 26, last, 6)));
        }
        // No prefix is longer than 128.
        for len in (32..128).step_by(16) {
            let (found, last) = self.deep(word, (bits >> (112 - len)) as u32 & 0xffff, len)?;
            if found & TAG == 0 {
                return Ok((found, end_of_slot(bits, len, last, 16)));
            }
            word = found;
        }
        Err(128)
    }

    /// A node of 16 bits: the word of a key, and the last key with the same.
    fn deep(&self, mut word: u32, key: u32, len: u32) -> Result<(u32, u32), u32> {
        let mut last = 0xffff;
        if word & TABLE != 0 {
            word = self.word(place(word) as usize, (key >> 8) as usize, len)?;
            last = key | 0xff;
            if word & TAG == 0 {
                return Ok((word, last));
            }
        }
        let mut line = place(word) as usize;
        if word & LINES != 0 {
            let (upto, next) = self.starts(line, key, 2 * LINE, len)?;
            last = last.min(next - 1);
            line += (1 + upto) * LINE * 4;
        }
        let (upto, next) = self.starts(line, key, LINE, len)?;
        last = last.min(next - 1);
        let value = self.half(line, LINE + upto, len)?;
        if value & ELSEWHERE == 0 {
            return Ok((value, last));
        }
        Ok((self.word(line, (value & (ELSEWHERE - 1)) as usize, len)?, last))
    }
}

impl Root {
    /// The run of equal results that begins at an address or before it.
    pub(crate) fn run(self, snapshot: &Snapshot, v4: bool, bits: u128) -> Run {
        let blocks = Blocks(&snapshot.region);
        let found = if v4 { blocks.v4(self.place, bits) } else { blocks.v6(self.place, bits) };
        match found {
            Ok((0, last)) => Run { value: Some(GroupIndex(self.default)), last },
            Ok((value, last)) => Run { value: Some(GroupIndex(value)), last },
            Err(len) => Run { value: None, last: end(bits, len) },
        }
    }
}

// The constants above are those of the shapes.
const _: () = assert!(V4.levels[0].width == 8 && V4.levels[1].width == 10 && V4.levels[2].width == 6);
const _: () = assert!(V6.levels[0].width == 13 && V6.levels[1].width == 13 && V6.levels[2].width == 6);
