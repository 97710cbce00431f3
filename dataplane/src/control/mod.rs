//! The control side of the dataplane: one owner of table, publisher and neighbours.
//!
//! [`Control::turn`] is one pass: batches into the table, frames from the links into the neighbour table, what changed into the table
//! again, and at most one publication. It does not block and takes the time as an argument; [`thread`] calls it with a real clock.
//!
//! * [`own_routes`]: routes that the host has by itself: its addresses, its subnets, those of its configuration;
//! * [`recursion`]: gateways that have to be looked for, by the table's own routes and in VRFs;
//! * [`next_hops`]: which neighbour a next hop means;
//! * [`host`]: answers to ARP, ND and pings;
//! * [`orders`]: what an operator changes while the router runs;
//! * [`sink`]: batches of the agent on their way here;
//! * [`pending`]: batches that wait, and what becomes of them when one fails;
//! * [`show`], [`trace`]: what an operator sees.

pub mod host;
pub mod next_hops;
pub mod orders;
pub mod own_routes;
mod pending;
pub mod recursion;
pub mod show;
pub mod sink;
pub mod thread;
pub mod trace;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_fib::{
    Adjacency, AdjacencyState, Change, Fib, GroupLabel, Limits, NextHop, PortId, Publisher, Visibility, VrfId,
};
use ipnet::IpNet;

use crate::counters::{Taken, WorkerCounters};
use crate::neighbor::{self, Action, Table};
use crate::packet::ethernet::Mac;
use crate::pipeline::output::Rings;
use crate::pipeline::port::{Link, PortFacts, ReversePath};
use crate::used::Marks;
use next_hops::NextHops;
use own_routes::{OwnRoutes, StaticRoute};
use recursion::Recursion;

/// Questions about neighbours in one turn; more wait a turn.
const QUESTIONS: usize = 64;
/// How long a publication waits for the first answer of next hops that nobody used before, so that traffic does not move to a next hop
/// that cannot be sent to yet.
const HOLD: Duration = Duration::from_millis(100);
/// Pause before a batch that could not be applied is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at which next hops are in use no more.
const SWEEP: Duration = Duration::from_secs(10);
/// Between two looks at which neighbours packets went to.
const LOOK: Duration = Duration::from_secs(5);
/// Batches that are applied in one turn, so that neighbours and operators are heard in between.
const BATCHES: usize = 16;

/// A port as the control side knows it.
#[derive(Debug, Clone)]
pub struct PortSetup {
    /// Name in the configuration.
    pub name: String,
    /// Own MAC address.
    pub mac: Mac,
    /// Own addresses with the length of their subnet.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Routing and forwarding instance.
    pub vrf: VrfId,
    /// Device and tag.
    pub link: Link,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to a twin in the kernel.
    pub host_path: bool,
}

impl PortSetup {
    /// What workers know of it.
    pub fn facts(&self) -> PortFacts {
        PortFacts {
            mac: self.mac,
            vrf: self.vrf,
            link: self.link,
            addresses: self.addresses.clone().into(),
            mtu: self.mtu,
            reverse_path: self.reverse_path,
            host_path: self.host_path,
        }
    }

    /// The own address on the subnet of `target`, or the link-local one where the target is such.
    pub fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let same = self.addresses.iter().find(|own| own.contains(&target)).map(IpNet::addr);
        match target {
            IpAddr::V6(v6) if same.is_none() && crate::packet::ipv6::is_link_local(v6) => {
                Some(self.mac.link_local().into())
            }
            _ => same,
        }
    }

    /// Whether the address is this port's.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address) || address == IpAddr::V6(self.mac.link_local())
    }
}

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

/// A commit of the table that feeds this host.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What it changes.
    pub changes: Vec<Change>,
    /// Its serial.
    pub serial: u64,
    /// It holds the whole table: what it does not name is gone.
    pub replaces: bool,
}

/// Why a control side cannot start.
#[derive(Debug, thiserror::Error)]
#[error("own routes do not fit into the table: {0}")]
pub struct SetupError(#[from] fibcast_fib::ApplyError);

/// Table, publisher and neighbours.
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
    /// The last neighbour did not fit into the table.
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

#[derive(Debug)]
struct Failure {
    text: String,
    retry_at: Instant,
}

/// New next hops whose first answer a publication waits for.
#[derive(Debug, Default)]
struct Hold {
    until: Option<Instant>,
    waiting: HashSet<neighbor::Key>,
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

    /// Takes a batch; it is applied in a turn.
    pub fn push(&mut self, mut batch: Batch) {
        self.own.filter(&mut batch);
        // A VRF without a port here forwards nothing, and its routes are kept for the tier below alike. One that does not fit is
        // refused with the batch.
        for change in &batch.changes {
            if let Change::Announce { vrf, .. } | Change::Withdraw { vrf, .. } = change {
                let _ = self.fib.create_vrf(*vrf);
            }
        }
        self.pending.push_back(batch);
    }

    /// Batches that wait to be applied.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether another batch may be pushed: while one cannot be applied, the others wait where they come from.
    pub fn wants_batches(&self) -> bool {
        self.pending.len() < BATCHES
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

    /// Batches into the table. One that fails stays, becomes one with all behind it, and is tried again.
    fn apply(&mut self, now: Instant) -> bool {
        if let Some(failure) = &self.failure {
            if now < failure.retry_at {
                return false;
            }
            pending::coalesce(&mut self.pending);
        }
        let mut applied = false;
        for _ in 0..BATCHES {
            let Some(batch) = self.pending.front_mut() else { break };
            // In the words of this table; what it said before is kept where that differs, for another try.
            let said = self.recursion.prepare(&mut batch.changes, batch.replaces, &self.ports, &self.fib);
            let replaces = batch.replaces;
            if std::mem::take(&mut batch.replaces) {
                self.own.complete(batch, &self.fib);
            }
            let made: Vec<GroupLabel> = batch
                .changes
                .iter()
                .filter_map(|change| match change {
                    Change::PutGroup { label, .. } if self.fib.group_index(*label).is_none() => Some(*label),
                    _ => None,
                })
                .collect();
            match self.fib.apply(&batch.changes, batch.serial) {
                Ok(_) => {
                    if self.failure.take().is_some() {
                        tracing::info!("serial {}: the batch that had failed is applied", batch.serial);
                    }
                    self.recursion.note(&batch.changes);
                    self.pending.pop_front();
                    self.note_baselines(&made);
                    applied = true;
                    self.dirty = true;
                }
                Err(error) => {
                    let text = format!("serial {}: {error}", batch.serial);
                    if self.failure.as_ref().is_none_or(|before| before.text != text) {
                        tracing::error!(
                            "{text}; the table stays as it was, the batch is kept and tried again every second, \
                             together with what comes after it"
                        );
                    }
                    self.failure = Some(Failure { text, retry_at: now + RETRY });
                    if let (Some(said), Some(batch)) = (said, self.pending.front_mut()) {
                        (batch.changes, batch.replaces) = (said, replaces);
                    }
                    break;
                }
            }
        }
        if applied {
            self.resolve_groups();
            self.resolve_new(now);
        }
        applied
    }

    /// Writes groups anew whose gateways are elsewhere by now; it is published together with what moved them.
    fn resolve_groups(&mut self) {
        let changes = self.recursion.resolve(&self.ports, &self.fib);
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.fib.apply(&changes, self.fib.serial()) {
            tracing::error!("groups with gateways behind other routes stay as they were: {error}");
            self.recursion.again();
        }
        self.dirty = true;
    }

    /// Finds the neighbours that next hops which came into use mean.
    fn resolve_new(&mut self, now: Instant) {
        for next_hop in self.fib.take_new_next_hops() {
            let key = self.next_hops.resolve(next_hop, &self.ports);
            self.use_neighbor(next_hop, key, now);
        }
    }

    /// Points a next hop to the neighbour that it means; none: packets to it have no way.
    fn use_neighbor(&mut self, next_hop: NextHop, key: Option<neighbor::Key>, now: Instant) {
        let Some(key) = key else {
            let nowhere = Adjacency {
                port: PortId(u16::MAX),
                state: AdjacencyState::Incomplete,
                header: [0; 12],
                mtu: 0,
            };
            if next_hop.gateway.is_some() {
                self.dirty |= self.fib.set_adjacency(next_hop, nowhere);
            }
            return;
        };
        self.neighbors.need(key, now);
        let Some((mac, state)) = self.neighbors.get(&key).map(|entry| (entry.mac, entry.state)) else {
            return;
        };
        if let Some(adjacency) = self.adjacency(key.0, mac) {
            self.dirty |= self.fib.set_adjacency(next_hop, adjacency);
        }
        if mac.is_none() && state == neighbor::State::Incomplete {
            self.hold.waiting.insert(key);
            self.hold.until.get_or_insert(now + HOLD);
        }
    }

    /// A device's link went up or down: its next hops, and those of its sub-interfaces, count as silent until it is back. The next
    /// publication moves their groups, and touches no trie.
    pub fn set_link(&mut self, device: usize, up: bool, now: Instant) {
        let mut places = HashSet::new();
        for (place, port) in self.ports.iter().enumerate() {
            if usize::from(port.link.device) == device
                && let Some(down) = self.down.get_mut(place)
                && std::mem::replace(down, !up) == up
            {
                tracing::warn!("port {}: link is {}", port.name, if up { "up" } else { "down" });
                places.insert(place as u16);
            }
        }
        if places.is_empty() {
            return;
        }
        let keys: Vec<_> = self.neighbors.iter().filter(|(key, _)| places.contains(&key.0.0)).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, entry)| (*key, entry.mac)).collect();
        for (key, mac) in keys {
            self.neighbor_changed(key, mac);
        }
        if up {
            self.neighbors.probe(|key| places.contains(&key.0.0), now);
        }
    }

    /// Whether the link of the port at this place is up, as far as anybody said.
    pub fn link_up(&self, place: usize) -> bool {
        !self.down.get(place).copied().unwrap_or(false)
    }

    /// Frames from the links and neighbours that packets asked for.
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

    /// Does what the neighbour table wants.
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

    /// A changed neighbour touches neighbours and adjacencies, never a trie.
    fn neighbor_changed(&mut self, key: neighbor::Key, mac: Option<Mac>) {
        self.hold.waiting.remove(&key);
        let (port, address) = key;
        let Some(adjacency) = self.adjacency(port, mac) else { return };
        self.dirty |= match mac {
            Some(_) => self.set_neighbor(port, address, adjacency),
            None => self.fib.remove_neighbor(port, address),
        };
        for next_hop in self.next_hops.of(&key) {
            self.dirty |= self.fib.set_adjacency(*next_hop, adjacency);
        }
    }

    /// A neighbour that the table has no room for stays unknown to workers, which go on asking for it.
    fn set_neighbor(&mut self, port: PortId, address: IpAddr, adjacency: Adjacency) -> bool {
        match self.fib.set_neighbor(port, address, adjacency) {
            Ok(changed) => {
                self.neighbors_full &= !changed;
                changed
            }
            Err(error) => {
                // Once, until there was room again: a scan of a subnet must not fill the log.
                if !std::mem::replace(&mut self.neighbors_full, true) {
                    tracing::error!("{error}; packets to it wait or are dropped");
                }
                false
            }
        }
    }

    fn adjacency(&self, port: PortId, mac: Option<Mac>) -> Option<Adjacency> {
        let setup = self.ports.get(usize::from(port.0))?;
        let (destination, state) = match mac {
            Some(mac) if self.link_up(usize::from(port.0)) => (mac, AdjacencyState::Reachable),
            Some(mac) => (mac, AdjacencyState::Incomplete),
            None => (Mac::default(), AdjacencyState::Incomplete),
        };
        let [a, b, c, d, e, f] = destination.0;
        let [g, h, i, j, k, l] = setup.mac.0;
        Some(Adjacency { port, state, header: [a, b, c, d, e, f, g, h, i, j, k, l], mtu: setup.mtu })
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
