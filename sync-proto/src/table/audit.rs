//! Checks that derived data matches the records.

use super::Table;
use super::arena::OPEN;
use super::order::compare;
use crate::change::record_id;
use crate::sketch::{Sketch, Toggle};

impl Table {
    /// Recomputes digest, sketch, counts and order from the records and compares. False if a panic left the table in the middle of a batch.
    pub fn is_sound(&self) -> bool {
        let mut sketch = Sketch::default();
        let mut toggles = Vec::new();
        let mut records = 0;
        let mut before = None;
        for (key, value) in self.iter() {
            let Some(id) = record_id(&self.digest_key, &key, &value) else { return false };
            if before.is_some_and(|before| compare(&before, &key).is_ge()) {
                return false;
            }
            before = Some(key);
            records += 1;
            toggles.push(Toggle { id, comes: true });
            if toggles.len() == 1024 {
                sketch.apply(&toggles);
                toggles.clear();
            }
        }
        sketch.apply(&toggles);
        let c = self.counts;
        self.dangling == 0
            && records == self.len()
            && c.routes() + c.groups + c.origins + c.opaque == records
            && sketch == self.sketch
            && !self.slots_after(None).any(|slot| self.link(slot).serial == OPEN)
    }
}
