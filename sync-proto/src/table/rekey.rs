//! Replacement of the digest key of a table in use.

use super::arena::{Arena, Slot};
use super::{Sketch, Table};
use crate::digest::DigestKey;
use crate::sketch::Toggle;

/// Records whose identities enter the sketch together.
const PORTION: usize = 1024;

impl Table {
    /// Computes digest and sketch under another key: a pause of some 0.2 s for a full Internet table. Records and serials stay.
    ///
    /// `epoch` must be new: readers know the table by digests of the old key, and must compare it again.
    pub fn rekey(&mut self, key: DigestKey, epoch: u64) {
        let mut slots = Vec::with_capacity(self.len() as usize);
        self.each_id(|slot, _| slots.push(slot));
        (self.digest_key, self.epoch, self.sketch) = (key, epoch, Sketch::default());
        let mut toggles = Vec::with_capacity(PORTION);
        for slots in slots.chunks(PORTION) {
            toggles.clear();
            for &slot in slots {
                let Some(id) = self.change(slot).and_then(|change| change.id(&key)) else { continue };
                self.set_id(slot, id);
                toggles.push(Toggle { id, comes: true });
            }
            self.sketch.apply(&toggles);
        }
    }

    fn set_id(&mut self, slot: Slot, id: u128) {
        let i = slot.index();
        let place = match slot.arena() {
            Arena::V4 => self.v4.ids.get_mut(i),
            Arena::V6 => self.v6.ids.get_mut(i),
            Arena::Group => self.groups.entries.get_mut(i).map(|e| &mut e.id),
            Arena::Misc => self.misc.entries.get_mut(i).map(|e| &mut e.id),
        };
        if let Some(place) = place {
            *place = id;
        }
    }
}
