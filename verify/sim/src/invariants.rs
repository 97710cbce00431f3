//! What must hold after every step, and what must hold when all is at rest. DESIGN §8.4.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fibcast_sync_proto::origins::origin_of;
use fibcast_sync_proto::record::record_id;
use fibcast_sync_proto::sketch::check_of;
use fibcast_sync_proto::subset::Subset;
use fibcast_sync_proto::{Key, OriginId, RootDigest, Table, Value};

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// A broken rule.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No client ever publishes a table that no ready route server committed.
    PublishedIsCommitted,
    /// A client's table is that of the epoch and serial which it claims.
    SerialMeansTable,
    /// Digest, sketch and counts are what the records say.
    Sound,
    /// What the sink was given in order leads to the table, and never names a group that is not there.
    SinkFollows,
    /// Peers that keep the protocol never accuse each other.
    NoAccusation,
    /// A server that nothing has befallen is not given up.
    NoFalseAlarm,
    /// A silent server is given up in time.
    SilenceIsNoticed,
    /// A server that is not ready is not chosen.
    ReadyOnly,
    /// A client with a capable server is in sync with it and not empty.
    CapableIsUsed,
    /// A better server is used again, and not before it was capable for the time of failback.
    FailBack,
    /// A relay says that it is ready only while it is in sync and shortly after, and that it is stale whenever it is not in sync.
    TrueWord,
    /// Nothing goes downstream without a change.
    NoEmptyMessage,
    /// Queues and remembered deletions are bounded.
    Memory,
    /// Nobody knows an origin whose server is long dead.
    NoGhosts,
    /// At rest all tables are equal to the model.
    RestIsModel,
    /// At rest nothing moves but heartbeats, and nobody changes servers.
    RestIsQuiet,
    /// At rest there are as many sessions as connections.
    NoLeak,
    /// The machines refuse nothing of their own and do not panic.
    NoFailure,
}

impl Rule {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::PublishedIsCommitted => "published-is-committed",
            Self::SerialMeansTable => "serial-means-table",
            Self::Sound => "sound",
            Self::SinkFollows => "sink-follows",
            Self::NoAccusation => "no-accusation",
            Self::NoFalseAlarm => "no-false-alarm",
            Self::SilenceIsNoticed => "silence-is-noticed",
            Self::ReadyOnly => "ready-only",
            Self::CapableIsUsed => "capable-is-used",
            Self::FailBack => "fail-back",
            Self::TrueWord => "true-word",
            Self::NoEmptyMessage => "no-empty-message",
            Self::Memory => "memory",
            Self::NoGhosts => "no-ghosts",
            Self::RestIsModel => "rest-is-model",
            Self::RestIsQuiet => "rest-is-quiet",
            Self::NoLeak => "no-leak",
            Self::NoFailure => "no-failure",
        }
    }
}

/// All that was ever committed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Digest by table, epoch and serial.
    commits: HashMap<(u64, u64, u64), RootDigest>,
    /// Digests of forwarding tables of route servers that had all their routes, by the part of the table.
    complete: HashSet<(usize, RootDigest)>,
    /// Epochs and serials of such tables.
    seen: HashSet<(u64, u64)>,
    /// Parts that clients want; the first is the whole.
    pub parts: Vec<Subset>,
}

/// The records of a part: its routes and the groups that they use.
pub fn part_of(table: impl Iterator<Item = (Key, Value)> + Clone, part: &Subset) -> BTreeMap<Key, Value> {
    let mut records: BTreeMap<Key, Value> =
        table.clone().filter(|(key, _)| part.is_all() || part.admits(key)).collect();
    let used: BTreeSet<Key> = records
        .values()
        .filter_map(|value| match value {
            Value::Route(label) => Some(Key::Group(*label)),
            _ => None,
        })
        .collect();
    records.extend(table.filter(|(key, _)| used.contains(key)));
    records
}

/// The digest of some records, built anew.
fn digest_of(records: &BTreeMap<Key, Value>) -> RootDigest {
    let mut digest = RootDigest::default();
    for id in records.iter().filter_map(|(key, value)| record_id(key, value)) {
        digest.hash ^= u128::from(id) << 64 | u128::from(check_of(id));
        digest.count += 1;
    }
    digest
}

/// A table's name in a few bytes.
fn key_of(name: &str) -> u64 {
    origin_of(name).map_or_else(|| OriginId::of(name).0, |id| id.0)
}

impl Ledger {
    /// A table is served in this state. `complete`: by a ready route server.
    pub fn record(&mut self, name: &str, table: &Table, complete: bool) -> Result<(), Violation> {
        let (at, digest) = ((key_of(name), table.epoch(), table.serial()), table.digest());
        if complete && self.seen.insert((table.epoch(), table.serial())) {
            for (at, part) in self.parts.iter().enumerate() {
                let digest = if part.is_all() {
                    digest
                } else {
                    let records: Vec<(Key, Value)> = table.iter().collect();
                    digest_of(&part_of(records.into_iter(), part))
                };
                self.complete.insert((at, digest));
            }
        }
        match self.commits.insert(at, digest) {
            Some(other) if other != digest => Err(Violation::new(
                Rule::SerialMeansTable,
                format!("table {name} had two digests at epoch {} serial {}: {other}, {digest}", at.1, at.2),
            )),
            _ => Ok(()),
        }
    }

    /// A client has this table after a commit.
    pub fn published(&self, who: &str, part: &Subset, table: &Table) -> Result<(), Violation> {
        let at = self.parts.iter().position(|p| p == part).unwrap_or_default();
        if table.serial() == 0 || self.complete.contains(&(at, table.digest())) {
            return Ok(());
        }
        let text = format!(
            "{who} published {} records with digest {}, which no ready route server ever had",
            table.len(),
            table.digest()
        );
        Err(Violation::new(Rule::PublishedIsCommitted, text))
    }

    /// A client says that its table is that of an epoch and serial.
    pub fn claimed(&self, who: &str, name: &str, base: (u64, u64), table: &Table) -> Result<(), Violation> {
        let found = self.commits.get(&(key_of(name), base.0, base.1));
        // Views are tables of their own, whose commits nobody but their clients sees.
        let view = found.is_none() && self.parts.len() > 1;
        if found == Some(&table.digest()) || view {
            return Ok(());
        }
        let server = found.map_or("nothing".to_owned(), ToString::to_string);
        let text = format!(
            "{who} takes its table {} for epoch {} serial {}, where the server had {server}",
            table.digest(),
            base.0,
            base.1
        );
        Err(Violation::new(Rule::SerialMeansTable, text))
    }
}

/// Digest, sketch and counts are what the records say.
pub fn sound(who: &str, table: &Table) -> Result<(), Violation> {
    if table.is_sound() {
        return Ok(());
    }
    Err(Violation::new(
        Rule::Sound,
        format!("the table of {who} is not what its digest, sketch or counts say"),
    ))
}
