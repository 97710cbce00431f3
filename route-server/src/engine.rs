//! Owns the tables of a route server, and keeps the forwarding table up to date as sources and other servers change.
//!
//! [`Engine`] has no sockets, clock or threads. It serves, through [`Tables`],
//! * `rib`, the catalog of origins that `fibcast_sync_proto::origins` maintains, with the opaque records;
//! * `rib/…`, the routes of one origin each: own ones, and copies of other servers' ones;
//! * `fib`, the best paths over all of these.
//!
//! It is the [`NodeRole`](fibcast_sync_proto::node::NodeRole) of a route server's [`Node`](fibcast_sync_proto::node::Node), which runs one sync
//! client for each configured peer's catalog ([`Engine::upstream`]), and one for each origin of another server, on the engine's request.
//! The clients fill the engine's tables. The owner of the node passes the sources' events ([`Engine::handle_source`]), and checks after
//! each turn whether the engine has failed ([`Engine::take_failure`]).
//!
//! Large work (an origin's first copy, the loss of an origin) waits in a queue, of which a turn takes a slice of some milliseconds, so that
//! heartbeats and clients never wait for a million routes.
//!
//! `role` is the node's interface, `liveness` says when the origins of own sources are stale, `peers` holds the peers' catalogs, `remote_origins`
//! the origins of other servers with their eligibility, `queue` the waiting work, `acknowledge` what hosts have installed, `reload` new rules for
//! own sources, `refresh` what becomes of the routes of one that announces its table again.

mod acknowledge;
mod digest_key;
mod liveness;
mod peers;
mod queue;
mod refresh;
mod reload;
mod remote_origins;
mod role;
mod routes;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fibcast_sync_agent::acknowledge::AcknowledgeKeys;
use fibcast_sync_proto::acknowledge::Acknowledge;
use fibcast_sync_proto::ages::Ages;
use fibcast_sync_proto::client::ClientConfig;
use fibcast_sync_proto::frame::Role as ServerRole;
use fibcast_sync_proto::mutation::{Mutation, on};
use fibcast_sync_proto::node::{ClientRequest, ServerIndex};
use fibcast_sync_proto::origins::{CATALOG, Origins};
use fibcast_sync_proto::timer::Timers;
use fibcast_sync_proto::{Key, OriginId, Table, TableError};
use ipnet::IpNet;

use acknowledge::{OriginProgress, Reported};

use crate::config::Checked;
use crate::filter::{Admitted, Gate};
use crate::rib::{Contender, Contenders, commit_source, select};
use crate::source::{Event, Message, Report, RouteChange};
use liveness::Liveness;
use queue::{Queue, Work};
use refresh::Refresh;
pub use refresh::Until;
pub use reload::SourceRules;
use remote_origins::RemoteOrigin;

/// Most prefixes processed in one turn.
const SLICE: usize = 8192;
/// Name of the table for agents.
pub const FIB: &str = "fib";
/// Origin name of a server's presence, see `fibcast_sync_proto::origins`.
const PRESENCE: &str = "";

/// Why a route server must stop.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A table refused a batch.
    #[error("the {table} table refused a batch: {error}")]
    Table {
        /// Name of the table.
        table: &'static str,
        /// The error.
        error: TableError,
    },
}

fn rib_error(error: TableError) -> EngineError {
    EngineError::Table { table: "rib", error }
}

/// A source of this server.
#[derive(Debug)]
struct Source {
    id: OriginId,
    /// Number of the thread whose events count.
    thread: usize,
    name: String,
    kind: &'static str,
    distance: u8,
    /// Its routes, served as `rib/…`.
    table: Table,
    /// Times of that table's serials.
    ages: Ages,
    gate: Gate,
    changes: u64,
    end_of_table: bool,
    /// Its table counts as complete: it reported the end, or the time limit has passed.
    whole: bool,
    finished: bool,
    error: Option<String>,
    /// Status report of a live source.
    report: Option<Report>,
    /// What was reported to its routing daemon about its routes.
    reported: Reported,
    /// It announces its table again.
    refresh: Option<Refresh>,
    /// Time at which a reload removed it.
    removed: Option<Duration>,
    liveness: Liveness,
}

impl Source {
    /// What its gate lets in of a batch. While it announces its table again, only what it has announced of it counts against the limit.
    fn admit(&mut self, batch: Vec<RouteChange>) -> Admitted {
        let (id, table) = (self.id, &self.table);
        let known = |vrf, prefix| table.get(&Key::RibRoute { origin: id, vrf, prefix }).is_some();
        let Some(refresh) = &mut self.refresh else {
            return self.gate.admit(table.counts().routes(), known, batch);
        };
        let admitted = self.gate.admit(refresh.routes(), |vrf, prefix| refresh.has(vrf, prefix), batch);
        refresh.note(&admitted.batch);
        admitted
    }
}

/// A route server that this one is registered with.
#[derive(Debug)]
struct Peer {
    address: String,
    /// Known from its hello.
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
    /// The epoch of the next new table: each has its own.
    next_epoch: u64,
    origins: Origins,
    presence: OriginId,
    fib: Table,
    /// Times of the forwarding table's serials.
    ages: Ages,
    sources: Vec<Source>,
    peers: Vec<Peer>,
    remotes: BTreeMap<OriginId, RemoteOrigin>,
    /// Template of its clients.
    client: ClientConfig,
    /// The origin of each client after those of the peers.
    client_origins: Vec<Option<OriginId>>,
    requests: VecDeque<ClientRequest>,
    /// Stands in for tables that do not exist (yet).
    nothing: Table,
    queue: Queue,
    /// The hosts that get the forwarding table from here.
    hosts: Acknowledge,
    /// How far each origin's table is installed.
    progress: BTreeMap<OriginId, OriginProgress>,
    /// The sources' routing daemons are told.
    acknowledges: bool,
    lease: Duration,
    hold: Duration,
    tombstones: Option<usize>,
    started: Duration,
    ready_timeout: Duration,
    ready: bool,
    present: bool,
    changes: u64,
    /// Readiness or path of a `rib/…` table changed since the last call.
    announce: bool,
    /// Readiness and serials of the served tables as known to sessions.
    announced: (bool, u64),
    timers: Timers,
    failure: Option<EngineError>,
}

impl Engine {
    /// The engine of a server with this configuration. The epoch must be greater at each start.
    ///
    /// # Errors
    /// [`EngineError`] if the catalog refuses an own origin.
    pub fn new(config: &Checked, epoch: u64, now: Duration) -> Result<Self, EngineError> {
        let (node, keys) = (&config.config.node.name, config.config.acknowledge.as_ref());
        let mut client = ClientConfig::new(node, "", Vec::new());
        client.heartbeat = Duration::from_millis(config.config.sync.heartbeat_ms);
        client.progress = Duration::from_millis(config.config.sync.progress_ms);
        client.pending = config.config.node.limits.pending_bytes;
        let mut engine = Self {
            name: node.clone(),
            next_epoch: epoch.wrapping_add(1),
            origins: Origins::new(node.as_str(), epoch, config.origin_hold()),
            presence: OriginId::instance(node, PRESENCE),
            fib: Table::new(epoch),
            ages: Ages::default(),
            sources: Vec::new(),
            peers: config.config.peer.iter().map(|p| Peer::new(p.address.clone())).collect(),
            remotes: BTreeMap::new(),
            client,
            client_origins: Vec::new(),
            requests: VecDeque::new(),
            nothing: Table::new(epoch),
            queue: Queue::default(),
            hosts: Acknowledge::new(keys.map(AcknowledgeKeys::policy).unwrap_or_default()),
            progress: BTreeMap::new(),
            acknowledges: keys.is_some(),
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
            let rules = SourceRules {
                origin: plan.origin.clone(),
                kind: plan.kind.name(),
                distance: plan.distance,
                filter: config.filter(at),
                thread: at,
                again: None,
            };
            engine.add_source(now, rules)?;
        }
        Ok(engine)
    }

    /// The same with another limit of remembered deletions. Only before the first event.
    #[must_use]
    pub fn with_tombstone_limit(mut self, limit: usize) -> Self {
        self.tombstones = Some(limit);
        let key = self.fib.digest_key();
        self.fib = Table::new(self.fib.epoch()).with_digest_key(key).with_tombstone_limit(limit);
        for source in &mut self.sources {
            source.table = Table::new(source.table.epoch()).with_digest_key(key).with_tombstone_limit(limit);
        }
        self
    }

    fn new_table(&mut self) -> Table {
        let table = Table::new(self.next_epoch).with_digest_key(self.fib.digest_key());
        // 0 means "no epoch" on the wire.
        self.next_epoch = self.next_epoch.wrapping_add(1).max(1);
        match self.tombstones {
            Some(limit) => table.with_tombstone_limit(limit),
            None => table,
        }
    }

    /// The forwarding table, for agents.
    pub fn fib(&self) -> &Table {
        &self.fib
    }

    /// The catalog of origins, for peers.
    pub fn catalog(&self) -> &Table {
        self.origins.catalog()
    }

    /// Names and tables of all origins that are served.
    pub fn rib_tables(&self) -> impl Iterator<Item = (OriginId, &Table)> {
        let own = self.sources.iter().map(|source| (source.id, &source.table));
        own.chain(self.remotes.iter().map(|(id, other)| (*id, &other.table)))
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

    /// Whether the tables of all own sources have been complete once.
    pub fn sources_ready(&self) -> bool {
        self.sources.iter().all(|s| s.whole)
    }

    /// Whether the forwarding table is complete: all sources, all peers, and no work left; or the time limit has passed.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// The clients for the peers' catalogs, each with the peer as its only server.
    pub fn upstream(&self) -> Vec<(ClientConfig, Vec<ServerIndex>)> {
        let servers = vec![ServerRole::Primary];
        let catalog = ClientConfig { table: CATALOG.into(), servers, ..self.client.clone() };
        (0..self.peers.len()).map(|peer| (catalog.clone(), vec![peer])).collect()
    }

    /// Why the engine has failed, if it has. Its tables are unreliable then.
    pub fn take_failure(&mut self) -> Option<EngineError> {
        self.failure.take()
    }

    /// Handles an event of a source.
    ///
    /// # Errors
    /// A table refused a batch: the server must stop. A source's failure is its own: its state says so, its origin is stale, and without
    /// the end of its table the server is not ready before the time limit.
    pub fn handle_source(&mut self, now: Duration, message: Message) -> Result<(), EngineError> {
        let Some(source) = self.sources.iter_mut().find(|source| source.thread == message.source) else {
            // A thread that was replaced.
            return Ok(());
        };
        let until =
            if matches!(message.event, Event::EndOfTable) { Until::EndOfTable } else { Until::Refreshed };
        if matches!(message.event, Event::EndOfTable | Event::Refreshed { .. })
            && let Some(refresh) = source.refresh.as_mut().filter(|r| r.waits_for(until))
        {
            refresh.end();
            // Acknowledgements of routes that it announced again are void.
            source.reported = Reported::default();
        }
        match message.event {
            Event::Batch(batch) => {
                let Admitted { batch, stopped } = source.admit(batch);
                source.changes += batch.len() as u64;
                let commit = commit_source(&mut source.table, source.id, source.distance, &batch)
                    .map_err(rib_error)?;
                if let Some(reason) = stopped {
                    let routes = source.table.counts().routes();
                    tracing::error!("source {:?}: {reason}; keeping its {routes} routes", source.name);
                    source.error = Some(reason);
                    // Nobody knows what it would have announced.
                    source.refresh = None;
                }
                if commit.is_some() {
                    self.select(batch.iter().map(|c| (c.vrf, c.prefix)))?;
                }
            }
            Event::Refreshed { complete: false } => {}
            // A live source reaches it again after each session; readiness does not change.
            Event::EndOfTable | Event::Refreshed { .. } | Event::Quiet if source.end_of_table => {}
            // An incomplete table does not count as complete before the time limit.
            Event::EndOfTable | Event::Refreshed { .. } | Event::Quiet if source.gate.is_stopped() => {}
            Event::EndOfTable | Event::Refreshed { .. } | Event::Quiet => {
                (source.end_of_table, source.whole) = (true, true);
                let routes = source.table.counts().routes();
                tracing::info!("source {:?}: end of table, {routes} routes", source.name);
                self.announce = true;
                self.origins.ready(now, source.id).map_err(rib_error)?;
            }
            Event::Failed(reason) => {
                let routes = source.table.counts().routes();
                let end = if source.end_of_table { "" } else { "before the end of its table, " };
                tracing::error!(
                    "source {:?}: failed {end}keeping its {routes} routes: {reason}",
                    source.name
                );
                source.error = Some(reason);
                source.refresh.take_if(|refresh| !refresh.is_sweeping());
            }
            Event::Restarted(reason) => {
                tracing::error!("source {:?}: {reason}; it restarts, and its routes stay", source.name);
                source.refresh = Some(Refresh::new(Until::EndOfTable));
                source.report =
                    Some(Report { state: "restarting", last_error: Some(reason), ..Report::default() });
            }
            Event::Finished => source.finished = true,
            Event::Report(report) => source.report = Some(report),
        }
        Ok(())
    }

    fn slice(&mut self, now: Duration) -> Option<Vec<(u32, IpNet)>> {
        let Self { queue, sources, remotes, .. } = self;
        let table = |id| {
            let own = sources.iter().find(|source| source.id == id).map(|source| &source.table);
            own.or_else(|| remotes.get(&id).map(|other| &other.table))
        };
        queue.slice(SLICE, table, now)
    }

    /// Readiness waits for all sources, all origins known to peers, and all peers' neighbors, but at most for the time limit.
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
                tracing::warn!("ready without {}: timed out", missing.join(", "));
            }
        }
        Ok(())
    }

    /// The tables of the sources count as complete after the time limit, on all servers alike.
    fn take_for_whole(&mut self, now: Duration) -> Result<(), EngineError> {
        for source in self.sources.iter_mut().filter(|source| !source.whole) {
            source.whole = true;
            self.announce = true;
            self.origins.ready(now, source.id).map_err(rib_error)?;
        }
        Ok(())
    }

    fn select(&mut self, prefixes: impl IntoIterator<Item = (u32, IpNet)>) -> Result<(), EngineError> {
        let contenders = contenders(&self.sources, &self.remotes);
        let commit = select(&mut self.fib, &contenders, prefixes)
            .map_err(|error| EngineError::Table { table: FIB, error })?;
        self.changes += commit.map_or(0, |c| c.count);
        Ok(())
    }

    fn push(&mut self, work: Work) {
        self.queue.push(work);
    }
}

/// All origins with eligible routes.
fn contenders<'t>(sources: &'t [Source], remotes: &'t BTreeMap<OriginId, RemoteOrigin>) -> Contenders<'t> {
    let of_own = sources.iter().map(|s| Contender { id: s.id, stale: s.liveness.stale, table: &s.table });
    let of_remotes = remotes.iter().filter_map(|(id, other)| {
        Some(Contender { id: *id, stale: other.eligibility.is_stale()?, table: &other.table })
    });
    Contenders::new(of_own.chain(of_remotes).collect())
}
