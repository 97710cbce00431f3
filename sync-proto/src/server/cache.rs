//! Encode once: sessions at the same serial of a table share the encoded batch, and the sketch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::copy::Copy;
use super::encoded::{Encoded, encode};
use super::types::Limits;
use super::views::{MAX_VIEWS, Wanted};
use crate::change::ChangeRef;
use crate::frame::Mode;
use crate::sketch::Symbol;
use crate::table::Table;

/// Cached batches of one table, each from another serial.
const BATCHES: usize = 64;

/// The coded symbols of a table at one serial.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub serial: u64,
    pub count: u64,
    pub symbols: Arc<[Symbol]>,
}

#[derive(Debug, Default)]
struct PerTable {
    epoch: u64,
    serial: u64,
    batches: HashMap<u64, Encoded>,
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
    fn entry(&mut self, wanted: &Wanted, table: &Table) -> &mut PerTable {
        if self.tables.len() > 2 * MAX_VIEWS && !self.tables.contains_key(wanted) {
            // Most belong to dropped views; the others are rebuilt on demand.
            self.tables.clear();
        }
        let entry = self.tables.entry(wanted.clone()).or_default();
        if (entry.epoch, entry.serial) != (table.epoch(), table.serial()) {
            *entry = PerTable { epoch: table.epoch(), serial: table.serial(), ..PerTable::default() };
        }
        entry
    }

    /// The changes since a serial as one batch. None beyond the horizon.
    pub fn changes(&mut self, wanted: &Wanted, table: &Table, from: u64) -> Option<Encoded> {
        let entry = self.entry(wanted, table);
        if let Some(found) = entry.batches.get(&from) {
            return Some(found.clone());
        }
        if entry.batches.len() >= BATCHES {
            // More slow clients than that are at few serials, unless they invent them.
            entry.batches.clear();
        }
        let changes = table.changes_since(from)?.changes();
        let encoded = encode(table, Mode::Changes, from, changes);
        entry.batches.insert(from, encoded.clone());
        Some(encoded)
    }

    /// The requested records that still exist, and all changes since the sketch's serial. Clients that were equal before a failover request
    /// the same. None beyond the horizon.
    pub fn reconciled(
        &mut self,
        wanted: &Wanted,
        table: &Table,
        from: u64,
        want: HashSet<u64>,
        work: &mut u64,
    ) -> Option<Encoded> {
        let entry = self.entry(wanted, table);
        if let Some((of, ids, batch)) = &entry.reconciled
            && *of == from
            && *ids == want
        {
            return Some(batch.clone());
        }
        let since = table.changes_since(from)?;
        *work = work.saturating_sub(table.len().max(1));
        let found = table.find_ids(&want);
        let found = found.iter().filter_map(|(_, key, value)| ChangeRef::put(key, value));
        let batch = encode(table, Mode::Reconcile, from, found.chain(since.changes()));
        entry.reconciled = Some((from, want, batch.clone()));
        Some(batch)
    }

    /// A copy for a session: one that others are already sending, or a new one.
    pub fn copy(&mut self, wanted: &Wanted, table: &Table, limits: Limits) -> Arc<Mutex<Copy>> {
        let fresh = |copy: &Arc<Mutex<Copy>>| {
            copy.lock().unwrap_or_else(PoisonError::into_inner).is_fresh(table, limits)
        };
        if let Some(copy) = self.copies.get(wanted).and_then(Weak::upgrade).filter(fresh) {
            return copy;
        }
        self.copies.retain(|_, copy| copy.strong_count() > 0);
        let copy = Arc::new(Mutex::new(Copy::new(table)));
        self.copies.insert(wanted.clone(), Arc::downgrade(&copy));
        copy
    }

    /// The symbols of the current table.
    pub fn frozen(&mut self, wanted: &Wanted, table: &Table) -> Frozen {
        let entry = self.entry(wanted, table);
        entry
            .frozen
            .get_or_insert_with(|| Frozen {
                serial: table.serial(),
                count: table.len(),
                symbols: table.sketch().symbols_from(0).collect(),
            })
            .clone()
    }
}
