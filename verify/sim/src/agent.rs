//! A NIC host: the production core with a simulated sink that can be made busy, fail, or refuse single routes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fibcast_sync_proto::agent::{AgentConfig, AgentCore, AgentEvent, SinkBatch, SinkError};
use fibcast_sync_proto::refusal::{Reason, Refusals};
use fibcast_sync_proto::{Change, Key, Label, Table, Value};

/// A simulated dataplane: it applies each batch change by change, and must never see a route without its group.
#[derive(Debug, Default)]
pub struct Sink {
    /// Its records.
    pub records: BTreeMap<Key, Value>,
    /// It refuses batches before this time (network clock) with this error.
    pub trouble: Option<(Duration, SinkError)>,
    /// Time from a batch to its effect on packets; none: a sink that reports nothing, because its batches have effect at once.
    pub lag: Option<Duration>,
    /// Batches on their way: time by the node's clock, and what is in use then.
    underway: VecDeque<(Duration, InUse)>,
    /// What packets are forwarded by, with a lag.
    in_use: InUse,
    /// Serial of the last batch.
    accepted: u64,
    /// It refuses this percentage of the routes that it is given; the second number chooses which.
    pub refuses: Option<(u64, u64)>,
    /// Routes of the last batch that it refused, and whether it did not forward by the same before.
    pub refused: BTreeMap<Key, bool>,
    /// What it says of them.
    told: Refusals,
    /// A fault took records from it.
    pub damaged: bool,
}

/// A state of the forwarding plane.
#[derive(Debug, Clone, Default)]
struct InUse {
    serial: u64,
    records: BTreeMap<Key, Value>,
    refused: BTreeSet<Key>,
}

impl Sink {
    /// Applies a batch. An outer error is a batch that no sink may get.
    fn apply(
        &mut self,
        now: Duration,
        local: Duration,
        next: &SinkBatch<'_>,
    ) -> Result<Result<(), SinkError>, String> {
        if let Some((_, error)) = self.trouble.as_ref().filter(|(until, _)| now < *until) {
            return Ok(Err(error.clone()));
        }
        let mut records = if next.replaces { BTreeMap::new() } else { self.records.clone() };
        let mut refused = if next.replaces { BTreeMap::new() } else { self.refused.clone() };
        for change in next.batch.changes() {
            match Change::from(change) {
                Change::Put(key, value) => {
                    if let Value::Route(label) = value
                        && !records.contains_key(&Key::Group(label))
                    {
                        return Err(format!("a batch gave the sink {key:?} before its group {label}"));
                    }
                    match self.judge(&key, &value) {
                        Some(fresh) => refused.insert(key.clone(), fresh),
                        None => refused.remove(&key),
                    };
                    records.insert(key, value);
                }
                Change::Delete(key) => {
                    if let Key::Group(label) = key
                        && uses(&records, label)
                    {
                        return Err(format!("a batch took group {label} from the sink while routes use it"));
                    }
                    refused.remove(&key);
                    records.remove(&key);
                }
            }
        }
        (self.records, self.refused, self.accepted) = (records, refused, next.batch.serial());
        self.damaged &= !next.replaces;
        if next.replaces {
            self.underway.clear();
            self.in_use.serial = 0;
        }
        self.use_soon(local);
        Ok(Ok(()))
    }

    /// Whether it refuses a route that it is given; and if so, whether it did not forward by it before.
    fn judge(&self, key: &Key, value: &Value) -> Option<bool> {
        let (percent, salt) = self.refuses?;
        let Key::Route { prefix, .. } = key else { return None };
        let hash = prefix
            .addr()
            .to_string()
            .bytes()
            .fold(salt, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let same = self.records.get(key) == Some(value);
        let before = self.refused.get(key).filter(|_| same).copied();
        (hash >> 20 & 0xffff).checked_rem(100).filter(|at| *at < percent)?;
        Some(before.unwrap_or(self.forwards(key) != Some(value)))
    }

    /// What it has accepted and not refused has its effect after the lag.
    fn use_soon(&mut self, local: Duration) {
        let Some(lag) = self.lag else { return };
        let refused: BTreeSet<Key> = self.refused.keys().cloned().collect();
        let mut records = self.records.clone();
        records.retain(|key, _| !refused.contains(key));
        self.underway.push_back((local + lag, InUse { serial: self.accepted, records, refused }));
    }

    /// It takes everything that it has refused.
    pub fn take_refused(&mut self, local: Duration) {
        self.refuses = None;
        if !self.refused.is_empty() {
            self.refused.clear();
            self.use_soon(local);
        }
    }

    /// What it says of refused routes: until packets are forwarded by them.
    fn refusals(&mut self) -> &Refusals {
        let underway = self.underway.iter().flat_map(|(_, state)| &state.refused);
        let all = self.refused.keys().chain(&self.in_use.refused).chain(underway);
        let named = all.filter_map(|key| match key {
            Key::Route { vrf, prefix } => Some(((*vrf, *prefix), Reason::Kernel)),
            _ => None,
        });
        self.told.take(&named.collect(), 0);
        &self.told
    }
}

impl Sink {
    /// What packets are forwarded by for a key.
    pub fn forwards(&self, key: &Key) -> Option<&Value> {
        match self.lag {
            Some(_) => self.in_use.records.get(key),
            None => self.records.get(key).filter(|_| !self.refused.contains_key(key)),
        }
    }

    /// When the next batch has its effect.
    pub fn due(&self) -> Option<Duration> {
        self.underway.front().map(|(due, ..)| *due)
    }

    /// The serial that it forwards by at this time, if it reports one.
    fn installed(&mut self, local: Duration) -> Option<u64> {
        while self.due().is_some_and(|due| due <= local)
            && let Some((_, state)) = self.underway.pop_front()
        {
            self.in_use = state;
        }
        self.lag.map(|_| self.in_use.serial)
    }
}

fn uses(records: &BTreeMap<Key, Value>, label: Label) -> bool {
    records.values().any(|v| matches!(v, Value::Route(l) if *l == label))
}

/// An agent; see the module's documentation.
#[derive(Debug)]
pub struct Agent {
    /// The production core.
    pub core: AgentCore,
    /// The sink.
    pub sink: Sink,
    /// Most records that the sink has lacked so far: their deletions are remembered whatever the limit.
    pub largest: u64,
    /// Time since which the sink has lacked something, by the network's clock.
    pub behind_since: Option<Duration>,
}

impl Agent {
    /// An agent with a table that is empty or from a checkpoint, and a sink of this lag.
    ///
    /// # Errors
    /// If the table refuses the checkpoint, as text.
    pub fn new(
        config: AgentConfig,
        mut table: Table,
        checkpoint: &BTreeMap<Key, Value>,
        lag: Option<Duration>,
    ) -> Result<Self, String> {
        table
            .commit(checkpoint.iter().map(|(k, v)| Change::Put(k.clone(), v.clone())))
            .map_err(|e| format!("a checkpoint was refused: {e}"))?;
        let core = AgentCore::new(config, table);
        Ok(Self { core, sink: Sink { lag, ..Sink::default() }, largest: 0, behind_since: None })
    }

    /// Delivers new data to the sink: `now` is the network's clock, `local` the node's.
    ///
    /// # Errors
    /// If a batch violates the rules of a sink, as text.
    pub fn deliver(&mut self, now: Duration, local: Duration) -> Result<(), String> {
        self.note_lack();
        while let Some(next) = self.core.poll_sink(local) {
            let outcome = self.sink.apply(now, local, &next)?;
            self.core.handle_sink(local, outcome);
        }
        self.settle(local);
        if self.core.is_delivered() {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert(now);
        }
        while let Some(event) = self.core.poll_event() {
            if let AgentEvent::SinkBehindHorizon(serial) = event {
                return Err(format!("the table at serial {serial} has forgotten what the sink lacks"));
            }
        }
        Ok(())
    }

    /// Reports what the sink forwards by, and then what it refuses.
    pub fn settle(&mut self, local: Duration) {
        let installed = self.sink.installed(local);
        self.core.handle_forwarding(installed);
        let refusals = self.sink.refusals();
        if refusals.version() != self.core.sink_refusals().version() {
            self.core.handle_refusals(refusals.clone());
        }
    }

    fn note_lack(&mut self) {
        let lack = self.core.table().count_since(self.core.delivered(), usize::MAX);
        self.largest = self.largest.max(lack as u64);
    }
}
