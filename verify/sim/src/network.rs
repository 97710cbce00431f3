//! The virtual network: nodes, connections, one queue of events, one clock.
//!
//! [`Network::run_until`] processes events in order of time. Each passes bytes, a timeout or the end of a connection to one node, and then
//! runs the node's turn (`turn`): it advances, its outputs are executed, then bytes go into pipes. After each turn `watch` checks the
//! rules.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use fibcast_sync_proto::Table;
use fibcast_sync_proto::server::Limits;

use crate::agent::Agent;
use crate::connection::{Connection, Way};
use crate::invariants::{Ledger, Rule, Violation};
use crate::model::Model;
use crate::node::{Kind, Node, Running};
use crate::rng::Rng;
use crate::route_server::{RouteServer, SourceEvent};
use crate::trace::Trace;

/// An event at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A node's timer, in one of its incarnations.
    Wake(usize, u64),
    /// A source on a node has a pending event.
    Source(usize, u64),
    /// Bytes or the end of a connection may have arrived.
    Pipe(u64, Way),
    /// A connection attempt reaches the server's host.
    Arrive(u64),
    /// The answer reaches the client: connected or refused.
    Answer(u64, bool),
    /// A fault ends.
    Undo(Undo),
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undo {
    /// Bytes between client and server flow again.
    Path(usize, usize),
    /// A node that died in this incarnation starts again, with its checkpoint or without.
    Start(usize, u64, bool),
    /// A route server is in service again.
    Drain(usize),
    /// A node sends data again, in this incarnation.
    Gray(usize, u64),
}

/// The path between a client's node and a server's.
#[derive(Debug, Clone, Default)]
pub struct Direction {
    /// Delay of each byte.
    pub delay: Duration,
    /// Random additional delay.
    pub jitter: Duration,
    /// Time since which nothing passes, by direction.
    pub cut_up: Option<Duration>,
    /// As above.
    pub cut_down: Option<Duration>,
    /// Bytes per 10 ms that a slow reader takes.
    pub slow: Option<usize>,
    /// When the last fault ended.
    pub trouble: Duration,
}

impl Direction {
    /// Time since which a direction is cut.
    pub fn cut(&self, way: Way) -> Option<Duration> {
        match way {
            Way::Up => self.cut_up,
            Way::Down => self.cut_down,
        }
    }

    /// Whether it is healthy.
    pub fn is_whole(&self) -> bool {
        self.cut_up.is_none() && self.cut_down.is_none() && self.slow.is_none()
    }
}

/// Parameters common to all nodes of a run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Limits of all servers.
    pub limits: Limits,
    /// Deletions that tables remember.
    pub tombstones: usize,
    /// Bytes that a connection holds in each direction.
    pub room: usize,
    /// Percentage of writes and reads that are split into small portions.
    pub portions: u64,
    /// Agents of one tier may be each other's secondary: refused loops are normal then.
    pub siblings: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Network {
    /// Time since the network was made.
    pub now: Duration,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Open connections.
    pub connections: BTreeMap<u64, Connection>,
    /// The connection of a link, by node, client and link.
    pub links: BTreeMap<(usize, usize, usize), u64>,
    /// Paths by client and server.
    pub paths: BTreeMap<(usize, usize), Direction>,
    /// Random numbers.
    pub rng: Rng,
    /// Log of all events.
    pub trace: RefCell<Trace>,
    /// The expected result.
    pub model: Model,
    /// What was committed.
    pub ledger: Ledger,
    /// Parameters of all nodes.
    pub settings: Settings,
    /// Events so far.
    pub events: u64,
    /// Data frames of closed connections.
    pub past_data: u64,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    next_connection: u64,
}

impl Network {
    /// A network whose nodes are all down.
    pub fn new(nodes: Vec<Node>, model: Model, settings: Settings, rng: Rng, trace: Trace) -> Self {
        Self {
            now: Duration::from_secs(1),
            nodes,
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            paths: BTreeMap::new(),
            rng,
            trace: RefCell::new(trace),
            model,
            ledger: Ledger::default(),
            settings,
            events: 0,
            past_data: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            next_connection: 0,
        }
    }

    /// Queues an event.
    pub fn at(&mut self, when: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((when.max(self.now), self.sequence, event)));
    }

    /// Adds a line to the trace.
    pub fn note(&self, now: Duration, what: std::fmt::Arguments<'_>) {
        self.trace.borrow_mut().note(now, what);
    }

    /// Name of a node.
    pub fn name(&self, n: usize) -> &str {
        self.nodes.get(n).map_or("?", |node| node.name.as_str())
    }

    /// Advances the clock.
    ///
    /// # Errors
    /// The violated rule.
    pub fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        while let Some(Reverse((at, _, event))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at.max(self.now);
            self.events += 1;
            self.handle(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Wake(n, life) => self.wake(n, life),
            Event::Source(n, life) => self.source(n, life),
            Event::Pipe(id, way) => self.pipe(id, way),
            Event::Arrive(id) => self.arrive(id),
            Event::Answer(id, connected) => self.answer(id, connected),
            Event::Undo(undo) => self.undo(undo),
        }
    }

    /// Starts a node, with its checkpoint or empty.
    ///
    /// # Errors
    /// The violated rule.
    pub fn start(&mut self, n: usize, checkpoint: bool) -> Result<(), Violation> {
        // Sometimes a clock was set back.
        let micros = self.now.as_micros() as u64;
        let clock = if self.rng.percent(15) { self.rng.below(micros) } else { micros };
        let epoch = (clock << 20 | self.rng.below(1 << 20)).max(1);
        let (now, limits) = (self.now, self.settings.limits);
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.running.is_none()) else { return Ok(()) };
        node.incarnation += 1;
        node.host_off = false;
        node.trouble = now;
        node.ready_since = None;
        node.alone_since = None;
        node.stale_since = None;
        node.gray_since = None;
        node.wake_at = None;
        node.forget_clients();
        let local = node.local(now);
        let failed = |text: String| Violation::new(Rule::NoFailure, text);
        let kind = match &node.plan {
            Some(plan) => Kind::RouteServer(Box::new(RouteServer::new(plan, epoch, local).map_err(failed)?)),
            None => {
                let nothing = BTreeMap::new();
                let from = if checkpoint { &node.checkpoint } else { &nothing };
                let table = Table::new(epoch).with_tombstone_limit(self.settings.tombstones);
                Kind::Agent(Box::new(Agent::new(node.agent_config(), table, from, node.lag).map_err(failed)?))
            }
        };
        let clients = match &kind {
            Kind::RouteServer(rs) => rs.engine.upstream(),
            Kind::Agent(agent) => vec![agent.core.config().upstream()],
        };
        node.running = Some(Running::new(&node.name, local, kind, clients).with_limits(limits));
        node.up = true;
        node.acknowledged = 0;
        let life = node.incarnation;
        self.note(now, format_args!("{} starts, epoch {epoch:x}", self.name(n)));
        self.load_sources(n, life);
        self.turn(n)
    }

    /// Each protocol of a route server sends its whole table in batches.
    fn load_sources(&mut self, n: usize, life: u64) {
        let own: Vec<usize> =
            (0..self.model.protocols.len()).filter(|p| self.home_of(*p) == Some(n)).collect();
        if own.is_empty() {
            return;
        }
        let mut feed = Vec::new();
        for (place, &protocol) in own.iter().enumerate() {
            let whole = self.model.whole(protocol);
            let size = self.rng.range(1, whole.len().max(1) as u64) as usize;
            feed.extend(whole.chunks(size).map(|part| SourceEvent::Batch(place, part.to_vec())));
            feed.push(SourceEvent::End(place));
            let stale = self.model.protocols.get(protocol).is_some_and(|p| p.stale);
            feed.push(SourceEvent::Live(place, !stale));
        }
        if let Some(rs) = self.route_server(n) {
            rs.feed.extend(feed);
        }
        let at = self.now + Duration::from_millis(self.rng.skewed(1, 800));
        self.at(at, Event::Source(n, life));
    }

    /// The route server of a protocol.
    pub fn home_of(&self, protocol: usize) -> Option<usize> {
        self.model.protocols.get(protocol).map(|p| p.home)
    }

    fn source(&mut self, n: usize, life: u64) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.incarnation == life) else { return Ok(()) };
        if node.paused_until > self.now {
            let at = node.paused_until;
            self.at(at, Event::Source(n, life));
            return Ok(());
        }
        let local = node.local(self.now);
        let Some(rs) = self.route_server(n) else { return Ok(()) };
        rs.hear(local).map_err(|e| Violation::new(Rule::NoFailure, e))?;
        if !rs.feed.is_empty() {
            let at = self.now + Duration::from_micros(self.rng.skewed(50, 20_000));
            self.at(at, Event::Source(n, life));
        }
        self.turn(n)
    }

    /// A route server that is up.
    pub fn route_server(&mut self, n: usize) -> Option<&mut RouteServer> {
        match self.nodes.get_mut(n)?.running.as_mut()?.role_mut() {
            Kind::RouteServer(rs) => Some(rs),
            Kind::Agent(_) => None,
        }
    }

    /// An agent that is up.
    pub fn agent(&mut self, n: usize) -> Option<&mut Agent> {
        match self.nodes.get_mut(n)?.running.as_mut()?.role_mut() {
            Kind::Agent(agent) => Some(agent),
            Kind::RouteServer(_) => None,
        }
    }

    /// A source sends a batch.
    pub fn say(&mut self, protocol: usize, batch: Vec<fibcast_route_server::source::RouteChange>) {
        self.tell(protocol, |place| SourceEvent::Batch(place, batch));
    }

    /// A source is lost, or complete again.
    pub fn source_lives(&mut self, protocol: usize, live: bool) {
        if let Some(p) = self.model.protocols.get_mut(protocol) {
            p.stale = !live;
        }
        self.tell(protocol, |place| SourceEvent::Live(place, live));
    }

    fn tell(&mut self, protocol: usize, event: impl FnOnce(usize) -> SourceEvent) {
        let Some(home) = self.home_of(protocol) else { return };
        let place = self.model.protocols.iter().take(protocol).filter(|p| p.home == home).count();
        let Some(life) = self.nodes.get(home).map(|node| node.incarnation) else { return };
        let Some(rs) = self.route_server(home) else { return };
        let waiting = !rs.feed.is_empty();
        rs.feed.push_back(event(place));
        if !waiting {
            let at = self.now;
            self.at(at, Event::Source(home, life));
        }
    }

    /// Runs due timers of a node.
    fn wake(&mut self, n: usize, life: u64) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.incarnation == life) else { return Ok(()) };
        if node.paused_until > now {
            let at = node.paused_until;
            self.at(at, Event::Wake(n, life));
            return Ok(());
        }
        node.wake_at = None;
        let local = node.local(now);
        if let Some(running) = &mut node.running {
            running.handle_timeout(local);
        }
        self.turn(n)
    }

    /// Queues the node's next wake-up.
    pub fn schedule(&mut self, n: usize, running: &Running) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return };
        let Some(due) = running.next_timeout() else { return };
        let due = due.saturating_sub(node.offset).max(now + Duration::from_micros(100));
        if node.wake_at.is_some_and(|at| at <= due) {
            return;
        }
        node.wake_at = Some(due);
        let life = node.incarnation;
        self.at(due, Event::Wake(n, life));
    }

    /// Id of a new connection.
    pub fn connection_id(&mut self) -> u64 {
        self.next_connection += 1;
        self.next_connection
    }

    /// Delay of something sent now.
    pub fn delay(&mut self, client: usize, server: usize) -> Duration {
        let Some(path) = self.paths.get(&(client, server)) else { return Duration::ZERO };
        let jitter = path.jitter.as_micros() as u64;
        path.delay + Duration::from_micros(self.rng.below(jitter + 1))
    }

    /// Time since which two nodes and the path between them are healthy.
    pub fn calm_since(&self, client: usize, server: usize) -> Option<Duration> {
        let path = self.paths.get(&(client, server)).filter(|p| p.is_whole())?;
        let mut since = path.trouble;
        for n in [client, server] {
            let node = self.nodes.get(n).filter(|node| node.up)?;
            if node.paused_until > self.now || node.gray_since.is_some() {
                return None;
            }
            since = since.max(node.trouble).max(node.paused_until);
        }
        Some(since)
    }

    /// The same, and the server was ready all the time.
    pub fn capable_since(&self, client: usize, server: usize) -> Option<Duration> {
        Some(self.calm_since(client, server)?.max(self.nodes.get(server)?.ready_since?))
    }
}
