//! Owns the tables of a route server and keeps the forwarding table right while sources speak and other servers come and go.
//!
//! [`Engine`] has no socket, clock or thread. It serves, through [`Tables`],
//! * `rib`, the catalog of origins that `fibcast_sync_proto::origins` keeps, with the opaque records beside them;
//! * `rib/…`, the routes of one origin each: own ones, and those of other servers as they came here;
//! * `fib`, the best paths over all of these.
//!
//! It is the [`Role`](fibcast_sync_proto::node::Role) of a route server's [`Node`](fibcast_sync_proto::node::Node), which runs one sync
//! client for each configured peer's catalog ([`Engine::upstream`]), and one for each origin of another server, which the engine asks
//! for. The clients fill the engine's tables. The owner of the node hands in what sources said ([`Engine::handle_source`]), and looks
//! after each turn whether the engine has failed ([`Engine::take_failure`]).
//!
//! Large work (an origin's first copy, an origin that is lost) waits in a queue, of which a turn takes a slice of some milliseconds, so
//! that heartbeats and clients never wait for a million routes.
//!
//! `role` is what the node calls, `peers` holds what the catalogs say, `others` the origins of other servers and how their routes count, `queue` the work that waits.

mod others;
mod peers;
mod queue;
mod role;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fibcast_sync_proto::client::ClientConfig;
use fibcast_sync_proto::frame::Role as ServerRole;
use fibcast_sync_proto::mutation::{Mutation, on};
use fibcast_sync_proto::node::{ClientRequest, ServerIndex};
use fibcast_sync_proto::origins::{CATALOG, Origins};
use fibcast_sync_proto::timer::Timers;
use fibcast_sync_proto::{OriginId, Table, TableError};
use ipnet::IpNet;

use crate::config::Checked;
use crate::filter::{Admitted, Gate};
use crate::rib::{Contender, Contenders, commit_source, select};
use crate::source::{Event, Message, Report};
use others::Other;
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

/// A route server that this one is registered with.
#[derive(Debug)]
struct Peer {
    address: String,
    /// Once it has said it.
    name: Option<String>,
    /// The copy of its catalog.
    catalog: Table,
    /// Up to this serial the catalog was heard.
    known: u64,
    synced: bool,
    synced_once: bool,
}

impl Peer {
    fn new(address: String) -> Self {
        let mut catalog = Table::new(0);
        catalog.pin(0);
        Self { address, name: None, catalog, known: 0, synced: false, synced_once: false }
    }
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
    /// How its clients are made.
    client: ClientConfig,
    /// The origin of each client after those of the peers.
    places: Vec<Option<OriginId>>,
    requests: VecDeque<ClientRequest>,
    /// Stands for tables that there are not, or not yet.
    nothing: Table,
    queue: Queue,
    lease: Duration,
    hold: Duration,
    tombstones: Option<usize>,
    started: Duration,
    ready_timeout: Duration,
    ready: bool,
    present: bool,
    changes: u64,
    /// Readiness or path of a `rib/…` table changed since it was last asked.
    announce: bool,
    /// Readiness and serials of the served tables that sessions know.
    announced: (bool, u64),
    timers: Timers,
    failure: Option<EngineError>,
}

impl Engine {
    /// The engine of a server with this configuration. The epoch is new, and greater, at each start.
    pub fn new(config: &Checked, epoch: u64, now: Duration) -> Result<Self, EngineError> {
        let node = &config.config.node.name;
        let mut client = ClientConfig::new(node, "", Vec::new());
        client.heartbeat = Duration::from_millis(config.config.sync.heartbeat_ms);
        let mut engine = Self {
            name: node.clone(),
            next_epoch: epoch.wrapping_add(1),
            origins: Origins::new(node.as_str(), epoch, config.origin_hold()),
            presence: OriginId::instance(node, PRESENCE),
            fib: Table::new(epoch),
            sources: Vec::new(),
            peers: config.config.peer.iter().map(|p| Peer::new(p.address.clone())).collect(),
            others: BTreeMap::new(),
            client,
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
            announced: (false, 0),
            timers: Timers::default(),
            failure: None,
        };
        engine.origins.add(now, PRESENCE, engine.lease).map_err(rib_error)?;
        for (at, plan) in config.sources.iter().enumerate() {
            let id = engine.origins.add(now, &plan.origin, engine.lease).map_err(rib_error)?;
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
    fn served_serials(&self) -> u64 {
        let rib = self.rib_tables().map(|(_, table)| table.serial());
        rib.fold(self.fib.serial() + self.catalog().serial(), u64::wrapping_add)
    }

    /// Writes an opaque record, or deletes it; false if there was nothing to delete.
    pub(crate) fn kv_put(&mut self, key: &str, value: Option<&[u8]>) -> Result<bool, crate::kv::KvError> {
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

    /// The clients for the catalogs of the peers, each with the peer as its one server.
    pub fn upstream(&self) -> Vec<(ClientConfig, Vec<ServerIndex>)> {
        let servers = vec![ServerRole::Primary];
        let catalog = ClientConfig { table: CATALOG.into(), servers, ..self.client.clone() };
        (0..self.peers.len()).map(|peer| (catalog.clone(), vec![peer])).collect()
    }

    /// Why the engine cannot go on, if so. Its tables are not to be trusted then.
    pub fn take_failure(&mut self) -> Option<EngineError> {
        self.failure.take()
    }

    /// Takes in what a source said.
    ///
    /// # Errors
    /// A source failed before its table was whole, or a table refused a batch: the server cannot start or go on.
    pub fn handle_source(&mut self, now: Duration, message: Message) -> Result<(), EngineError> {
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
                self.origins.ready(now, source.id).map_err(rib_error)?;
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

    fn slice(&mut self, now: Duration) -> Option<Vec<(u32, IpNet)>> {
        let Self { queue, others, .. } = self;
        queue.slice(SLICE, |id| others.get(&id).map(|other| &other.table), now)
    }

    /// Waits for all sources, for all that peers know, and for all that those know whom they are registered with; but not for ever.
    fn judge_readiness(&mut self, now: Duration) -> Result<(), EngineError> {
        let late = now >= self.started + self.ready_timeout;
        if !self.present && (late || self.peers.iter().all(|p| p.synced_once)) {
            self.present = true;
            self.origins.ready(now, self.presence).map_err(rib_error)?;
        }
        if self.ready {
            return Ok(());
        }
        let sources = self.sources_ready() || on(Mutation::ReadyBeforeSources);
        let complete = sources && self.present && self.queue.is_empty();
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
    fn take_for_whole(&mut self, now: Duration) -> Result<(), EngineError> {
        for source in self.sources.iter_mut().filter(|source| !source.whole) {
            source.whole = true;
            self.announce = true;
            self.origins.ready(now, source.id).map_err(rib_error)?;
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

/// All origins whose routes count now.
fn contenders<'t>(sources: &'t [Source], others: &'t BTreeMap<OriginId, Other>) -> Contenders<'t> {
    let of_own = sources.iter().map(|s| Contender { id: s.id, stale: false, table: &s.table });
    let of_others = others.iter().filter_map(|(id, other)| {
        Some(Contender { id: *id, stale: other.counted.is_stale()?, table: &other.table })
    });
    Contenders::new(of_own.chain(of_others).collect())
}
