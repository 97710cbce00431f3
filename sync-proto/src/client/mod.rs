//! The client's side: connections to a primary and to secondaries, and one copy of the table.
//!
//! [`Client`] is a machine without sockets or clock. Its owner
//! * asks [`Client::poll_action`] which connections to open and to close, and says what came of it with
//!   [`Client::handle_connected`] and [`Client::handle_disconnected`];
//! * gives [`Client::handle_bytes`], and [`Client::handle_timeout`] when [`Client::poll_timeout`] is due;
//! * takes [`Client::transmit`] / [`Client::sent`] and [`Client::poll_event`].
//!
//! The table belongs to the owner, who lends it and writes nothing else into it. A batch is applied whole, and only if
//! it leads to the digest that the server announced. Servers stand in order of preference: the first is the primary.
//! `link` is one connection, `intake` assembles what it brings, `select` decides which one is used.

mod intake;
mod link;
mod select;

use std::collections::VecDeque;
use std::time::Duration;

use crate::frame::Role;
use crate::mutation::{Mutation, on};
use crate::subset::Subset;
use crate::table::{Commit, Table};
use crate::wire::ProtocolError;
use link::{Link, Phase};

/// A server by its place in the list that the client was made with.
pub type LinkId = usize;

/// What a client is, and how patient.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Name of the node.
    pub name: String,
    /// Table to register for.
    pub table: String,
    /// Which part of it.
    pub subset: Subset,
    /// Nodes give the table to each other in circles: a server whose table comes through ourselves is taken for not ready. Else the
    /// connection to it ends.
    pub goes_round: bool,
    /// Roles of the servers, in order of preference.
    pub servers: Vec<Role>,
    /// Interval of heartbeats; three missed ones mean that the server is gone.
    pub heartbeat: Duration,
    /// For how long a better server must have been capable before it is used again. None: never.
    pub failback: Option<Duration>,
    /// How long the first choice is waited for at the start before another one is taken.
    pub grace: Duration,
    /// Pause before the first reconnection; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest pause between connections.
    pub retry_max: Duration,
}

impl ClientConfig {
    /// Defaults of the protocol.
    pub fn new(name: impl Into<String>, table: impl Into<String>, servers: Vec<Role>) -> Self {
        Self {
            name: name.into(),
            table: table.into(),
            subset: Subset::default(),
            goes_round: false,
            servers,
            heartbeat: Duration::from_millis(300),
            failback: Some(Duration::from_secs(30)),
            grace: Duration::from_secs(2),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
        }
    }
}

/// What the owner is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection.
    Connect(LinkId),
    /// Close the connection, if it is open. No [`Client::handle_disconnected`] is needed.
    Disconnect(LinkId),
}

/// How the table was brought up to date by a newly activated server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing was sent: the digests were equal, or the serial was the server's.
    Equal,
    /// Changes since the client's serial in the same epoch.
    Changes,
    /// The difference, found by sketch.
    Reconcile,
    /// A whole copy.
    Snapshot,
}

/// What the owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A server answered and is registered with.
    Registered {
        /// The server.
        link: LinkId,
        /// Its name.
        name: String,
    },
    /// A connection is over, by itself or because of what came over it.
    Lost {
        /// The server.
        link: LinkId,
        /// Why.
        error: ProtocolError,
        /// It was the one in use.
        active: bool,
    },
    /// Another server is in use and the table is equal to its table.
    Activated {
        /// The server.
        link: LinkId,
        /// How the table got equal.
        how: How,
        /// Since the one before was lost, or since this one was asked.
        took: Duration,
        /// Routes in which the tables differed.
        differing: u64,
    },
    /// The table has changed.
    Committed(Commit),
    /// A batch did not lead to the digest announced; it was not applied, and the table is compared anew.
    Mismatch {
        /// The server.
        link: LinkId,
        /// What was expected and found.
        reason: String,
    },
}

/// Figures since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Routes received as part of whole copies.
    pub routes_copied: u64,
    /// Of those, in the last failover or failback.
    pub last_failover_routes_copied: u64,
    /// Routes in which the new server's table differed, in the last failover or failback.
    pub routes_differing: u64,
    /// Routes changed by committed batches.
    pub routes_applied: u64,
    /// Times that another server was activated than the one before.
    pub failovers: u64,
    /// From the loss of the server in use to the next one in use, the last time.
    pub last_failover: Option<Duration>,
    /// Batches and heartbeats whose digest was not ours.
    pub digest_mismatches: u64,
}

/// A connection as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// As configured.
    pub role: Role,
    /// The server's name, once known.
    pub name: Option<String>,
    /// State in a word.
    pub state: &'static str,
    /// The server says that it is ready.
    pub ready: bool,
    /// The server says that nobody capable fills its table.
    pub stale: bool,
    /// Epoch and serial of the server's table, as it announced them last.
    pub announced: Option<(u64, u64)>,
    /// Bytes received since the start.
    pub received_bytes: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    links: Vec<Link>,
    started: Duration,
    active: Option<LinkId>,
    /// The one in use before, to tell a failover from a reconnection.
    last_active: Option<LinkId>,
    /// Epoch and serial of the server's table that ours is equal to.
    base: Option<(u64, u64)>,
    /// When the server in use was lost.
    lost_at: Option<Duration>,
    /// Digest mismatches, none of them more than [`intake::MEND`] after the one before.
    mismatches: u32,
    mismatch_at: Duration,
    actions: VecDeque<Action>,
    events: VecDeque<ClientEvent>,
    counters: ClientCounters,
}

impl Client {
    /// A client that wants to connect to all its servers.
    pub fn new(config: ClientConfig, now: Duration) -> Self {
        let links = config.servers.iter().map(|&role| Link::new(role, now)).collect();
        let mut client = Self {
            config,
            links,
            started: now,
            active: None,
            last_active: None,
            base: None,
            lost_at: None,
            mismatches: 0,
            mismatch_at: Duration::ZERO,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: ClientCounters::default(),
        };
        client.reconnect(now);
        client
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, now: Duration, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.greet(now, &self.config);
        }
    }

    /// The connection is gone, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Duration, id: LinkId, reason: &str, table: &mut Table) {
        if on(Mutation::EmptyOnLoss) && self.active == Some(id) {
            let all: Vec<_> = table.iter().map(|(key, _)| crate::record::Change::Delete(key)).collect();
            let _ = table.commit(all);
        }
        self.lose(now, id, ProtocolError::Refused(reason.to_owned()));
        self.select(now, table);
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, now: Duration, id: LinkId, bytes: &[u8], table: &mut Table) {
        let Some(link) = self.links.get_mut(id) else { return };
        if matches!(link.phase, Phase::Down { .. } | Phase::Connecting { .. }) {
            return;
        }
        link.heard = now;
        link.received += bytes.len() as u64;
        let mut inbox = std::mem::take(&mut link.inbox);
        inbox.push(bytes);
        let result = loop {
            match inbox.next() {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => {
                    if let Err(e) = self.handle_frame(now, id, frame, table) {
                        break Err(e);
                    }
                }
                Err(e) => break Err(e),
            }
        };
        match result {
            Ok(()) => {
                if let Some(link) = self.links.get_mut(id) {
                    link.inbox = inbox;
                }
            }
            Err(error) => {
                self.actions.push_back(Action::Disconnect(id));
                self.lose(now, id, error);
            }
        }
        self.select(now, table);
    }

    /// Heartbeats, silence, reconnection, failback.
    pub fn handle_timeout(&mut self, now: Duration, table: &mut Table) {
        let heartbeat = self.config.heartbeat;
        let mut failed = Vec::new();
        for (id, link) in self.links.iter_mut().enumerate() {
            if let Err(error) = link.handle_timeout(now, heartbeat) {
                failed.push((id, error));
            }
        }
        for (id, error) in failed {
            self.actions.push_back(Action::Disconnect(id));
            self.lose(now, id, error);
        }
        self.reconnect(now);
        self.select(now, table);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let links = self.links.iter().filter_map(|l| l.due(self.config.heartbeat)).min();
        [links, self.selection_due()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// The next bytes for a server; empty if there is nothing to send.
    pub fn transmit(&self, id: LinkId) -> &[u8] {
        self.links.get(id).map_or(&[], |l| l.out.front())
    }

    /// The same and what follows it, in pieces: for one vectored write.
    pub fn transmit_pieces(&self, id: LinkId) -> impl Iterator<Item = &[u8]> {
        self.links.get(id).into_iter().flat_map(|l| l.out.pieces())
    }

    /// So many bytes of [`Self::transmit`] were sent.
    pub fn sent(&mut self, id: LinkId, n: usize) {
        if let Some(link) = self.links.get_mut(id) {
            link.out.consume(n);
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The server in use, whose table ours is equal to or is being made equal to.
    pub fn active(&self) -> Option<LinkId> {
        self.active
    }

    /// A capable server is in use and the table is equal to its table as of some commit.
    pub fn is_synced(&self) -> bool {
        self.active
            .and_then(|id| self.links.get(id))
            .is_some_and(|l| l.is_ready() && matches!(l.phase, Phase::Active { synced: true, .. }))
    }

    /// Nobody capable fills the table: no server is in use, or the one in use says so of itself.
    pub fn is_stale(&self) -> bool {
        !self.is_synced() || self.active.and_then(|id| self.links.get(id)).is_some_and(Link::is_stale)
    }

    /// The nodes that the table comes through, nearest last: what this node is to announce when it serves it on.
    pub fn path(&self) -> Vec<String> {
        let from = self.active.or(self.last_active);
        from.and_then(|id| self.links.get(id)).map(Link::path).unwrap_or_default()
    }

    /// Whether some server could be used: it is registered with and ready.
    pub fn has_capable(&self) -> bool {
        self.links.iter().any(Link::is_ready)
    }

    /// Epoch and serial of the server's table that ours is equal to.
    pub fn base(&self) -> Option<(u64, u64)> {
        self.base
    }

    /// Figures since the start.
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// All links, in order of preference.
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links.iter().map(Link::status).collect()
    }
}
