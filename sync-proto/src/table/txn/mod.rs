//! A batch as a transaction: stages changes, then commits them with a serial or rolls them back.
//!
//! The first touch of a record saves its state (`undo`); later touches find it marked open. `route` stages routes, of which batches mostly
//! consist, `other` everything else. At the end, a record that has its old identity again has not changed and keeps its position in the
//! change order. The sketch is updated only then, in one step, so a batch with a wrong digest never touches it.
//!
//! A batch of random routes mostly waits for memory. So it is processed in blocks: first all lookups of a block, which are independent and
//! overlap, then the changes.

mod other;
mod route;
mod undo;

use super::arena::Slot;
use super::{Commit, Table, TableError};
use crate::record::{Change, Key, Label, Value};
use crate::sketch::{RootDigest, Toggle};
use crate::wire::{MAX_HOPS, MAX_NAME, MAX_OPAQUE};
pub(super) use undo::Undo;

/// Changes whose records are looked up together.
const BLOCK: usize = 64;
/// Buffers are kept for the next commit up to this many records.
const KEEP: usize = 64 * 1024;

/// Buffers of a commit, reused by the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    undo: Undo,
    toggles: Vec<Toggle>,
    block: Vec<Change>,
    found: Vec<Option<Slot>>,
}

impl Table {
    pub(super) fn commit_with(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        expected: Option<RootDigest>,
        collect: bool,
    ) -> Result<Option<Commit>, TableError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let staged = self.stage_all(changes.into_iter(), &mut scratch).and_then(|()| {
            if collect {
                self.collect(&mut scratch.undo);
            }
            self.settle(&mut scratch.undo, &mut scratch.toggles);
            self.check(expected, &scratch.toggles)
        });
        let result = match staged {
            Ok(()) => {
                self.sketch.apply(&scratch.toggles);
                Ok(self.finish(&mut scratch.undo))
            }
            Err(error) => {
                self.roll_back(&mut scratch.undo);
                Err(error)
            }
        };
        scratch.block.clear();
        scratch.toggles.clear();
        scratch.undo.clear();
        if scratch.toggles.capacity() <= KEEP {
            self.scratch = scratch;
        }
        result
    }

    fn stage_all(
        &mut self,
        mut changes: impl Iterator<Item = Change>,
        scratch: &mut Scratch,
    ) -> Result<(), TableError> {
        let Scratch { undo, block, found, .. } = scratch;
        loop {
            block.extend(changes.by_ref().take(BLOCK));
            if block.is_empty() {
                return Ok(());
            }
            self.find_all(block, found);
            for (change, found) in block.drain(..).zip(found.iter()) {
                self.stage(change, *found, undo)?;
            }
        }
    }

    fn check(&self, expected: Option<RootDigest>, toggles: &[Toggle]) -> Result<(), TableError> {
        if self.dangling > 0 {
            let missing = self.groups.entries.iter().find(|e| e.users > 0 && e.value.is_none());
            let label = missing.map_or(Label(0), |e| e.label);
            return Err(TableError::MissingGroup { routes: self.dangling, label });
        }
        let Some(expected) = expected else { return Ok(()) };
        let found = self.sketch.root_after(toggles);
        if expected == found { Ok(()) } else { Err(TableError::Digest { expected, found }) }
    }

    fn stage(&mut self, change: Change, found: Option<Slot>, undo: &mut Undo) -> Result<(), TableError> {
        match change {
            Change::Put(Key::Route { vrf, prefix }, Value::Route(label)) => {
                self.put_route(None, vrf, &prefix, (label, 0, 0), found, undo)
            }
            Change::Put(
                Key::RibRoute { origin, vrf, prefix },
                Value::RibRoute { label, distance, metric },
            ) => self.put_route(Some(origin), vrf, &prefix, (label, distance, metric), found, undo),
            Change::Delete(Key::Route { vrf, prefix }) => {
                self.delete_route(None, vrf, &prefix, found, undo);
                Ok(())
            }
            Change::Delete(Key::RibRoute { origin, vrf, prefix }) => {
                self.delete_route(Some(origin), vrf, &prefix, found, undo);
                Ok(())
            }
            Change::Put(Key::Group(label), Value::Group(value)) => {
                let value = value.canonical();
                check_limits(&Key::Group(label), &GroupOr::Group(&value))?;
                self.stage_group(label, Some(value), undo)
            }
            Change::Delete(Key::Group(label)) => self.stage_group(label, None, undo),
            Change::Put(key, value) => {
                check_limits(&key, &GroupOr::Other(&value))?;
                self.put_misc(key, value, undo)
            }
            Change::Delete(key) => self.delete_misc(&key, undo),
        }
    }
}

enum GroupOr<'a> {
    Group(&'a crate::record::GroupValue),
    Other(&'a Value),
}

/// What does not fit a frame is refused here, where its owner sees the error, not on the way to a client.
fn check_limits(key: &Key, value: &GroupOr<'_>) -> Result<(), TableError> {
    use crate::record::GroupValue;
    let at_most = |what: &'static str, limit: usize, found: usize| {
        if found <= limit { Ok(()) } else { Err(TableError::TooLarge { what, limit, found }) }
    };
    let name = |of: &'static str, text: &str| {
        if text.len() > MAX_NAME {
            return Err(TableError::LongName { of, limit: MAX_NAME, found: text.len() });
        }
        if text.chars().any(char::is_control) { Err(TableError::Unprintable { of }) } else { Ok(()) }
    };
    if let Key::Opaque(key) = key {
        at_most("bytes of an opaque key", MAX_OPAQUE, key.len())?;
    }
    match value {
        GroupOr::Group(GroupValue::Hops(hops)) => {
            at_most("next hops of a group", MAX_HOPS, hops.len())?;
            hops.iter().filter_map(|hop| hop.port.as_deref()).try_for_each(|p| name("a port", p))
        }
        GroupOr::Other(Value::Opaque(bytes)) => at_most("bytes of an opaque value", MAX_OPAQUE, bytes.len()),
        GroupOr::Other(Value::Origin(origin)) => {
            name("an origin", &origin.name)?;
            name("an origin's server", &origin.server)
        }
        _ => Ok(()),
    }
}
