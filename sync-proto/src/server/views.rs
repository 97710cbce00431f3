//! Views: the requested subsets of served tables, each kept once for all of its clients. While the digest key of a deployment is replaced,
//! clients with another key than the table's get a view under theirs.
//!
//! A view is a table with its own change order, sketch, epoch and serial that follows the whole table commit by commit. It contains only
//! groups that its routes use. The whole table under the node's own key needs no view. A new view is filled in portions, walking like a snapshot, and its clients
//! get "not ready" until it is complete. A view that nobody has used for a while is dropped. Each costs the memory of its part and the work
//! of following: there are at most [`MAX_VIEWS`], [`VIEWS_PER_CLIENT`] for one client, within a number of bytes ([`super::Limits::views`]).
//! If there are too many, a view without clients gives way, or one of a client that has several.

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::{Served, Tables};
use crate::change::ChangeRef;
use crate::digest::{DigestKey, KeyId};
use crate::record::Key;
use crate::serial_map::SerialMap;
use crate::sketch::check_of;
use crate::subset::Subset;
use crate::table::{Table, TableError, Transaction};
use crate::wire::ProtocolError;

/// Most views of a server.
pub const MAX_VIEWS: usize = 16;
/// Most views that one client, by name, has caused.
pub const VIEWS_PER_CLIENT: usize = 4;
/// How long a view without clients is kept: a client that reconnects resumes where it was.
const LINGER: Duration = Duration::from_secs(60);

/// A table by name, the requested subset of it, and the key of its digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Wanted {
    pub table: String,
    pub subset: Subset,
    /// The key of the client's digests.
    pub digest_key: KeyId,
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
    /// Name of the client that caused it.
    owner: String,
    /// Time since which it is unused.
    idle_since: Option<Duration>,
    /// Its sessions end for this reason, and it is dropped.
    broken: Option<&'static str>,
}

/// All views of a server.
#[derive(Debug, Default)]
pub(super) struct Views {
    all: BTreeMap<Wanted, View>,
    made: u64,
    /// A view has given way since views were followed last.
    gave_way: bool,
}

impl Views {
    /// Creates the view if it does not exist, unless the whole table is requested.
    pub fn open(
        &mut self,
        wanted: &Wanted,
        client: &str,
        key: DigestKey,
        tables: &dyn Tables,
        now: Duration,
    ) -> Result<(), ProtocolError> {
        let held = tables.subset(&wanted.table).cloned().unwrap_or_default();
        if !held.covers(&wanted.subset) {
            return Err(ProtocolError::Refused(format!(
                "this node holds only a part of table {}: {held}; asked for: {}",
                wanted.table, wanted.subset
            )));
        }
        let Some(whole) = tables.served(&wanted.table).map(|served| served.table) else { return Ok(()) };
        if held == wanted.subset && whole.digest_key() == key {
            return Ok(());
        }
        if let Some(view) = self.all.get_mut(wanted).filter(|view| view.broken.is_none()) {
            view.idle_since = None;
            return Ok(());
        }
        if !self.all.contains_key(wanted) {
            self.make_room(wanted, client)?;
        }
        self.made += 1;
        // Another epoch than the whole table's and than an earlier view's, so that their serials cannot be confused: also one of a server that
        // restarted with the same table.
        let life = check_of(now.as_nanos() as u64);
        let epoch = check_of((whole.epoch() ^ life).wrapping_add(self.made)).max(1);
        let view = View {
            table: Table::new(epoch).with_digest_key(key),
            of_epoch: whole.epoch(),
            seen: whole.serial(),
            covers: SerialMap::default(),
            build: Some(Build { at: None, from: whole.serial() }),
            owner: client.to_owned(),
            idle_since: None,
            broken: None,
        };
        self.all.insert(wanted.clone(), view);
        Ok(())
    }

    /// Drops a view for a new one of `client`, if there are too many.
    fn make_room(&mut self, wanted: &Wanted, client: &str) -> Result<(), ProtocolError> {
        let live = || self.all.iter().filter(|(_, view)| view.broken.is_none());
        let own = live().filter(|(_, view)| view.owner == client).count();
        if own < VIEWS_PER_CLIENT && live().count() < MAX_VIEWS {
            return Ok(());
        }
        let of_client = |view: &View| own < VIEWS_PER_CLIENT || view.owner == client;
        let idle = live().filter(|(_, view)| view.idle_since.is_some() && of_client(view));
        if let Some(idle) = idle.min_by_key(|(_, view)| view.idle_since).map(|(wanted, _)| wanted.clone()) {
            self.all.remove(&idle);
            return Ok(());
        }
        if own >= VIEWS_PER_CLIENT {
            return Err(ProtocolError::Budget(format!(
                "expected at most {VIEWS_PER_CLIENT} different parts of tables for one client, found another one: {}",
                wanted.subset
            )));
        }
        // A client without a view comes before further views of the one that has most. Its sessions end when views are followed next.
        let of = |owner: &str| live().filter(|(_, view)| view.owner == owner).count();
        let most = live().max_by_key(|(_, view)| of(&view.owner));
        match most.filter(|(_, view)| of(&view.owner) > own + 1).map(|(wanted, _)| wanted.clone()) {
            Some(wanted) => {
                if let Some(view) = self.all.get_mut(&wanted) {
                    self.gave_way = true;
                    (view.broken, view.table) = (Some("gave way to another client's"), Table::new(0));
                }
                Ok(())
            }
            None => Err(ProtocolError::Budget(format!(
                "expected at most {MAX_VIEWS} different parts of tables in use, found another one: {}",
                wanted.subset
            ))),
        }
    }

    /// Bytes of memory of all views.
    pub fn memory_bytes(&self) -> usize {
        self.all.values().map(|view| view.table.memory_bytes()).sum()
    }

    /// The table that a client gets.
    pub fn served<'t>(&'t self, wanted: &Wanted, tables: &'t dyn Tables) -> Option<Served<'t>> {
        let whole = tables.served(&wanted.table)?;
        match self.all.get(wanted) {
            Some(view) => {
                let ready = whole.ready && view.build.is_none() && view.broken.is_none();
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

    /// Whether what a client gets is a view.
    pub fn is_view(&self, wanted: &Wanted) -> bool {
        self.all.contains_key(wanted)
    }

    /// Why the sessions of a view must end.
    pub fn broken(&self, wanted: &Wanted) -> Option<&'static str> {
        self.all.get(wanted)?.broken
    }

    /// Whether a view is being filled.
    pub fn is_filling(&self) -> bool {
        self.all.values().any(|view| view.build.is_some() && view.broken.is_none())
    }

    /// Updates all views, and fills new ones by a portion. True if one has become complete or broken.
    pub fn follow(&mut self, tables: &dyn Tables, portion: usize, limit: usize) -> bool {
        let (mut news, mut filled) = (std::mem::take(&mut self.gave_way), false);
        let mut bytes = self.memory_bytes();
        for (wanted, view) in self.all.iter_mut().filter(|(_, view)| view.broken.is_none()) {
            let Some(whole) = tables.served(&wanted.table).map(|served| served.table) else { continue };
            let was_filling = view.build.is_some();
            // One at a time: many new views at once must not delay the rest.
            if was_filling && std::mem::replace(&mut filled, true) {
                continue;
            }
            // A recreated table has nothing in common with this view.
            let before = view.table.memory_bytes();
            if whole.epoch() != view.of_epoch || view.follow(whole, &wanted.subset, portion).is_none() {
                view.broken = Some("was recreated");
            }
            bytes = bytes.saturating_sub(before) + view.table.memory_bytes();
            if bytes > limit && was_filling {
                (view.broken, view.table) = (
                    Some("does not fit into the memory of all parts (node.limits.views_bytes)"),
                    Table::new(0),
                );
            }
            news |= view.broken.is_some() || was_filling != view.build.is_some();
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
            view.broken.is_none() && now < *view.idle_since.get_or_insert(now) + LINGER
        });
    }

    /// The subsets in use, with the number of their routes.
    pub fn list(&self) -> impl Iterator<Item = (&str, &Subset, u64)> + '_ {
        let live = self.all.iter().filter(|(_, view)| view.broken.is_none());
        live.map(|(w, view)| (w.table.as_str(), &w.subset, view.table.counts().routes()))
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
