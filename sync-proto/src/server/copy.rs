//! A full copy of a table shared by several sessions: walked and encoded once, piece by piece, at the pace of the fastest.
//!
//! It contains the records that had last changed when it began. Each session appends the changes since then and ends with a commit of its
//! own, so a session may join while those are few. Pieces are kept for the slower sessions as long as memory is not short; a session whose
//! next piece is gone starts over with a copy of its own, of which nothing is kept.

use std::collections::VecDeque;

use super::encoded::Encoded;
use super::room::Room;
use crate::codec::Encoder;
use crate::record::Key;
use crate::table::Table;

/// Approximate bytes of a piece.
const PIECE: usize = 32 * 1024;
/// Slots between two checks of a piece's size.
const STEP: usize = 512;

/// A shared copy; see the module's documentation.
#[derive(Debug)]
pub(super) struct Copy {
    epoch: u64,
    /// Serial of the table at its beginning.
    pub high: u64,
    /// Key after which the next piece begins.
    pub encoder: Encoder,
    at: Option<Key>,
    over: bool,
    pieces: VecDeque<Encoded>,
    /// Number of pieces before the first kept one.
    dropped: usize,
    /// Only one session sends it.
    alone: bool,
}

/// Result of [`Copy::piece`].
#[derive(Debug)]
pub(super) enum Piece {
    /// The piece.
    Ready(Encoded),
    /// The copy is at its end, or nothing was encoded in this call.
    None,
    /// Other sessions were faster, and the piece was not kept.
    Dropped,
}

impl Copy {
    /// A copy that other sessions may join, or one that is for a single session.
    pub fn new(table: &Table, alone: bool) -> Self {
        let (epoch, high) = (table.epoch(), table.serial());
        let pieces = VecDeque::new();
        Self { epoch, high, encoder: Encoder::new(), at: None, over: false, pieces, dropped: 0, alone }
    }

    /// Whether a new session may join.
    pub fn is_fresh(&self, table: &Table, room: &Room) -> bool {
        let shared = room.limits.shared;
        !self.alone
            && self.dropped == 0
            && self.epoch == table.epoch()
            && self.high <= table.serial()
            && self.high >= table.horizon()
            && table.count_since(self.high, shared + 1) <= shared
    }

    /// Whether a session that has sent `next` pieces has sent all.
    pub fn is_over(&self, next: usize) -> bool {
        self.over && next >= self.dropped + self.pieces.len()
    }

    /// A piece, encoded if no session has sent it yet; none at the end, or if a whole portion has changed since the copy began. Adds the
    /// visited slots to `made`.
    pub fn piece(&mut self, next: usize, table: &Table, room: &Room, made: &mut usize) -> Piece {
        let Some(kept) = next.checked_sub(self.dropped) else { return Piece::Dropped };
        if let Some(piece) = self.pieces.get(kept) {
            return Piece::Ready(piece.clone());
        }
        if self.over {
            return Piece::None;
        }
        let portion = room.limits.portion.max(1);
        let (step, size) = (portion.min(STEP), PIECE.min(room.shared_quota()));
        let (mut bytes, mut routes, mut looked) = (Vec::with_capacity(size + size / 4), 0, 0);
        while !self.over && bytes.len() < size && looked < portion {
            let slots: Vec<_> = table.slots_after(self.at.as_ref()).take(step).collect();
            let mut last = None;
            for &slot in &slots {
                if bytes.len() >= size {
                    break;
                }
                last = Some(slot);
                looked += 1;
                // Groups are never skipped, so no route precedes its group.
                let high = if slot.is_group() { u64::MAX } else { self.high };
                let change = table.change_between(slot, 0, high);
                if let Some(change) = change.filter(|change| !change.is_deletion()) {
                    routes += u64::from(change.is_route());
                    self.encoder.push(change, &mut bytes);
                }
            }
            self.over = slots.len() < step && last == slots.last().copied();
            if let Some(last) = last {
                self.at = table.key(last);
            }
        }
        self.encoder.flush(&mut bytes);
        *made += looked;
        if bytes.is_empty() {
            return Piece::None;
        }
        let piece = Encoded { bytes: room.account.share(bytes), routes };
        while self.alone || room.is_short() {
            if self.pieces.pop_front().is_none() {
                break;
            }
            self.dropped += 1;
        }
        if self.alone {
            self.dropped += 1;
        } else {
            self.pieces.push_back(piece.clone());
        }
        Piece::Ready(piece)
    }
}
