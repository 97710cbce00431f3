//! A route server: the production engine with its sources' batches, and its copies of the peers' tables. The rules are those of
//! `fibcast-route-server`'s host.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_route_server::config::{Checked, Config, SourcePlan};
use fibcast_route_server::engine::Engine;
use fibcast_route_server::source::{Event, Kind, Message, RouteChange, fixed};
use fibcast_sync_proto::Table;
use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::server::{Served, Tables};

/// What a source says next.
#[derive(Debug)]
pub enum Said {
    /// A batch of a protocol, by its place on this server.
    Batch(usize, Vec<RouteChange>),
    /// A protocol's table is complete.
    End(usize),
}

/// What a route server is made with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Protocols beside it: origin and distance.
    pub protocols: Vec<(String, u8)>,
    /// How many other servers it registers with.
    pub peers: usize,
    /// For how long a lost peer's routes stay.
    pub hold: Duration,
    /// After this it is ready without what is missing.
    pub ready_timeout: Duration,
    /// Deletions that its tables remember.
    pub tombstones: usize,
}

/// A peer's copy, and up to which serial the engine knows it.
#[derive(Debug)]
pub struct Copy {
    /// The copy.
    pub table: Table,
    known: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RouteServer {
    /// The tables.
    pub engine: Engine,
    /// One for each peer.
    pub copies: Vec<Copy>,
    /// What the sources have still to say.
    pub feed: VecDeque<Said>,
    /// An operator took it out of service: it says that it is not ready.
    pub drained: bool,
    base: Instant,
    told: (bool, bool),
    served: (u64, u64),
}

/// What a turn came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Turn {
    /// A served table has a new commit.
    pub changed: bool,
    /// Readiness changed.
    pub announce: bool,
    /// There is more to do at once.
    pub more: bool,
}

impl RouteServer {
    /// A server that has just started.
    pub fn new(plan: &Plan, epoch: u64, now: Duration) -> Result<Self, String> {
        let mut text = format!(
            "[node]\nname = \"{}\"\n[rib]\norigin_hold_ms = {}\nready_timeout_ms = {}\n",
            plan.name,
            plan.hold.as_millis(),
            plan.ready_timeout.as_millis()
        );
        for _ in 0..plan.peers {
            text.push_str("[[peer]]\naddress = \"127.0.0.1:1\"\n");
        }
        let config: Config = fibcast_daemon::config::parse(Path::new("simulated"), text)
            .map_err(|e| format!("configuration of {}: {e}", plan.name))?
            .value;
        let kind = Kind::Static(fixed::Options { path: "simulated".into(), vrf: 0 });
        let sources = plan.protocols.iter().map(|(origin, distance)| SourcePlan {
            origin: origin.clone(),
            distance: *distance,
            kind: kind.clone(),
        });
        let checked = Checked { config, sources: sources.collect() };
        let base = Instant::now();
        let mut engine = Engine::new(&checked, epoch, base + now).map_err(|e| e.to_string())?;
        let limit = |table: &mut Table| {
            let made = std::mem::replace(table, Table::new(0));
            *table = made.with_tombstone_limit(plan.tombstones);
        };
        limit(engine.own_mut());
        limit(engine.fib_mut());
        let copy = || {
            let mut table = Table::new(0).with_tombstone_limit(plan.tombstones);
            table.pin(0);
            Copy { table, known: 0 }
        };
        Ok(Self {
            engine,
            copies: (0..plan.peers).map(|_| copy()).collect(),
            feed: VecDeque::new(),
            drained: false,
            base,
            told: (false, false),
            served: (0, 0),
        })
    }

    /// Hears what its sources say next. False if they have nothing to say.
    pub fn hear(&mut self) -> Result<bool, String> {
        let Some(said) = self.feed.pop_front() else { return Ok(false) };
        let message = match said {
            Said::Batch(source, batch) => Message { source, event: Event::Batch(batch) },
            Said::End(source) => Message { source, event: Event::EndOfTable },
        };
        let copies: Vec<&Table> = self.copies.iter().map(|c| &c.table).collect();
        self.engine.source_said(message, &copies).map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Something happened to the client of a peer.
    pub fn client_event(&mut self, now: Duration, at: usize, event: &ClientEvent) -> Result<(), String> {
        let copies: Vec<&Table> = self.copies.iter().map(|c| &c.table).collect();
        match event {
            ClientEvent::Lost { active: true, .. } => {
                self.engine.peer_lost(at, self.base + now, &copies).map_err(|e| e.to_string())
            }
            ClientEvent::Committed(_) => self.copy_changed(at),
            _ => Ok(()),
        }
    }

    fn copy_changed(&mut self, at: usize) -> Result<(), String> {
        let copies: Vec<&Table> = self.copies.iter().map(|c| &c.table).collect();
        let (Some(copy), Some(known)) = (copies.get(at), self.copies.get(at).map(|c| c.known)) else {
            return Ok(());
        };
        let serial = copy.serial();
        if serial != known {
            let batch =
                copy.changes_since(known).ok_or("the engine is beyond the horizon of a peer's copy")?;
            self.engine.peer_changed(at, batch.changes(), &copies).map_err(|e| e.to_string())?;
        }
        if let Some(copy) = self.copies.get_mut(at) {
            copy.known = serial;
            copy.table.pin(serial);
        }
        Ok(())
    }

    /// Once after all input.
    pub fn turn(&mut self, now: Duration, clients: &[Client]) -> Result<Turn, String> {
        let instant = self.base + now;
        for (at, client) in clients.iter().enumerate() {
            if client.is_synced() {
                self.engine.peer_in_sync(at, instant);
            }
        }
        let copies: Vec<&Table> = self.copies.iter().map(|c| &c.table).collect();
        let more = self.engine.turn(&copies, instant).map_err(|e| e.to_string())?;
        let readiness = self.readiness();
        let served = (self.engine.own().serial(), self.engine.fib().serial());
        Ok(Turn {
            announce: std::mem::replace(&mut self.told, readiness) != readiness,
            changed: std::mem::replace(&mut self.served, served) != served,
            more,
        })
    }

    /// Readiness of `rib` and `fib`.
    pub fn readiness(&self) -> (bool, bool) {
        (self.engine.rib_ready() && !self.drained, self.engine.ready() && !self.drained)
    }

    /// When [`Self::turn`] has to be called again.
    pub fn due(&self) -> Option<Duration> {
        self.engine.deadline().map(|at| at.saturating_duration_since(self.base))
    }
}

impl Tables for RouteServer {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        let (rib, fib) = self.readiness();
        match name {
            "fib" => Some(Served { table: self.engine.fib(), ready: fib, path: &[] }),
            "rib" => Some(Served { table: self.engine.own(), ready: rib, path: &[] }),
            _ => None,
        }
    }
}
