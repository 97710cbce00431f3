//! Reading a table: by key, by identity, in pages, and by last change.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::arena::{Address, Arena, GroupEntry, MiscEntry, NONE, RouteEntry, Slot};
use super::order::compare;
use super::{Context, Table};
use crate::change::{Change, ChangeRef, Path};
use crate::mutation::{Mutation, on};
use crate::record::{GroupValue, Key, Label, Value};
use crate::sketch::sketch_id;

/// A page of a table in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<(Key, Value)>,
    /// Pass this to [`Table::page`] to continue; none at the end.
    pub next: Option<Key>,
}

/// The net changes of a table after some serial: what a reader at that serial must apply.
///
/// Yields each record once with its current value: groups first, deleted groups last.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'t> {
    table: &'t Table,
    since: u64,
    count: u64,
}

impl<'t> Batch<'t> {
    /// Serial of the reader.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Serial of the table after the batch.
    pub fn serial(&self) -> u64 {
        self.table.serial
    }

    /// Number of changes.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The table after the batch.
    pub fn table(&self) -> &'t Table {
        self.table
    }

    /// The changes.
    pub fn changes(&self) -> impl Iterator<Item = ChangeRef<'t>> + use<'t> {
        let table = self.table;
        let (groups, _) = table.first_after(table.group_list, self.since, usize::MAX);
        let (rest, _) = table.first_after(table.list, self.since, usize::MAX);
        let put_groups = table.follow(groups).filter(|c| !c.is_deletion());
        let deleted_groups = table.follow(groups).filter(ChangeRef::is_deletion);
        let late = on(Mutation::RoutesBeforeGroups).then(|| put_groups.clone()).into_iter().flatten();
        let early = put_groups.filter(|_| !on(Mutation::RoutesBeforeGroups));
        early.chain(table.follow(rest)).chain(late).chain(deleted_groups)
    }
}

impl Table {
    /// The value of a record.
    pub fn get(&self, key: &Key) -> Option<Value> {
        self.value(self.find(key)?)
    }

    /// Content of a group, shared.
    pub fn group(&self, label: Label) -> Option<Arc<GroupValue>> {
        self.group_entry(label)?.value.clone()
    }

    /// Content of a group.
    pub fn group_ref(&self, label: Label) -> Option<&GroupValue> {
        self.group_entry(label)?.value.as_deref()
    }

    fn group_entry(&self, label: Label) -> Option<&GroupEntry> {
        self.groups.entries.get(self.groups.find(label)? as usize)
    }

    /// Serial at which a record, or a remembered deletion, last changed.
    pub fn changed_at(&self, key: &Key) -> Option<u64> {
        self.find(key).map(|slot| self.link(slot).serial)
    }

    /// Whether there is a group of this label.
    pub fn has_group(&self, label: Label) -> bool {
        self.group_ref(label).is_some()
    }

    /// The VRFs that forwarding routes are or were in, in order.
    pub fn vrfs(&self) -> impl Iterator<Item = u32> + '_ {
        self.context_ids.keys().take_while(|context| context.origin.is_none()).map(|context| context.vrf)
    }

    /// Longest-prefix match among the forwarding routes of a VRF.
    pub fn longest_match(&self, vrf: u32, addr: IpAddr) -> Option<(IpNet, Label)> {
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        (0..=bits).rev().find_map(|len| {
            let prefix = IpNet::new(addr, len).ok()?.trunc();
            match self.get(&Key::Route { vrf, prefix })? {
                Value::Route(label) => Some((prefix, label)),
                _ => None,
            }
        })
    }

    /// Whether all changes after `serial` are still known, so that [`Self::changes_since`] returns them.
    pub fn remembers(&self, serial: u64) -> bool {
        serial <= self.serial && (serial >= self.horizon || self.serial == 0)
    }

    /// The changes that a reader at `serial` lacks. None if it is beyond the horizon or ahead of this table.
    pub fn changes_since(&self, serial: u64) -> Option<Batch<'_>> {
        self.remembers(serial).then(|| self.batch_since(serial))
    }

    /// All records, for a reader that has none. The batch may also contain deletions.
    pub fn everything(&self) -> Batch<'_> {
        self.batch_since(0)
    }

    fn batch_since(&self, serial: u64) -> Batch<'_> {
        let count = self.count_since(serial, usize::MAX) as u64;
        Batch { table: self, since: serial, count }
    }

    /// The routes that last changed after `low` and not after `high`, each with the serial of that change, in its order. Deleted ones only as
    /// far as they are remembered.
    pub fn routes_between(&self, low: u64, high: u64) -> impl Iterator<Item = (u64, ChangeRef<'_>)> {
        let (first, _) = self.first_after(self.list, low, usize::MAX);
        let mut at = first;
        std::iter::from_fn(move || {
            while at != NONE {
                let slot = Slot(at);
                let link = self.link(slot);
                if link.serial > high {
                    return None;
                }
                at = link.next;
                if let Some(change) = self.change(slot).filter(ChangeRef::is_route) {
                    return Some((link.serial, change));
                }
            }
            None
        })
    }

    pub(super) fn records_beside_routes(&self) -> usize {
        let group = size_of::<GroupEntry>() + size_of::<(Label, u32)>() + size_of::<GroupValue>();
        let other = size_of::<MiscEntry>() + size_of::<(Key, u32)>();
        self.groups.entries.capacity() * group + self.misc.entries.capacity() * other
    }

    /// Number of records that changed after `serial`, counted up to `limit`.
    pub fn count_since(&self, serial: u64, limit: usize) -> usize {
        let (_, groups) = self.first_after(self.group_list, serial, limit);
        let (_, rest) = self.first_after(self.list, serial, limit.saturating_sub(groups));
        groups + rest
    }

    /// Up to `limit` live records that pass the filter, in snapshot order, after a key. Records that do not pass cost a visit each, so
    /// start at the right key: groups come first, then routes by origin, VRF and prefix, then the rest.
    pub fn page(&self, after: Option<&Key>, limit: usize, pass: impl Fn(&Key) -> bool) -> Page {
        let mut records: Vec<(Key, Value)> = Vec::new();
        for slot in self.slots_after(after) {
            let Some(key) = self.key(slot).filter(&pass) else { continue };
            let Some(value) = self.value(slot) else { continue };
            if records.len() == limit {
                return Page { next: records.last().map(|(k, _)| k.clone()), records };
            }
            records.push((key, value));
        }
        Page { records, next: None }
    }

    /// All groups, by label.
    pub fn groups(&self) -> impl Iterator<Item = (Label, Arc<GroupValue>)> + '_ {
        self.groups.order.iter().filter_map(|(&label, &i)| {
            let value = self.groups.entries.get(i as usize)?.value.clone()?;
            Some((label, value))
        })
    }

    /// All origins and opaque records, by key.
    pub fn others(&self) -> impl Iterator<Item = (&Key, &Value)> + '_ {
        self.misc.index.values().filter_map(|&i| {
            let e = self.misc.entries.get(i as usize)?;
            Some((&e.key, e.value.as_deref()?))
        })
    }

    /// Records among `ids`, as sketches name them, with their keys: one pass over the identities.
    pub fn find_ids(&self, ids: &HashSet<u64>) -> Vec<(u64, Key, Value)> {
        if ids.is_empty() {
            return Vec::new();
        }
        // A small bitmap rejects nearly all records before the set is searched.
        let mut filter = vec![0u64; 1024];
        for id in ids {
            if let Some(word) = filter.get_mut((id >> 6 & 1023) as usize) {
                *word |= 1 << (id & 63);
            }
        }
        let mut found = Vec::new();
        self.each_id(|slot, id| {
            let id = sketch_id(id);
            let hit = filter.get((id >> 6 & 1023) as usize).is_some_and(|w| w >> (id & 63) & 1 == 1);
            if hit
                && ids.contains(&id)
                && let (Some(key), Some(value)) = (self.key(slot), self.value(slot))
            {
                found.push((id, key, value));
            }
        });
        found.sort_by(|a, b| compare(&a.1, &b.1));
        found
    }

    /// Calls `f` with every live record's slot and identity.
    pub(crate) fn each_id(&self, mut f: impl FnMut(Slot, u128)) {
        for (i, e) in self.groups.entries.iter().enumerate().filter(|(_, e)| e.value.is_some()) {
            f(Slot::new(Arena::Group, i as u32), e.id);
        }
        // A deleted route's identity is 0, so the entries need not be read.
        for (i, &id) in self.v4.ids.iter().enumerate().filter(|(_, id)| **id != 0) {
            f(Slot::new(Arena::V4, i as u32), id);
        }
        for (i, &id) in self.v6.ids.iter().enumerate().filter(|(_, id)| **id != 0) {
            f(Slot::new(Arena::V6, i as u32), id);
        }
        for (i, e) in self.misc.entries.iter().enumerate().filter(|(_, e)| e.value.is_some()) {
            f(Slot::new(Arena::Misc, i as u32), e.id);
        }
    }

    /// The change of a slot that changed after `low` and not after `high`, for a reader.
    ///
    /// A snapshot walks the table as of its beginning; later changes follow by change order.
    pub(crate) fn change_between(&self, slot: Slot, low: u64, high: u64) -> Option<ChangeRef<'_>> {
        let serial = self.link(slot).serial;
        if serial <= low || serial > high { None } else { self.change(slot) }
    }

    /// Remembered groups that were deleted after `serial`.
    pub(crate) fn deleted_groups(&self, serial: u64) -> impl Iterator<Item = Label> + '_ {
        let (first, _) = self.first_after(self.group_list, serial, usize::MAX);
        self.follow(first).filter_map(|c| match c {
            ChangeRef::Group { label, value: None } => Some(label),
            _ => None,
        })
    }

    fn follow(&self, first: u32) -> impl Iterator<Item = ChangeRef<'_>> + Clone {
        let mut at = first;
        std::iter::from_fn(move || {
            while at != NONE {
                let slot = Slot(at);
                at = self.link(slot).next;
                if let Some(change) = self.change(slot) {
                    return Some(change);
                }
            }
            None
        })
    }

    /// What a slot holds, as a change for a reader that lacks it.
    pub(super) fn change(&self, slot: Slot) -> Option<ChangeRef<'_>> {
        let i = slot.index();
        Some(match slot.arena() {
            Arena::V4 => return self.route_change(self.v4.entries.get(i)?),
            Arena::V6 => return self.route_change(self.v6.entries.get(i)?),
            Arena::Group => {
                let entry = self.groups.entries.get(i)?;
                ChangeRef::Group { label: entry.label, value: entry.value.as_deref() }
            }
            Arena::Misc => {
                let entry = self.misc.entries.get(i)?;
                match &entry.value {
                    Some(value) => ChangeRef::put(&entry.key, value)?,
                    None => ChangeRef::delete(&entry.key),
                }
            }
        })
    }

    fn route_change<A: Address>(&self, e: &RouteEntry<A>) -> Option<ChangeRef<'_>> {
        let prefix = e.addr.net(e.len)?;
        let Context { origin, vrf } = self.contexts.get(usize::from(e.context))?.context;
        // A tombstone's group is NONE, which no entry has.
        let label = self.groups.entries.get(e.group as usize).map(|group| group.label);
        Some(match origin {
            None => ChangeRef::Route { vrf, prefix, label },
            Some(origin) => {
                let path = label.map(|label| Path { label, distance: e.distance, metric: e.metric });
                ChangeRef::RibRoute { origin, vrf, prefix, path }
            }
        })
    }

    fn find(&self, key: &Key) -> Option<Slot> {
        match key {
            Key::Group(label) => self.groups.find(*label).map(|i| Slot::new(Arena::Group, i)),
            Key::Route { vrf, prefix } => self.find_route(None, *vrf, prefix),
            Key::RibRoute { origin, vrf, prefix } => self.find_route(Some(*origin), *vrf, prefix),
            other => self.misc.find(other).map(|i| Slot::new(Arena::Misc, i)),
        }
    }

    pub(crate) fn key(&self, slot: Slot) -> Option<Key> {
        self.change(slot).map(|change| change.key())
    }

    pub(super) fn value(&self, slot: Slot) -> Option<Value> {
        match Change::from(self.change(slot)?) {
            Change::Put(_, value) => Some(value),
            Change::Delete(_) => None,
        }
    }
}
