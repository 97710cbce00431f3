//! One copy of a table: records, the order in which they last changed, serial, epoch, digest and sketch.
//!
//! [`Table`] is the only type most users need: give it batches with [`Table::commit`], read it with
//! [`Table::get`], [`Table::page`] and [`Table::changes_since`]. Inside, records live in `arena` entries of 32
//! bytes (IPv4) or 48 (IPv6) that are linked in change order (`links`); a batch is a transaction (`txn`) that is
//! undone as a whole when anything is wrong with it; `sorted` keeps prefixes in order, `order` walks all records in the order of
//! snapshots, `read` looks up and pages, `audit` recomputes what is kept up to date.
//!
//! A deleted record stays as a *tombstone* in the change order, so that a client that was away learns of it. When
//! there are more than [`TOMBSTONES`], the oldest go and the *horizon* moves up: who is older must reconcile.

mod arena;
mod audit;
mod links;
mod order;
mod read;
mod sorted;
mod txn;

use std::collections::{BTreeMap, VecDeque};

use crate::record::{Change, Key, Label, OriginId};
use crate::sketch::{RootDigest, Sketch};
use arena::{Groups, Misc, Routes, Slot};
use links::List;
pub use read::{Batch, Page};
use sorted::Sorted;
use txn::Scratch;

/// How many deletions a table remembers.
pub const TOMBSTONES: usize = 262_144;

/// The instant a batch became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commit {
    /// Number of the commit in this table's epoch.
    pub serial: u64,
    /// How many records the batch changed.
    pub count: u64,
    /// Digest of the whole table after it.
    pub digest: RootDigest,
}

/// How many live records of each kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Forwarding routes, IPv4.
    pub routes_v4: u64,
    /// Forwarding routes, IPv6.
    pub routes_v6: u64,
    /// Routes of origins, IPv4.
    pub rib_routes_v4: u64,
    /// Routes of origins, IPv6.
    pub rib_routes_v6: u64,
    /// Next-hop groups.
    pub groups: u64,
    /// Protocol instances.
    pub origins: u64,
    /// Opaque records.
    pub opaque: u64,
}

impl Counts {
    /// Forwarding routes and origins' routes of both families.
    pub fn routes(&self) -> u64 {
        self.routes_v4 + self.routes_v6 + self.rib_routes_v4 + self.rib_routes_v6
    }
}

/// Why a batch was refused. The table is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Key and value are of two kinds.
    #[error("record {0:?}: expected a value of the key's kind, found another kind")]
    Kind(Key),
    /// The batch would leave routes that use groups which do not exist.
    #[error("batch leaves {routes} routes on missing groups, one of them group {label}")]
    MissingGroup {
        /// How many routes use missing groups.
        routes: u64,
        /// One missing group.
        label: Label,
    },
    /// There are more combinations of origin and VRF than a table can number.
    #[error("expected at most 65535 combinations of origin and VRF, found another one: VRF {vrf}")]
    TooManyContexts {
        /// The VRF of the route that was one too many.
        vrf: u32,
    },
    /// A record is larger than a frame can carry.
    #[error("expected at most {limit} {what}, found {found}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit of the protocol.
        limit: usize,
        /// What the record has.
        found: usize,
    },
    /// A name is longer than a frame can carry.
    #[error("expected at most {limit} bytes in the name of {of}, found {found}")]
    LongName {
        /// Whose name.
        of: &'static str,
        /// The limit of the protocol.
        limit: usize,
        /// What the name has.
        found: usize,
    },
    /// A name that no frame can carry.
    #[error("expected a name of {of} without control characters, found one")]
    Unprintable {
        /// Whose name.
        of: &'static str,
    },
    /// There are more records of one kind than a table can number.
    #[error("expected at most {0} records of a kind, found more")]
    Full(u32),
    /// The batch does not lead to the digest that it announced.
    #[error("expected digest {expected} after the batch, found {found}")]
    Digest {
        /// What the sender said.
        expected: RootDigest,
        /// What the batch leads to.
        found: RootDigest,
    },
}

/// Routes of one origin (none: forwarding routes) in one VRF share this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Context {
    origin: Option<OriginId>,
    vrf: u32,
}

/// A context, and its prefixes in order.
#[derive(Debug)]
struct ContextEntry {
    context: Context,
    v4: Sorted<u32>,
    v6: Sorted<[u64; 2]>,
}

impl ContextEntry {
    fn new(context: Context) -> Self {
        Self { context, v4: Sorted::default(), v6: Sorted::default() }
    }
}

/// One copy of a table. See the module's documentation.
#[derive(Debug)]
pub struct Table {
    epoch: u64,
    serial: u64,
    /// Serials at or below this may have lost deletions.
    horizon: u64,
    /// Deletions after this serial are kept beyond the limit, for a reader that must not miss one.
    pin: u64,
    sketch: Sketch,
    counts: Counts,
    v4: Routes<u32>,
    v6: Routes<[u64; 2]>,
    groups: Groups,
    misc: Misc,
    contexts: Vec<ContextEntry>,
    context_ids: BTreeMap<Context, u16>,
    group_list: List,
    list: List,
    tombstones: VecDeque<(Slot, u64)>,
    tombstone_limit: usize,
    /// Routes that use a group without a record; not 0 only within a transaction.
    dangling: u64,
    scratch: Scratch,
}

impl Table {
    /// An empty table. The epoch is new at each start of the server that owns the table.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            serial: 0,
            horizon: 0,
            pin: u64::MAX,
            sketch: Sketch::default(),
            counts: Counts::default(),
            v4: Routes::default(),
            v6: Routes::default(),
            groups: Groups::default(),
            misc: Misc::default(),
            contexts: Vec::new(),
            context_ids: BTreeMap::new(),
            group_list: List::default(),
            list: List::default(),
            tombstones: VecDeque::new(),
            tombstone_limit: TOMBSTONES,
            dangling: 0,
            scratch: Scratch::default(),
        }
    }

    /// Same, with another bound on remembered deletions.
    #[must_use]
    pub fn with_tombstone_limit(mut self, limit: usize) -> Self {
        self.tombstone_limit = limit;
        self
    }

    /// The epoch given to [`Table::new`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of the last commit; 0 before the first.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Readers at a lower serial cannot be served by [`Table::changes_since`]: deletions were forgotten.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Keeps deletions after `serial` whatever their number, for a reader that is behind. `u64::MAX` lifts it.
    pub fn pin(&mut self, serial: u64) {
        self.pin = serial;
    }

    /// Digest of all live records.
    pub fn digest(&self) -> RootDigest {
        self.sketch.root()
    }

    /// Number of live records.
    pub fn len(&self) -> u64 {
        self.digest().count
    }

    /// Whether there is no live record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live records by kind and family.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The first coded symbols of the table, see [`crate::sketch`].
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Applies a batch whole or not at all, and numbers it.
    ///
    /// Changes apply in their order; a group may come after a route that uses it within the batch, but when the
    /// batch ends every route's group must have a record, and no deleted group may have a user. Changes that
    /// change nothing vanish; if nothing is left there is no commit.
    pub fn commit(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Option<Commit>, TableError> {
        self.commit_with(changes, None, false)
    }

    /// Like [`Table::commit`], and deletes, in the same commit, groups that lost their last user in it.
    ///
    /// For the owner of a forwarding table, so that its groups are a function of its routes.
    pub fn commit_and_collect(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Option<Commit>, TableError> {
        self.commit_with(changes, None, true)
    }

    /// Like [`Table::commit`], but refuses a batch that does not lead to the expected digest.
    pub fn commit_expecting(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        digest: RootDigest,
    ) -> Result<Option<Commit>, TableError> {
        self.commit_with(changes, Some(digest), false)
    }

    /// Takes over another copy whole, as the next commit of this one. Only for a table that was never written.
    pub(crate) fn adopt(&mut self, mut other: Table) -> Commit {
        other.epoch = self.epoch;
        other.horizon = 0;
        other.pin = self.pin;
        other.tombstone_limit = self.tombstone_limit;
        *self = other;
        Commit { serial: self.serial, count: self.len(), digest: self.digest() }
    }
}

#[cfg(test)]
mod tests;
