//! Owns the tables of a route server and keeps the forwarding table right while sources speak and peers come and go.
//!
//! [`Engine`] has no socket, clock or thread. Its owner hands in what sources said ([`Engine::source_said`]) and what happened to
//! peers' copies ([`Engine::peer_changed`], [`Engine::peer_in_sync`], [`Engine::peer_lost`]), and calls [`Engine::turn`] until it says that
//! nothing is left. A peer's copy belongs to the client machine that keeps it, so every call takes the copies, in the order of the configuration.
//!
//! Large work (a peer's first copy, a peer that is lost) waits in a queue, of which a turn takes a slice of some milliseconds, so that
//! heartbeats and clients never wait for a million routes.
//!
//! What is known of a lost peer: its origins turn *stale* at once, that is they rank after all others, beginning with the prefixes
//! that changed last, of which the lost peer may not have told the newest. After the hold time they are withdrawn.

mod peers;
mod queue;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use fibcast_sync_proto::{Change, Key, OriginId, OriginValue, Table, TableError, Value};
use ipnet::IpNet;

use crate::config::Checked;
use crate::rib::{Contender, Contenders, Origin, commit_source, select};
use crate::source::{Event, Message, Report};
use peers::{Peer, Phase};
use queue::{Queue, Work};

/// Prefixes that one turn works on at most.
const SLICE: usize = 8192;

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

/// A source of this server, as the RIB sees it.
#[derive(Debug)]
struct Source {
    id: OriginId,
    value: OriginValue,
    kind: &'static str,
    distance: u8,
    changes: u64,
    routes: u64,
    end_of_table: bool,
    finished: bool,
    error: Option<String>,
    /// What a live source says of itself.
    report: Option<Report>,
}

/// The tables of a route server. See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    name: String,
    own: Table,
    fib: Table,
    sources: Vec<Source>,
    peers: Vec<Peer>,
    queue: Queue,
    hold: Duration,
    started: Instant,
    ready_timeout: Duration,
    ready: bool,
    changes: u64,
}

impl Engine {
    /// The engine of a server with this configuration. The epoch is new at each start.
    pub fn new(config: &Checked, epoch: u64, now: Instant) -> Result<Self, EngineError> {
        let server = &config.config.node.name;
        let sources = config.sources.iter().map(|plan| Source {
            id: OriginId::of(&plan.origin),
            value: OriginValue {
                name: plan.origin.clone(),
                server: server.clone(),
                epoch,
                sequence: 0,
                ready: false,
                lease_ms: 0,
                stale: false,
            },
            kind: plan.kind.name(),
            distance: plan.distance,
            changes: 0,
            routes: 0,
            end_of_table: false,
            finished: false,
            error: None,
            report: None,
        });
        let mut engine = Self {
            name: server.clone(),
            own: Table::new(epoch),
            fib: Table::new(epoch),
            sources: sources.collect(),
            peers: config.config.peer.iter().map(|p| Peer::new(p.address.clone())).collect(),
            queue: Queue::default(),
            hold: config.origin_hold(),
            started: now,
            ready_timeout: Duration::from_millis(config.config.rib.ready_timeout_ms),
            ready: false,
            changes: 0,
        };
        for source in 0..engine.sources.len() {
            engine.describe(source)?;
        }
        Ok(engine)
    }

    /// The routes of this server's own origins: what peers register for.
    pub fn own(&self) -> &Table {
        &self.own
    }

    /// The forwarding table: what agents register for.
    pub fn fib(&self) -> &Table {
        &self.fib
    }

    /// Writes an opaque record, or deletes it; false if there was nothing to delete.
    pub fn kv_put(&mut self, key: &str, value: Option<&[u8]>) -> Result<bool, crate::kv::KvError> {
        crate::kv::put(&mut self.own, &mut self.fib, key, value)
    }

    /// For the server machine, which keeps deletions for its clients.
    pub fn own_mut(&mut self) -> &mut Table {
        &mut self.own
    }

    /// For the server machine, which keeps deletions for its clients.
    pub fn fib_mut(&mut self) -> &mut Table {
        &mut self.fib
    }

    /// Whether every own source has handed over its table once: the `rib` table is complete.
    pub fn rib_ready(&self) -> bool {
        self.sources.iter().all(|s| s.end_of_table)
    }

    /// Whether the forwarding table is complete: all sources, all peers, and nothing is left to do; or the time for that is over.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Takes in what a source said.
    pub fn source_said(&mut self, message: Message, copies: &[&Table]) -> Result<(), EngineError> {
        let at = message.source;
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        match message.event {
            Event::Batch(batch) => {
                source.changes += batch.len() as u64;
                let before = self.own.counts().routes();
                let (id, distance) = (source.id, source.distance);
                let commit = commit_source(&mut self.own, id, distance, &batch)
                    .map_err(|error| EngineError::Table { table: "rib", error })?;
                source.routes = (source.routes + self.own.counts().routes()).saturating_sub(before);
                if commit.is_some() {
                    self.select(copies, batch.iter().map(|c| (c.vrf, c.prefix)))?;
                }
            }
            // A live source reaches it again after each session; readiness stays.
            Event::EndOfTable if source.end_of_table => {}
            Event::EndOfTable => {
                source.end_of_table = true;
                source.value.ready = true;
                tracing::info!("source {:?}: end of table, {} routes", source.value.name, source.routes);
                self.describe(at)?;
            }
            Event::Failed(reason) if !source.end_of_table => {
                return Err(EngineError::Source { origin: source.value.name.clone(), reason });
            }
            Event::Failed(reason) => {
                tracing::error!("source {:?}: {reason}; its routes stay as they are", source.value.name);
                source.error = Some(reason);
            }
            Event::Finished => source.finished = true,
            Event::Report(report) => source.report = Some(report),
        }
        Ok(())
    }

    /// Writes a source's description into the table that peers get.
    fn describe(&mut self, source: usize) -> Result<(), EngineError> {
        let Some(source) = self.sources.get_mut(source) else { return Ok(()) };
        source.value.sequence += 1;
        let record = Change::Put(Key::Origin(source.id), Value::Origin(source.value.clone()));
        self.own.commit([record]).map_err(|error| EngineError::Table { table: "rib", error })?;
        Ok(())
    }

    /// Does a slice of the waiting work, and what is due by `now`. True: there is more, call again soon.
    pub fn turn(&mut self, copies: &[&Table], now: Instant) -> Result<bool, EngineError> {
        self.expire(now);
        if let Some(prefixes) = self.queue.slice(SLICE, copies, now) {
            self.select(copies, prefixes)?;
        }
        self.judge_readiness(now);
        Ok(self.queue.is_due(now))
    }

    /// When [`Engine::turn`] has to be called next, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let expiries = self.peers.iter().filter_map(|p| match p.phase {
            Phase::Stale { since } => Some(since + self.hold),
            _ => None,
        });
        let timeout = (!self.ready).then_some(self.started + self.ready_timeout);
        expiries.chain(timeout).chain(self.queue.next_due()).min()
    }

    fn judge_readiness(&mut self, now: Instant) {
        if self.ready {
            return;
        }
        let synced = self.peers.iter().all(|p| p.synced_once);
        let late = now >= self.started + self.ready_timeout;
        if (self.rib_ready() && synced && self.queue.is_empty()) || late {
            self.ready = true;
            let missing = self.sources.iter().filter(|s| !s.end_of_table).map(|s| s.value.name.clone());
            let peers = self.peers.iter().filter(|p| !p.synced_once).map(|p| p.address.clone());
            let missing: Vec<String> = missing.chain(peers).collect();
            if missing.is_empty() {
                tracing::info!("ready: {} routes in the forwarding table", self.fib.counts().routes());
            } else {
                tracing::warn!("ready without {}: the time to wait for them is over", missing.join(", "));
            }
        }
    }

    fn select(
        &mut self,
        copies: &[&Table],
        prefixes: impl IntoIterator<Item = (u32, IpNet)>,
    ) -> Result<(), EngineError> {
        let contenders = contenders(&self.own, &self.sources, &self.peers, copies);
        let commit = select(&mut self.fib, &contenders, prefixes)
            .map_err(|error| EngineError::Table { table: "fib", error })?;
        self.changes += commit.map_or(0, |c| c.count);
        Ok(())
    }

    fn push(&mut self, work: Work) {
        self.queue.push(work);
    }
}

/// All origins whose routes count now.
fn contenders<'t>(
    own: &'t Table,
    sources: &[Source],
    peers: &[Peer],
    copies: &[&'t Table],
) -> Contenders<'t> {
    let of_own = sources.iter().map(|s| {
        let origin = Origin { stale: false, name: s.value.name.clone(), server: s.value.server.clone() };
        Contender { origin, id: s.id, table: own }
    });
    let of_peers = peers.iter().zip(copies).filter(|(peer, _)| peer.counts()).flat_map(|(peer, table)| {
        peer.origins.iter().map(|(id, value)| {
            let stale = matches!(peer.phase, Phase::Stale { .. });
            let origin = Origin { stale, name: value.name.clone(), server: value.server.clone() };
            Contender { origin, id: *id, table }
        })
    });
    Contenders::new(of_own.chain(of_peers).collect())
}
