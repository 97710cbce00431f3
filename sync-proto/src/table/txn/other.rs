//! Staging of groups, origins and opaque records.

use std::sync::Arc;

use super::super::arena::{Arena, MAX_SLOTS, Slot, group_bytes, key_bytes, value_bytes};
use super::super::{Table, TableError};
use super::{Undo, limits};
use crate::change::ChangeRef;
use crate::record::{GroupValue, Key, Label, Value, group_id, opaque_id, origin_id};

impl Table {
    pub(super) fn stage_other(&mut self, change: ChangeRef<'_>, undo: &mut Undo) -> Result<(), TableError> {
        match change {
            ChangeRef::Group { label, value: Some(value) } => {
                let value = value.clone().canonical();
                limits::group(&value)?;
                self.stage_group(label, Some(value), undo)
            }
            ChangeRef::Group { label, value: None } => self.stage_group(label, None, undo),
            ChangeRef::Origin { id, value: Some(value) } => {
                limits::origin(value)?;
                let record = Value::Origin(Box::new(value.clone()));
                self.put_misc(Key::Origin(id), record, origin_id(&self.digest_key, id, value), undo)
            }
            ChangeRef::Opaque { key, value: Some(value) } => {
                limits::opaque(key, value)?;
                self.put_misc(
                    Key::Opaque(key.into()),
                    Value::Opaque(value.into()),
                    opaque_id(&self.digest_key, key, value),
                    undo,
                )
            }
            deletion => {
                self.delete_misc(&deletion.key(), undo);
                Ok(())
            }
        }
    }

    pub(super) fn fresh_group(&mut self, label: Label, undo: &mut Undo) -> Result<u32, TableError> {
        let g = self.groups.insert(label).ok_or(TableError::Full(MAX_SLOTS))?;
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

    pub(super) fn set_group(&mut self, slot: Slot, value: Option<Arc<GroupValue>>) {
        let digest_key = self.digest_key;
        let Some(e) = self.groups.entries.get_mut(slot.index()) else { return };
        let (was, is) = (e.value.is_some(), value.is_some());
        e.id = value.as_deref().map_or(0, |v| group_id(&digest_key, e.label, v));
        self.payload += group_bytes(value.as_deref());
        self.payload -= group_bytes(e.value.as_deref()).min(self.payload);
        e.value = value;
        match (was, is) {
            (false, true) => self.dangling = self.dangling.saturating_sub(u64::from(e.users)),
            (true, false) => self.dangling += u64::from(e.users),
            _ => {}
        }
        self.counts.groups = self.counts.groups + u64::from(is) - u64::from(was);
    }

    /// Deletes groups that lost their last user in this batch.
    pub(super) fn collect(&mut self, undo: &mut Undo) {
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

    fn put_misc(&mut self, key: Key, value: Value, id: u128, undo: &mut Undo) -> Result<(), TableError> {
        let (index, fresh) = match self.misc.find(&key) {
            Some(i) => (i, false),
            None => {
                self.payload += key_bytes(&key);
                (self.misc.insert(key).ok_or(TableError::Full(MAX_SLOTS))?, true)
            }
        };
        let slot = Slot::new(Arena::Misc, index);
        self.save(slot, fresh, undo);
        self.set_misc(slot, Some(Arc::new(value)), id);
        Ok(())
    }

    fn delete_misc(&mut self, key: &Key, undo: &mut Undo) {
        if let Some(index) = self.misc.find(key) {
            let slot = Slot::new(Arena::Misc, index);
            self.save(slot, false, undo);
            self.set_misc(slot, None, 0);
        }
    }

    pub(super) fn set_misc(&mut self, slot: Slot, value: Option<Arc<Value>>, id: u128) {
        let Some(e) = self.misc.entries.get_mut(slot.index()) else { return };
        let (was, is) = (e.value.is_some(), value.is_some());
        e.id = id;
        self.payload += value_bytes(value.as_deref());
        self.payload -= value_bytes(e.value.as_deref()).min(self.payload);
        e.value = value;
        let count = match e.key {
            Key::Origin(_) => &mut self.counts.origins,
            _ => &mut self.counts.opaque,
        };
        *count = *count + u64::from(is) - u64::from(was);
    }
}
