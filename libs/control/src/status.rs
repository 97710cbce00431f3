//! The status of a daemon, as shown and as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which daemon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `fibcast-route-server`.
    RouteServer,
    /// `fibcast-agent`.
    Agent,
    /// `fibcast-dataplane`.
    Dataplane,
}

/// A daemon as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `[node] name`.
    pub name: String,
    /// Which daemon it is.
    pub kind: Kind,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// A route server: all sources and peers were in sync once. Others: the table comes from a capable server.
    pub ready: bool,
    /// Nobody capable feeds this table at the moment; it is kept as it was.
    pub stale: bool,
    /// The forwarding table.
    pub table: TableStatus,
    /// The connections to servers, of daemons that are clients (agents and dataplanes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    /// Registered clients.
    #[serde(default)]
    pub clients: Vec<ClientStatus>,
    /// Sources, of a route server.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// Route servers that this one is registered with.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// Protocol instances beside this and other route servers, of a route server.
    #[serde(default)]
    pub origins: Vec<OriginStatus>,
    /// Connections that were not let in.
    #[serde(default)]
    pub refused: Refused,
    /// What the kernel forwards by, of an agent with a kernel sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStatus>,
    /// What workers forward by, of a dataplane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<ForwardingStatus>,
}

/// One copy of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Of the table's owner; new at each start.
    pub epoch: u64,
    /// Of the last commit.
    pub serial: u64,
    /// IPv4 routes.
    pub ipv4_routes: u64,
    /// IPv6 routes.
    pub ipv6_routes: u64,
    /// Next-hop groups.
    pub groups: u64,
    /// All records.
    pub records: u64,
    /// Root digest: 32 hexadecimal digits.
    pub digest: String,
    /// Records changed since the start, all commits together.
    pub changes: u64,
}

/// Connections that were not let in, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Because of a limit.
    pub turned_away: u64,
    /// Because of their TLS handshake.
    pub handshake: u64,
    /// Because their certificate's names are not on the allow list.
    pub not_allowed: u64,
}

/// The checkpoint of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// The file.
    pub path: String,
    /// Milliseconds since the last one was complete; none: none yet.
    pub age_ms: Option<u64>,
    /// Serial of the table in it.
    pub serial: u64,
    /// Its size.
    pub bytes: u64,
    /// How many were written since the start.
    pub written: u64,
    /// Longest time that one piece of a copy took of the agent's thread, in microseconds.
    pub longest_piece_us: u64,
    /// Records that the start found in the file.
    pub loaded_records: u64,
    /// Why the last one failed, or the one at the start was refused.
    pub last_error: Option<String>,
}

/// The client's side: who is asked and what failover cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// The role of the server in use, `primary` or `secondary`; none if there is no capable one.
    pub active: Option<Role>,
    /// Each configured server.
    pub servers: Vec<ServerStatus>,
    /// Times that another server was activated.
    pub failovers: u64,
    /// From the loss of the active server to the next one active, the last time.
    pub last_failover_ms: Option<f64>,
    /// Routes received as copies of a whole table, since the start (the first copy included).
    pub routes_copied: u64,
    /// Of those, in the last failover or failback.
    pub last_failover_routes_copied: u64,
    /// Routes in which the new server's table differed, last failover or failback.
    pub routes_differing: u64,
    /// Routes changed by batches that were applied, since the start.
    pub routes_applied: u64,
    /// Routes passed on to the tier below, since the start.
    pub routes_passed_on: u64,
    /// Commits whose digest was not the server's (each was repaired).
    pub digest_mismatches: u64,
    /// The checkpoint, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
}

/// A server's role for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// In use as long as it is capable.
    Primary,
    /// Takes over.
    Secondary,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::Secondary => "secondary",
        })
    }
}

/// A connection to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// As configured.
    pub address: String,
    /// As configured.
    pub role: Role,
    /// The server's own name, once known.
    pub name: Option<String>,
    /// State of the session, in a word or two.
    pub state: String,
    /// It says that it is ready.
    pub ready: bool,
    /// It says that nobody capable fills its table, and serves what it has.
    #[serde(default)]
    pub stale: bool,
    /// Commits that it announced and that are not applied here yet; 0 for one that is not in use.
    #[serde(default)]
    pub lag: u64,
    /// Bytes received from it since the start.
    pub received_bytes: u64,
    /// Bytes sent to it since the start.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Names in its certificate; empty on plain TCP.
    #[serde(default)]
    pub certificate: Vec<String>,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its node name.
    pub name: String,
    /// Where it comes from.
    pub address: String,
    /// Table that it registered for.
    pub table: String,
    /// `primary` or `secondary`: what this server is for it.
    pub role: Role,
    /// State of the session, in a word.
    #[serde(default)]
    pub state: String,
    /// It gets data.
    pub active: bool,
    /// Last serial sent to it.
    pub serial: u64,
    /// Commits of its table that were not sent to it yet; 0 while it stands by.
    #[serde(default)]
    pub lag: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    #[serde(default)]
    pub received_bytes: u64,
    /// Bytes that wait for its connection.
    #[serde(default)]
    pub queued_bytes: u64,
    /// Names in its certificate; empty on plain TCP.
    #[serde(default)]
    pub certificate: Vec<String>,
    /// Why its session before this one ended.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A source of a route server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Name of the protocol instance.
    pub origin: String,
    /// `static`, `mrt`, …
    pub kind: String,
    /// State in a word or two.
    pub state: String,
    /// Routes that it announces now.
    pub routes: u64,
    /// Changes since the start.
    pub changes: u64,
    /// End of table was reached.
    pub end_of_table: bool,
    /// Announcements that its filter did not let in.
    #[serde(default)]
    pub denied: u64,
    /// Routes at which it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What a live source counts, by name: routes stale, parked, skipped and why, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
}

/// A protocol instance beside one route server, as this route server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// Name of the instance.
    pub name: String,
    /// The route server beside which it runs.
    pub server: String,
    /// Its id, which decides among equal routes: 16 hexadecimal digits.
    pub id: String,
    /// New at each start.
    pub epoch: u64,
    /// Grows while it lives.
    pub sequence: u64,
    /// `live`, `loading`, `stale` or `expired`: what its lease says, the same on all route servers.
    pub state: String,
    /// How its routes count here: `live`; `stale`, after all others; or `out`, not at all.
    pub counted: String,
    /// Its routes that are held here.
    pub routes: u64,
    /// Milliseconds until its lease or, of a stale one, its hold time is over; none of an own or expired one.
    pub lease_left_ms: Option<u64>,
    /// The route servers that its routes come through, nearest last; empty of an own one.
    pub path: Vec<String>,
    /// Another route server has an origin of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// A route server that this one is registered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// As configured.
    pub address: String,
    /// Its own name, once known.
    pub name: Option<String>,
    /// State in a word or two.
    pub state: String,
    /// Origins held from it.
    pub origins: Vec<String>,
    /// Routes held from it.
    pub routes: u64,
    /// The connection is lost; its routes are held until they expire.
    pub stale: bool,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// What the workers of a dataplane forward by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingStatus {
    /// Serial of the published generation.
    pub serial: u64,
    /// Routes in the published generation (those of the host itself included).
    pub routes: u64,
    /// Generations published since the start.
    pub published: u64,
    /// Retired generations that wait for workers.
    pub retired: u64,
    /// Next hops in use, and those of them without a known link-layer address.
    pub next_hops: u64,
    /// See `next_hops`.
    pub next_hops_unresolved: u64,
    /// Batches that wait because applying them failed.
    pub pending_batches: u64,
    /// Workers that are stalled or have ended.
    #[serde(default)]
    pub workers_stalled: u64,
    /// Times that the agent's thread had to be started again, because it panicked or stalled.
    #[serde(default)]
    pub agent_restarts: u64,
    /// Times that another station claimed an address of this router (RFC 5227, RFC 4862 §5.4).
    #[serde(default)]
    pub address_conflicts: u64,
    /// Why the last batch failed, while it waits.
    pub apply_error: Option<String>,
}

/// The kernel table of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// The table of VRF 0.
    pub table: u32,
    /// Routes that the kernel has as they should be.
    pub routes: u64,
    /// Routes that the kernel refuses at the moment; they are tried again.
    pub refused: u64,
    /// Routes that this host cannot have: their port is no interface here, or they lead to the host itself.
    pub unfit: u64,
    /// Routes of VRFs that have no table.
    pub left_out: u64,
    /// Routes of a former life that were found at the start.
    pub leftovers: u64,
    /// Routes of the batch at work that are still to be written.
    pub pending: u64,
    /// A batch is at work.
    pub busy: bool,
    /// Batches written since the start.
    pub batches: u64,
    /// Messages written since the start.
    pub written: u64,
    /// Refusals since the start.
    pub refusals: u64,
    /// Times that the kernel's table was read and mended since the start.
    pub audits: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Resident memory of this process in bytes, 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * 4096
}
