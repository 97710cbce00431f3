//! A full copy of a table shared by several sessions: walked and encoded once, piece by piece, at the pace of the fastest.
//!
//! It contains the records that had last changed when it began. Each session appends the changes since then and ends with a commit of its
//! own, so a session may join while those are few. Pieces are kept only as long as a session needs them.

use super::encoded::Encoded;
use super::types::Limits;
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
    pieces: Vec<Encoded>,
}

impl Copy {
    pub fn new(table: &Table) -> Self {
        let (epoch, high) = (table.epoch(), table.serial());
        Self { epoch, high, encoder: Encoder::new(), at: None, over: false, pieces: Vec::new() }
    }

    /// Whether a new session may join.
    pub fn is_fresh(&self, table: &Table, limits: Limits) -> bool {
        self.epoch == table.epoch()
            && self.high <= table.serial()
            && self.high >= table.horizon()
            && table.count_since(self.high, limits.shared + 1) <= limits.shared
    }

    /// Whether a session that has sent `next` pieces has sent all.
    pub fn is_over(&self, next: usize) -> bool {
        self.over && next >= self.pieces.len()
    }

    /// A piece, encoded if no session has sent it yet; none at the end, or if a whole portion has changed since the copy began. Adds the
    /// visited slots to `made`.
    pub fn piece(&mut self, next: usize, table: &Table, limits: Limits, made: &mut usize) -> Option<Encoded> {
        if let Some(piece) = self.pieces.get(next) {
            return Some(piece.clone());
        }
        if self.over {
            return None;
        }
        let (step, size) = (limits.portion.clamp(1, STEP), PIECE.min(limits.queue));
        let (mut bytes, mut routes, mut looked) = (Vec::with_capacity(size + size / 4), 0, 0);
        while !self.over && bytes.len() < size && looked < limits.portion.max(1) {
            let slots: Vec<_> = table.slots_after(self.at.as_ref()).take(step).collect();
            for &slot in &slots {
                // Groups are never skipped, so no route precedes its group.
                let high = if slot.is_group() { u64::MAX } else { self.high };
                let change = table.change_between(slot, 0, high);
                if let Some(change) = change.filter(|change| !change.is_deletion()) {
                    routes += u64::from(change.is_route());
                    self.encoder.push(change, &mut bytes);
                }
            }
            looked += slots.len();
            self.over = slots.len() < step;
            if let Some(&last) = slots.last() {
                self.at = table.key(last);
            }
        }
        self.encoder.flush(&mut bytes);
        *made += looked;
        if bytes.is_empty() {
            return None;
        }
        let piece = Encoded { bytes: bytes.into(), routes };
        self.pieces.push(piece.clone());
        Some(piece)
    }
}
