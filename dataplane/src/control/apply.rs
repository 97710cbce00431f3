//! Batches into the table, each whole; what one cannot do now it does later, together with what came after it.

use std::time::{Duration, Instant};

use fibcast_fib::{Change, GroupLabel};

use super::{Control, pending};

/// Pause before a batch that could not be applied is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Batches that are applied in one turn, so that neighbors and operators are heard in between.
const BATCHES: usize = 16;

/// A commit of the table that feeds this host.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What it changes.
    pub changes: Vec<Change>,
    /// Its serial.
    pub serial: u64,
    /// It holds the whole table: what it does not name is gone.
    pub replaces: bool,
}

/// Why the batch in front waits.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) retry_at: Instant,
}

impl Control {
    /// Takes a batch; it is applied in a turn.
    pub fn push(&mut self, mut batch: Batch) {
        self.own.filter(&mut batch);
        // A VRF without a port here forwards nothing, and its routes are kept for the tier below alike. One that does not fit is
        // refused with the batch.
        for change in &batch.changes {
            if let Change::Announce { vrf, .. } | Change::Withdraw { vrf, .. } = change {
                let _ = self.fib.create_vrf(*vrf);
            }
        }
        self.pending.push_back(batch);
    }

    /// Batches that wait to be applied.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether another batch may be pushed: while one cannot be applied, the others wait where they come from.
    pub fn wants_batches(&self) -> bool {
        self.pending.len() < BATCHES
    }

    /// Batches into the table. One that fails stays, becomes one with all behind it, and is tried again.
    pub(super) fn apply(&mut self, now: Instant) -> bool {
        if let Some(failure) = &self.failure {
            if now < failure.retry_at {
                return false;
            }
            pending::coalesce(&mut self.pending);
        }
        let mut applied = false;
        for _ in 0..BATCHES {
            let Some(batch) = self.pending.front_mut() else { break };
            // In the words of this table; what it said before is kept where that differs, for another try.
            let said = self.recursion.prepare(&mut batch.changes, batch.replaces, &self.ports, &self.fib);
            let replaces = batch.replaces;
            if std::mem::take(&mut batch.replaces) {
                self.own.complete(batch, &self.fib);
            }
            let made: Vec<GroupLabel> = batch
                .changes
                .iter()
                .filter_map(|change| match change {
                    Change::PutGroup { label, .. } if self.fib.group_index(*label).is_none() => Some(*label),
                    _ => None,
                })
                .collect();
            match self.fib.apply(&batch.changes, batch.serial) {
                Ok(_) => {
                    if self.failure.take().is_some() {
                        tracing::info!("serial {}: the batch that had failed is applied", batch.serial);
                    }
                    self.recursion.note(&batch.changes);
                    self.pending.pop_front();
                    self.note_baselines(&made);
                    applied = true;
                    self.dirty = true;
                }
                Err(error) => {
                    let text = format!("serial {}: {error}", batch.serial);
                    if self.failure.as_ref().is_none_or(|before| before.text != text) {
                        tracing::error!(
                            "{text}; the table stays as it was, the batch is kept and tried again every second, \
                             together with what comes after it"
                        );
                    }
                    self.failure = Some(Failure { text, retry_at: now + RETRY });
                    if let (Some(said), Some(batch)) = (said, self.pending.front_mut()) {
                        (batch.changes, batch.replaces) = (said, replaces);
                    }
                    break;
                }
            }
        }
        if applied {
            self.resolve_groups();
            self.resolve_new(now);
        }
        applied
    }

    /// Writes groups anew whose gateways are elsewhere by now; it is published together with what moved them.
    fn resolve_groups(&mut self) {
        let changes = self.recursion.resolve(&self.ports, &self.fib);
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.fib.apply(&changes, self.fib.serial()) {
            tracing::error!("groups with gateways behind other routes stay as they were: {error}");
            self.recursion.again();
        }
        self.dirty = true;
    }
}
