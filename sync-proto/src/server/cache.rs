//! Encode once: sessions at the same serial of a table share the encoded batch, and the sketch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::copy::Copy;
use super::encoded::{Encoded, encode};
use super::room::Room;
use super::views::{MAX_VIEWS, Wanted};
use crate::account::Charge;
use crate::change::ChangeRef;
use crate::frame::Mode;
use crate::sketch::{SYMBOLS, Symbol};
use crate::table::Table;

/// Cached batches of one table, each from another serial.
const BATCHES: usize = 64;
/// Bytes of the symbols of a table.
pub(super) const SKETCH_BYTES: usize = SYMBOLS * size_of::<Symbol>();

/// The coded symbols of a table at one serial.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub serial: u64,
    pub count: u64,
    symbols: Arc<(Vec<Symbol>, Charge)>,
}

impl Frozen {
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols.0
    }
}

/// The changes since a serial.
#[derive(Debug)]
pub(super) enum Changes {
    /// As one batch.
    Batch(Encoded),
    /// They are to be sent piece by piece: too many bytes for one batch, or no memory for it.
    TooLarge,
    /// Beyond the horizon.
    Forgotten,
}

#[derive(Debug, Default)]
struct PerTable {
    epoch: u64,
    serial: u64,
    /// By the serial that they start from; none for those that are too large.
    batches: HashMap<u64, Option<Encoded>>,
    frozen: Option<Frozen>,
    /// The last answer to a sketch: serial of the sketch, requested records, batch.
    reconciled: Option<(u64, HashSet<u64>, Encoded)>,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    tables: BTreeMap<Wanted, PerTable>,
    /// Copies that are being sent.
    copies: BTreeMap<Wanted, Weak<Mutex<Copy>>>,
}

impl Cache {
    fn entry(&mut self, wanted: &Wanted, table: &Table, room: &Room) -> &mut PerTable {
        let full = self.tables.len() > 2 * MAX_VIEWS && !self.tables.contains_key(wanted);
        if full || room.is_short() {
            // Most belong to dropped views, or nobody sends them any more; the others are rebuilt on demand.
            self.tables.clear();
        }
        let entry = self.tables.entry(wanted.clone()).or_default();
        if (entry.epoch, entry.serial) != (table.epoch(), table.serial()) {
            *entry = PerTable { epoch: table.epoch(), serial: table.serial(), ..PerTable::default() };
        }
        entry
    }

    /// The changes since a serial as one batch.
    pub fn changes(&mut self, wanted: &Wanted, table: &Table, from: u64, room: &Room) -> Changes {
        let entry = self.entry(wanted, table, room);
        if let Some(known) = entry.batches.get(&from) {
            return known.clone().map_or(Changes::TooLarge, Changes::Batch);
        }
        let Some(changes) = table.changes_since(from) else { return Changes::Forgotten };
        if !room.admits(room.limits.batch) {
            return Changes::TooLarge;
        }
        if entry.batches.len() >= BATCHES {
            // More slow clients than that are at few serials, unless they invent them.
            entry.batches.clear();
        }
        let encoded = encode(table, Mode::Changes, from, changes.changes(), room);
        entry.batches.insert(from, encoded.clone());
        encoded.map_or(Changes::TooLarge, Changes::Batch)
    }

    /// The requested records that still exist, and all changes since the sketch's serial. Clients that were equal before a failover request
    /// the same.
    ///
    /// # Errors
    /// Why there is only a copy instead.
    pub fn reconciled(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        from: u64,
        want: HashSet<u64>,
        work: &mut u64,
        room: &Room,
    ) -> Result<Encoded, &'static str> {
        let entry = self.entry(wanted, table, room);
        if let Some((of, ids, batch)) = &entry.reconciled
            && *of == from
            && *ids == want
        {
            return Ok(batch.clone());
        }
        let since = table.changes_since(from).ok_or("snapshot: the sketch is too old")?;
        if !room.admits(room.limits.batch) {
            return Err("snapshot: no memory for the difference");
        }
        *work = work.saturating_sub(table.len().max(1));
        let found = table.find_ids(&want);
        let found = found.iter().filter_map(|(_, key, value)| ChangeRef::put(key, value));
        let batch = encode(table, Mode::Reconcile, from, found.chain(since.changes()), room)
            .ok_or("snapshot: the difference is too large")?;
        entry.reconciled = Some((from, want, batch.clone()));
        Ok(batch)
    }

    /// A copy for a session: one that others are already sending, or a new one. `alone`: one that nobody else joins.
    pub fn copy(&mut self, wanted: &Wanted, table: &Table, alone: bool, room: &Room) -> Arc<Mutex<Copy>> {
        let fresh = |copy: &Arc<Mutex<Copy>>| {
            copy.lock().unwrap_or_else(PoisonError::into_inner).is_fresh(table, room)
        };
        if alone {
            return Arc::new(Mutex::new(Copy::new(table, true)));
        }
        if let Some(copy) = self.copies.get(wanted).and_then(Weak::upgrade).filter(fresh) {
            return copy;
        }
        self.copies.retain(|_, copy| copy.strong_count() > 0);
        let copy = Arc::new(Mutex::new(Copy::new(table, false)));
        self.copies.insert(wanted.clone(), Arc::downgrade(&copy));
        copy
    }

    /// The symbols of the current table; none if there is no memory for them.
    pub fn frozen(&mut self, wanted: &Wanted, table: &Table, room: &Room) -> Option<Frozen> {
        let entry = self.entry(wanted, table, room);
        if entry.frozen.is_none() && room.admits(SKETCH_BYTES) {
            let mut charge = room.account.open();
            charge.set(SKETCH_BYTES);
            let symbols = Arc::new((table.sketch().symbols_from(0).collect(), charge));
            entry.frozen = Some(Frozen { serial: table.serial(), count: table.len(), symbols });
        }
        entry.frozen.clone()
    }
}
