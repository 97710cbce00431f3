//! The control side of the dataplane: one owner of table, publisher and neighbors.
//!
//! [`Control::turn`] is one pass: batches into the table, frames from the links into the neighbor table, what changed into the table
//! again, and at most one publication. It does not block and takes the time as an argument; [`thread`] calls it with a real clock.
//!
//! * `apply`, `pending`: batches into the table; one that fails waits, and becomes one with those behind it;
//! * [`own_routes`]: routes that the host has by itself: its addresses, its subnets, those of its configuration;
//! * [`recursion`]: gateways that have to be looked for, by the table's own routes and in VRFs;
//! * [`next_hops`]: which neighbor a next hop means; `adjacencies`: what workers write for it;
//! * [`host`]: answers to ARP, ND and pings;
//! * [`orders`]: what an operator changes while the router runs;
//! * [`sink`]: batches of the agent on their way here;
//! * [`show`], [`trace`]: what an operator sees.

mod adjacencies;
mod apply;
pub mod host;
pub mod next_hops;
pub mod orders;
pub mod own_routes;
mod pending;
mod port;
pub mod recursion;
pub mod show;
pub mod sink;
pub mod thread;
pub mod trace;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_fib::{Fib, GroupLabel, Limits, PortId, Publisher, Visibility, VrfId};
use ipnet::IpNet;

use crate::counters::{Taken, WorkerCounters};
use crate::neighbor::{Action, Table};
use crate::packet::ethernet::Mac;
use crate::pipeline::output::Rings;
use crate::used::Marks;
use adjacencies::Hold;
pub use apply::Batch;
use apply::Failure;
use next_hops::NextHops;
use own_routes::{OwnRoutes, StaticRoute};
pub use port::PortSetup;
use recursion::Recursion;

/// Questions about neighbors in one turn; more wait a turn.
const QUESTIONS: usize = 64;
/// Between two looks at which next hops are in use no more.
const SWEEP: Duration = Duration::from_secs(10);
/// Between two looks at which neighbors packets went to.
const LOOK: Duration = Duration::from_secs(5);

/// What a control side is made of.
#[derive(Debug)]
pub struct Setup {
    /// All ports, by place.
    pub ports: Vec<PortSetup>,
    /// `[[static_route]]`.
    pub routes: Vec<StaticRoute>,
    /// `[[static_neighbor]]`: place of the port, address, MAC address.
    pub neighbors: Vec<(usize, IpAddr, Mac)>,
    /// What the table may grow to.
    pub limits: Limits,
    /// Rings of each worker.
    pub rings: Vec<Rings>,
    /// What each worker counts.
    pub counters: Vec<Arc<WorkerCounters>>,
}

/// Why a control side cannot start.
#[derive(Debug, thiserror::Error)]
#[error("own routes do not fit into the table: {0}")]
pub struct SetupError(#[from] fibcast_fib::ApplyError);

/// Table, publisher and neighbors.
#[derive(Debug)]
pub struct Control {
    ports: Vec<PortSetup>,
    fib: Fib,
    publisher: Publisher,
    neighbors: Table,
    recursion: Recursion,
    next_hops: NextHops,
    own: OwnRoutes,
    rings: Vec<Rings>,
    pending: VecDeque<Batch>,
    failure: Option<Failure>,
    /// The last neighbor did not fit into the table.
    neighbors_full: bool,
    dirty: bool,
    hold: Hold,
    sweep_at: Instant,
    look_at: Instant,
    actions: Vec<Action>,
    /// By place of the port: its link is down.
    down: Vec<bool>,
    host: host::Host,
    counters: Vec<Arc<WorkerCounters>>,
    /// Where counters of groups stood when the group was made, unless at zero.
    baselines: HashMap<GroupLabel, Taken>,
}

impl Control {
    /// Own routes are applied, and the first generation is ready to be used by workers.
    pub fn new(setup: Setup, now: Instant) -> Result<Control, SetupError> {
        let mut fib = Fib::new(setup.limits);
        let of_routes = setup.routes.iter().map(|route| route.vrf);
        for vrf in setup.ports.iter().map(|port| port.vrf).chain(of_routes) {
            fib.create_vrf(vrf)?;
        }
        let own = OwnRoutes::new(&setup.ports, &setup.routes);
        fib.apply(&own.changes, 0)?;
        let mut recursion = Recursion::default();
        recursion.adopt(&own.changes, &setup.ports);
        let resolved = recursion.resolve(&setup.ports, &fib);
        fib.apply(&resolved, 0)?;
        let publisher = Publisher::new(fib.generation());
        let mut control = Control {
            down: vec![false; setup.ports.len()],
            host: host::Host::new(setup.ports.len()),
            counters: setup.counters,
            baselines: HashMap::new(),
            ports: setup.ports,
            fib,
            publisher,
            neighbors: Table::default(),
            recursion,
            next_hops: NextHops::default(),
            own,
            rings: setup.rings,
            pending: VecDeque::new(),
            failure: None,
            neighbors_full: false,
            dirty: false,
            hold: Hold::default(),
            sweep_at: now + SWEEP,
            look_at: now + LOOK,
            actions: Vec::new(),
        };
        for (port, address, mac) in setup.neighbors {
            let key = (PortId(port as u16), address);
            control.neighbors.set_static(key, mac, now, &mut control.actions);
        }
        control.perform();
        control.resolve_new(now);
        control.publish(now);
        Ok(control)
    }

    /// A worker's view of the generations.
    pub fn reader(&mut self, worker: &str) -> fibcast_fib::Reader {
        self.publisher.register(worker)
    }

    /// One pass; returns whether there was something to do.
    pub fn turn(&mut self, now: Instant) -> bool {
        let mut busy = self.apply(now);
        busy |= self.hear(now);
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.next_hops.sweep(&self.fib, &mut self.neighbors);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK;
            let mut marks = Marks::default();
            self.counters.iter().for_each(|worker| worker.used().collect(&mut marks));
            self.neighbors.mark_used(|key| marks.contain(key.0, key.1), now);
        }
        let room = self.rings.first().map_or(0, |rings| rings.originate.capacity() - rings.originate.len());
        self.neighbors.poll(now, room.min(QUESTIONS), &mut self.actions);
        busy |= self.perform();
        self.publish(now);
        self.publisher.collect();
        busy
    }

    /// Frames from the links and neighbors that packets asked for.
    fn hear(&mut self, now: Instant) -> bool {
        let mut busy = false;
        for place in 0..self.rings.len() {
            let Some(rings) = self.rings.get(place).cloned() else { break };
            // As many as there are now: a flood must not keep a turn from its end.
            for _ in 0..rings.host.len() {
                let Some(frame) = rings.host.pop() else { break };
                busy = true;
                let answer =
                    self.host.handle(&frame, &self.ports, &mut self.neighbors, now, &mut self.actions);
                if let Some(answer) = answer {
                    // A full ring: who asked asks again.
                    let _ = rings.originate.push(answer);
                }
            }
            for _ in 0..rings.misses.len() {
                let Some(miss) = rings.misses.pop() else { break };
                busy = true;
                self.neighbors.missed((miss.port, miss.address), now);
            }
        }
        busy
    }

    /// Does what the neighbor table wants.
    fn perform(&mut self) -> bool {
        let busy = !self.actions.is_empty();
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Ask { key, known } => {
                    let question = host::question(key, known, &self.ports);
                    if let (Some(question), Some(rings)) = (question, self.rings.first()) {
                        let _ = rings.originate.push(question);
                    }
                }
                Action::Changed { key, mac } => self.neighbor_changed(key, mac),
            }
        }
        self.actions = actions;
        busy
    }

    /// At most one publication a turn, however much changed.
    fn publish(&mut self, now: Instant) {
        if !self.dirty {
            return;
        }
        if let Some(until) = self.hold.until {
            if !self.hold.waiting.is_empty() && now < until {
                return;
            }
            self.hold = Hold::default();
        }
        self.dirty = false;
        if self.publisher.publish(self.fib.generation()) == Visibility::Deferred {
            tracing::warn!(
                "serial {}: workers still hold {} older generations; this one waits for room",
                self.fib.serial(),
                self.publisher.stats().retired
            );
        }
    }

    /// The group that a prefix leads to, as the table has it.
    pub fn route(&self, prefix: IpNet) -> Option<GroupLabel> {
        self.fib.get(VrfId::DEFAULT, prefix)
    }
}
