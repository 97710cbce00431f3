//! A host in the network: what runs on it, its clock, and its faults.

use std::collections::BTreeMap;
use std::time::Duration;

use fibcast_sync_proto::acknowledge::Policy;
use fibcast_sync_proto::agent::AgentConfig;
use fibcast_sync_proto::client::{Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::frame::Role as ServerRole;
use fibcast_sync_proto::node::{self, ClientId, ClientRequest, News, NodeRole};
use fibcast_sync_proto::origins::CATALOG;
use fibcast_sync_proto::refusal::Refusals;
use fibcast_sync_proto::server::{Served, SessionReport, Tables};
use fibcast_sync_proto::subset::Subset;
use fibcast_sync_proto::{Key, RootDigest, Table, Value};

use crate::agent::Agent;
use crate::route_server::{Plan, RouteServer};

/// Kind of a node: a production role with what the simulation adds to it.
#[derive(Debug)]
pub enum Kind {
    /// Tier 1.
    RouteServer(Box<RouteServer>),
    /// Tiers 2 and 3.
    Agent(Box<Agent>),
}

impl Kind {
    fn role(&self) -> &dyn NodeRole {
        match self {
            Self::RouteServer(rs) => &rs.engine,
            Self::Agent(agent) => &agent.core,
        }
    }

    fn role_mut(&mut self) -> &mut dyn NodeRole {
        match self {
            Self::RouteServer(rs) => &mut rs.engine,
            Self::Agent(agent) => &mut agent.core,
        }
    }

    /// The forwarding table.
    pub fn fib(&self) -> &Table {
        match self {
            Self::RouteServer(rs) => rs.engine.fib(),
            Self::Agent(agent) => agent.core.table(),
        }
    }

    /// Whether it reports that its forwarding table may be used.
    pub fn is_ready(&self) -> bool {
        self.served("fib").is_some_and(|served| served.ready)
    }

    /// The agent, if it is one.
    pub fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Agent(agent) => Some(agent),
            Self::RouteServer(_) => None,
        }
    }
}

impl Tables for Kind {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        let served = self.role().served(name)?;
        // Out of service for data; its protocols' leases are still announced.
        let drained = matches!(self, Self::RouteServer(rs) if rs.drained) && name != CATALOG;
        Some(Served { ready: served.ready && !drained, ..served })
    }

    fn subset(&self, name: &str) -> Option<&Subset> {
        self.role().subset(name)
    }

    fn is_stale(&self, name: &str) -> bool {
        self.role().is_stale(name)
    }

    fn allow_loops(&self, name: &str) -> bool {
        self.role().allow_loops(name)
    }
}

impl NodeRole for Kind {
    fn client_table(&mut self, client: ClientId) -> &mut Table {
        self.role_mut().client_table(client)
    }

    fn handle_client_event(&mut self, now: Duration, client: ClientId, event: &ClientEvent) {
        self.role_mut().handle_client_event(now, client, event);
    }

    fn handle_session(&mut self, now: Duration, report: &SessionReport) {
        self.role_mut().handle_session(now, report);
    }

    fn installed(&self, client: ClientId) -> Option<u64> {
        self.role().installed(client)
    }

    fn refused(&self, client: ClientId) -> Option<&Refusals> {
        self.role().refused(client)
    }

    fn advance(&mut self, now: Duration, clients: &[Client]) -> News {
        if let Self::Agent(agent) = self {
            agent.settle(now);
        }
        let mut news = self.role_mut().advance(now, clients);
        if let Self::RouteServer(rs) = self {
            let moved = std::mem::replace(&mut rs.drain_notified, rs.drained) != rs.drained;
            news = News { announce: news.announce | moved, changed: news.changed | moved };
        }
        news
    }

    fn poll_request(&mut self) -> Option<ClientRequest> {
        self.role_mut().poll_request()
    }

    fn next_timeout(&self) -> Option<Duration> {
        let sink = self.agent().and_then(|agent| agent.sink.due());
        self.role().next_timeout().into_iter().chain(sink).min()
    }
}

/// The core of a node that is up.
pub type Running = node::Node<Kind>;

/// Observations of one client, for the checks.
#[derive(Debug, Clone, Default)]
pub struct ClientLog {
    /// Time of the last registration of each link, by the node's clock.
    pub registered_at: Vec<Option<Duration>>,
    /// The active server last reported, unless it was lost since.
    pub active: Option<usize>,
    /// Serial of the client's table when it was last checked.
    pub checked: u64,
    /// Digest at that time.
    pub digest: RootDigest,
    /// Time since which the active server has announced more than the client has.
    pub behind_since: Option<Duration>,
    /// That server: another one has its own time.
    pub behind: Option<usize>,
}

/// A node, up or down.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// 1 for route servers, 2 and 3 for agents.
    pub tier: u8,
    /// The nodes of its configuration: peers of a route server, servers of an agent in order of preference.
    pub servers: Vec<usize>,
    /// Per client: the nodes that it registers with, in order of preference.
    pub upstream: Vec<Vec<usize>>,
    /// Per client: the table that it registers for.
    pub tables: Vec<String>,
    /// Of an agent: how its client is made.
    pub client_config: ClientConfig,
    /// The part of the table that it wants.
    pub subset: Subset,
    /// Of an agent: its expiry without a capable server.
    pub expire: Option<Duration>,
    /// Of a relay: the clients that it waits for.
    pub acknowledge: Option<Policy>,
    /// Of an agent: time from a batch to its effect on packets; none: no report.
    pub lag: Option<Duration>,
    /// Serial up to which what it acknowledges was checked.
    pub acknowledged: u64,
    /// Of a route server: its parameters.
    pub plan: Option<Plan>,
    /// It is up. `running` is taken out during the node's turn.
    pub up: bool,
    /// Its state machines.
    pub running: Option<Running>,
    /// Incremented at each start.
    pub incarnation: u64,
    /// Its clock is ahead of the network's by this.
    pub offset: Duration,
    /// The host is off: nothing answers a connection attempt.
    pub host_off: bool,
    /// The process is paused until then.
    pub paused_until: Duration,
    /// Time of the last fault of the node itself.
    pub trouble: Duration,
    /// When its next wake-up is due, if one is in the queue.
    pub wake_at: Option<Duration>,
    /// Its last checkpoint.
    pub checkpoint: BTreeMap<Key, Value>,
    /// Time since which it has sent heartbeats and no data.
    pub gray_since: Option<Duration>,
    /// Time since which it has been ready without interruption.
    pub ready_since: Option<Duration>,
    /// Of an agent: time since which it has not been in sync with a capable server.
    pub alone_since: Option<Duration>,
    /// Of an agent: time since which it has been stale, by its own clock.
    pub stale_since: Option<Duration>,
    /// One for each client.
    pub logs: Vec<ClientLog>,
}

impl Node {
    /// A node that is down.
    pub fn new(name: String, tier: u8, servers: Vec<usize>, mut config: ClientConfig) -> Self {
        config.name.clone_from(&name);
        config.table = "fib".into();
        let role = |at: usize| if at == 0 { ServerRole::Primary } else { ServerRole::Secondary };
        config.servers = (0..servers.len()).map(role).collect();
        Self {
            name,
            tier,
            servers,
            logs: Vec::new(),
            tables: Vec::new(),
            upstream: Vec::new(),
            client_config: config,
            subset: Subset::default(),
            expire: None,
            acknowledge: None,
            lag: None,
            acknowledged: 0,
            plan: None,
            up: false,
            running: None,
            incarnation: 0,
            offset: Duration::ZERO,
            host_off: false,
            paused_until: Duration::ZERO,
            trouble: Duration::ZERO,
            wake_at: None,
            checkpoint: BTreeMap::new(),
            gray_since: None,
            ready_since: None,
            alone_since: None,
            stale_since: None,
        }
    }

    /// Parameters of an agent's core.
    pub fn agent_config(&self) -> AgentConfig {
        let client = ClientConfig { subset: self.subset.clone(), ..self.client_config.clone() };
        AgentConfig { client, serves: true, expire: self.expire, acknowledge: self.acknowledge.clone() }
    }

    /// Number of its initial clients: of a route server those for its peers' catalogs.
    pub fn fixed_clients(&self) -> usize {
        self.plan.as_ref().map_or(1, |plan| plan.peers)
    }

    /// Forgets its clients, like a new process.
    pub fn forget_clients(&mut self) {
        self.upstream.clear();
        self.tables.clear();
        self.logs.clear();
    }

    /// Whether the client of this slot follows a catalog of origins, which changes all the time.
    pub fn is_catalog(&self, slot: usize) -> bool {
        self.tier == 1 && slot < self.fixed_clients()
    }

    /// The node's clock.
    pub fn local(&self, now: Duration) -> Duration {
        now + self.offset
    }

    /// The server behind a link.
    pub fn server_of(&self, slot: usize, link: usize) -> Option<usize> {
        self.upstream.get(slot)?.get(link).copied()
    }
}
