//! Views: the parts of served tables that clients asked for, each kept once however many clients have it.
//!
//! A view is a table of its own, with its own change order, sketch, epoch and serial, that follows the table which it is a part of,
//! commit by commit. It holds only groups that its routes use. The whole table is no view and costs nothing. A new view is filled in
//! portions, walking like a snapshot does, and its clients are told "not ready" until it is complete. One that nobody has used
//! for a while goes. There are at most [`MAX_VIEWS`], because each costs the memory of its part.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Served, Tables};
use crate::record::{Change, Key, Label, Value};
use crate::sketch::check_of;
use crate::subset::Subset;
use crate::table::Table;
use crate::wire::ProtocolError;

/// Most views of one server.
pub const MAX_VIEWS: usize = 16;
/// How long a view without a client is kept: a client that reconnects goes on where it was.
const LINGER: Duration = Duration::from_secs(60);

/// A table by name, and the part of it that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Wanted {
    pub table: String,
    pub subset: Subset,
}

/// A walk that fills a new view.
#[derive(Debug)]
struct Build {
    /// The key up to which all is there.
    at: Option<Key>,
    /// Serial of the whole table when the walk began.
    from: u64,
}

#[derive(Debug)]
struct View {
    table: Table,
    of_epoch: u64,
    /// Serial of the whole table that the view has.
    seen: u64,
    build: Option<Build>,
    /// Since when nobody uses it.
    idle_since: Option<Duration>,
    /// It cannot follow any more; its sessions end and it goes.
    broken: bool,
}

/// All views of a server.
#[derive(Debug, Default)]
pub(super) struct Views {
    all: BTreeMap<Wanted, View>,
    made: u64,
}

impl Views {
    /// Makes sure that there is a view, unless the whole table is wanted.
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
        // Another epoch than the whole table's and than an earlier view's, so that no serial of the one is taken for the other's.
        let epoch = check_of(whole.epoch().wrapping_add(self.made)).max(1);
        let view = View {
            table: Table::new(epoch),
            of_epoch: whole.epoch(),
            seen: whole.serial(),
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
            // What the node holds is a part already, the very one that is wanted.
            None => Some(whole),
        }
    }

    /// Whether a view must end its sessions.
    pub fn is_broken(&self, wanted: &Wanted) -> bool {
        self.all.get(wanted).is_some_and(|view| view.broken)
    }

    /// Whether a view is being filled.
    pub fn is_filling(&self) -> bool {
        self.all.values().any(|view| view.build.is_some() && !view.broken)
    }

    /// Brings all views up to date, and fills new ones by a portion. True if one of them has become complete or broken.
    pub fn follow(&mut self, tables: &dyn Tables, portion: usize) -> bool {
        let (mut news, mut filled) = (false, false);
        for (wanted, view) in self.all.iter_mut().filter(|(_, view)| !view.broken) {
            let Some(whole) = tables.served(&wanted.table).map(|served| served.table) else { continue };
            let was_filling = view.build.is_some();
            // One at a time: many new parts at once must not hold up the rest.
            if was_filling && std::mem::replace(&mut filled, true) {
                continue;
            }
            // A table that was made anew has nothing to do with this view.
            view.broken =
                whole.epoch() != view.of_epoch || view.follow(whole, &wanted.subset, portion).is_none();
            news |= view.broken || was_filling != view.build.is_some();
        }
        news
    }

    /// Drops views that nobody has used for a while.
    pub fn expire(&mut self, now: Duration, used: impl Fn(&Wanted) -> bool) {
        self.all.retain(|wanted, view| {
            if used(wanted) {
                view.idle_since = None;
                return true;
            }
            !view.broken && now < *view.idle_since.get_or_insert(now) + LINGER
        });
    }

    /// The parts in use, with the number of their routes.
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
            let changes = part(&self.table, whole, subset, records);
            self.table.commit(changes).ok()?;
            if slots.len() == portion {
                build.at = slots.last().and_then(|&slot| whole.key(slot));
                return Some(());
            }
            // What has changed during the walk comes like any other change.
            self.seen = build.from;
            self.build = None;
        }
        if self.seen == whole.serial() {
            return Some(());
        }
        let changes = part(&self.table, whole, subset, whole.changes_since(self.seen)?.changes());
        self.table.commit_and_collect(changes).ok()?;
        self.seen = whole.serial();
        Some(())
    }
}

/// The changes that concern a part, and the groups that it lacks.
fn part(view: &Table, whole: &Table, subset: &Subset, changes: impl Iterator<Item = Change>) -> Vec<Change> {
    let mut out = Vec::new();
    let mut brought = hashbrown::HashSet::new();
    for change in changes {
        match &change {
            Change::Put(Key::Group(label), _) if view.group(*label).is_none() => continue,
            // They go with their last route.
            Change::Delete(Key::Group(_)) => continue,
            Change::Put(Key::Group(_), _) => {}
            change if !subset.admits(change.key()) => continue,
            Change::Put(_, Value::Route(label) | Value::RibRoute { label, .. }) => {
                bring(view, whole, *label, &mut brought, &mut out);
            }
            _ => {}
        }
        out.push(change);
    }
    out
}

fn bring(
    view: &Table,
    whole: &Table,
    label: Label,
    brought: &mut hashbrown::HashSet<Label>,
    out: &mut Vec<Change>,
) {
    if view.group(label).is_none()
        && brought.insert(label)
        && let Some(group) = whole.group(label)
    {
        out.push(Change::Put(Key::Group(label), Value::Group(group.as_ref().clone())));
    }
}
