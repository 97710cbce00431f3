//! A NIC host: one copy of the table, its sink, and what it tells the tier below. The rules are those of `fibcast-agent`'s host.

use std::collections::BTreeMap;

use fibcast_sync_proto::relay::Relay;
use fibcast_sync_proto::server::{Served, Tables};
use fibcast_sync_proto::subset::Subset;
use fibcast_sync_proto::{Change, Key, Label, Table, Value};

/// What a dataplane would hold: it takes each batch change by change and must never see a route without its group.
#[derive(Debug, Default)]
pub struct Sink {
    /// Its records.
    pub records: BTreeMap<Key, Value>,
    /// Last serial that it took.
    taken: u64,
}

impl Sink {
    fn apply(&mut self, table: &Table) -> Result<(), String> {
        let Some(batch) = table.changes_since(self.taken) else {
            return Err(format!(
                "the sink at serial {} is beyond the horizon {}",
                self.taken,
                table.horizon()
            ));
        };
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => {
                    if let Value::Route(label) = value
                        && !self.records.contains_key(&Key::Group(label))
                    {
                        return Err(format!("a batch gave the sink {key:?} before its group {label}"));
                    }
                    self.records.insert(key, value);
                }
                Change::Delete(key) => {
                    if let Key::Group(label) = key
                        && self.uses(label)
                    {
                        return Err(format!("a batch took group {label} from the sink while routes use it"));
                    }
                    self.records.remove(&key);
                }
            }
        }
        self.taken = table.serial();
        Ok(())
    }

    fn uses(&self, label: Label) -> bool {
        self.records.values().any(|v| matches!(v, Value::Route(l) if *l == label))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Agent {
    /// Which part of the table it holds.
    pub subset: Subset,
    /// The copy.
    pub table: Table,
    /// What forwards by it.
    pub sink: Sink,
    /// What the tier below is told.
    pub relay: Relay,
    /// Last serial that was pumped.
    pub pumped: u64,
    /// Largest batch so far: deletions of one are remembered whatever the limit.
    pub largest: u64,
}

impl Agent {
    /// An agent with a table that is empty or from a checkpoint.
    pub fn new(mut table: Table, subset: Subset, checkpoint: &BTreeMap<Key, Value>) -> Result<Self, String> {
        // The sink has nothing yet: no deletion may be forgotten.
        table.pin(0);
        table
            .commit(checkpoint.iter().map(|(k, v)| Change::Put(k.clone(), v.clone())))
            .map_err(|e| format!("a checkpoint was refused: {e}"))?;
        let mut agent = Self {
            subset,
            table,
            sink: Sink::default(),
            relay: Relay::default(),
            pumped: 0,
            largest: checkpoint.len() as u64,
        };
        agent.feed()?;
        Ok(agent)
    }

    /// Gives the sink what is new.
    pub fn feed(&mut self) -> Result<(), String> {
        if self.sink.taken != self.table.serial() {
            let batch = self.table.changes_since(self.sink.taken).map_or(0, |b| b.commit().count);
            self.largest = self.largest.max(batch);
            self.sink.apply(&self.table)?;
            self.table.pin(self.table.serial());
        }
        Ok(())
    }
}

impl Tables for Agent {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served {
            table: &self.table,
            ready: self.relay.is_ready(),
            path: self.relay.path(),
        })
    }

    fn is_stale(&self, _: &str) -> bool {
        self.relay.is_stale()
    }

    fn subset(&self, _: &str) -> Option<&Subset> {
        Some(&self.subset).filter(|subset| !subset.is_all())
    }
}
