//! A route server: the production engine with its sources' batches. The rules are those of
//! `fibcast-route-server`'s host.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_control::status::OriginStatus;
use fibcast_route_server::config::{Checked, Config, SourcePlan};
use fibcast_route_server::engine::Engine;
use fibcast_route_server::source::{Event, Kind, Message, RouteChange, fixed};
use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::origins::CATALOG;
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
    /// Without a sign of life of a protocol for so long it is taken for dead.
    pub lease: Duration,
    /// For how long a dead protocol's routes stay.
    pub hold: Duration,
    /// After this it is ready without what is missing.
    pub ready_timeout: Duration,
    /// Deletions that its tables remember.
    pub tombstones: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct RouteServer {
    /// The tables.
    pub engine: Engine,
    /// What the sources have still to say.
    pub feed: VecDeque<Said>,
    /// An operator took it out of service: it says that it is not ready.
    pub drained: bool,
    base: Instant,
    told: (bool, bool),
    served: u64,
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
            "[node]\nname = \"{}\"\n[rib]\norigin_lease_ms = {}\norigin_hold_ms = {}\nready_timeout_ms = {}\n",
            plan.name,
            plan.lease.as_millis(),
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
        let engine = Engine::new(&checked, epoch, base + now).map_err(|e| e.to_string())?;
        Ok(Self {
            engine: engine.with_tombstone_limit(plan.tombstones),
            feed: VecDeque::new(),
            drained: false,
            base,
            told: (false, false),
            served: 0,
        })
    }

    /// Hears what its sources say next. False if they have nothing to say.
    pub fn hear(&mut self, now: Duration) -> Result<bool, String> {
        let Some(said) = self.feed.pop_front() else { return Ok(false) };
        let message = match said {
            Said::Batch(source, batch) => Message { source, event: Event::Batch(batch) },
            Said::End(source) => Message { source, event: Event::EndOfTable },
        };
        self.engine.source_said(self.base + now, message).map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Something happened to a client.
    pub fn client_event(&mut self, now: Duration, place: usize, event: &ClientEvent) -> Result<(), String> {
        self.engine.client_event(self.base + now, place, event).map_err(|e| e.to_string())
    }

    /// Once after all input.
    pub fn turn(&mut self, now: Duration, clients: &[Client]) -> Result<Turn, String> {
        let instant = self.base + now;
        for (place, client) in clients.iter().enumerate() {
            self.engine.watch(instant, place, client);
        }
        let more = self.engine.turn(instant).map_err(|e| e.to_string())?;
        let told = (self.readiness().1, self.drained);
        let served = self.engine.served_serials();
        let announce = self.engine.take_announcement() | (std::mem::replace(&mut self.told, told) != told);
        Ok(Turn {
            announce,
            changed: announce | (std::mem::replace(&mut self.served, served) != served),
            more,
        })
    }

    /// Whether all sources have handed over their tables, and readiness of `fib`.
    pub fn readiness(&self) -> (bool, bool) {
        (self.engine.sources_ready(), self.engine.ready() && !self.drained)
    }

    /// How each origin stands.
    pub fn origins(&self, now: Duration) -> Vec<OriginStatus> {
        self.engine.origin_status(self.base + now)
    }

    /// When [`Self::turn`] has to be called again.
    pub fn due(&self) -> Option<Duration> {
        self.engine.deadline().map(|at| at.saturating_duration_since(self.base))
    }
}

impl Tables for RouteServer {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        let served = self.engine.served(name)?;
        // Out of service for data; that its protocols live is told all the same.
        let ready = served.ready && (!self.drained || name == CATALOG);
        Some(Served { ready, ..served })
    }

    fn goes_round(&self, name: &str) -> bool {
        self.engine.goes_round(name)
    }
}
