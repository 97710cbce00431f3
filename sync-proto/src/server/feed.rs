//! The output of an active session: small batches as a whole and shared, copies shared piece by piece ([`super::copy`]), large batches of
//! changes by an incremental walk.
//!
//! The walk needs no copy and no pause: it proceeds from key to key, skips what has changed since it began, and ends with those changes.
//! Its memory is the session's queue. If a slow reader causes many changes in the meantime, a second walk sends these, and the changes
//! during that one are sent at once, unless they are larger than a batch may be ([`super::Limits::batch`]): then another walk follows.
//! Groups are never skipped, so no route precedes its group.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::{Cache, Changes};
use super::copy::{Copy, Piece};
use super::encoded::commit;
use super::room::Room;
use super::views::Wanted;
use crate::change::ChangeRef;
use crate::codec::Encoder;
use crate::frame::{Frame, Mode};
use crate::mutation::{Mutation, on};
use crate::outbox::Outbox;
use crate::record::Key;
use crate::table::Table;

/// Slots between two checks of the queue.
const STEP: usize = 512;

/// An incremental walk through a table.
#[derive(Debug)]
struct Walk {
    /// The key up to which everything is sent.
    at: Option<Key>,
    over: bool,
    /// Only records that changed after this serial: 0 for a snapshot.
    low: u64,
    /// Only records that had last changed when the walk began.
    high: u64,
    mode: Mode,
    /// The second walk, through the changes during the first one.
    again: bool,
    /// Groups deleted after this serial are sent at the end, after all routes that left them.
    groups_from: u64,
    encoder: Encoder,
}

/// State of a session's output.
#[derive(Debug)]
pub(super) struct Feed {
    /// Last serial whose commit is queued.
    pub serial: u64,
    walk: Option<Walk>,
    /// The copy in progress, and the number of its queued pieces.
    copy: Option<(Arc<Mutex<Copy>>, usize)>,
}

impl Walk {
    /// So much has changed that the end is another walk.
    fn once_more(&mut self, table: &Table) {
        (self.at, self.over, self.low) = (None, false, self.high);
        self.high = table.serial();
        self.again = true;
        if self.mode == Mode::Snapshot {
            // From now on deletions matter, which a snapshot omits; the batch stays a snapshot.
            self.mode = Mode::Reconcile;
        }
    }

    /// The changes since the walk began, its deleted groups and the commit, with the number of routes. None if they are larger than a batch
    /// may be.
    fn rest(&mut self, table: &Table, room: &Room) -> Option<(Vec<u8>, u64)> {
        let changes = table.changes_since(self.high)?.changes().filter(|_| !on(Mutation::DropWalkTail));
        let groups = table.deleted_groups(self.groups_from);
        let groups = groups.map(|label| ChangeRef::Group { label, value: None });
        let (mut encoder, mut bytes, mut routes) = (self.encoder.clone(), Vec::new(), 0);
        for change in changes {
            routes += u64::from(change.is_route());
            encoder.push(change, &mut bytes);
            if bytes.len() > room.limits.batch {
                return None;
            }
        }
        // Another walk would not make them fewer; they take 9 bytes each.
        groups.for_each(|group| encoder.push(group, &mut bytes));
        encoder.flush(&mut bytes);
        commit(table, encoder.count()).encode(&mut bytes);
        Some((bytes, routes))
    }
}

fn locked(copy: &Mutex<Copy>) -> MutexGuard<'_, Copy> {
    copy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Result of [`Feed::pump`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// The queue is full, or everything is sent.
    Rest,
    /// The portion is used up, but there is more.
    More,
}

impl Feed {
    pub fn at(serial: u64) -> Self {
        Self { serial, walk: None, copy: None }
    }

    /// Starts a full copy.
    pub fn snapshot(
        wanted: &Wanted,
        table: &Table,
        cache: &mut Cache,
        out: &mut Outbox,
        room: &Room,
    ) -> Self {
        let mut feed = Self::at(0);
        feed.begin_copy(wanted, table, cache, out, false, room);
        feed
    }

    fn begin_copy(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        cache: &mut Cache,
        out: &mut Outbox,
        alone: bool,
        room: &Room,
    ) {
        out.frame(&Frame::Begin { mode: Mode::Snapshot, from: 0 });
        self.walk = None;
        self.copy = Some((cache.copy(wanted, table, alone, room), 0));
    }

    fn begin_changes(&mut self, table: &Table, out: &mut Outbox) {
        let low = self.serial;
        out.frame(&Frame::Begin { mode: Mode::Changes, from: low });
        let high = table.serial();
        let (mode, encoder) = (Mode::Changes, Encoder::new());
        let (again, over, groups_from) = (false, false, low);
        self.walk = Some(Walk { at: None, over, low, high, mode, again, groups_from, encoder });
    }

    /// Sends further pieces of the copy, and at the end the changes since it began.
    fn go_on_with_copy(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        cache: &mut Cache,
        out: &mut Outbox,
        passed_on: &mut u64,
        room: &Room,
    ) -> Pumped {
        let Some((shared, next)) = &mut self.copy else { return Pumped::Rest };
        let shared = Arc::clone(shared);
        let mut copy = locked(&shared);
        // Deletions since the copy began must still be known when it ends.
        if table.horizon() > copy.high {
            drop(copy);
            self.begin_copy(wanted, table, cache, out, false, room);
            return Pumped::More;
        }
        let mut made = 0;
        while out.len() < room.shared_quota() {
            match copy.piece(*next, table, room, &mut made) {
                Piece::Ready(piece) => {
                    *passed_on += piece.routes;
                    out.share(piece.bytes);
                    *next += 1;
                }
                Piece::None => break,
                Piece::Dropped => {
                    drop(copy);
                    self.begin_copy(wanted, table, cache, out, true, room);
                    return Pumped::More;
                }
            }
            if made >= room.limits.portion {
                break;
            }
        }
        if !copy.is_over(*next) {
            return if out.len() < room.shared_quota() { Pumped::More } else { Pumped::Rest };
        }
        let (high, encoder) = (copy.high, copy.encoder.clone());
        drop(copy);
        self.copy = None;
        let mut walk = Walk {
            at: None,
            over: true,
            low: 0,
            high,
            mode: Mode::Snapshot,
            again: false,
            groups_from: high,
            encoder,
        };
        if table.count_since(high, room.limits.shared + 1) > room.limits.shared {
            walk.once_more(table);
        }
        self.walk = Some(walk);
        self.go_on(wanted, table, cache, out, passed_on, room)
    }

    /// Fills the queue.
    pub fn pump(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        cache: &mut Cache,
        out: &mut Outbox,
        passed_on: &mut u64,
        room: &Room,
    ) -> Pumped {
        if self.copy.is_some() {
            return self.go_on_with_copy(wanted, table, cache, out, passed_on, room);
        }
        if self.walk.is_some() {
            return self.go_on(wanted, table, cache, out, passed_on, room);
        }
        let idle = self.serial == table.serial() && !on(Mutation::EmptyBatch);
        if idle || out.len() >= room.limits.queue {
            return Pumped::Rest;
        }
        let few = table.count_since(self.serial, room.limits.shared + 1) <= room.limits.shared;
        let changes = match few {
            true => cache.changes(wanted, table, self.serial, room),
            false if self.serial < table.horizon() => Changes::Forgotten,
            false => Changes::TooLarge,
        };
        match changes {
            Changes::Batch(batch) => {
                *passed_on += batch.routes;
                if on(Mutation::BatchTwice) {
                    out.share(batch.bytes.clone());
                }
                out.share(batch.bytes);
                self.serial = table.serial();
                return Pumped::Rest;
            }
            Changes::TooLarge => self.begin_changes(table, out),
            // Deletions were forgotten, so only a full copy is correct.
            Changes::Forgotten => self.begin_copy(wanted, table, cache, out, false, room),
        }
        Pumped::More
    }

    fn go_on(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        cache: &mut Cache,
        out: &mut Outbox,
        passed_on: &mut u64,
        room: &Room,
    ) -> Pumped {
        let Some(walk) = &mut self.walk else { return Pumped::Rest };
        // Deletions since the walk began must still be known when it ends.
        let since = if walk.mode == Mode::Changes || walk.again { walk.low } else { walk.high };
        if table.horizon() > since {
            out.write(|bytes| walk.encoder.flush(bytes));
            self.begin_copy(wanted, table, cache, out, false, room);
            return Pumped::More;
        }
        let (mut looked, quota) = (0, room.quota());
        let step = room.limits.portion.clamp(1, STEP);
        while !walk.over && out.len() < quota && looked < room.limits.portion.max(1) {
            let slots: Vec<_> = table.slots_after(walk.at.as_ref()).take(step).collect();
            let (encoder, low, high, snapshot) =
                (&mut walk.encoder, walk.low, walk.high, walk.mode == Mode::Snapshot);
            let (left, mut last) = (quota - out.len(), None);
            out.write(|bytes| {
                let before = bytes.len();
                for &slot in &slots {
                    if bytes.len() - before >= left {
                        break;
                    }
                    last = Some(slot);
                    looked += 1;
                    let high = if slot.is_group() { u64::MAX } else { high };
                    let Some(change) = table.change_between(slot, low, high) else { continue };
                    // Deleted groups follow the routes that left them, with the changes at the end.
                    if change.is_deletion() && (snapshot || slot.is_group()) {
                        continue;
                    }
                    *passed_on += u64::from(change.is_route());
                    encoder.push(change, bytes);
                }
                encoder.flush(bytes);
            });
            walk.over = slots.len() < step && last == slots.last().copied();
            if let Some(last) = last {
                walk.at = table.key(last);
            }
        }
        if !walk.over {
            return if out.len() < quota { Pumped::More } else { Pumped::Rest };
        }
        let shared = room.limits.shared;
        if !walk.again && table.count_since(walk.high, shared + 1) > shared {
            walk.once_more(table);
            return Pumped::More;
        }
        let Some((rest, routes)) = walk.rest(table, room) else {
            walk.once_more(table);
            return Pumped::More;
        };
        *passed_on += routes;
        out.write(|bytes| bytes.extend_from_slice(&rest));
        self.serial = table.serial();
        self.walk = None;
        Pumped::Rest
    }
}
