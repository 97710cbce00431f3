//! What a client exchanges with its owner: configuration, requests, events, states.

use std::time::Duration;

use crate::digest::{DigestKey, KeyId};
use crate::frame::Role;
use crate::subset::Subset;
use crate::table::Commit;
use crate::wire::ProtocolError;

/// A server by its index in the client's list.
pub type LinkId = usize;

/// Configuration of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Name of the node.
    pub name: String,
    /// Table to register for.
    pub table: String,
    /// Subset of the table.
    pub subset: Subset,
    /// Name of the digest key of the client's table.
    pub digest_key: KeyId,
    /// Allow loops: nodes relay the table in a cycle. A server whose table comes through this node counts as not ready. Otherwise the
    /// connection to it is closed.
    pub allow_loops: bool,
    /// Roles of the servers, in order of preference.
    pub servers: Vec<Role>,
    /// Interval of heartbeats; three missed ones mean that the server is gone.
    pub heartbeat: Duration,
    /// How long a preferred server must have been capable before the client fails back to it. None: never.
    pub failback: Option<Duration>,
    /// How long the client waits at the start for its first choice before it uses another server.
    pub grace: Duration,
    /// A server that announces commits and brings no progress for this time is *stalled*: the next capable one is used.
    pub progress: Duration,
    /// Most bytes of memory of a batch before its Commit.
    pub pending: usize,
    /// Pause before the first reconnection; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest pause between connections.
    pub retry_max: Duration,
}

impl ClientConfig {
    /// The defaults of the protocol.
    pub fn new(name: impl Into<String>, table: impl Into<String>, servers: Vec<Role>) -> Self {
        Self {
            name: name.into(),
            table: table.into(),
            subset: Subset::default(),
            digest_key: DigestKey::PUBLIC.id(),
            allow_loops: false,
            servers,
            heartbeat: Duration::from_millis(300),
            failback: Some(Duration::from_secs(30)),
            grace: Duration::from_secs(2),
            progress: Duration::from_secs(3),
            pending: 48 << 20,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(2),
        }
    }
}

/// Requests to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a connection.
    Connect(LinkId),
    /// Close the connection if it is open. No [`Client::handle_disconnected`] is needed.
    Disconnect(LinkId),
}

/// How a newly activated server brought the table up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing was sent: the digests were equal, or the serial was current.
    Equal,
    /// Changes since the client's serial in the same epoch.
    Changes,
    /// The difference, found by sketches.
    Reconcile,
    /// A full copy.
    Snapshot,
}

/// Events for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// A server answered; the client is registered with it.
    Registered {
        /// The server.
        link: LinkId,
        /// Its name.
        name: String,
    },
    /// A connection ended, by itself or because of an error.
    Lost {
        /// The server.
        link: LinkId,
        /// Why.
        error: ProtocolError,
        /// It was the active server.
        active: bool,
    },
    /// Another server is active, and the table equals its table.
    Activated {
        /// The server.
        link: LinkId,
        /// How the table was brought up to date.
        how: How,
        /// Time since the previous server was lost, or since this one was activated.
        took: Duration,
        /// Number of routes in which the tables differed.
        differing: u64,
    },
    /// The active server is stalled: it announces commits, and neither sends them nor makes progress with one.
    Stalled {
        /// The server.
        link: LinkId,
        /// Commits that it has announced and we lack; none if our table equals none of its own.
        behind: Option<u64>,
        /// Whether another server is used instead.
        left: bool,
    },
    /// The table has changed.
    Committed(Commit),
    /// A batch did not result in the announced digest. It was not applied; the table is compared again.
    Mismatch {
        /// The server.
        link: LinkId,
        /// The expected and the found digest.
        reason: String,
    },
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Routes received in full copies.
    pub routes_copied: u64,
    /// Of those, in the last failover or failback.
    pub last_failover_routes_copied: u64,
    /// Routes in which the new server's table differed, in the last failover or failback.
    pub routes_differing: u64,
    /// Routes changed by committed batches.
    pub routes_applied: u64,
    /// Number of failovers and failbacks.
    pub failovers: u64,
    /// Time from the loss of the active server to the next active one, last time.
    pub last_failover: Option<Duration>,
    /// Batches and heartbeats with another digest than ours.
    pub digest_mismatches: u64,
    /// Times that the active server was stalled.
    pub stalls: u64,
}

/// State of a connection, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Role as configured.
    pub role: Role,
    /// The server's name, once known.
    pub name: Option<String>,
    /// State as one word.
    pub state: &'static str,
    /// The server reports that it is ready.
    pub ready: bool,
    /// The server reports that its table has no capable source.
    pub stale: bool,
    /// It was stalled lately: others are preferred.
    pub avoided: bool,
    /// Epoch and serial that the server announced last.
    pub announced: Option<(u64, u64)>,
    /// Bytes received since the start.
    pub received_bytes: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}
