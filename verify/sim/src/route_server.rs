//! A route server: the production engine with its simulated sources.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use fibcast_route_server::config::{Checked, Config, SourcePlan};
use fibcast_route_server::engine::Engine;
use fibcast_route_server::source::{Event, Kind, Message, Report, RouteChange, fixed};

/// The next event of a source.
#[derive(Debug)]
pub enum SourceEvent {
    /// A batch of a protocol, by its index on this server.
    Batch(usize, Vec<RouteChange>),
    /// A protocol's table is complete.
    End(usize),
    /// A protocol's source is live, or not.
    Live(usize, bool),
}

/// Parameters of a route server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Protocols beside it: origin and distance.
    pub protocols: Vec<(String, u8)>,
    /// Number of other servers that it registers with.
    pub peers: usize,
    /// Lease: a protocol without announcements for this long is considered dead.
    pub lease: Duration,
    /// How long a dead protocol's routes stay.
    pub hold: Duration,
    /// Ready timeout.
    pub ready_timeout: Duration,
    /// How long a lost host counts for acknowledgements.
    pub grace: Duration,
    /// Deletions that its tables remember.
    pub tombstones: usize,
}

/// A route server; see the module's documentation.
#[derive(Debug)]
pub struct RouteServer {
    /// The production role.
    pub engine: Engine,
    /// Pending events of the sources.
    pub feed: VecDeque<SourceEvent>,
    /// An operator took it out of service: it reports not ready.
    pub drained: bool,
    /// Clients know whether it is out of service.
    pub drain_notified: bool,
    /// It may be ready without its sources from then on, by the node's clock.
    pub ready_at: Duration,
}

impl RouteServer {
    /// A server that has just started.
    ///
    /// # Errors
    /// If the configuration is refused, as text.
    pub fn new(plan: &Plan, epoch: u64, now: Duration) -> Result<Self, String> {
        let mut text = format!(
            "[node]\nname = \"{}\"\n[rib]\norigin_lease_ms = {}\norigin_hold_ms = {}\nready_timeout_ms = {}\n\
             [acknowledge]\ntimeout_ms = 0\non_timeout = \"hold\"\ngrace_ms = {}\n",
            plan.name,
            plan.lease.as_millis(),
            plan.hold.as_millis(),
            plan.ready_timeout.as_millis(),
            plan.grace.as_millis()
        );
        for _ in 0..plan.peers {
            text.push_str("[[peer]]\naddress = \"127.0.0.1:1\"\n");
        }
        let config: Config = fibcast_daemon::config::parse(Path::new("simulated"), text)
            .map_err(|e| format!("configuration of {}: {e}", plan.name))?
            .value;
        let kind =
            Kind::Static(fixed::StaticOptions { path: "simulated".into(), vrf: 0, allow_empty: false });
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
            drain_notified: false,
            ready_at: now + plan.ready_timeout,
        })
    }

    /// Handles the next event of its sources.
    ///
    /// # Errors
    /// If the engine fails, as text.
    pub fn hear(&mut self, now: Duration) -> Result<(), String> {
        let Some(event) = self.feed.pop_front() else { return Ok(()) };
        let message = match event {
            SourceEvent::Batch(source, batch) => Message { source, event: Event::Batch(batch) },
            SourceEvent::End(source) => Message { source, event: Event::EndOfTable },
            SourceEvent::Live(source, live) => {
                let state = if live { "live" } else { "disconnected" };
                Message { source, event: Event::Report(Report { state, live, ..Report::default() }) }
            }
        };
        self.engine.handle_source(now, message).map_err(|e| e.to_string())
    }

    /// Whether the tables of all sources are complete, and readiness of `fib`.
    pub fn readiness(&self) -> (bool, bool) {
        (self.engine.sources_ready(), self.engine.ready() && !self.drained)
    }
}
