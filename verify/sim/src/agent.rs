//! A NIC host: the production core with a simulated sink that can be made busy, or fail.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fibcast_sync_proto::agent::{AgentConfig, AgentCore, AgentEvent, SinkBatch, SinkError};
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
    /// Batches on their way: time by the node's clock, serial, records.
    underway: VecDeque<(Duration, u64, BTreeMap<Key, Value>)>,
    /// Serial and records that packets are forwarded by, with a lag.
    in_use: (u64, BTreeMap<Key, Value>),
    /// A fault took records from it.
    pub damaged: bool,
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
        let mut records = if next.replaces { BTreeMap::new() } else { std::mem::take(&mut self.records) };
        for change in next.batch.changes() {
            match Change::from(change) {
                Change::Put(key, value) => {
                    if let Value::Route(label) = value
                        && !records.contains_key(&Key::Group(label))
                    {
                        return Err(format!("a batch gave the sink {key:?} before its group {label}"));
                    }
                    records.insert(key, value);
                }
                Change::Delete(key) => {
                    if let Key::Group(label) = key
                        && uses(&records, label)
                    {
                        return Err(format!("a batch took group {label} from the sink while routes use it"));
                    }
                    records.remove(&key);
                }
            }
        }
        self.records = records;
        self.damaged &= !next.replaces;
        if let Some(lag) = self.lag {
            if next.replaces {
                self.underway.clear();
                self.in_use.0 = 0;
            }
            self.underway.push_back((local + lag, next.batch.serial(), self.records.clone()));
        }
        Ok(Ok(()))
    }
}

impl Sink {
    /// What packets are forwarded by for a key.
    pub fn forwards(&self, key: &Key) -> Option<&Value> {
        if self.lag.is_some() { self.in_use.1.get(key) } else { self.records.get(key) }
    }

    /// When the next batch has its effect.
    pub fn due(&self) -> Option<Duration> {
        self.underway.front().map(|(due, ..)| *due)
    }

    /// The serial that it forwards by at this time, if it reports one.
    fn installed(&mut self, local: Duration) -> Option<u64> {
        while self.due().is_some_and(|due| due <= local)
            && let Some((_, serial, records)) = self.underway.pop_front()
        {
            self.in_use = (serial, records);
        }
        self.lag.map(|_| self.in_use.0)
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

    /// Reports what the sink forwards by.
    pub fn settle(&mut self, local: Duration) {
        let installed = self.sink.installed(local);
        self.core.handle_forwarding(installed);
    }

    fn note_lack(&mut self) {
        let lack = self.core.table().count_since(self.core.delivered(), usize::MAX);
        self.largest = self.largest.max(lack as u64);
    }
}
