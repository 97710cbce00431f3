//! Storage of records: arenas of compact entries, found by key through hash tables of slot numbers.
//!
//! Forwarding routes and origins' routes share the entries; origin and VRF are encoded as a context number. A route holds the slot of its
//! group's entry, so a group's entry outlives its users; an entry without a value is a placeholder for a group that a route named before
//! the group arrived.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::record::{GroupValue, HopValue, Key, Label, OriginValue, Value};

/// No slot: the end of a list, no group.
pub(super) const NONE: u32 = u32::MAX;
/// Slots of one arena.
pub(super) const MAX_SLOTS: u32 = (1 << 30) - 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arena {
    V4,
    V6,
    Group,
    Misc,
}

/// Location of a record: arena in the upper two bits, index below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(super) u32);

impl Slot {
    pub(super) fn new(arena: Arena, index: u32) -> Self {
        Self((arena as u32) << 30 | index)
    }

    pub(super) fn arena(self) -> Arena {
        match self.0 >> 30 {
            0 => Arena::V4,
            1 => Arena::V6,
            2 => Arena::Group,
            _ => Arena::Misc,
        }
    }

    pub(crate) fn is_group(self) -> bool {
        self.arena() == Arena::Group
    }

    pub(super) fn index(self) -> usize {
        (self.0 & ((1 << 30) - 1)) as usize
    }
}

/// Position of a record in the change order, stored in its entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct OrderLink {
    pub prev: u32,
    pub next: u32,
    /// Serial of the commit that last changed the record; 0 for a free slot, [`OPEN`] within a transaction.
    pub serial: u64,
}

/// Serial of a record that the open transaction has touched.
pub(super) const OPEN: u64 = u64::MAX;

impl Default for OrderLink {
    fn default() -> Self {
        Self { prev: NONE, next: NONE, serial: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub head: u32,
    pub tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

/// An address as stored in an arena.
pub(super) trait Address: Copy + Eq + Default + Ord {
    /// Longest prefix that is placed next to its neighbors; see [`route_hash`].
    const NEAR_LEN: u8;

    fn mix(self) -> u64;

    /// The address without its last 8 bits before [`NEAR_LEN`](Self::NEAR_LEN), and those 8 bits.
    fn surroundings(self) -> (u64, u64);

    fn net(self, len: u8) -> Option<IpNet>;
}

impl Address for u32 {
    const NEAR_LEN: u8 = 24;

    fn surroundings(self) -> (u64, u64) {
        (u64::from(self >> 16), u64::from(self >> 8 & 0xff))
    }

    fn mix(self) -> u64 {
        u64::from(self)
    }

    fn net(self, len: u8) -> Option<IpNet> {
        Ipv4Net::new(self.into(), len).ok().map(IpNet::V4)
    }
}

impl Address for [u64; 2] {
    const NEAR_LEN: u8 = 48;

    fn surroundings(self) -> (u64, u64) {
        (self[0] >> 24, self[0] >> 16 & 0xff)
    }

    fn mix(self) -> u64 {
        self[0] ^ self[1].rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn net(self, len: u8) -> Option<IpNet> {
        let addr = u128::from(self[0]) << 64 | u128::from(self[1]);
        Ipv6Net::new(addr.into(), len).ok().map(IpNet::V6)
    }
}

/// Splits an IPv6 address into the stored form.
pub(super) fn halves(net: &Ipv6Net) -> [u64; 2] {
    let bits = u128::from(net.network());
    [(bits >> 64) as u64, bits as u64]
}

/// A route. Without a group it is a tombstone.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteEntry<A> {
    pub link: OrderLink,
    pub addr: A,
    /// Index of the group's entry, or [`NONE`].
    pub group: u32,
    pub metric: u32,
    pub context: u16,
    pub len: u8,
    pub distance: u8,
}

/// All routes of one family. Identities are stored separately, so that a search for them reads nothing else.
#[derive(Debug)]
pub(super) struct Routes<A> {
    pub entries: Vec<RouteEntry<A>>,
    pub ids: Vec<u128>,
    index: HashTable<u32>,
    free: Vec<u32>,
    seed: u64,
}

impl<A> Default for Routes<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), ids: Vec::new(), index: HashTable::new(), free: Vec::new(), seed: seed() }
    }
}

/// A random seed, so that a peer cannot choose prefixes that collide.
fn seed() -> u64 {
    std::hash::RandomState::new().hash_one(0u8)
}

/// Adjacent prefixes are adjacent in the index, 256 buckets to a run, because tables are loaded, sent and walked in the order of prefixes:
/// the next lookup then hits the same cache line. Runs start at buckets that a peer cannot predict, and longer prefixes, of which many
/// would share one bucket, are spread individually. The upper 7 bits, by which the index distinguishes entries of one bucket, come from the
/// whole key.
fn route_hash<A: Address>(seed: u64, context: u16, addr: A, len: u8) -> u64 {
    let whole = key_hash(seed, context, addr.mix(), len);
    if len > A::NEAR_LEN {
        return whole;
    }
    let (far, near) = addr.surroundings();
    let place = key_hash(seed, context, far, 0).wrapping_add(near);
    const TAG: u64 = 0x7f << 57;
    whole & TAG | place & !TAG
}

fn key_hash(seed: u64, context: u16, addr: u64, len: u8) -> u64 {
    let x = fold(addr ^ seed, 0x9e37_79b9_7f4a_7c15) ^ (u64::from(context) << 8 | u64::from(len));
    fold(x ^ seed.rotate_left(17), 0xd6e8_feb8_6659_fd93)
}

/// XOR of both halves of the product, so that every input bit affects the upper and the lower bits.
fn fold(x: u64, by: u64) -> u64 {
    let product = u128::from(x) * u128::from(by);
    (product >> 64) as u64 ^ product as u64
}

impl<A: Address> Routes<A> {
    pub fn find(&self, context: u16, addr: A, len: u8) -> Option<u32> {
        let hash = route_hash(self.seed, context, addr, len);
        self.index
            .find(hash, |&i| {
                self.entries
                    .get(i as usize)
                    .is_some_and(|e| e.addr == addr && e.len == len && e.context == context)
            })
            .copied()
    }

    /// The slot of a key, and whether it is new. None if all are in use.
    pub fn find_or_insert(&mut self, context: u16, addr: A, len: u8) -> Option<(u32, bool)> {
        let (entries, seed) = (&self.entries, self.seed);
        let same = |&i: &u32| {
            entries.get(i as usize).is_some_and(|e| e.addr == addr && e.len == len && e.context == context)
        };
        let again =
            |&i: &u32| entries.get(i as usize).map_or(0, |e| route_hash(seed, e.context, e.addr, e.len));
        let vacant = match self.index.entry(route_hash(seed, context, addr, len), same, again) {
            Entry::Occupied(found) => return Some((*found.get(), false)),
            Entry::Vacant(vacant) => vacant,
        };
        let i = match self.free.last() {
            Some(&i) => i,
            None => u32::try_from(self.entries.len()).ok().filter(|&i| i < MAX_SLOTS)?,
        };
        vacant.insert(i);
        let entry = RouteEntry {
            link: OrderLink::default(),
            addr,
            group: NONE,
            metric: 0,
            context,
            len,
            distance: 0,
        };
        place(&mut self.entries, &mut self.free, entry)?;
        if self.ids.len() < self.entries.len() {
            self.ids.push(0);
        }
        Some((i, true))
    }

    /// Reads what a change of a slot will write, as a prefetch. Returns a value that depends on it.
    pub fn warm(&self, i: u32) -> (OrderLink, u128) {
        let link = self.entries.get(i as usize).map(|e| e.link).unwrap_or_default();
        (link, self.ids.get(i as usize).copied().unwrap_or(0))
    }

    /// Bytes in use here and in the order of prefixes.
    pub fn memory_bytes(&self) -> usize {
        // The index has 4 bytes and a tag for each of its buckets, of which an eighth is empty.
        self.entries.capacity() * (size_of::<RouteEntry<A>>() + size_of::<(A, u8, u32)>())
            + self.ids.capacity() * size_of::<u64>()
            + (self.index.capacity() * 6 + self.free.capacity() * size_of::<u32>())
    }

    /// Frees a slot.
    pub fn release(&mut self, i: u32) {
        let Some(e) = self.entries.get_mut(i as usize) else { return };
        e.link = OrderLink::default();
        let hash = route_hash(self.seed, e.context, e.addr, e.len);
        if let Ok(found) = self.index.find_entry(hash, |&j| j == i) {
            found.remove();
        }
        self.free.push(i);
    }
}

fn place<T>(entries: &mut Vec<T>, free: &mut Vec<u32>, entry: T) -> Option<u32> {
    if let Some(i) = free.pop() {
        if let Some(e) = entries.get_mut(i as usize) {
            *e = entry;
        }
        return Some(i);
    }
    let i = u32::try_from(entries.len()).ok().filter(|&i| i < MAX_SLOTS)?;
    entries.push(entry);
    Some(i)
}

/// A group; without a value a placeholder or a tombstone.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub link: OrderLink,
    pub label: Label,
    pub value: Option<Arc<GroupValue>>,
    pub users: u32,
    pub id: u128,
}

#[derive(Debug)]
pub(super) struct Groups {
    pub entries: Vec<GroupEntry>,
    /// All slots by label.
    pub order: BTreeMap<Label, u32>,
    index: HashTable<u32>,
    free: Vec<u32>,
    seed: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            order: BTreeMap::new(),
            index: HashTable::new(),
            free: Vec::new(),
            seed: seed(),
        }
    }
}

impl Groups {
    pub fn find(&self, label: Label) -> Option<u32> {
        let hash = key_hash(self.seed, 0, label.0, 0);
        self.index.find(hash, |&i| self.entries.get(i as usize).is_some_and(|e| e.label == label)).copied()
    }

    pub fn insert(&mut self, label: Label) -> Option<u32> {
        let entry = GroupEntry { link: OrderLink::default(), label, value: None, users: 0, id: 0 };
        let i = place(&mut self.entries, &mut self.free, entry)?;
        let (entries, seed) = (&self.entries, self.seed);
        self.index.insert_unique(key_hash(seed, 0, label.0, 0), i, |&i| {
            entries.get(i as usize).map_or(0, |e| key_hash(seed, 0, e.label.0, 0))
        });
        self.order.insert(label, i);
        Some(i)
    }

    pub fn release(&mut self, i: u32) {
        let Some(e) = self.entries.get_mut(i as usize) else { return };
        e.link = OrderLink::default();
        e.value = None;
        self.order.remove(&e.label);
        let hash = key_hash(self.seed, 0, e.label.0, 0);
        if let Ok(found) = self.index.find_entry(hash, |&j| j == i) {
            found.remove();
        }
        self.free.push(i);
    }
}

/// An origin or an opaque record; without a value a tombstone.
#[derive(Debug)]
pub(super) struct MiscEntry {
    pub link: OrderLink,
    pub key: Key,
    pub value: Option<Arc<Value>>,
    pub id: u128,
}

#[derive(Debug, Default)]
pub(super) struct Misc {
    pub entries: Vec<MiscEntry>,
    /// All slots by key.
    pub index: BTreeMap<Key, u32>,
    free: Vec<u32>,
}

impl Misc {
    pub fn find(&self, key: &Key) -> Option<u32> {
        self.index.get(key).copied()
    }

    /// A slot for a new key, which the entry and the index hold one copy each of.
    pub fn insert(&mut self, key: Key) -> Option<u32> {
        let entry = MiscEntry { link: OrderLink::default(), key: key.clone(), value: None, id: 0 };
        let i = place(&mut self.entries, &mut self.free, entry)?;
        self.index.insert(key, i);
        Some(i)
    }

    pub fn release(&mut self, i: u32) {
        let Some(e) = self.entries.get_mut(i as usize) else { return };
        e.link = OrderLink::default();
        e.value = None;
        self.index.remove(&e.key);
        e.key = Key::Group(Label(0));
        self.free.push(i);
    }
}

/// Bytes of a group beside its entry.
pub(super) fn group_bytes(value: Option<&GroupValue>) -> usize {
    match value {
        Some(GroupValue::Hops(hops)) => hops
            .iter()
            .map(|hop| size_of::<HopValue>() + hop.port.as_ref().map_or(0, |port| port.len()))
            .sum::<usize>(),
        _ => 0,
    }
}

/// Bytes of a value beside its entry.
pub(super) fn value_bytes(value: Option<&Value>) -> usize {
    match value {
        None => 0,
        Some(Value::Opaque(bytes)) => size_of::<Value>() + bytes.len(),
        Some(Value::Origin(origin)) => {
            size_of::<Value>() + size_of::<OriginValue>() + origin.name.len() + origin.server.len()
        }
        Some(_) => size_of::<Value>(),
    }
}

/// Bytes of a key beside its entry: the entry and the index have one copy each.
pub(super) fn key_bytes(key: &Key) -> usize {
    match key {
        Key::Opaque(key) => 2 * key.len(),
        _ => 0,
    }
}
