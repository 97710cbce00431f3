//! Slots in the order of their prefixes, for snapshots and pages.
//!
//! Blocks of up to [`BLOCK`] sorted entries behind a sorted list of first keys: two levels of a B-tree. Only new and forgotten prefixes
//! cost time; sorted input is appended.

use super::arena::Address;

/// Entries of a full block: few enough to move, many enough that a million routes need a few thousand blocks.
const BLOCK: usize = 512;

#[derive(Debug)]
struct Entry<A> {
    addr: A,
    slot: u32,
    len: u8,
}

impl<A: Address> Entry<A> {
    fn key(&self) -> (A, u8) {
        (self.addr, self.len)
    }
}

/// Slots by address and length.
#[derive(Debug)]
pub(super) struct Sorted<A> {
    firsts: Vec<(A, u8)>,
    blocks: Vec<Vec<Entry<A>>>,
}

impl<A> Default for Sorted<A> {
    fn default() -> Self {
        Self { firsts: Vec::new(), blocks: Vec::new() }
    }
}

impl<A: Address> Sorted<A> {
    /// The block of a key, existing or not.
    fn block_of(&self, key: (A, u8)) -> usize {
        match self.firsts.last() {
            Some(last) if key >= *last => self.firsts.len() - 1,
            _ => self.firsts.partition_point(|first| *first <= key).saturating_sub(1),
        }
    }

    /// Adds a new key.
    pub fn insert(&mut self, addr: A, len: u8, slot: u32) {
        let key = (addr, len);
        let entry = Entry { addr, slot, len };
        let b = self.block_of(key);
        let last = b + 1 >= self.blocks.len();
        let Some(block) = self.blocks.get_mut(b) else {
            self.firsts.push(key);
            self.blocks.push(vec![entry]);
            return;
        };
        let at = match block.last() {
            Some(e) if e.key() < key => block.len(),
            _ => block.partition_point(|e| e.key() < key),
        };
        if block.len() < BLOCK {
            block.insert(at, entry);
            if at == 0
                && let Some(first) = self.firsts.get_mut(b)
            {
                *first = key;
            }
            return;
        }
        if last && at == BLOCK {
            // Sorted input: full blocks stay full.
            let mut block = Vec::with_capacity(BLOCK);
            block.push(entry);
            self.firsts.push(key);
            self.blocks.push(block);
            return;
        }
        let upper = block.split_off(BLOCK / 2);
        if let Some(e) = upper.first() {
            self.firsts.insert(b + 1, e.key());
            self.blocks.insert(b + 1, upper);
        }
        self.insert(addr, len, slot);
    }

    /// Removes a key.
    pub fn remove(&mut self, addr: A, len: u8) {
        let key = (addr, len);
        let b = self.block_of(key);
        let Some(block) = self.blocks.get_mut(b) else { return };
        let Ok(at) = block.binary_search_by(|e| e.key().cmp(&key)) else { return };
        block.remove(at);
        match block.first() {
            Some(e) => {
                if let Some(first) = self.firsts.get_mut(b) {
                    *first = e.key();
                }
            }
            None => {
                self.blocks.remove(b);
                self.firsts.remove(b);
            }
        }
    }

    /// Slots after a key, in order.
    pub fn after(&self, key: Option<(A, u8)>) -> impl Iterator<Item = u32> + '_ {
        let b = key.map_or(0, |key| self.block_of(key));
        let at = match (key, self.blocks.get(b)) {
            (Some(key), Some(block)) => block.partition_point(|e| e.key() <= key),
            _ => 0,
        };
        let first = self.blocks.get(b).and_then(|block| block.get(at..)).unwrap_or_default();
        let rest = self.blocks.get(b + 1..).unwrap_or_default();
        first.iter().chain(rest.iter().flatten()).map(|e| e.slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_equals_that_of_a_map(
            steps in proptest::collection::vec((any::<bool>(), 0u32..3000), 1..4000),
            from in 0u32..3000,
        ) {
            let (mut sorted, mut model) = (Sorted::<u32>::default(), BTreeMap::new());
            for (slot, (add, addr)) in (0u32..).zip(steps) {
                let key = (addr, (addr % 3) as u8);
                if add && !model.contains_key(&key) {
                    sorted.insert(key.0, key.1, slot);
                    model.insert(key, slot);
                } else if !add {
                    sorted.remove(key.0, key.1);
                    model.remove(&key);
                }
            }
            prop_assert!(sorted.after(None).eq(model.values().copied()));
            let later = model.range((std::ops::Bound::Excluded((from, 1)), std::ops::Bound::Unbounded));
            prop_assert!(sorted.after(Some((from, 1))).eq(later.map(|(_, s)| *s)));
        }
    }

    #[test]
    fn keys_in_order_fill_their_blocks() {
        let mut sorted = Sorted::<u32>::default();
        (0..10_000).for_each(|i| sorted.insert(i, 24, i));
        assert_eq!(sorted.blocks.len(), 10_000usize.div_ceil(BLOCK));
        (5_000..6_000).for_each(|i| sorted.remove(i, 24));
        assert_eq!(sorted.after(Some((4_998, 24))).take(2).collect::<Vec<_>>(), [4_999, 6_000]);
    }
}
