//! The change order: records linked in the order of their last change, groups in a list of their own.
//!
//! Two lists, because a batch sends groups before the routes that use them.

use super::Table;
use super::arena::{Arena, List, NONE, OrderLink, Slot};

impl Table {
    pub(super) fn link(&self, slot: Slot) -> OrderLink {
        let i = slot.index();
        match slot.arena() {
            Arena::V4 => self.v4.entries.get(i).map(|e| e.link),
            Arena::V6 => self.v6.entries.get(i).map(|e| e.link),
            Arena::Group => self.groups.entries.get(i).map(|e| e.link),
            Arena::Misc => self.misc.entries.get(i).map(|e| e.link),
        }
        .unwrap_or_default()
    }

    pub(super) fn link_mut(&mut self, slot: Slot) -> Option<&mut OrderLink> {
        let i = slot.index();
        match slot.arena() {
            Arena::V4 => self.v4.entries.get_mut(i).map(|e| &mut e.link),
            Arena::V6 => self.v6.entries.get_mut(i).map(|e| &mut e.link),
            Arena::Group => self.groups.entries.get_mut(i).map(|e| &mut e.link),
            Arena::Misc => self.misc.entries.get_mut(i).map(|e| &mut e.link),
        }
    }

    fn list_mut(&mut self, slot: Slot) -> &mut List {
        if matches!(slot.arena(), Arena::Group) { &mut self.group_list } else { &mut self.list }
    }

    /// Removes a record from the change order, if it is in it.
    pub(super) fn unlink(&mut self, slot: Slot) {
        let OrderLink { prev, next, .. } = self.link(slot);
        let list = self.list_mut(slot);
        if prev == NONE && list.head != slot.0 {
            return;
        }
        if list.head == slot.0 {
            list.head = next;
        }
        if list.tail == slot.0 {
            list.tail = prev;
        }
        if let Some(link) = self.link_mut(Slot(prev)).filter(|_| prev != NONE) {
            link.next = next;
        }
        if let Some(link) = self.link_mut(Slot(next)).filter(|_| next != NONE) {
            link.prev = prev;
        }
        if let Some(link) = self.link_mut(slot) {
            link.prev = NONE;
            link.next = NONE;
        }
    }

    /// Makes a record the last one that changed.
    pub(super) fn touch(&mut self, slot: Slot, serial: u64) {
        self.unlink(slot);
        let list = self.list_mut(slot);
        let tail = std::mem::replace(&mut list.tail, slot.0);
        if tail == NONE {
            list.head = slot.0;
        } else if let Some(link) = self.link_mut(Slot(tail)) {
            link.next = slot.0;
        }
        if let Some(link) = self.link_mut(slot) {
            *link = OrderLink { prev: tail, next: NONE, serial };
        }
    }

    /// The first record of a list that changed after `serial`, and the number of such records, counted up to `limit`.
    pub(super) fn first_after(&self, list: List, serial: u64, limit: usize) -> (u32, usize) {
        let (mut at, mut first, mut n) = (list.tail, NONE, 0);
        while at != NONE && n < limit {
            let link = self.link(Slot(at));
            if link.serial <= serial {
                break;
            }
            first = at;
            n += 1;
            at = link.prev;
        }
        (first, n)
    }
}
