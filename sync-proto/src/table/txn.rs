//! A batch as a transaction: stage its changes, then finish with a serial, or undo all of them.
//!
//! The first touch of a record saves its state; later ones find the record marked open. At the end, a record that
//! is back at its old identity has not changed and keeps its place in the change order.

use std::sync::Arc;

use ipnet::IpNet;

use super::arena::{Arena, MAX_SLOTS, NONE, Slot, halves};
use super::links::{Link, OPEN};
use super::{Commit, Context, Table, TableError};
use crate::mutation::{Mutation, on};
use crate::record::{Change, GroupValue, Key, Label, OriginId, Value};
use crate::record::{group_id, record_id, route_id, with_octets};
use crate::sketch::{RootDigest, Sketch};

/// What a record was before the transaction.
pub(super) struct Saved {
    slot: Slot,
    serial: u64,
    /// 0 if it was no live record.
    id: u64,
    was: State,
    fresh: bool,
}

enum State {
    Route { group: u32, metric: u32, distance: u8 },
    Group(Option<Arc<GroupValue>>),
    Misc(Option<Value>),
}

/// What is undone if the batch fails.
#[derive(Default)]
struct Undo {
    saved: Vec<Saved>,
    /// Groups that lost their last user.
    unused: Vec<u32>,
}

impl Table {
    pub(super) fn commit_with(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        expected: Option<RootDigest>,
        collect: bool,
    ) -> Result<Option<Commit>, TableError> {
        let mut undo = Undo::default();
        let result = changes.into_iter().try_for_each(|c| self.stage(c, &mut undo)).and_then(|()| {
            if collect {
                self.collect(&mut undo);
            }
            self.check(expected)
        });
        match result {
            Ok(()) => Ok(self.finish(undo)),
            Err(error) => {
                self.roll_back(undo);
                Err(error)
            }
        }
    }

    fn check(&self, expected: Option<RootDigest>) -> Result<(), TableError> {
        if self.dangling > 0 {
            let missing = self.groups.entries.iter().find(|e| e.users > 0 && e.value.is_none());
            let label = missing.map_or(Label(0), |e| e.label);
            return Err(TableError::MissingGroup { routes: self.dangling, label });
        }
        let found = self.digest();
        match expected {
            Some(expected) if expected != found => Err(TableError::Digest { expected, found }),
            _ => Ok(()),
        }
    }

    fn stage(&mut self, change: Change, undo: &mut Undo) -> Result<(), TableError> {
        match change {
            Change::Put(Key::Route { vrf, prefix }, Value::Route(label)) => {
                self.stage_route(None, vrf, prefix, Some((label, 0, 0)), undo)
            }
            Change::Put(
                Key::RibRoute { origin, vrf, prefix },
                Value::RibRoute { label, distance, metric },
            ) => self.stage_route(Some(origin), vrf, prefix, Some((label, distance, metric)), undo),
            Change::Delete(Key::Route { vrf, prefix }) => self.stage_route(None, vrf, prefix, None, undo),
            Change::Delete(Key::RibRoute { origin, vrf, prefix }) => {
                self.stage_route(Some(origin), vrf, prefix, None, undo)
            }
            Change::Put(Key::Group(label), Value::Group(value)) => {
                self.stage_group(label, Some(value.canonical()), undo)
            }
            Change::Delete(Key::Group(label)) => self.stage_group(label, None, undo),
            Change::Put(key, value) => {
                let Some(id) = record_id(&key, &value) else { return Err(TableError::Kind(key)) };
                self.stage_misc(key, Some((value, id)), undo)
            }
            Change::Delete(key) => self.stage_misc(key, None, undo),
        }
    }

    fn context(&mut self, context: Context) -> Result<u16, TableError> {
        if let Some(&i) = self.context_ids.get(&context) {
            return Ok(i);
        }
        let i = u16::try_from(self.contexts.len())
            .ok()
            .filter(|&i| i < u16::MAX)
            .ok_or(TableError::TooManyContexts { vrf: context.vrf })?;
        self.contexts.push(context);
        self.context_ids.insert(context, i);
        Ok(i)
    }

    fn stage_route(
        &mut self,
        origin: Option<OriginId>,
        vrf: u32,
        prefix: IpNet,
        to: Option<(Label, u8, u32)>,
        undo: &mut Undo,
    ) -> Result<(), TableError> {
        let context = Context { origin, vrf };
        let context = match (self.context_ids.get(&context), to) {
            (Some(&i), _) => i,
            (None, None) => return Ok(()),
            (None, Some(_)) => self.context(context)?,
        };
        let len = prefix.prefix_len();
        let found = match &prefix {
            IpNet::V4(p) => self.v4.find(context, u32::from(p.network()), len),
            IpNet::V6(p) => self.v6.find(context, halves(p), len),
        };
        let (index, fresh) = match (found, to) {
            (Some(i), _) => (i, false),
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                let new = match &prefix {
                    IpNet::V4(p) => self.v4.insert(context, u32::from(p.network()), len),
                    IpNet::V6(p) => self.v6.insert(context, halves(p), len),
                };
                self.structure += 1;
                (new.ok_or(TableError::Full(MAX_SLOTS))?, true)
            }
        };
        let arena = if matches!(prefix, IpNet::V4(_)) { Arena::V4 } else { Arena::V6 };
        let slot = Slot::new(arena, index);
        let state = match to {
            None => None,
            Some((label, distance, metric)) => {
                let group = match self.groups.find(label) {
                    Some(g) => g,
                    None => self.fresh_group(label, undo)?,
                };
                let rib = origin.map(|o| (o, distance, metric));
                let id = with_octets(&prefix, |a| route_id(rib, vrf, a, len, label));
                Some((group, metric, distance, id))
            }
        };
        self.save(slot, fresh, undo);
        let (group, metric, distance, id) = state.unwrap_or((NONE, 0, 0, 0));
        self.set_route(slot, group, metric, distance, id, Some(undo));
        Ok(())
    }

    /// Writes a route's state and all that follows from it: users of groups, counts, sketch.
    fn set_route(
        &mut self,
        slot: Slot,
        group: u32,
        metric: u32,
        distance: u8,
        id: u64,
        undo: Option<&mut Undo>,
    ) {
        let i = slot.index();
        macro_rules! swap {
            ($routes:expr) => {{
                let (Some(e), Some(old_id)) = ($routes.entries.get_mut(i), $routes.ids.get_mut(i)) else {
                    return;
                };
                let old_group = std::mem::replace(&mut e.group, group);
                e.metric = metric;
                e.distance = distance;
                (old_group, std::mem::replace(old_id, id), e.context)
            }};
        }
        let v4 = matches!(slot.arena(), Arena::V4);
        let (old_group, old_id, context) = if v4 { swap!(self.v4) } else { swap!(self.v6) };
        if old_group != group {
            self.use_group(group);
            self.drop_group(old_group, undo);
        }
        let rib = self.contexts.get(usize::from(context)).is_some_and(|c| c.origin.is_some());
        let count = match (rib, v4) {
            (false, true) => &mut self.counts.routes_v4,
            (false, false) => &mut self.counts.routes_v6,
            (true, true) => &mut self.counts.rib_routes_v4,
            (true, false) => &mut self.counts.rib_routes_v6,
        };
        *count = *count + u64::from(group != NONE) - u64::from(old_group != NONE);
        self.change_id(old_id, old_group != NONE, id, group != NONE);
    }

    fn change_id(&mut self, old: u64, was: bool, new: u64, is: bool) {
        if was && is && old == new {
            return;
        }
        if was && (is || !on(Mutation::ForgetSketch)) {
            self.sketch.toggle(old, -1);
        }
        if is {
            self.sketch.toggle(new, 1);
        }
    }

    fn use_group(&mut self, group: u32) {
        if let Some(e) = self.groups.entries.get_mut(group as usize).filter(|_| group != NONE) {
            e.users += 1;
            self.dangling += u64::from(e.value.is_none());
        }
    }

    fn drop_group(&mut self, group: u32, undo: Option<&mut Undo>) {
        if let Some(e) = self.groups.entries.get_mut(group as usize).filter(|_| group != NONE) {
            e.users = e.users.saturating_sub(1);
            self.dangling = self.dangling.saturating_sub(u64::from(e.value.is_none()));
            if let Some(undo) = undo.filter(|_| e.users == 0) {
                undo.unused.push(group);
            }
        }
    }

    fn fresh_group(&mut self, label: Label, undo: &mut Undo) -> Result<u32, TableError> {
        let g = self.groups.insert(label).ok_or(TableError::Full(MAX_SLOTS))?;
        self.structure += 1;
        self.save(Slot::new(Arena::Group, g), true, undo);
        Ok(g)
    }

    fn stage_group(
        &mut self,
        label: Label,
        value: Option<GroupValue>,
        undo: &mut Undo,
    ) -> Result<(), TableError> {
        let group = match (self.groups.find(label), &value) {
            (Some(g), _) => g,
            (None, None) => return Ok(()),
            (None, Some(_)) => self.fresh_group(label, undo)?,
        };
        let slot = Slot::new(Arena::Group, group);
        self.save(slot, false, undo);
        self.set_group(slot, value.map(Arc::new));
        Ok(())
    }

    fn set_group(&mut self, slot: Slot, value: Option<Arc<GroupValue>>) {
        let Some(e) = self.groups.entries.get_mut(slot.index()) else { return };
        let (was, is) = (e.value.is_some(), value.is_some());
        let id = value.as_deref().map_or(0, |v| group_id(e.label, v));
        let old = std::mem::replace(&mut e.id, id);
        e.value = value;
        match (was, is) {
            (false, true) => self.dangling = self.dangling.saturating_sub(u64::from(e.users)),
            (true, false) => self.dangling += u64::from(e.users),
            _ => {}
        }
        self.counts.groups = self.counts.groups + u64::from(is) - u64::from(was);
        self.change_id(old, was, id, is);
    }

    fn stage_misc(&mut self, key: Key, to: Option<(Value, u64)>, undo: &mut Undo) -> Result<(), TableError> {
        let (index, fresh) = match (self.misc.find(&key), &to) {
            (Some(i), _) => (i, false),
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                self.structure += 1;
                (self.misc.insert(key).ok_or(TableError::Full(MAX_SLOTS))?, true)
            }
        };
        let slot = Slot::new(Arena::Misc, index);
        self.save(slot, fresh, undo);
        let (value, id) = to.map_or((None, 0), |(v, id)| (Some(v), id));
        self.set_misc(slot, value, id);
        Ok(())
    }

    fn set_misc(&mut self, slot: Slot, value: Option<Value>, id: u64) {
        let Some(e) = self.misc.entries.get_mut(slot.index()) else { return };
        let (was, is) = (e.value.is_some(), value.is_some());
        let old = std::mem::replace(&mut e.id, id);
        e.value = value;
        let count = match e.key {
            Key::Origin(_) => &mut self.counts.origins,
            _ => &mut self.counts.opaque,
        };
        *count = *count + u64::from(is) - u64::from(was);
        self.change_id(old, was, id, is);
    }

    /// Remembers what a record was, the first time the transaction touches it.
    fn save(&mut self, slot: Slot, fresh: bool, undo: &mut Undo) {
        let Some(link) = self.link_mut(slot) else { return };
        if link.serial == OPEN {
            return;
        }
        let serial = std::mem::replace(&mut link.serial, OPEN);
        let (id, was) = self.state(slot);
        undo.saved.push(Saved { slot, serial, id, was, fresh });
    }

    fn state(&self, slot: Slot) -> (u64, State) {
        let i = slot.index();
        let dead = State::Route { group: NONE, metric: 0, distance: 0 };
        macro_rules! route {
            ($routes:expr) => {
                match ($routes.entries.get(i), $routes.ids.get(i)) {
                    (Some(e), Some(&id)) => {
                        (id, State::Route { group: e.group, metric: e.metric, distance: e.distance })
                    }
                    _ => (0, dead),
                }
            };
        }
        match slot.arena() {
            Arena::V4 => route!(self.v4),
            Arena::V6 => route!(self.v6),
            Arena::Group => match self.groups.entries.get(i) {
                Some(e) => (e.id, State::Group(e.value.clone())),
                None => (0, State::Group(None)),
            },
            Arena::Misc => match self.misc.entries.get(i) {
                Some(e) => (e.id, State::Misc(e.value.clone())),
                None => (0, State::Misc(None)),
            },
        }
    }

    fn collect(&mut self, undo: &mut Undo) {
        for group in std::mem::take(&mut undo.unused) {
            let idle =
                self.groups.entries.get(group as usize).is_some_and(|e| e.users == 0 && e.value.is_some());
            if idle {
                let slot = Slot::new(Arena::Group, group);
                self.save(slot, false, undo);
                self.set_group(slot, None);
            }
        }
    }

    fn finish(&mut self, undo: Undo) -> Option<Commit> {
        let serial = self.serial + 1;
        let mut count = 0;
        let mut unused = Vec::new();
        for saved in undo.saved {
            let (id, now) = self.state(saved.slot);
            let (was, is) = (saved.was.is_live(), now.is_live());
            if was == is && (!is || id == saved.id) {
                // Nothing has changed in the end.
                if let Some(link) = self.link_mut(saved.slot) {
                    link.serial = saved.serial;
                }
                if saved.fresh {
                    unused.push(saved.slot);
                }
                continue;
            }
            count += 1;
            if !is && on(Mutation::ForgetTombstone) {
                if let Some(link) = self.link_mut(saved.slot) {
                    link.serial = saved.serial;
                }
                continue;
            }
            self.touch(saved.slot, serial);
            if !is {
                self.tombstones.push_back((saved.slot, serial));
            }
        }
        for slot in unused {
            self.release(slot);
        }
        if count == 0 {
            return None;
        }
        self.serial = serial;
        self.forget_tombstones();
        Some(Commit { serial, count, digest: self.digest() })
    }

    fn roll_back(&mut self, undo: Undo) {
        let mut fresh = Vec::new();
        for saved in undo.saved.into_iter().rev() {
            match saved.was {
                State::Route { group, metric, distance } => {
                    self.set_route(saved.slot, group, metric, distance, saved.id, None);
                }
                State::Group(value) => self.set_group(saved.slot, value),
                State::Misc(value) => self.set_misc(saved.slot, value, saved.id),
            }
            if let Some(link) = self.link_mut(saved.slot) {
                link.serial = saved.serial;
            }
            if saved.fresh {
                fresh.push(saved.slot);
            }
        }
        for slot in fresh {
            self.release(slot);
        }
    }

    /// Gives a slot back that no record, no tombstone and no user needs.
    fn release(&mut self, slot: Slot) {
        let i = slot.index() as u32;
        let used = matches!(slot.arena(), Arena::Group)
            && self.groups.entries.get(slot.index()).is_some_and(|e| e.users > 0);
        if used {
            return;
        }
        self.unlink(slot);
        self.structure += 1;
        match slot.arena() {
            Arena::V4 => self.v4.release(i),
            Arena::V6 => self.v6.release(i),
            Arena::Group => self.groups.release(i),
            Arena::Misc => self.misc.release(i),
        }
    }

    fn forget_tombstones(&mut self) {
        while let Some(&(slot, serial)) = self.tombstones.front() {
            let Link { serial: current, .. } = self.link(slot);
            let live = current != serial || self.state(slot).1.is_live();
            if !live && (self.tombstones.len() <= self.tombstone_limit || serial > self.pin) {
                return;
            }
            self.tombstones.pop_front();
            if !live {
                if !on(Mutation::ForgetHorizon) {
                    self.horizon = self.horizon.max(serial);
                }
                self.release(slot);
            }
        }
    }
}

impl State {
    fn is_live(&self) -> bool {
        match self {
            Self::Route { group, .. } => *group != NONE,
            Self::Group(value) => value.is_some(),
            Self::Misc(value) => value.is_some(),
        }
    }
}

impl Table {
    /// Recomputes from the records what is kept up to date with them: digest, sketch, counts. False if a panic caught
    /// the table in the middle of a batch.
    pub fn is_sound(&self) -> bool {
        let mut sketch = Sketch::default();
        let mut records = 0;
        for (key, value) in self.iter() {
            let Some(id) = record_id(&key, &value) else { return false };
            sketch.toggle(id, 1);
            records += 1;
        }
        let c = self.counts;
        let open = |slot: Slot| self.link(slot).serial == OPEN;
        self.dangling == 0
            && records == self.len()
            && c.routes() + c.groups + c.origins + c.opaque == records
            && sketch.symbols() == self.sketch.symbols()
            && !self.order().slots.iter().any(|&slot| open(slot))
    }
}
