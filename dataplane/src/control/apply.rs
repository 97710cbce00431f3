//! Applies batches to the table, each as a whole. A batch that fails is retried later, merged with those that came after it.

use std::time::{Duration, Instant};

use fibcast_fib::{Change, GroupLabel};

use super::pending::{Batch, Failure};
use super::{Control, pending};

/// Pause before a failed batch is retried.
const RETRY: Duration = Duration::from_secs(1);
/// Most batches applied in one turn, so that neighbors and operators get their share.
const BATCHES: usize = 16;

impl Control {
    /// Queues a batch; a later turn applies it.
    pub fn push(&mut self, mut batch: Batch) {
        if batch.replaces {
            self.own.forget_overridden();
        }
        batch.changes.retain(|change| {
            // Routes of a VRF without a port here forward nothing, but are kept for the tier below. A VRF that does not fit is refused with
            // the batch.
            if let Change::Announce { vrf, .. } | Change::Withdraw { vrf, .. } = change {
                let _ = self.fib.create_vrf(*vrf);
            }
            self.own.yields_to(change)
        });
        self.pending.push_back(batch);
    }

    /// Number of batches that wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether another batch may be queued. While one cannot be applied, the others stay with their sender.
    pub fn wants_batches(&self) -> bool {
        self.pending.len() < BATCHES
    }

    /// Applies batches. One that fails stays, is merged with all behind it, and is retried.
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
            // Translates the batch into this table's groups; keeps the original, where that differs, for a retry.
            let original = self.recursion.prepare(&mut batch.changes, batch.replaces, &self.fib);
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
                        tracing::info!("serial {}: applied the batch that had failed", batch.serial);
                    }
                    self.recursion.note(&batch.changes);
                    self.in_use.apply(batch.number);
                    self.pending.pop_front();
                    self.in_use.release();
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
                    if let (Some(original), Some(batch)) = (original, self.pending.front_mut()) {
                        (batch.changes, batch.replaces) = (original, replaces);
                    }
                    if let Some(batch) = self.pending.front() {
                        self.in_use.refuse(batch);
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

    /// Rewrites groups whose gateways moved; published together with the change that moved them.
    pub(super) fn resolve_groups(&mut self) {
        let changes = self.recursion.resolve(&self.ports, &self.fib);
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.fib.apply(&changes, self.fib.serial()) {
            tracing::error!("cannot update groups with recursive gateways: {error}");
            self.recursion.again();
        }
        self.dirty = true;
    }
}
