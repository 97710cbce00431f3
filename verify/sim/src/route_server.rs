//! A route server: the production engine, and what its sources have still to say.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use fibcast_route_server::config::{Checked, Config, SourcePlan};
use fibcast_route_server::engine::Engine;
use fibcast_route_server::source::{Event, Kind, Message, RouteChange, fixed};

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
    /// The production role.
    pub engine: Engine,
    /// What the sources have still to say.
    pub feed: VecDeque<Said>,
    /// An operator took it out of service: it says that it is not ready.
    pub drained: bool,
    /// Clients know that it is out of service, or that it is not.
    pub drain_told: bool,
    /// It may be ready without its sources from then on, by the node's clock.
    pub ready_at: Duration,
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
        let engine = Engine::new(&checked, epoch, now).map_err(|e| e.to_string())?;
        Ok(Self {
            engine: engine.with_tombstone_limit(plan.tombstones),
            feed: VecDeque::new(),
            drained: false,
            drain_told: false,
            ready_at: now + plan.ready_timeout,
        })
    }

    /// Hears what its sources say next.
    pub fn hear(&mut self, now: Duration) -> Result<(), String> {
        let Some(said) = self.feed.pop_front() else { return Ok(()) };
        let message = match said {
            Said::Batch(source, batch) => Message { source, event: Event::Batch(batch) },
            Said::End(source) => Message { source, event: Event::EndOfTable },
        };
        self.engine.handle_source(now, message).map_err(|e| e.to_string())
    }

    /// Whether all sources have handed over their tables, and readiness of `fib`.
    pub fn readiness(&self) -> (bool, bool) {
        (self.engine.sources_ready(), self.engine.ready() && !self.drained)
    }
}
