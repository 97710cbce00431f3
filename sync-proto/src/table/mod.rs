//! One copy of a table: records, the order of their last changes, serial, epoch, digest and sketch.
//!
//! [`Table`] is the only type that most users need: apply batches with [`Table::begin`] or [`Table::commit`], read it with [`Table::get`], [`Table::page`] and
//! [`Table::changes_since`]. Inside, records are `arena` entries of 32 bytes (IPv4) or 48 (IPv6), linked in change order (`links`); a batch
//! is a transaction (`txn`) that is rolled back as a whole on any error; `sorted` keeps prefixes in order, `order` walks all records in
//! snapshot order, `read` looks up and pages, `audit` verifies derived data, `rekey` replaces the key of digests.
//!
//! A deleted record stays as a *tombstone* in the change order, so that a client that was away learns of it. Beyond [`TOMBSTONES`] the
//! oldest are dropped and the *horizon* moves up: older clients must reconcile.

mod arena;
mod audit;
mod links;
mod order;
mod read;
mod rekey;
mod sorted;
mod txn;

use std::collections::{BTreeMap, VecDeque};

use crate::change::Change;
use crate::digest::DigestKey;
use crate::record::{Key, Label, OriginId};
use crate::sketch::{RootDigest, SYMBOLS, Sketch, Sum, Symbol};
use arena::{Groups, List, Misc, Routes, Slot};
pub use read::{Batch, Page};
use sorted::Sorted;
use txn::Scratch;
pub use txn::Transaction;

/// Deletions that a table remembers.
pub const TOMBSTONES: usize = 262_144;
/// Bytes of the keys of deleted opaque records that it remembers: a key has up to 16 KiB.
const TOMBSTONE_BYTES: usize = 16 << 20;

/// A commit: the instant at which a batch became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commit {
    /// Number of the commit in this table's epoch.
    pub serial: u64,
    /// Number of changed records.
    pub count: u64,
    /// Number of routes among them.
    pub routes: u64,
    /// Digest of the whole table after it.
    pub digest: RootDigest,
}

/// Numbers of live records by kind.
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

/// Why a batch was refused. The table is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Key and value are of different kinds.
    #[error("record {0:?}: expected a value of the key's kind, found another kind")]
    Kind(Key),
    /// The batch would leave routes whose groups do not exist.
    #[error("batch leaves {routes} routes on missing groups, one of them group {label}")]
    MissingGroup {
        /// Number of such routes.
        routes: u64,
        /// One missing group.
        label: Label,
    },
    /// More combinations of origin and VRF than a table can number.
    #[error("expected at most 65535 combinations of origin and VRF, found another one: VRF {vrf}")]
    TooManyContexts {
        /// VRF of the route that exceeded the limit.
        vrf: u32,
    },
    /// A record is too large for a frame.
    #[error("expected at most {limit} {what}, found {found}")]
    TooLarge {
        /// What exceeds the limit.
        what: &'static str,
        /// The limit of the protocol.
        limit: usize,
        /// The record's value.
        found: usize,
    },
    /// A name is too long for a frame.
    #[error("expected at most {limit} bytes in the name of {of}, found {found}")]
    LongName {
        /// Whose name.
        of: &'static str,
        /// The limit of the protocol.
        limit: usize,
        /// Length of the name.
        found: usize,
    },
    /// A name with control characters.
    #[error("expected a name of {of} without control characters, found one")]
    Unprintable {
        /// Whose name.
        of: &'static str,
    },
    /// More records of a kind than a table can number.
    #[error("expected at most {0} records of a kind, found more")]
    Full(u32),
    /// The batch does not result in the announced digest.
    #[error("expected digest {expected} after the batch, found {found}")]
    Digest {
        /// The announced digest.
        expected: RootDigest,
        /// The resulting digest.
        found: RootDigest,
    },
}

/// The common part of routes of one origin (none: forwarding routes) in one VRF.
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

/// One copy of a table; see the module's documentation.
#[derive(Debug)]
pub struct Table {
    epoch: u64,
    serial: u64,
    /// At or below this serial deletions may have been forgotten.
    horizon: u64,
    /// Deletions after this serial are kept beyond the limit, for a reader that must not miss one.
    pin: u64,
    digest_key: DigestKey,
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
    tombstone_bytes: usize,
    tombstone_limit: usize,
    /// Routes that use a group without a record; 0 except within a transaction.
    dangling: u64,
    /// Bytes of keys and values that are not in the entries themselves: hops, descriptions, opaque data.
    payload: usize,
    scratch: Scratch,
}

impl Table {
    /// An empty table. The epoch must be new at each start of the server that owns the table.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            serial: 0,
            horizon: 0,
            pin: u64::MAX,
            digest_key: DigestKey::PUBLIC,
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
            tombstone_bytes: 0,
            tombstone_limit: TOMBSTONES,
            dangling: 0,
            payload: 0,
            scratch: Scratch::default(),
        }
    }

    /// The same with another limit of remembered deletions.
    #[must_use]
    pub fn with_tombstone_limit(mut self, limit: usize) -> Self {
        self.tombstone_limit = limit;
        self
    }

    /// The same with another key of its digest. Only for a table that was never written; see [`Table::rekey`].
    #[must_use]
    pub fn with_digest_key(mut self, key: DigestKey) -> Self {
        self.digest_key = key;
        self
    }

    /// The key of its digest.
    pub fn digest_key(&self) -> DigestKey {
        self.digest_key
    }

    /// The epoch given to [`Table::new`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of the last commit; 0 before the first.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Readers at a lower serial cannot use [`Table::changes_since`]: deletions were forgotten.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Pins deletions after `serial`, whatever their number, for a reader that lags. `u64::MAX` removes the pin.
    pub fn pin(&mut self, serial: u64) {
        self.pin = serial;
    }

    /// Digest of all live records.
    pub fn digest(&self) -> RootDigest {
        self.seal(self.sketch.sum())
    }

    fn seal(&self, sum: Sum) -> RootDigest {
        self.digest_key.seal(sum.ids, sum.count)
    }

    /// Number of live records.
    pub fn len(&self) -> u64 {
        self.sketch.sum().count
    }

    /// Whether there is no live record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live records by kind and family.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The coded symbols of the table, see [`crate::sketch`].
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Bytes of memory in use, estimated from the sizes of its parts.
    pub fn memory_bytes(&self) -> usize {
        let sketch = (SYMBOLS + 1) * size_of::<Symbol>();
        self.v4.memory_bytes() + self.v6.memory_bytes() + self.records_beside_routes() + self.payload + sketch
    }

    /// Applies a batch as a whole or not at all, and assigns it a serial; see [`Table::begin`]. None if it has no effect.
    ///
    /// # Errors
    /// [`TableError`]; the table is unchanged then.
    pub fn commit(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Option<Commit>, TableError> {
        let mut transaction = self.begin();
        transaction.push_all(changes)?;
        transaction.commit()
    }

    /// Adopts another copy as the next commit of this one. Only for a table that was never written.
    pub(crate) fn adopt(&mut self, mut other: Table) -> Commit {
        other.epoch = self.epoch;
        other.horizon = 0;
        other.pin = self.pin;
        other.tombstone_limit = self.tombstone_limit;
        *self = other;
        let routes = self.counts.routes();
        Commit { serial: self.serial, count: self.len(), routes, digest: self.digest() }
    }
}

#[cfg(test)]
mod tests;
