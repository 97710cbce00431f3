//! The control side of the dataplane: one owner of table, publisher and neighbors.
//!
//! [`Control::turn`] is one pass: apply batches to the table, read frames from the workers into the neighbor table, apply what changed, and
//! publish at most once. It does not block and takes the time as an argument; [`thread`] calls it with a real clock.
//!
//! | module | role |
//! |---|---|
//! | `apply`, `pending` | apply batches; merge the ones that wait behind a failed one |
//! | `in_use`, `refused` | which batch all workers use; which routes this host does not forward by |
//! | [`own_routes`] | the host's own routes: addresses, connected subnets, static routes |
//! | [`anycast`] | the subnet-router anycast address |
//! | [`recursion`] | recursive next hops, and gateways in other VRFs |
//! | [`next_hops`], `adjacencies` | the neighbor of a next hop, and the header that workers write for it |
//! | [`host`] | answers to ARP, ND and pings |
//! | [`probes`] | pings that an operator asks for |
//! | `memberships`, `kernel_addresses` | groups that the ports report; addresses that the kernel has on a TAP interface |
//! | [`orders`] | changes by an operator at run time |
//! | [`sink`] | batches from the agent |
//! | [`scrub`] | compares what workers read with the table |
//! | [`show`], `next_hop_list`, [`trace`] | what an operator sees |

mod adjacencies;
pub mod anycast;
mod apply;
pub mod host;
mod in_use;
mod kernel_addresses;
mod memberships;
mod next_hop_list;
pub mod next_hops;
pub mod orders;
pub mod own_routes;
mod pending;
mod port;
pub mod probes;
pub mod recursion;
mod refused;
pub mod scrub;
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

use crate::counters::{Traffic, WorkerCounters};
use crate::membership::Membership;
use crate::neighbor::announce::Announcer;
use crate::neighbor::{Action, Table};
use crate::packet::ethernet::Mac;
use crate::pipeline::icmp_limit::Limits as IcmpLimits;
use crate::pipeline::output::Rings;
use crate::used::Marks;
use adjacencies::PublicationHold;
use fibcast_sync_agent::sink::Progress;
use in_use::InUse;
use kernel_addresses::KernelAddresses;
use next_hops::NextHops;
use own_routes::{OwnRoutes, StaticRoute};
pub use pending::Batch;
use pending::Failure;
pub use port::PortSetup;
use recursion::Recursion;

/// Most neighbor requests in one turn; the rest wait for the next turn.
const QUESTIONS: usize = 64;
/// Most announcements of own addresses in one turn.
const ANNOUNCEMENTS: usize = 64;
/// Interval between two checks for next hops that are no longer in use.
const SWEEP: Duration = Duration::from_secs(10);
/// Interval between two checks which neighbors packets went to.
const LOOK: Duration = Duration::from_secs(5);

/// Parts of a control side.
#[derive(Debug)]
pub struct Setup {
    /// All ports, by port index.
    pub ports: Vec<PortSetup>,
    /// `[[static_route]]`.
    pub routes: Vec<StaticRoute>,
    /// `[[static_neighbor]]`: port index, address, MAC address.
    pub neighbors: Vec<(usize, IpAddr, Mac)>,
    /// Limits of the table.
    pub limits: Limits,
    /// Rate limits of ICMP messages.
    pub icmp: IcmpLimits,
    /// Class E (240.0.0.0/4) is used for hosts.
    pub allow_class_e: bool,
    /// Rings of each worker.
    pub rings: Vec<Rings>,
    /// Counters of each worker.
    pub counters: Vec<Arc<WorkerCounters>>,
}

/// Why the control side cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the host's own routes do not fit into the table: {0}")]
pub struct SetupError(#[from] fibcast_fib::ApplyError);

/// Table, publisher and neighbors.
#[derive(Debug)]
pub struct Control {
    ports: Vec<PortSetup>,
    fib: Fib,
    publisher: Publisher,
    in_use: InUse,
    limits: Limits,
    neighbors: Table,
    announcer: Announcer,
    recursion: Recursion,
    next_hops: NextHops,
    own: OwnRoutes,
    rings: Vec<Rings>,
    pending: VecDeque<Batch>,
    failure: Option<Failure>,
    dirty: bool,
    hold: PublicationHold,
    scrubber: scrub::Scrubber,
    sweep_at: Instant,
    look_at: Instant,
    actions: Vec<Action>,
    /// By port index: whether its link is down.
    down: Vec<bool>,
    host: host::Host,
    allow_class_e: bool,
    membership: Membership,
    kernel_addresses: KernelAddresses,
    probes: probes::Probes,
    counters: Vec<Arc<WorkerCounters>>,
    /// Values of group counters when the group was created, unless zero.
    baselines: HashMap<GroupLabel, Traffic>,
}

impl Control {
    /// Applies the host's own routes and creates the first generation.
    ///
    /// # Errors
    /// [`SetupError`] if the host's own routes do not fit into the table.
    pub fn new(setup: Setup, now: Instant) -> Result<Control, SetupError> {
        // One limit, that of the neighbor table, on what packets and stations cause; next hops and static neighbors are bounded elsewhere.
        let mut fib = Fib::new(Limits { max_neighbors: usize::MAX, ..setup.limits });
        let of_routes = setup.routes.iter().map(|route| route.vrf);
        for vrf in setup.ports.iter().map(|port| port.vrf).chain(of_routes) {
            fib.create_vrf(vrf)?;
        }
        let own = OwnRoutes::new(&setup.ports, &setup.routes);
        fib.apply(&own.changes, 0)?;
        let mut recursion = Recursion::default();
        recursion.adopt(&own.changes);
        let resolved = recursion.resolve(&setup.ports, &fib);
        fib.apply(&resolved, 0)?;
        let publisher = Publisher::new(fib.generation()).with_retired_bytes(setup.limits.retired_bytes);
        let mut control = Control {
            down: vec![false; setup.ports.len()],
            host: host::Host::new(setup.icmp, setup.ports.len()),
            allow_class_e: setup.allow_class_e,
            membership: Membership::new(setup.ports.iter().map(|port| port.mac)),
            kernel_addresses: KernelAddresses::default(),
            probes: probes::Probes::default(),
            counters: setup.counters,
            baselines: HashMap::new(),
            ports: setup.ports,
            fib,
            publisher,
            in_use: InUse::default(),
            limits: setup.limits,
            neighbors: Table::new(setup.limits.max_neighbors, setup.limits.max_unproven_neighbors),
            announcer: Announcer::default(),
            recursion,
            next_hops: NextHops::default(),
            own,
            rings: setup.rings,
            pending: VecDeque::new(),
            failure: None,
            dirty: false,
            hold: PublicationHold::default(),
            scrubber: scrub::Scrubber::new(now),
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

    /// Creates the generation reader of a worker.
    pub fn reader(&mut self, worker: &str) -> fibcast_fib::Reader {
        self.publisher.register(worker)
    }

    /// Where it reports which batch all workers use.
    pub fn progress(&self) -> Progress {
        self.in_use.progress()
    }

    /// One pass; returns whether there was work.
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
        self.ask(now);
        busy |= self.perform();
        self.announce(now);
        self.report_groups(now);
        self.publish(now);
        self.publisher.collect();
        self.in_use.follow(&self.publisher);
        self.scrub_tries(now);
        busy
    }

    /// Requests the neighbors that are due, as far as their ports have room.
    fn ask(&mut self, now: Instant) {
        let Some(rings) = self.rings.first() else { return };
        let mut rooms: HashMap<PortId, usize> = HashMap::new();
        let room = |port: PortId| {
            let left = rooms.entry(port).or_insert_with(|| rings.originate.room(port.0));
            let has_room = *left > 0;
            *left = left.saturating_sub(1);
            has_room
        };
        self.neighbors.poll(now, QUESTIONS, room, &mut self.actions);
    }

    /// Announces the addresses of a port to its link.
    fn announce_port(&mut self, port_index: usize, now: Instant) {
        if let Some(port) = self.ports.get(port_index) {
            let own = port.addresses.iter().map(IpNet::addr).chain([port.mac.link_local().into()]);
            own.for_each(|address| self.announcer.start(port_index as u16, address, now));
        }
    }

    /// Sends the announcements that are due.
    fn announce(&mut self, now: Instant) {
        for (port, address) in self.host.take_defended() {
            self.announcer.defend(port, address, now);
        }
        let Some(rings) = self.rings.first() else { return };
        self.announcer.poll(now, ANNOUNCEMENTS, |port, address, what| {
            let frame = host::announcement(port, address, what, &self.ports);
            frame.is_none_or(|frame| rings.originate.push(frame).is_ok())
        });
    }

    /// Reads frames from the workers and their requests for neighbors.
    fn hear(&mut self, now: Instant) -> bool {
        let mut busy = false;
        for port_index in 0..self.rings.len() {
            let Some(rings) = self.rings.get(port_index).cloned() else { break };
            // Only as many as are there now: a flood must not keep a turn from ending.
            for _ in 0..rings.host.len() {
                let Some(frame) = rings.host.pop() else { break };
                busy = true;
                self.probes.hear(frame.bytes(), now);
                if self.membership.handle(frame.bytes(), frame.port, now) {
                    continue;
                }
                let answer =
                    self.host.handle(&frame, &self.ports, &mut self.neighbors, now, &mut self.actions);
                if let Some(answer) = answer {
                    // Its port has its share: the sender will ask again.
                    let _ = rings.originate.push(answer);
                }
            }
            for _ in 0..rings.misses.len() {
                let Some(miss) = rings.misses.pop() else { break };
                busy = true;
                self.neighbors.missed((miss.port, miss.address), now, &mut self.actions);
            }
        }
        busy
    }

    /// Whether an answer may come any moment whose time is measured.
    pub fn is_probing(&self, now: Instant) -> bool {
        self.probes.is_waiting(now)
    }

    /// Performs the actions of the neighbor table.
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

    /// At most one publication per turn, however much changed.
    fn publish(&mut self, now: Instant) {
        if !self.dirty {
            return;
        }
        if let Some(until) = self.hold.until {
            if !self.hold.waiting.is_empty() && now < until {
                return;
            }
            self.hold = PublicationHold::default();
        }
        self.dirty = false;
        self.in_use.publish();
        if self.publisher.publish(self.fib.generation()) == Visibility::Deferred {
            tracing::warn!(
                "serial {}: workers still hold {} older generations; this one is pending",
                self.fib.serial(),
                self.publisher.stats().retired
            );
        }
    }

    /// The group of a prefix in the table.
    pub fn route(&self, prefix: IpNet) -> Option<GroupLabel> {
        self.fib.get(VrfId::DEFAULT, prefix)
    }
}
