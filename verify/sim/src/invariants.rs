//! Invariants of every step, and of a network at rest. DESIGN §8.4.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fibcast_sync_proto::change::record_id;
use fibcast_sync_proto::origins::origin_of;
use fibcast_sync_proto::subset::Subset;
use fibcast_sync_proto::{DigestKey, Key, OriginId, RootDigest, Table, Value};

/// A violated rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// What was observed.
    pub text: String,
}

impl Violation {
    /// A violation of this rule.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No client ever publishes a table that no ready route server committed.
    PublishedIsCommitted,
    /// A client's table is that of the epoch and serial that it claims.
    SerialMeansTable,
    /// Digest, sketch and counts match the records.
    Sound,
    /// The batches for a sink lead to the table, and never refer to a missing group.
    SinkFollows,
    /// Peers that follow the protocol never report violations of each other.
    NoAccusation,
    /// A healthy server is not dropped.
    NoFalseAlarm,
    /// A silent server is dropped in time.
    SilenceIsNoticed,
    /// A server that is not ready is not selected.
    ReadyOnly,
    /// A client with a capable server is in sync with it and not empty.
    CapableIsUsed,
    /// A client leaves a server that announces commits and sends none for another capable one.
    LagShrinks,
    /// Clients fail back to a preferred server, and not before the failback time.
    FailBack,
    /// A relay reports ready only while it is in sync and shortly after, and stale whenever it is not in sync.
    TrueWord,
    /// Nothing is sent downstream without a change.
    NoEmptyMessage,
    /// Queues and remembered deletions are bounded.
    Memory,
    /// No node knows an origin whose server has been dead for long.
    NoGhosts,
    /// At rest all tables are equal to the model.
    RestIsModel,
    /// At rest only heartbeats are sent, and no client changes its server.
    RestIsQuiet,
    /// At rest there are as many sessions as connections.
    NoLeak,
    /// A serial is acknowledged only when every node that counts forwards by it.
    AcknowledgedIsInstalled,
    /// No route is announced as installed while a node that counts refuses it.
    RefusedIsNotAnnounced,
    /// At rest everything is acknowledged, and a server knows exactly the routes that the nodes refuse.
    RestIsAcknowledged,
    /// The state machines refuse nothing of each other and do not panic.
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
            Self::LagShrinks => "lag-shrinks",
            Self::FailBack => "fail-back",
            Self::TrueWord => "true-word",
            Self::NoEmptyMessage => "no-empty-message",
            Self::Memory => "memory",
            Self::NoGhosts => "no-ghosts",
            Self::RestIsModel => "rest-is-model",
            Self::RestIsQuiet => "rest-is-quiet",
            Self::NoLeak => "no-leak",
            Self::AcknowledgedIsInstalled => "acknowledged-is-installed",
            Self::RefusedIsNotAnnounced => "refused-is-not-announced",
            Self::RestIsAcknowledged => "rest-is-acknowledged",
            Self::NoFailure => "no-failure",
        }
    }
}

/// Everything that was ever committed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Digest by table, epoch and serial.
    commits: HashMap<(u64, u64, u64), RootDigest>,
    /// Digests of forwarding tables of complete route servers, by subset.
    complete: HashSet<(usize, RootDigest)>,
    /// Epochs and serials of such tables.
    seen: HashSet<(u64, u64)>,
    /// Subsets that clients request; the first is the whole table.
    pub parts: Vec<Subset>,
}

/// The records of a subset: its routes and their groups.
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

/// The digest of some records, computed from scratch.
fn digest_of(records: &BTreeMap<Key, Value>) -> RootDigest {
    let key = DigestKey::PUBLIC;
    key.digest_of(records.iter().filter_map(|(name, value)| record_id(&key, name, value)))
}

/// A table's name in a few bytes.
fn key_of(name: &str) -> u64 {
    origin_of(name).map_or_else(|| OriginId::of(name).0, |id| id.0)
}

impl Ledger {
    /// A table is served in this state. `complete`: by a ready route server.
    ///
    /// # Errors
    /// If the table had another digest at this epoch and serial.
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
    ///
    /// # Errors
    /// If no ready route server ever had such a table.
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

    /// A client claims that its table is that of an epoch and serial.
    ///
    /// # Errors
    /// If the server had another table at this epoch and serial.
    pub fn claimed(&self, who: &str, name: &str, base: (u64, u64), table: &Table) -> Result<(), Violation> {
        let found = self.commits.get(&(key_of(name), base.0, base.1));
        // Views are separate tables, whose commits only their clients see.
        let view = found.is_none() && self.parts.len() > 1;
        // Of an origin that a server does not know, it serves an empty table at serial 0.
        let unknown = found.is_none() && base.1 == 0 && table.is_empty();
        if found == Some(&table.digest()) || view || unknown {
            return Ok(());
        }
        let server = found.map_or("nothing".to_owned(), ToString::to_string);
        let text = format!(
            "{who} claims its table {name} {} to be epoch {} serial {}, where the server had {server}",
            table.digest(),
            base.0,
            base.1
        );
        Err(Violation::new(Rule::SerialMeansTable, text))
    }
}

/// Checks that digest, sketch and counts match the records.
///
/// # Errors
/// If they do not match.
pub fn sound(who: &str, table: &Table) -> Result<(), Violation> {
    if table.is_sound() {
        return Ok(());
    }
    Err(Violation::new(
        Rule::Sound,
        format!("the table of {who} does not match its digest, sketch or counts"),
    ))
}
