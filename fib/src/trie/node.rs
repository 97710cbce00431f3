//! The control side's tree: every route once, 8 bytes each, sorted inside a node that covers a few bits of the address.
//!
//! A node at bit offset `off` covers `width` bits. Prefixes that end inside those bits are its entries; longer ones belong to the child at
//! their slot. Entries sort by (slot, length), so a prefix comes right before what it covers.

use super::block::fetch;
use super::shape::{Kind, Level, Shape};

/// An entry of a node: slot in the node's bits (prefix bits first, then zeros), length below the node, group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u64);

impl Entry {
    fn new(slot: u32, len: u8, group: u32) -> Self {
        Entry(u64::from(slot) << 40 | u64::from(len) << 32 | u64::from(group))
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> 40) as u32
    }

    pub(crate) fn len(self) -> u8 {
        (self.0 >> 32) as u8
    }

    pub(crate) fn group(self) -> u32 {
        self.0 as u32
    }

    fn key(self) -> u64 {
        self.0 >> 32
    }
}

/// Children that are prefetched ahead of their turn.
const AHEAD: usize = 4;

/// Prefetches the cache lines of a slice, up to so many bytes.
fn fetch_all<T>(slice: &[T], bytes: usize) {
    let bytes = size_of_val(slice).min(bytes);
    (0..bytes).step_by(64).for_each(|at| fetch(slice.as_ptr().cast(), at));
}

/// Children of a node: by slot if there are many, sorted if there are few.
#[derive(Debug)]
pub(crate) enum Children {
    Dense(Box<[Option<Box<Node>>]>),
    Sparse(Vec<(u32, Box<Node>)>),
}

/// A node of the tree; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) entries: Vec<Entry>,
    pub(crate) children: Children,
    /// Slots and lengths of entries that changed since the node was encoded, for blocks that can be updated in part.
    pub(crate) dirty: Vec<(u32, u8)>,
    /// Slots of children whose blocks are out of date.
    pub(crate) dirty_children: Vec<u32>,
    /// Whether the parent's list of dirty children holds this node.
    pub(crate) listed: bool,
    /// The whole node must be encoded: it never was, the covering group changed, or its kind of block is always rewritten.
    pub(crate) fresh: bool,
    /// Group of the address space that no entry covers.
    pub(crate) cover: u32,
    /// The value in the parent's block for this node: a group, or a tagged handle.
    pub(crate) leaf: u32,
    /// Size of the node's own block in words; 0 for none.
    pub(crate) words: u32,
    /// The values of a dense node by slot, or of a split node by part.
    pub(crate) parts: Option<Box<[u32]>>,
}

/// Bits `off..off + width` of a left-aligned address.
#[inline]
pub(crate) fn window(bits: u128, off: u8, width: u8) -> u32 {
    ((bits << off) >> (128 - width)) as u32
}

impl Node {
    pub(crate) fn new(shape: &Shape, level: usize) -> Self {
        let children = if shape.kind(level) == Kind::Dense {
            Children::Dense((0..1usize << shape.width(level)).map(|_| None).collect())
        } else {
            Children::Sparse(Vec::new())
        };
        Node {
            entries: Vec::new(),
            children,
            dirty: Vec::new(),
            dirty_children: Vec::new(),
            listed: false,
            fresh: true,
            cover: 0,
            leaf: 0,
            words: 0,
            parts: None,
        }
    }

    /// Whether the node has neither entries nor children.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && match &self.children {
                Children::Dense(slots) => slots.iter().all(Option::is_none),
                Children::Sparse(list) => list.is_empty(),
            }
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.fresh || !self.dirty.is_empty() || !self.dirty_children.is_empty()
    }

    pub(crate) fn child(&self, slot: u32) -> Option<&Node> {
        match &self.children {
            Children::Dense(slots) => slots.get(slot as usize)?.as_deref(),
            Children::Sparse(list) => {
                let place = list.binary_search_by_key(&slot, |child| child.0).ok()?;
                list.get(place).map(|child| &*child.1)
            }
        }
    }

    pub(crate) fn child_mut(&mut self, slot: u32) -> Option<&mut Node> {
        match &mut self.children {
            Children::Dense(slots) => slots.get_mut(slot as usize)?.as_deref_mut(),
            Children::Sparse(list) => {
                let place = list.binary_search_by_key(&slot, |child| child.0).ok()?;
                list.get_mut(place).map(|child| &mut *child.1)
            }
        }
    }

    fn child_or_new(&mut self, slot: u32, shape: &Shape, level: usize) -> Option<&mut Node> {
        match &mut self.children {
            Children::Dense(slots) => {
                Some(slots.get_mut(slot as usize)?.get_or_insert_with(|| Box::new(Node::new(shape, level))))
            }
            Children::Sparse(list) => {
                let place = list.binary_search_by_key(&slot, |child| child.0).unwrap_or_else(|place| {
                    list.insert(place, (slot, Box::new(Node::new(shape, level))));
                    place
                });
                list.get_mut(place).map(|child| &mut *child.1)
            }
        }
    }

    pub(crate) fn remove_child(&mut self, slot: u32) {
        match &mut self.children {
            Children::Dense(slots) => {
                if let Some(child) = slots.get_mut(slot as usize) {
                    *child = None;
                }
            }
            Children::Sparse(list) => {
                if let Ok(place) = list.binary_search_by_key(&slot, |child| child.0) {
                    list.remove(place);
                }
            }
        }
    }

    /// Writes an entry (group 0 removes it); returns the previous group.
    fn put(&mut self, slot: u32, len: u8, group: u32) -> u32 {
        let new = Entry::new(slot, len, group);
        // Sorted input appends.
        let place = match self.entries.last() {
            Some(last) if last.key() < new.key() => Err(self.entries.len()),
            None => Err(0),
            _ => self.entries.binary_search_by_key(&new.key(), |entry| entry.key()),
        };
        match place {
            Ok(place) if group == 0 => self.entries.remove(place).group(),
            Ok(place) => match self.entries.get_mut(place) {
                Some(entry) => std::mem::replace(entry, new).group(),
                None => 0,
            },
            Err(place) => {
                if group != 0 {
                    self.entries.insert(place, new);
                }
                0
            }
        }
    }

    /// Points a prefix of `len` ≥ 1 bits to a group (0 removes it); returns the previous group.
    pub(crate) fn set(
        &mut self,
        shape: &Shape,
        level: usize,
        off: u8,
        bits: u128,
        len: u8,
        group: u32,
    ) -> u32 {
        let Some(&Level { width, kind }) = shape.levels.get(level) else { return 0 };
        let slot = window(bits, off, width);
        if len <= off + width {
            let before = self.put(slot, len - off, group);
            if before != group && matches!(kind, Kind::Dense | Kind::Deep) {
                self.dirty.push((slot, len - off));
            } else if before != group {
                self.fresh = true;
            }
            return before;
        }
        let child = if group == 0 { self.child_mut(slot) } else { self.child_or_new(slot, shape, level + 1) };
        let Some(child) = child else { return 0 };
        let before = child.set(shape, level + 1, off + width, bits, len, group);
        if before != group && !child.listed {
            child.listed = true;
            self.dirty_children.push(slot);
        }
        before
    }

    /// Prefetches what [`Node::set`] will read.
    pub(crate) fn fetch_path(&self, shape: &Shape, bits: u128, len: u8) {
        let (mut node, mut off) = (self, 0);
        for &Level { width, .. } in shape.levels {
            if len <= off + width {
                break;
            }
            let Some(child) = node.child(window(bits, off, width)) else { break };
            node = child;
            off += width;
        }
        node.fetch_entries();
    }

    /// Prefetches the children in `slots` after index `at`.
    pub(crate) fn fetch_children(&self, slots: &[u32], at: usize) {
        let child = |ahead: usize| self.child(*slots.get(at + ahead)?);
        if let Some(child) = child(2 * AHEAD) {
            fetch_all(std::slice::from_ref(child), size_of::<Node>());
        }
        if let Some(child) = child(AHEAD) {
            child.fetch_entries();
        }
    }

    fn fetch_entries(&self) {
        fetch_all(&self.entries, 256);
    }

    /// Discards the record of changes after a roll-back, whose blocks are up to date. Drops children that only the rolled-back changes
    /// created.
    pub(crate) fn settle(&mut self) {
        for slot in std::mem::take(&mut self.dirty_children) {
            let Some(child) = self.child_mut(slot) else { continue };
            child.settle();
            if child.is_empty() {
                self.remove_child(slot);
            }
        }
        self.dirty.clear();
        self.listed = false;
        self.fresh = false;
    }

    /// Marks the node and its descendants as out of date.
    pub(crate) fn refresh(&mut self) {
        self.fresh = true;
        self.dirty_children.clear();
        let slots: Vec<u32> = self.children_from(0).map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some(child) = self.child_mut(slot) {
                child.refresh();
                child.listed = true;
            }
            self.dirty_children.push(slot);
        }
    }

    fn get(&self, slot: u32, len: u8) -> Option<u32> {
        let key = Entry::new(slot, len, 0).key();
        let place = self.entries.binary_search_by_key(&key, |entry| entry.key()).ok()?;
        self.entries.get(place).map(|entry| entry.group())
    }

    /// The longest entry of at most `len` bits that covers `slot`, with its length.
    pub(crate) fn covering(&self, slot: u32, len: u8, width: u8) -> Option<(u8, u32)> {
        (1..=len).rev().find_map(|len| {
            let cut = width - len;
            Some((len, self.get(slot >> cut << cut, len)?))
        })
    }

    /// Index of the first entry at or after `slot`.
    pub(crate) fn first_at(&self, slot: u32) -> usize {
        self.entries.partition_point(|entry| entry.slot() < slot)
    }

    /// The group of exactly this prefix.
    pub(crate) fn exact(&self, shape: &Shape, bits: u128, len: u8) -> Option<u32> {
        let (mut node, mut off) = (self, 0);
        for &Level { width, .. } in shape.levels {
            let slot = window(bits, off, width);
            if len <= off + width {
                return node.get(slot, len - off);
            }
            node = node.child(slot)?;
            off += width;
        }
        None
    }

    /// Longest-prefix match of an address: length and group.
    pub(crate) fn longest(&self, shape: &Shape, bits: u128) -> Option<(u8, u32)> {
        let (mut node, mut off, mut best) = (self, 0, None);
        for &Level { width, .. } in shape.levels {
            let slot = window(bits, off, width);
            if let Some((len, group)) = node.covering(slot, width, width) {
                best = Some((off + len, group));
            }
            let Some(child) = node.child(slot) else { break };
            node = child;
            off += width;
        }
        best
    }

    /// Prefixes in order starting at (`bits`, `len`), as (bits, length, group); up to `limit`.
    pub(crate) fn page(&self, shape: &Shape, from: (u128, u8), limit: usize, out: &mut Vec<(u128, u8, u32)>) {
        self.page_below(shape, 0, 0, 0, from, limit, out);
    }

    #[allow(clippy::too_many_arguments)]
    fn page_below(
        &self,
        shape: &Shape,
        level: usize,
        off: u8,
        above: u128,
        from: (u128, u8),
        limit: usize,
        out: &mut Vec<(u128, u8, u32)>,
    ) {
        let Some(&Level { width, .. }) = shape.levels.get(level) else { return };
        let at = |slot: u32| above | (u128::from(slot) << (128 - u32::from(off) - u32::from(width)));
        let first = if from.0 <= above { 0 } else { window(from.0, off, width) };
        let mut entries = self.entries.get(self.first_at(first)..).unwrap_or_default().iter().peekable();
        let mut children = self.children_from(first).peekable();
        while out.len() < limit {
            let child_slot = children.peek().map(|&(slot, _)| slot);
            // A child's prefixes are longer than every entry at its slot.
            if let Some(entry) = entries.next_if(|entry| child_slot.is_none_or(|slot| entry.slot() <= slot)) {
                let prefix = (at(entry.slot()), off + entry.len());
                if prefix >= from {
                    out.push((prefix.0, prefix.1, entry.group()));
                }
            } else if let Some((slot, child)) = children.next() {
                child.page_below(shape, level + 1, off + width, at(slot), from, limit, out);
            } else {
                return;
            }
        }
    }

    fn children_from(&self, first: u32) -> Box<dyn Iterator<Item = (u32, &Node)> + '_> {
        match &self.children {
            Children::Dense(slots) => Box::new(
                slots
                    .iter()
                    .enumerate()
                    .skip(first as usize)
                    .filter_map(|(slot, child)| child.as_deref().map(|child| (slot as u32, child))),
            ),
            Children::Sparse(list) => Box::new(
                list.iter().skip_while(move |(slot, _)| *slot < first).map(|(slot, child)| (*slot, &**child)),
            ),
        }
    }

    /// Bytes of the tree.
    pub(crate) fn memory(&self) -> usize {
        let own = size_of::<Node>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.dirty.capacity() * size_of::<(u32, u8)>()
            + self.dirty_children.capacity() * 4
            + self.parts.as_ref().map_or(0, |parts| parts.len() * 4);
        own + match &self.children {
            Children::Dense(slots) => {
                slots.len() * 8 + slots.iter().flatten().map(|child| child.memory()).sum::<usize>()
            }
            Children::Sparse(list) => {
                list.capacity() * 16 + list.iter().map(|(_, child)| child.memory()).sum::<usize>()
            }
        }
    }
}
