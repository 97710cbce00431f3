//! Views: the requested subsets of served tables, each kept once for all of its clients.
//!
//! A view is a table with its own change order, sketch, epoch and serial that follows the whole table commit by commit. It contains only
//! groups that its routes use. The whole table needs no view. A new view is filled in portions, walking like a snapshot, and its clients
//! get "not ready" until it is complete. A view that nobody has used for a while is dropped. There are at most [`MAX_VIEWS`], because
//! each costs the memory of its part.

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::{Served, Tables};
use crate::change::ChangeRef;
use crate::record::Key;
use crate::serial_map::SerialMap;
use crate::sketch::check_of;
use crate::subset::Subset;
use crate::table::{Table, TableError, Transaction};
use crate::wire::ProtocolError;

/// Most views of a server.
pub const MAX_VIEWS: usize = 16;
/// How long a view without clients is kept: a client that reconnects resumes where it was.
const LINGER: Duration = Duration::from_secs(60);

/// A table by name, and the requested subset of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Wanted {
    pub table: String,
    pub subset: Subset,
}

/// The walk that fills a new view.
#[derive(Debug)]
struct Build {
    /// The key up to which it is filled.
    at: Option<Key>,
    /// Serial of the whole table when the walk began.
    from: u64,
}

#[derive(Debug)]
struct View {
    table: Table,
    of_epoch: u64,
    /// Serial of the whole table that the view has reached.
    seen: u64,
    /// Serials of the whole table by those of the view.
    covers: SerialMap,
    build: Option<Build>,
    /// Time since which it is unused.
    idle_since: Option<Duration>,
    /// It cannot follow any more; its sessions end and it is dropped.
    broken: bool,
}

/// All views of a server.
#[derive(Debug, Default)]
pub(super) struct Views {
    all: BTreeMap<Wanted, View>,
    made: u64,
}

impl Views {
    /// Creates the view if it does not exist, unless the whole table is requested.
    pub fn open(&mut self, wanted: &Wanted, tables: &dyn Tables) -> Result<(), ProtocolError> {
        let held = tables.subset(&wanted.table).cloned().unwrap_or_default();
        if !held.covers(&wanted.subset) {
            return Err(ProtocolError::Refused(format!(
                "this node holds only a part of table {}: {held}; asked for: {}",
                wanted.table, wanted.subset
            )));
        }
        if held == wanted.subset || self.all.get(wanted).is_some_and(|view| !view.broken) {
            return Ok(());
        }
        let Some(whole) = tables.served(&wanted.table).map(|served| served.table) else { return Ok(()) };
        if self.all.len() >= MAX_VIEWS && !self.all.contains_key(wanted) {
            return Err(ProtocolError::Refused(format!(
                "expected at most {MAX_VIEWS} different parts of tables in use, found another one: {}",
                wanted.subset
            )));
        }
        self.made += 1;
        // Another epoch than the whole table's and than an earlier view's, so that their serials cannot be confused.
        let epoch = check_of(whole.epoch().wrapping_add(self.made)).max(1);
        let view = View {
            table: Table::new(epoch),
            of_epoch: whole.epoch(),
            seen: whole.serial(),
            covers: SerialMap::default(),
            build: Some(Build { at: None, from: whole.serial() }),
            idle_since: None,
            broken: false,
        };
        self.all.insert(wanted.clone(), view);
        Ok(())
    }

    /// The table that a client gets.
    pub fn served<'t>(&'t self, wanted: &Wanted, tables: &'t dyn Tables) -> Option<Served<'t>> {
        let whole = tables.served(&wanted.table)?;
        match self.all.get(wanted) {
            Some(view) => {
                let ready = whole.ready && view.build.is_none() && !view.broken;
                Some(Served { table: &view.table, ready, path: whole.path })
            }
            // What the node holds is a subset already, exactly the requested one.
            None => Some(whole),
        }
    }

    /// The serial of the whole table that a client with its part at `serial` has.
    pub fn whole_serial(&self, wanted: &Wanted, serial: u64) -> Option<u64> {
        self.all.get(wanted).map_or(Some(serial), |view| view.covers.get(serial))
    }

    /// Whether the sessions of a view must end.
    pub fn is_broken(&self, wanted: &Wanted) -> bool {
        self.all.get(wanted).is_some_and(|view| view.broken)
    }

    /// Whether a view is being filled.
    pub fn is_filling(&self) -> bool {
        self.all.values().any(|view| view.build.is_some() && !view.broken)
    }

    /// Updates all views, and fills new ones by a portion. True if one has become complete or broken.
    pub fn follow(&mut self, tables: &dyn Tables, portion: usize) -> bool {
        let (mut news, mut filled) = (false, false);
        for (wanted, view) in self.all.iter_mut().filter(|(_, view)| !view.broken) {
            let Some(whole) = tables.served(&wanted.table).map(|served| served.table) else { continue };
            let was_filling = view.build.is_some();
            // One at a time: many new views at once must not delay the rest.
            if was_filling && std::mem::replace(&mut filled, true) {
                continue;
            }
            // A recreated table has nothing in common with this view.
            view.broken =
                whole.epoch() != view.of_epoch || view.follow(whole, &wanted.subset, portion).is_none();
            news |= view.broken || was_filling != view.build.is_some();
        }
        news
    }

    /// Drops views that have been unused for a while.
    pub fn expire(&mut self, now: Duration, used: impl Fn(&Wanted) -> bool) {
        self.all.retain(|wanted, view| {
            if used(wanted) {
                view.idle_since = None;
                return true;
            }
            !view.broken && now < *view.idle_since.get_or_insert(now) + LINGER
        });
    }

    /// The subsets in use, with the number of their routes.
    pub fn list(&self) -> impl Iterator<Item = (&str, &Subset, u64)> + '_ {
        self.all.iter().map(|(w, view)| (w.table.as_str(), &w.subset, view.table.counts().routes()))
    }
}

impl View {
    /// None if it cannot follow any more.
    fn follow(&mut self, whole: &Table, subset: &Subset, portion: usize) -> Option<()> {
        if let Some(build) = &mut self.build {
            let slots: Vec<_> = whole.slots_after(build.at.as_ref()).take(portion).collect();
            let records = slots.iter().filter_map(|&slot| whole.change_between(slot, 0, u64::MAX));
            let mut transaction = self.table.begin();
            push_part(&mut transaction, whole, subset, records).ok()?;
            transaction.commit().ok()?;
            if slots.len() == portion {
                build.at = slots.last().and_then(|&slot| whole.key(slot));
                return Some(());
            }
            // Changes during the walk are applied like any other.
            self.seen = build.from;
            self.build = None;
        }
        if self.seen == whole.serial() {
            self.covers.push(self.table.serial(), self.seen);
            return Some(());
        }
        let changes = whole.changes_since(self.seen)?.changes();
        let mut transaction = self.table.begin();
        push_part(&mut transaction, whole, subset, changes).ok()?;
        transaction.commit_and_collect().ok()?;
        self.seen = whole.serial();
        self.covers.push(self.table.serial(), self.seen);
        Some(())
    }
}

/// Adds the changes within a subset, and the groups that the view lacks.
fn push_part<'t>(
    view: &mut Transaction<'_>,
    whole: &Table,
    subset: &Subset,
    changes: impl Iterator<Item = ChangeRef<'t>>,
) -> Result<(), TableError> {
    for change in changes {
        if let ChangeRef::Group { label, value } = change {
            // A deleted one leaves with its last route.
            if value.is_some() && view.has_group(label) {
                view.push(change)?;
            }
            continue;
        }
        if !subset.admits(&change.key()) {
            continue;
        }
        if let Some(label) = change.label().filter(|label| !view.has_group(*label))
            && let Some(group) = whole.group(label)
        {
            view.push(ChangeRef::Group { label, value: Some(&group) })?;
        }
        view.push(change)?;
    }
    Ok(())
}
