//! The undo log of a transaction, and its two ends: commit and roll-back.

use std::sync::Arc;

use super::super::arena::{Arena, NONE, OPEN, OrderLink, Slot, key_bytes};
use super::super::{Commit, TOMBSTONE_BYTES, Table};
use crate::mutation::{Mutation, on};
use crate::record::{GroupValue, Value};
use crate::sketch::Toggle;

/// State of a record before the transaction.
#[derive(Debug)]
struct Saved {
    slot: Slot,
    fresh: bool,
    /// Whether the record differs from before, known once the batch is complete.
    changed: bool,
    serial: u64,
    /// Identity; 0 if it was not live.
    id: u128,
    was: RecordState,
}

#[derive(Debug)]
pub(super) enum RecordState {
    Route { group: u32, metric: u32, distance: u8 },
    Group(Option<Arc<GroupValue>>),
    Misc(Option<Arc<Value>>),
}

impl RecordState {
    pub fn is_live(&self) -> bool {
        match self {
            Self::Route { group, .. } => *group != NONE,
            Self::Group(value) => value.is_some(),
            Self::Misc(value) => value.is_some(),
        }
    }
}

/// What is undone if the batch fails.
#[derive(Debug, Default)]
pub(in super::super) struct Undo {
    saved: Vec<Saved>,
    /// Groups that lost their last user.
    pub(super) unused: Vec<u32>,
}

impl Undo {
    pub(super) fn capacity(&self) -> usize {
        self.saved.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.saved.clear();
        self.unused.clear();
    }
}

impl Table {
    /// Saves a record's state at its first touch.
    pub(super) fn save(&mut self, slot: Slot, fresh: bool, undo: &mut Undo) {
        let Some(link) = self.link_mut(slot) else { return };
        if link.serial == OPEN {
            return;
        }
        let serial = std::mem::replace(&mut link.serial, OPEN);
        let (id, was) = self.state(slot);
        undo.saved.push(Saved { slot, fresh, changed: true, serial, id, was });
    }

    fn state(&self, slot: Slot) -> (u128, RecordState) {
        let i = slot.index();
        macro_rules! route {
            ($routes:expr) => {
                match ($routes.entries.get(i), $routes.ids.get(i)) {
                    (Some(e), Some(&id)) => {
                        (id, RecordState::Route { group: e.group, metric: e.metric, distance: e.distance })
                    }
                    _ => (0, RecordState::Route { group: NONE, metric: 0, distance: 0 }),
                }
            };
        }
        match slot.arena() {
            Arena::V4 => route!(self.v4),
            Arena::V6 => route!(self.v6),
            Arena::Group => match self.groups.entries.get(i) {
                Some(e) => (e.id, RecordState::Group(e.value.clone())),
                None => (0, RecordState::Group(None)),
            },
            Arena::Misc => match self.misc.entries.get(i) {
                Some(e) => (e.id, RecordState::Misc(e.value.clone())),
                None => (0, RecordState::Misc(None)),
            },
        }
    }

    /// Identity of a slot's record; none if it is not live.
    pub(in super::super) fn id_of(&self, slot: Slot) -> Option<u128> {
        let i = slot.index();
        match slot.arena() {
            // A deleted route's identity is 0, and so is a live one's in one of 2^128 cases.
            Arena::V4 => match self.v4.ids.get(i) {
                Some(0) | None => self.v4.entries.get(i).filter(|e| e.group != NONE).map(|_| 0),
                Some(&id) => Some(id),
            },
            Arena::V6 => match self.v6.ids.get(i) {
                Some(0) | None => self.v6.entries.get(i).filter(|e| e.group != NONE).map(|_| 0),
                Some(&id) => Some(id),
            },
            Arena::Group => self.groups.entries.get(i).filter(|e| e.value.is_some()).map(|e| e.id),
            Arena::Misc => self.misc.entries.get(i).filter(|e| e.value.is_some()).map(|e| e.id),
        }
    }

    /// Determines what has changed in the end, as toggles for the sketch.
    pub(super) fn settle(&self, undo: &mut Undo, toggles: &mut Vec<Toggle>) {
        for saved in &mut undo.saved {
            let was = saved.was.is_live().then_some(saved.id);
            let is = self.id_of(saved.slot);
            saved.changed = was != is;
            if saved.changed {
                let forget = is.is_none() && on(Mutation::ForgetSketch);
                toggles.extend(was.filter(|_| !forget).map(|id| Toggle { id, comes: false }));
                toggles.extend(is.map(|id| Toggle { id, comes: true }));
            }
        }
    }

    /// Assigns the serial to the changed records and moves them to the end of the change order.
    pub(super) fn finish(&mut self, undo: &mut Undo) -> Option<Commit> {
        let serial = self.serial + 1;
        let (mut count, mut routes) = (0, 0);
        for saved in &undo.saved {
            if !saved.changed {
                if let Some(link) = self.link_mut(saved.slot) {
                    link.serial = saved.serial;
                }
                continue;
            }
            count += 1;
            routes += u64::from(matches!(saved.slot.arena(), Arena::V4 | Arena::V6));
            let gone = self.id_of(saved.slot).is_none();
            if gone && on(Mutation::ForgetTombstone) {
                if let Some(link) = self.link_mut(saved.slot) {
                    link.serial = saved.serial;
                }
                continue;
            }
            self.touch(saved.slot, serial);
            if gone {
                self.tombstone_bytes += self.tombstone_cost(saved.slot);
                self.tombstones.push_back((saved.slot, serial));
            }
        }
        for saved in undo.saved.iter().filter(|s| s.fresh && !s.changed) {
            self.release(saved.slot);
        }
        if count == 0 {
            return None;
        }
        self.serial = serial;
        self.forget_tombstones();
        Some(Commit { serial, count, routes, digest: self.digest() })
    }

    /// Restores the state before the batch, in which there were so many contexts.
    pub(super) fn roll_back(&mut self, undo: &mut Undo, contexts: usize) {
        let mut fresh = Vec::new();
        for saved in undo.saved.drain(..).rev() {
            match saved.was {
                RecordState::Route { group, metric, distance } => {
                    self.set_route(saved.slot, group, metric, distance, saved.id, None);
                }
                RecordState::Group(value) => self.set_group(saved.slot, value),
                RecordState::Misc(value) => self.set_misc(saved.slot, value, saved.id),
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
        // None of their routes is left.
        for gone in self.contexts.drain(contexts..) {
            self.context_ids.remove(&gone.context);
        }
    }

    /// Frees a slot that no record, tombstone or user needs.
    fn release(&mut self, slot: Slot) {
        let i = slot.index() as u32;
        let used = matches!(slot.arena(), Arena::Group)
            && self.groups.entries.get(slot.index()).is_some_and(|e| e.users > 0);
        if used {
            return;
        }
        self.unlink(slot);
        match slot.arena() {
            Arena::V4 => {
                if let Some(e) = self.v4.entries.get(slot.index())
                    && let Some(context) = self.contexts.get_mut(usize::from(e.context))
                {
                    context.v4.remove(e.addr, e.len);
                }
                self.v4.release(i);
            }
            Arena::V6 => {
                if let Some(e) = self.v6.entries.get(slot.index())
                    && let Some(context) = self.contexts.get_mut(usize::from(e.context))
                {
                    context.v6.remove(e.addr, e.len);
                }
                self.v6.release(i);
            }
            Arena::Group => self.groups.release(i),
            Arena::Misc => {
                let key = self.misc.entries.get(slot.index()).map_or(0, |e| key_bytes(&e.key));
                self.payload -= key.min(self.payload);
                self.misc.release(i);
            }
        }
    }

    /// Bytes of its key that a tombstone keeps.
    fn tombstone_cost(&self, slot: Slot) -> usize {
        let misc = Some(slot).filter(|slot| matches!(slot.arena(), Arena::Misc));
        misc.and_then(|slot| self.misc.entries.get(slot.index())).map_or(0, |e| key_bytes(&e.key))
    }

    fn forget_tombstones(&mut self) {
        while let Some(&(slot, serial)) = self.tombstones.front() {
            let OrderLink { serial: current, .. } = self.link(slot);
            let live = current != serial || self.id_of(slot).is_some();
            let fit =
                self.tombstones.len() <= self.tombstone_limit && self.tombstone_bytes <= TOMBSTONE_BYTES;
            if !live && (fit || serial > self.pin) {
                return;
            }
            self.tombstones.pop_front();
            self.tombstone_bytes -= self.tombstone_cost(slot).min(self.tombstone_bytes);
            if !live {
                if !on(Mutation::ForgetHorizon) {
                    self.horizon = self.horizon.max(serial);
                }
                self.release(slot);
            }
        }
    }
}
