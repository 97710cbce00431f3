//! How far the result of a lookup reaches, as the blocks have it: for the scrubber, which sees every run of equal results this way, also one
//! that no address of its own choice would hit.
//!
//! The same words are read as by [`super::kernel`], one address at a time and with each offset checked: where memory is damaged, a handle may
//! lead anywhere, or in a circle.

use super::arena::{LINE, Region, Snapshot};
use super::block::{BOTH, ELSEWHERE, GROUP_LINES, KEY, PAGE_BITS, SEPARATED, STARTS, TAG, VALUES, entry};
use super::{Root, V4, V6};
use crate::types::GroupIndex;

const LINE_BYTES: usize = LINE * 4;
/// Bits of a key.
const KEY_BITS: u32 = KEY as u32;
/// Values of an IPv4 page.
const PAGE: usize = 256;

/// Addresses with one result, from the one that was asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The result; none: no lookup may go there, because a handle is none, or leads out of the region or in a circle.
    pub(crate) value: Option<GroupIndex>,
    /// The last address, left-aligned, with all ones behind it.
    pub(crate) last: u128,
}

/// The end of the prefix of `len` bits around an address.
fn end(bits: u128, len: u32) -> u128 {
    bits | u128::MAX.checked_shr(len).unwrap_or(0)
}

/// An address with other bits from `len` on: `slot` in the next `width` of them, or as many as there are, then ones.
fn end_of_slot(bits: u128, len: u32, slot: u32, width: u32) -> u128 {
    let below = u128::MAX >> len;
    end(bits & !below | u128::from(slot) << (128 - width) >> len, len + width)
}

/// The 2-byte value at an index.
fn half(words: &[u32], index: usize) -> u32 {
    words.get(index / 2).map_or(0, |word| word >> (index % 2 * 16) & 0xffff)
}

/// The word of a slot, and the last slot: where there is no route, of as many as follow without one.
fn slot(words: &[u32], slot: usize) -> (u32, u32) {
    let word = words.get(slot).copied().unwrap_or(0);
    let more = words.iter().skip(slot + 1).take_while(|next| word == 0 && **next == 0).count();
    (word, (slot + more) as u32)
}

/// How many of the starts of a line are at or before `key`, and the last key with as many, which may be none of the node.
fn upto(starts: &[u32], key: u32) -> (usize, u32) {
    // Stored less 1, and compared with their sign: those of the keys behind this one.
    let behind = starts.iter().filter(|start| **start as i32 >= key as i32);
    let last = behind.clone().min().copied().unwrap_or(u32::MAX);
    (starts.len() - behind.count(), last)
}

/// Blocks of a region. Errors are lengths of the prefix that cannot be read.
struct Blocks<'a>(&'a Region);

/// Value and last address.
type Found = Result<(u32, u128), u32>;

impl<'a> Blocks<'a> {
    /// The first words of a block.
    fn words(&self, place: usize, count: usize, len: u32) -> Result<&'a [u32], u32> {
        if !place.is_multiple_of(LINE_BYTES) || place + count * 4 > self.0.bytes() {
            return Err(len);
        }
        // SAFETY: inside the region, which is zeroed when it is reserved, and aligned to a line. The scrubber runs on the thread that writes
        // blocks, and none is written while it holds these words.
        Ok(unsafe { std::slice::from_raw_parts(self.0.base().add(place).cast::<u32>(), count) })
    }

    /// The word that a value of 2 bytes points to, from the beginning of its block or line on.
    fn elsewhere(&self, place: usize, value: u32, len: u32) -> Result<u32, u32> {
        let index = (value & (ELSEWHERE - 1)) as usize;
        self.words(place, index + 1, len)?.last().copied().ok_or(len)
    }

    /// A dense step from `len` on: the word of the slot, and the last address of it, or of those without a route.
    fn dense(&self, place: u32, bits: u128, len: u32, width: u32) -> Found {
        let words = self.words(place as usize, 1 << width, len)?;
        let (word, last) = slot(words, (bits << len >> (128 - width)) as usize);
        Ok((word, end_of_slot(bits, len, last, width)))
    }

    fn v4(&self, root: Root, bits: u128) -> Found {
        let steps: &[(u32, u32)] = if root.flat { &[(0, 16)] } else { &[(0, 8), (8, 8)] };
        let mut place = root.place;
        for &(len, width) in steps {
            let (next, last) = self.dense(place, bits, len, width)?;
            if next == 0 {
                return Ok((0, last));
            }
            place = next;
        }
        let page = self.words(place as usize, PAGE / 2, 16)?;
        let slot = (bits >> 104) as usize & (PAGE - 1);
        let value = half(page, slot);
        if value & ELSEWHERE == 0 {
            let more = (slot + 1..PAGE).take_while(|next| half(page, *next) == value).count();
            return Ok((value, end_of_slot(bits, 16, (slot + more) as u32, 8)));
        }
        let word = self.elsewhere(place as usize, value, 24)?;
        if word & TAG == 0 {
            return Ok((word, end(bits, 24)));
        }
        // The last 8 bits, with zeros behind.
        let (found, last) = self.wide(entry(word), ((bits >> 96) as u32 & 0xff) << 16, 24)?;
        // No prefix is longer than 32.
        if found & TAG == 0 { Ok((found, end_of_slot(bits, 24, last >> 16, 8))) } else { Err(24) }
    }

    fn v6(&self, root: Root, bits: u128) -> Found {
        let (page, last) = self.dense(root.place, bits, 0, 12)?;
        if page == 0 {
            return Ok((0, last));
        }
        let (mut node, last) = self.dense(page, bits, 12, 12)?;
        if node == 0 {
            return Ok((0, last));
        }
        let mut lens = (24..128).step_by(24).peekable();
        while let Some(len) = lens.next() {
            let (found, last) = self.wide(node, (bits << len >> (128 - KEY_BITS)) as u32, len)?;
            if found & TAG == 0 {
                return Ok((found, end_of_slot(bits, len, last, KEY_BITS)));
            }
            // No prefix is longer than 128.
            lens.peek().ok_or(len)?;
            node = entry(found);
        }
        Err(0)
    }

    /// A node of 24 bits, by its entry: the word of a key, and the last key with the same.
    fn wide(&self, node: u32, key: u32, len: u32) -> Result<(u32, u32), u32> {
        let bits = node & BOTH;
        if bits > u32::from(PAGE_BITS) {
            return Err(len);
        }
        let below = KEY_BITS - bits;
        let words = self.words((node & !BOTH) as usize, 1 << bits, len)?;
        let (word, last) = slot(words, (key >> below) as usize);
        let mut last = ((last + 1) << below) - 1;
        if word == 0 {
            return Ok((0, last));
        }
        let len = len + bits;
        let (mut place, mut separated) = ((word & !BOTH) as usize, word & SEPARATED);
        let mut line = self.words(place, LINE, len)?;
        if word & BOTH == BOTH {
            let (group, same) = upto(line, key);
            last = last.min(same);
            place += (1 + group * (1 + GROUP_LINES)) * LINE_BYTES;
            separated = SEPARATED;
            line = self.words(place, LINE, len)?;
        }
        if separated != 0 {
            let (lines, same) = upto(line, key);
            last = last.min(same);
            place += ((lines + 1) & separated as usize) * LINE_BYTES;
            line = self.words(place, LINE, len)?;
        }
        let (runs, same) = upto(line.get(..STARTS).unwrap_or_default(), key);
        last = last.min(same);
        let value = half(line, 2 * VALUES + runs);
        if value & ELSEWHERE == 0 { Ok((value, last)) } else { Ok((self.elsewhere(place, value, len)?, last)) }
    }
}

impl Root {
    /// The run of equal results that begins at an address or before it.
    pub(crate) fn run(self, snapshot: &Snapshot, v4: bool, bits: u128) -> Run {
        let blocks = Blocks(&snapshot.region);
        let found = if v4 { blocks.v4(self, bits) } else { blocks.v6(self, bits) };
        match found {
            Ok((0, last)) => Run { value: Some(GroupIndex(self.default)), last },
            Ok((value, last)) => Run { value: Some(GroupIndex(value)), last },
            Err(len) => Run { value: None, last: end(bits, len) },
        }
    }
}

// The constants above are those of the shapes and blocks.
const _: () = assert!(V4.levels.len() == 4 && V4.levels[0].width == 8 && V4.levels[1].width == 8);
const _: () = assert!(V4.flat && V4.levels[2].width == 8 && V4.levels[3].width == 8 && PAGE == 1 << 8);
const _: () = assert!(V6.levels.len() == 7 && V6.levels[0].width == 12 && V6.levels[1].width == 12 && !V6.flat);
const _: () = assert!(V6.levels[2].width == KEY && V6.levels[3].width == KEY && V6.levels[4].width == KEY);
const _: () = assert!(V6.levels[5].width == KEY && V6.levels[6].width == 8 && KEY == 24);
const _: () = assert!(GROUP_LINES == LINE + 1 && GROUP_LINES <= SEPARATED as usize && BOTH > SEPARATED);
const _: () = assert!(BOTH as usize == LINE_BYTES - 1 && 2 * VALUES + STARTS < 2 * LINE);

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::super::{Arena, Encoder, Family, Kernel, V4, V6};
    use super::*;

    /// Both families with routes of all lengths, close together and far apart.
    fn families(random: &mut StdRng, routes: usize) -> (Encoder, Family, Family) {
        let mut encoder = Encoder::new(Arena::new(64 << 20).unwrap());
        let (mut v4, mut v6) = (Family::new(&V4), Family::new(&V6));
        let near = 0x2001_0db8_0005_0006_0007_0008_0009_000a_u128;
        for at in 0..routes {
            // Below a few prefixes, so that nodes have many runs.
            let len = random.random_range(1..=128u8);
            let kept = [0, 8, 20, 40, 70, 100][at % 6];
            let bits = near & !(u128::MAX >> kept) | random.random::<u128>() >> kept;
            // Large groups take a word each.
            let group = [1, 2, 3, ELSEWHERE + 5, 1 << 20][random.random_range(0..5)];
            v6.set(bits & u128::MAX << (128 - len), len, GroupIndex(group));
            let len = len.min(32).max(random.random_range(1..=32));
            let bits = if at % 3 == 0 { 0x0a_07_08_u128 << 104 | bits >> 8 } else { bits };
            v4.set(bits & u128::MAX << (128 - len), len, GroupIndex(group));
        }
        v4.set(0, 0, GroupIndex(9));
        for family in [&mut v4, &mut v6] {
            family.encode(&mut encoder);
            family.flatten(&mut encoder.arena);
        }
        (encoder, v4, v6)
    }

    /// Walks all runs, which have to proceed; returns those that can be read.
    fn walk(root: Root, snapshot: &Snapshot, v4: bool) -> Vec<(u128, Run)> {
        let (mut found, mut next) = (Vec::new(), Some(0));
        for _ in 0..1 << 20 {
            let Some(begin) = next else { return found };
            let run = root.run(snapshot, v4, begin);
            assert!(run.last >= begin);
            found.extend(run.value.is_some().then_some((begin, run)));
            next = run.last.checked_add(1);
        }
        panic!("no end");
    }

    /// The kernels, which check nothing, see the same at both ends of each run.
    fn check(root: Root, snapshot: &Snapshot, v4: bool) -> usize {
        let runs = walk(root, snapshot, v4);
        let wanted: Vec<GroupIndex> = runs.iter().flat_map(|(_, run)| [run.value.unwrap(); 2]).collect();
        let addresses: Vec<u128> = runs.iter().flat_map(|(first, run)| [*first, run.last]).collect();
        let short: Vec<u32> = addresses.iter().map(|bits| (bits >> 96) as u32).collect();
        for kernel in Kernel::all() {
            let mut found = vec![GroupIndex::NO_ROUTE; wanted.len()];
            if v4 {
                root.lookup_v4(snapshot, kernel, &short, &mut found);
            } else {
                root.lookup_v6(snapshot, kernel, &addresses, &mut found);
            }
            let differs = (0..found.len()).find(|&at| found[at] != wanted[at]);
            assert_eq!(differs.map(|at| (addresses[at], wanted[at], found[at])), None, "{}", kernel.name);
        }
        runs.len()
    }

    #[test]
    fn damaged_blocks_are_read_without_a_crash_or_a_circle_and_as_the_kernels_do() {
        let mut random = StdRng::seed_from_u64(3);
        // With a flat root, and without one.
        for (routes, flat) in [(3_000, true), (400, false)] {
            let (mut encoder, v4, v6) = families(&mut random, routes);
            let snapshot = encoder.arena.snapshot();
            let roots = [(v4.root(), true), (v6.root(), false)];
            assert_eq!(roots[0].0.flat, flat);
            for (root, v4) in roots {
                assert!(check(root, &snapshot, v4) > routes / 2);
            }
            let bytes = snapshot.region.bytes();
            let used = encoder.arena.used() / 4;
            let base = snapshot.region.base().cast::<u32>().cast_mut();
            let mut unreadable = 0;
            for round in 0..60 {
                let mut undo = Vec::new();
                for _ in 0..[1, 8, 200][round % 3] {
                    // Blocks begin behind the lines of zeros.
                    let at = (32 << 10) / 4 + random.random_range(0..used);
                    // SAFETY: inside the region, and nobody else reads or writes it.
                    let word = unsafe { &mut *base.add(at) };
                    undo.push((at, *word));
                    let other = (32 << 10) / 4 + random.random_range(0..used) as u32;
                    *word = match random.random_range(0..6) {
                        0 => random.random(),
                        1 => *word ^ 1 << random.random_range(0..32),
                        2 => u32::MAX,
                        3 => bytes as u32 - [4, 64, 128, 1024][random.random_range(0..4)],
                        // To another block, in each form: circles are among them.
                        4 => other * 4 & !63 | random.random_range(0..64),
                        _ => TAG | other * 2 & !31 | random.random_range(0..32),
                    };
                }
                for (root, v4) in roots {
                    check(root, &snapshot, v4);
                    let broken = |at: u32| root.run(&snapshot, v4, u128::from(at) << 112).value.is_none();
                    unreadable += (0..1 << 16).filter(|at| broken(*at)).count();
                }
                for (at, word) in undo.into_iter().rev() {
                    // SAFETY: as above.
                    unsafe { *base.add(at) = word };
                }
            }
            assert!(unreadable > 0);
        }
    }
}
