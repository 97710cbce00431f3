//! A machine in the network: what runs on it, its clock, and what has befallen it.

use std::collections::BTreeMap;
use std::time::Duration;

use fibcast_sync_proto::client::{Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Server, Tables};
use fibcast_sync_proto::subset::Subset;
use fibcast_sync_proto::{Key, RootDigest, Table, Value};

use crate::agent::Agent;
use crate::route_server::{Plan, RouteServer};

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// Tier 1.
    RouteServer(Box<RouteServer>),
    /// Tiers 2 and 3.
    Agent(Box<Agent>),
}

impl Kind {
    /// What the server machine asks.
    pub fn tables(&self) -> &dyn Tables {
        match self {
            Self::RouteServer(rs) => rs.as_ref(),
            Self::Agent(agent) => agent.as_ref(),
        }
    }

    /// The table that a client fills.
    pub fn client_table(&mut self, slot: usize) -> Option<&mut Table> {
        match self {
            Self::RouteServer(rs) => Some(rs.engine.client_table(slot)),
            Self::Agent(agent) => Some(&mut agent.table),
        }
    }

    /// The forwarding table.
    pub fn fib(&self) -> &Table {
        match self {
            Self::RouteServer(rs) => rs.engine.fib(),
            Self::Agent(agent) => &agent.table,
        }
    }

    /// Whether it says that its forwarding table may be used.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::RouteServer(rs) => rs.readiness().1,
            Self::Agent(agent) => agent.relay.is_ready(),
        }
    }
}

/// The machines of a node that is up.
#[derive(Debug)]
pub struct Running {
    /// Its sessions.
    pub server: Server,
    /// A route server has one for each peer's catalog and for each origin of another server, an agent has one.
    pub clients: Vec<Client>,
    /// What the sessions serve and the clients fill.
    pub kind: Kind,
}

/// What was seen of one client, for the checks.
#[derive(Debug, Clone, Default)]
pub struct ClientLog {
    /// When each link last registered, by the node's clock.
    pub registered_at: Vec<Option<Duration>>,
    /// The server in use that was last announced, unless it was lost since.
    pub active: Option<usize>,
    /// Serial of the client's table when it was last checked.
    pub checked: u64,
    /// Digest at that time.
    pub digest: RootDigest,
}

/// A node, up or down.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// 1 for route servers, 2 and 3 for agents.
    pub tier: u8,
    /// Per client: the nodes that it registers with, in order of preference.
    pub upstream: Vec<Vec<usize>>,
    /// Per client: the table that it registers for.
    pub tables: Vec<String>,
    /// How its clients are made.
    pub client_config: ClientConfig,
    /// The part of the table that it wants.
    pub subset: Subset,
    /// Of a route server: how it is made.
    pub plan: Option<Plan>,
    /// It runs. `running` is away while the node has its turn.
    pub up: bool,
    /// Its machines.
    pub running: Option<Running>,
    /// Grows with each start.
    pub incarnation: u64,
    /// Its clock is ahead of the network's by this.
    pub offset: Duration,
    /// The host is off: nobody answers a connection attempt.
    pub host_off: bool,
    /// The process stands still until then.
    pub paused_until: Duration,
    /// When something last befell the node itself.
    pub trouble: Duration,
    /// When its next wake-up is due, if one is in the queue.
    pub wake_at: Option<Duration>,
    /// What it wrote to disk last.
    pub checkpoint: BTreeMap<Key, Value>,
    /// Since when it has been ready without a break.
    pub ready_since: Option<Duration>,
    /// Of an agent: since when it has not been in sync with a capable server.
    pub alone_since: Option<Duration>,
    /// One for each client.
    pub logs: Vec<ClientLog>,
}

impl Node {
    /// A node that is down.
    pub fn new(name: String, tier: u8, upstream: Vec<Vec<usize>>, mut config: ClientConfig) -> Self {
        config.name.clone_from(&name);
        config.table = if tier == 1 { "rib" } else { "fib" }.into();
        Self {
            name,
            tier,
            logs: vec![ClientLog::default(); upstream.len()],
            tables: vec![config.table.clone(); upstream.len()],
            upstream,
            client_config: config,
            subset: Subset::default(),
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
            ready_since: None,
            alone_since: None,
        }
    }

    /// The machines of its clients, as they are at a start.
    pub fn clients(&self, now: Duration) -> Vec<Client> {
        let role = |at: usize| if at == 0 { Role::Primary } else { Role::Secondary };
        let make = |servers: &Vec<usize>| {
            let mut config = self.client_config.clone();
            config.subset = self.subset.clone();
            config.servers = (0..servers.len()).map(role).collect();
            Client::new(config, now)
        };
        self.upstream.iter().map(make).collect()
    }

    /// How many of its clients there are from the start: of a route server those for its peers' catalogs.
    pub fn fixed_clients(&self) -> usize {
        self.plan.as_ref().map_or(1, |plan| plan.peers)
    }

    /// Forgets the clients that came later, as a new process does.
    pub fn forget_clients(&mut self) {
        let fixed = self.fixed_clients();
        self.upstream.truncate(fixed);
        self.tables.truncate(fixed);
        self.logs.truncate(fixed);
    }

    /// Whether the client of this slot keeps a catalog of origins, which has news all the time.
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
