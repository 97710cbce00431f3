//! What the loop knows of connections, for status.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use fibcast_sync_proto::client::LinkId;
use fibcast_sync_proto::server::SessionId;

/// Names whose session's end is remembered for status.
const ENDED: usize = 256;

/// Counters of refused connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections refused because of a limit.
    pub turned_away: u64,
    /// Failed or slow handshakes, and plain peers where TLS is required or the reverse.
    pub handshake: u64,
    /// Peers with a valid certificate that the allow lists do not permit.
    pub not_allowed: u64,
}

/// What the loop knows of connections, for status.
#[derive(Debug, Default)]
pub struct ShellState {
    /// The other ends of sessions.
    pub peers: HashMap<SessionId, Peer>,
    /// Why the last session of a client, by name, ended.
    pub ended: HashMap<String, String>,
    /// Connections that were not let in.
    pub refusals: Refusals,
    /// Sessions that ended because they had used up a limit, or took nothing.
    pub over_budget: u64,
    /// The connections of each client of the node.
    pub clients: Vec<ClientLinks>,
}

/// The other end of an accepted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Names in its certificate; empty on plain TCP.
    pub names: Vec<String>,
    /// What it calls itself, once it has registered.
    pub name: String,
    /// The table that it has registered for.
    pub table: String,
    /// It has a part of that table.
    pub part: bool,
    /// Bytes received, those of TLS included.
    pub received: u64,
    /// Bytes sent, those of TLS included.
    pub sent: u64,
    /// Why its session before this one ended.
    pub last_error: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            names: Vec::new(),
            name: String::new(),
            table: String::new(),
            part: false,
            received: 0,
            sent: 0,
            last_error: None,
        }
    }
}

impl ShellState {
    /// Remembers for status why a session ended.
    pub(super) fn note_end(&mut self, id: SessionId, reason: &str) {
        let Some(peer) = self.peers.get(&id).filter(|p| !p.name.is_empty()) else { return };
        if self.ended.len() >= ENDED && !self.ended.contains_key(&peer.name) {
            self.ended.clear();
        }
        self.ended.insert(peer.name.clone(), reason.to_owned());
    }
}

/// What went over the wire to and from a server since the start, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wire {
    /// Where the last connection to it went, however the server is called in the configuration.
    pub address: Option<SocketAddr>,
    /// Names in its certificate; empty on plain TCP.
    pub names: Vec<String>,
    /// Bytes received, those of TLS included.
    pub received: u64,
    /// Bytes sent, those of TLS included.
    pub sent: u64,
}

/// The connections of a client.
#[derive(Debug, Default)]
pub struct ClientLinks {
    /// As configured, in the order of the client's servers.
    pub addresses: Vec<String>,
    /// Each server's connection as the shell sees it, in the same order.
    pub wires: Vec<Wire>,
    /// Last failure that was logged per server, and when.
    pub(super) logged: HashMap<LinkId, (String, Duration)>,
}

impl ClientLinks {
    /// The configured address of a server.
    pub fn address(&self, link: LinkId) -> &str {
        self.addresses.get(link).map_or("?", String::as_str)
    }
}
