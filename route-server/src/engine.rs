//! Owns the tables of a route server and keeps the forwarding table right while sources speak and other servers come and go.
//!
//! [`Engine`] has no socket, clock or thread. It serves, through [`Tables`],
//! * `rib`, the catalog of origins that `fibcast_sync_proto::origins` keeps, with the opaque records beside them;
//! * `rib/…`, the routes of one origin each: own ones, and those of other servers as they came here;
//! * `fib`, the best paths over all of these.
//!
//! Its owner runs one sync client for each configured peer's catalog, and one for each origin of another server, which the engine asks
//! for by [`Engine::poll_request`] and knows by their *places*. The clients fill the engine's tables ([`Engine::client_table`]); the owner
//! passes on what happens to them ([`Engine::client_event`], [`Engine::watch`]), hands in what sources said ([`Engine::source_said`]),
//! and calls [`Engine::turn`] until it says that nothing is left.
//!
//! Large work (an origin's first copy, an origin that is lost) waits in a queue, of which a turn takes a slice of some milliseconds, so
//! that heartbeats and clients never wait for a million routes.
//!
//! `peers` holds what the catalogs say, `others` the origins of other servers and how their routes count, `queue` the work that waits.

mod others;
mod peers;
mod queue;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::origins::{CATALOG, Origins, origin_of};
use fibcast_sync_proto::server::{Served, Tables};
use fibcast_sync_proto::{OriginId, Table, TableError};
use ipnet::IpNet;

use crate::config::Checked;
use crate::filter::{Admitted, Gate};
use crate::rib::{Contender, Contenders, commit_source, select};
use crate::source::{Event, Message, Report};
use others::Other;
pub use others::{Request, client_for};
use peers::Peer;
use queue::{Queue, Work};

/// Prefixes that one turn works on at most.
const SLICE: usize = 8192;
/// Name of the table that agents register for.
pub const FIB: &str = "fib";
/// Name of a server's presence, see `fibcast_sync_proto::origins`.
const PRESENCE: &str = "";

/// Why a route server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A source failed before it had handed over its table.
    #[error("source {origin:?}: {reason}")]
    Source {
        /// Its origin.
        origin: String,
        /// What it said.
        reason: String,
    },
    /// A table refused a batch.
    #[error("the {table} table refused a batch: {error}")]
    Table {
        /// `rib` or `fib`.
        table: &'static str,
        /// Why.
        error: TableError,
    },
}

fn rib_error(error: TableError) -> EngineError {
    EngineError::Table { table: "rib", error }
}

/// A source of this server, as the RIB sees it.
#[derive(Debug)]
struct Source {
    id: OriginId,
    name: String,
    kind: &'static str,
    distance: u8,
    /// Its routes, what `rib/…` serves.
    table: Table,
    gate: Gate,
    changes: u64,
    end_of_table: bool,
    /// What it has handed over is taken for its table: it said so, or the time to wait for that is over.
    whole: bool,
    finished: bool,
    error: Option<String>,
    /// What a live source says of itself.
    report: Option<Report>,
}

/// The tables of a route server. See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    name: String,
    /// The epoch of the next table that is made: each has one of its own.
    next_epoch: u64,
    origins: Origins,
    presence: OriginId,
    fib: Table,
    sources: Vec<Source>,
    peers: Vec<Peer>,
    others: BTreeMap<OriginId, Other>,
    /// The origin of each place after those of the peers.
    places: Vec<Option<OriginId>>,
    requests: VecDeque<Request>,
    /// Stands for tables that there are not, or not yet.
    nothing: Table,
    queue: Queue,
    lease: Duration,
    hold: Duration,
    tombstones: Option<usize>,
    started: Instant,
    ready_timeout: Duration,
    ready: bool,
    present: bool,
    changes: u64,
    /// Readiness or path of a `rib/…` table changed since it was last asked.
    announce: bool,
}

impl Engine {
    /// The engine of a server with this configuration. The epoch is new, and greater, at each start.
    pub fn new(config: &Checked, epoch: u64, now: Instant) -> Result<Self, EngineError> {
        let node = &config.config.node.name;
        let mut engine = Self {
            name: node.clone(),
            next_epoch: epoch.wrapping_add(1),
            origins: Origins::new(node.as_str(), epoch, config.origin_hold()),
            presence: OriginId::instance(node, PRESENCE),
            fib: Table::new(epoch),
            sources: Vec::new(),
            peers: config.config.peer.iter().map(|p| Peer::new(p.address.clone())).collect(),
            others: BTreeMap::new(),
            places: Vec::new(),
            requests: VecDeque::new(),
            nothing: Table::new(epoch),
            queue: Queue::default(),
            lease: config.origin_lease(),
            hold: config.origin_hold(),
            tombstones: None,
            started: now,
            ready_timeout: Duration::from_millis(config.config.rib.ready_timeout_ms),
            ready: false,
            present: false,
            changes: 0,
            announce: false,
        };
        engine.origins.add(Duration::ZERO, PRESENCE, engine.lease).map_err(rib_error)?;
        for (at, plan) in config.sources.iter().enumerate() {
            let id = engine.origins.add(Duration::ZERO, &plan.origin, engine.lease).map_err(rib_error)?;
            let table = engine.new_table();
            engine.sources.push(Source {
                id,
                name: plan.origin.clone(),
                kind: plan.kind.name(),
                distance: plan.distance,
                table,
                gate: Gate::new(config.filter(at)),
                changes: 0,
                end_of_table: false,
                whole: false,
                finished: false,
                error: None,
                report: None,
            });
        }
        Ok(engine)
    }

    /// Same, with another bound on the deletions that tables remember. Only before anything was said.
    #[must_use]
    pub fn with_tombstone_limit(mut self, limit: usize) -> Self {
        self.tombstones = Some(limit);
        self.fib = Table::new(self.fib.epoch()).with_tombstone_limit(limit);
        for source in &mut self.sources {
            source.table = Table::new(source.table.epoch()).with_tombstone_limit(limit);
        }
        self
    }

    fn new_table(&mut self) -> Table {
        let table = Table::new(self.next_epoch);
        // 0 means "no epoch" on the wire.
        self.next_epoch = self.next_epoch.wrapping_add(1).max(1);
        match self.tombstones {
            Some(limit) => table.with_tombstone_limit(limit),
            None => table,
        }
    }

    /// The time of the lease machine.
    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// The forwarding table: what agents register for.
    pub fn fib(&self) -> &Table {
        &self.fib
    }

    /// The catalog of origins: what peers register for first.
    pub fn catalog(&self) -> &Table {
        self.origins.catalog()
    }

    /// Names and tables of all origins that are served on.
    pub fn rib_tables(&self) -> impl Iterator<Item = (OriginId, &Table)> {
        let own = self.sources.iter().map(|source| (source.id, &source.table));
        own.chain(self.others.iter().map(|(id, other)| (*id, &other.table)))
    }

    /// Grows with each commit to a table that is served.
    pub fn served_serials(&self) -> u64 {
        let rib = self.rib_tables().map(|(_, table)| table.serial());
        rib.fold(self.fib.serial() + self.catalog().serial(), u64::wrapping_add)
    }

    /// Writes an opaque record, or deletes it; false if there was nothing to delete.
    pub fn kv_put(&mut self, key: &str, value: Option<&[u8]>) -> Result<bool, crate::kv::KvError> {
        crate::kv::put(self.origins.catalog_mut(), &mut self.fib, key, value)
    }

    /// Whether every own source has handed over its table once.
    pub fn sources_ready(&self) -> bool {
        self.sources.iter().all(|s| s.whole)
    }

    /// Whether the forwarding table is complete: all sources, all peers, and nothing is left to do; or the time for that is over.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// The table that the client of this place fills.
    pub fn client_table(&mut self, place: usize) -> &mut Table {
        if place < self.peers.len() {
            return self.peers.get_mut(place).map_or(&mut self.nothing, |peer| &mut peer.catalog);
        }
        match self.origin_at(place).and_then(|id| self.others.get_mut(&id)) {
            Some(other) => &mut other.table,
            None => &mut self.nothing,
        }
    }

    /// Something happened to the client of this place.
    pub fn client_event(
        &mut self,
        now: Instant,
        place: usize,
        event: &ClientEvent,
    ) -> Result<(), EngineError> {
        match event {
            ClientEvent::Registered { name, .. } if place < self.peers.len() => {
                self.peer_named(place, name);
                Ok(())
            }
            ClientEvent::Lost { active: true, .. } => self.lost(now, place),
            ClientEvent::Committed(_) if place < self.peers.len() => self.catalog_changed(now, place),
            ClientEvent::Committed(_) => self.copy_changed(place),
            _ => Ok(()),
        }
    }

    /// Looks at the client of this place; once for each before [`Engine::turn`].
    pub fn watch(&mut self, now: Instant, place: usize, client: &Client) {
        if place < self.peers.len() {
            self.watch_peer(place, client);
        } else {
            self.watch_other(now, place, client);
        }
    }

    /// Clients to open or to close.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// Whether clients of `rib/…` tables are to be told news at once.
    pub fn take_announcement(&mut self) -> bool {
        std::mem::take(&mut self.announce)
    }

    /// Takes in what a source said.
    pub fn source_said(&mut self, now: Instant, message: Message) -> Result<(), EngineError> {
        let since_start = self.since_start(now);
        let Some(source) = self.sources.get_mut(message.source) else { return Ok(()) };
        match message.event {
            Event::Batch(batch) => {
                let Admitted { batch, stopped } = source.gate.admit(&source.table, source.id, batch);
                source.changes += batch.len() as u64;
                let commit = commit_source(&mut source.table, source.id, source.distance, &batch)
                    .map_err(rib_error)?;
                if let Some(reason) = stopped {
                    let routes = source.table.counts().routes();
                    tracing::error!(
                        "source {:?}: {reason}; its {routes} routes stay as they are",
                        source.name
                    );
                    source.error = Some(reason);
                }
                if commit.is_some() {
                    self.select(batch.iter().map(|c| (c.vrf, c.prefix)))?;
                }
            }
            // A live source reaches it again after each session; readiness stays.
            Event::EndOfTable if source.end_of_table => {}
            // A part of a table is not taken for the whole before the time to wait for it is over.
            Event::EndOfTable if source.gate.is_stopped() => {}
            Event::EndOfTable => {
                (source.end_of_table, source.whole) = (true, true);
                let routes = source.table.counts().routes();
                tracing::info!("source {:?}: end of table, {routes} routes", source.name);
                self.announce = true;
                self.origins.ready(since_start, source.id).map_err(rib_error)?;
            }
            Event::Failed(reason) if !source.whole => {
                return Err(EngineError::Source { origin: source.name.clone(), reason });
            }
            Event::Failed(reason) => {
                tracing::error!("source {:?}: {reason}; its routes stay as they are", source.name);
                source.error = Some(reason);
            }
            Event::Finished => source.finished = true,
            Event::Report(report) => source.report = Some(report),
        }
        Ok(())
    }

    /// Does a slice of the waiting work, and what is due by `now`. True: there is more, call again soon.
    pub fn turn(&mut self, now: Instant) -> Result<bool, EngineError> {
        self.origins.handle_timeout(self.since_start(now)).map_err(rib_error)?;
        self.follow_origins(now)?;
        if let Some(prefixes) = self.slice(now) {
            self.select(prefixes)?;
        }
        self.judge_readiness(now)?;
        Ok(self.queue.is_due(now))
    }

    /// When [`Engine::turn`] has to be called next, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let leases = self.origins.poll_timeout().map(|at| self.started + at);
        let timeout = (!self.ready).then_some(self.started + self.ready_timeout);
        let others = self.others.values().filter_map(|other| other.due());
        leases.into_iter().chain(others).chain(timeout).chain(self.queue.next_due()).min()
    }

    fn slice(&mut self, now: Instant) -> Option<Vec<(u32, IpNet)>> {
        let Self { queue, others, .. } = self;
        queue.slice(SLICE, |id| others.get(&id).map(|other| &other.table), now)
    }

    /// Waits for all sources, for all that peers know, and for all that those know whom they are registered with; but not for ever.
    fn judge_readiness(&mut self, now: Instant) -> Result<(), EngineError> {
        let late = now >= self.started + self.ready_timeout;
        if !self.present && (late || self.peers.iter().all(|p| p.synced_once)) {
            self.present = true;
            let since_start = self.since_start(now);
            self.origins.ready(since_start, self.presence).map_err(rib_error)?;
        }
        if self.ready {
            return Ok(());
        }
        let complete = self.sources_ready() && self.present && self.queue.is_empty();
        if (complete && self.missing().next().is_none()) || late {
            self.ready = true;
            let sources = self.sources.iter().filter(|s| !s.end_of_table);
            let sources = sources.map(|s| format!("the end of source {:?}", s.name));
            let missing: Vec<String> = sources.chain(self.missing()).collect();
            self.take_for_whole(now)?;
            if missing.is_empty() {
                tracing::info!("ready: {} routes in the forwarding table", self.fib.counts().routes());
            } else {
                tracing::warn!("ready without {}: the time to wait for them is over", missing.join(", "));
            }
        }
        Ok(())
    }

    /// What sources have handed over has to do: here and, alike, on all other servers.
    fn take_for_whole(&mut self, now: Instant) -> Result<(), EngineError> {
        let since_start = self.since_start(now);
        for source in self.sources.iter_mut().filter(|source| !source.whole) {
            source.whole = true;
            self.announce = true;
            self.origins.ready(since_start, source.id).map_err(rib_error)?;
        }
        Ok(())
    }

    fn select(&mut self, prefixes: impl IntoIterator<Item = (u32, IpNet)>) -> Result<(), EngineError> {
        let contenders = contenders(&self.sources, &self.others);
        let commit = select(&mut self.fib, &contenders, prefixes)
            .map_err(|error| EngineError::Table { table: FIB, error })?;
        self.changes += commit.map_or(0, |c| c.count);
        Ok(())
    }

    fn push(&mut self, work: Work) {
        self.queue.push(work);
    }
}

impl Tables for Engine {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        if name == FIB {
            return Some(Served { table: &self.fib, ready: self.ready, path: &[] });
        }
        if name == CATALOG {
            return Some(Served { table: self.catalog(), ready: true, path: &[] });
        }
        let id = origin_of(name)?;
        if let Some(source) = self.sources.iter().find(|source| source.id == id) {
            return Some(Served { table: &source.table, ready: source.whole, path: &[] });
        }
        // Who asks knows of the origin earlier than we do, or later: there is nothing yet, or no more.
        let served = self.others.get(&id).map(|o| Served { table: &o.table, ready: o.synced, path: &o.path });
        Some(served.unwrap_or(Served { table: &self.nothing, ready: false, path: &[] }))
    }

    fn goes_round(&self, name: &str) -> bool {
        origin_of(name).is_some()
    }
}

/// All origins whose routes count now.
fn contenders<'t>(sources: &'t [Source], others: &'t BTreeMap<OriginId, Other>) -> Contenders<'t> {
    let of_own = sources.iter().map(|s| Contender { id: s.id, stale: false, table: &s.table });
    let of_others = others.iter().filter_map(|(id, other)| {
        Some(Contender { id: *id, stale: other.counted.is_stale()?, table: &other.table })
    });
    Contenders::new(of_own.chain(of_others).collect())
}
