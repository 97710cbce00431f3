//! A batch as a transaction: stages changes, then commits them with a serial or rolls them back.
//!
//! The first touch of a record saves its state (`undo`); later touches find it marked open. `route` stages routes, of which batches mostly
//! consist, `other` everything else. At the end, a record that has its old identity again has not changed and keeps its position in the
//! change order. The sketch is updated only then, in one step, so a batch with a wrong digest never touches it.
//!
//! A batch of random routes mostly waits for memory. So routes are processed in blocks: first all lookups of a block, which are independent
//! and overlap, then the changes. The order of routes among other records has no effect: only the end of the batch counts.

mod limits;
mod other;
mod route;
mod undo;

use ipnet::IpNet;

use super::arena::Slot;
use super::{Commit, Table, TableError};
use crate::change::{Change, ChangeRef};
use crate::record::{GroupValue, Label};
use crate::sketch::{RootDigest, Toggle};
use route::Staged;
pub(super) use undo::Undo;

/// Routes that are looked up together.
const BLOCK: usize = 64;
/// Buffers are kept for the next commit up to this many records.
const KEEP: usize = 64 * 1024;

/// Buffers of a commit, reused by the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    undo: Undo,
    toggles: Vec<Toggle>,
    block: Vec<Staged>,
    found: Vec<Option<Slot>>,
}

/// A batch in progress, see [`Table::begin`]. Without a commit it has no effect.
#[derive(Debug)]
pub struct Transaction<'t> {
    table: &'t mut Table,
    scratch: Scratch,
    refused: Option<TableError>,
    open: bool,
    /// Contexts before the batch: later ones end with a roll-back.
    contexts: usize,
}

impl Table {
    /// Begins a batch.
    ///
    /// Changes apply in order. Within the batch a group may follow a route that uses it, but at the end every route's group must exist, and
    /// no deleted group may have a user. Changes without effect are ignored; if none is left there is no commit.
    pub fn begin(&mut self) -> Transaction<'_> {
        let scratch = std::mem::take(&mut self.scratch);
        let contexts = self.contexts.len();
        Transaction { table: self, scratch, refused: None, open: true, contexts }
    }
}

impl Transaction<'_> {
    /// Adds a change to the batch.
    ///
    /// # Errors
    /// [`TableError`]; the batch cannot be committed any more.
    pub fn push(&mut self, change: ChangeRef<'_>) -> Result<(), TableError> {
        let result = match Staged::of(&change) {
            Some(route) => {
                self.scratch.block.push(route);
                if self.scratch.block.len() < BLOCK { Ok(()) } else { self.stage_routes() }
            }
            None => self.table.stage_other(change, &mut self.scratch.undo),
        };
        if let Err(error) = &result {
            self.refused.get_or_insert_with(|| error.clone());
        }
        result
    }

    /// Adds changes to the batch, in order.
    ///
    /// # Errors
    /// [`TableError`]; the batch cannot be committed any more.
    pub fn push_all(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<(), TableError> {
        changes.into_iter().try_for_each(|change| match change.view() {
            Some(view) => self.push(view),
            None => Err(self.refused.insert(TableError::Kind(change.key().clone())).clone()),
        })
    }

    /// Whether there is a group of this label, by the changes so far.
    pub fn has_group(&self, label: Label) -> bool {
        self.table.has_group(label)
    }

    /// The label that a group of this canonical content has or gets, by the changes so far, and whether the table has it already: `label`,
    /// unless the table has another content under it.
    pub fn label_for(&self, label: Label, content: &GroupValue) -> (Label, bool) {
        let others = (1..).map(|attempt| Label::another(content, attempt));
        // Each label passed is that of a group, so this ends; a second one takes whoever wants it another 2^32 attempts.
        let mut labels = std::iter::once(label).chain(others);
        let free = labels.find_map(|label| match self.table.group_ref(label) {
            None => Some((label, false)),
            Some(found) => (found == content).then_some((label, true)),
        });
        free.unwrap_or((label, false))
    }

    /// The group of a forwarding route before the batch. Changes of this batch may show already.
    pub fn route(&self, vrf: u32, prefix: &IpNet) -> Option<Label> {
        match self.table.change(self.table.find_route(None, vrf, prefix)?)? {
            ChangeRef::Route { label, .. } => label,
            _ => None,
        }
    }

    /// Assigns the batch a serial. None if it has no effect.
    ///
    /// # Errors
    /// [`TableError`]; the table is unchanged then.
    pub fn commit(self) -> Result<Option<Commit>, TableError> {
        self.end(None, false)
    }

    /// Like [`Transaction::commit`], but refuses a batch that does not result in the expected digest.
    ///
    /// # Errors
    /// [`TableError`], also for another digest; the table is unchanged then.
    pub fn commit_expecting(self, digest: RootDigest) -> Result<Option<Commit>, TableError> {
        self.end(Some(digest), false)
    }

    /// Like [`Transaction::commit`], and also deletes groups that lost their last user.
    ///
    /// For the owner of a forwarding table, whose groups are a function of its routes.
    ///
    /// # Errors
    /// [`TableError`]; the table is unchanged then.
    pub fn commit_and_collect(self) -> Result<Option<Commit>, TableError> {
        self.end(None, true)
    }

    fn stage_routes(&mut self) -> Result<(), TableError> {
        let Scratch { undo, block, found, .. } = &mut self.scratch;
        self.table.find_all(block, found);
        for (route, found) in block.drain(..).zip(found.iter()) {
            self.table.stage_route(&route, *found, undo)?;
        }
        Ok(())
    }

    fn end(mut self, expected: Option<RootDigest>, collect: bool) -> Result<Option<Commit>, TableError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.stage_routes()?;
        let Scratch { undo, toggles, .. } = &mut self.scratch;
        if collect {
            self.table.collect(undo);
        }
        self.table.settle(undo, toggles);
        self.table.check(expected, toggles)?;
        self.table.sketch.apply(toggles);
        self.open = false;
        Ok(self.table.finish(undo))
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A panic leaves the table in the middle of the batch, which `Table::is_sound` reports: to roll back might panic again.
        if std::thread::panicking() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        if self.open {
            self.table.roll_back(&mut scratch.undo, self.contexts);
        }
        scratch.block.clear();
        scratch.toggles.clear();
        scratch.undo.clear();
        if scratch.toggles.capacity().max(scratch.undo.capacity()) <= KEEP {
            self.table.scratch = scratch;
        }
    }
}

impl Table {
    fn check(&self, expected: Option<RootDigest>, toggles: &[Toggle]) -> Result<(), TableError> {
        if self.dangling > 0 {
            let missing = self.groups.entries.iter().find(|e| e.users > 0 && e.value.is_none());
            let label = missing.map_or(Label(0), |e| e.label);
            return Err(TableError::MissingGroup { routes: self.dangling, label });
        }
        let Some(expected) = expected else { return Ok(()) };
        let found = self.seal(self.sketch.sum_after(toggles));
        if expected == found { Ok(()) } else { Err(TableError::Digest { expected, found }) }
    }
}
