//! The status of a daemon, as text and JSON.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::integers::number_or_text;

/// Kind of daemon.
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

/// Status of a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `[node] name`.
    pub name: String,
    /// Kind of daemon.
    pub kind: Kind,
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Uptime in milliseconds.
    pub uptime_ms: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Route server: all sources and peers have been in sync once. Others: the table comes from a capable server.
    pub ready: bool,
    /// The table has no capable source at the moment and stays unchanged.
    pub stale: bool,
    /// The forwarding table.
    pub table: TableStatus,
    /// Agents and dataplanes: connections to servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncStatus>,
    /// Registered clients.
    #[serde(default)]
    pub clients: Vec<ClientStatus>,
    /// Route server: sources.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// Route server: peers that this one is registered with.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// Route server: origins of this and other route servers.
    #[serde(default)]
    pub origins: Vec<OriginStatus>,
    /// With `[acknowledge]`: what the required clients have installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<AcknowledgeStatus>,
    /// Refused connections.
    #[serde(default)]
    pub refused: Refused,
    /// What accepts connections.
    #[serde(default)]
    pub listeners: Vec<ListenerStatus>,
    /// Lines of the log that nobody read in time.
    #[serde(default)]
    pub log_lines_dropped: u64,
    /// Own certificate, CA and CRL, and when they expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// Agent with a kernel sink: the kernel table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStatus>,
    /// Dataplane: forwarding state of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<ForwardingStatus>,
    /// Threads with a heartbeat.
    #[serde(default)]
    pub threads: Vec<ThreadStatus>,
}

/// A thread of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// Name, unique in the daemon.
    pub name: String,
    /// State.
    pub state: ThreadState,
    /// Milliseconds since its last heartbeat.
    pub age_ms: u64,
    /// Age above which it is stalled.
    pub limit_ms: u64,
    /// It is on the way of a route or a packet: the node is unhealthy without it.
    pub essential: bool,
    /// Times that its work was started again after a panic.
    pub restarts: u64,
    /// Text of its last panic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_panic: Option<String>,
}

/// State of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadState {
    /// It makes progress.
    Running,
    /// It has made none for longer than its limit.
    Stalled,
    /// It has panicked, and is not started again.
    Panicked,
}

/// Status of one copy of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Epoch of the table's owner; new at each start.
    #[serde(deserialize_with = "number_or_text")]
    pub epoch: u64,
    /// Serial of the last commit.
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
    /// Records changed since the start, in all commits.
    pub changes: u64,
}

/// Connections refused since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Because of a limit.
    pub turned_away: u64,
    /// Because of the TLS handshake.
    pub handshake: u64,
    /// Because of the allow list, or because a reload took the permission away.
    pub not_allowed: u64,
    /// Sessions that ended because they had used up a limit, or took nothing.
    #[serde(default)]
    pub over_budget: u64,
}

/// A certificate, CA or CRL in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// `cert`, `ca` or `crl`: the key in `[tls]`.
    pub kind: String,
    /// The file.
    pub path: String,
    /// Its subject; of a CRL its issuer.
    pub subject: String,
    /// When it expires, or when a newer CRL is due, in seconds since 1970.
    pub expires_unix_seconds: i64,
}

impl CertificateStatus {
    /// Days before that from which on there are warnings.
    pub const WARNING_DAYS: i64 = 30;
}

/// Something that accepts connections: "sync", "fpm", "http" or "control". Counters are totals since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// What it is.
    pub name: String,
    /// Connections that are open.
    pub open: u64,
    /// Of these, the ones that are half open and give way to newcomers.
    pub half_open: u64,
    /// Connections that got a place.
    pub accepted: u64,
    /// Connections refused because of a limit.
    pub turned_away: u64,
    /// Half-open connections closed in favor of newcomers.
    pub gave_way: u64,
    /// Times that the system had no file descriptor or memory for a connection.
    pub exhausted: u64,
}

/// The checkpoint of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// The file.
    pub path: String,
    /// Age of the last complete one in milliseconds; none if there is none.
    pub age_ms: Option<u64>,
    /// Serial of the table in it.
    pub serial: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Number written since the start.
    pub written: u64,
    /// Longest pause of the agent's thread for one piece, in microseconds.
    pub longest_piece_us: u64,
    /// Records loaded from the file at the start.
    pub loaded_records: u64,
    /// Error of the last one, or of loading one at the start.
    pub last_error: Option<String>,
}

/// The client side: servers and failover statistics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Role of the active server, `primary` or `secondary`; none without a capable one.
    pub active: Option<Role>,
    /// Each configured server.
    pub servers: Vec<ServerStatus>,
    /// Number of failovers and failbacks.
    pub failovers: u64,
    /// Milliseconds from the loss of the active server to the next active one, last time.
    pub last_failover_ms: Option<f64>,
    /// Routes received in full copies since the start, the first copy included.
    pub routes_copied: u64,
    /// Of those, in the last failover or failback.
    pub last_failover_routes_copied: u64,
    /// Routes in which the new server's table differed, in the last failover or failback.
    pub routes_differing: u64,
    /// Routes changed by applied batches since the start.
    pub routes_applied: u64,
    /// Routes sent to the tier below since the start.
    pub routes_passed_on: u64,
    /// Commits with another digest than the server's (each was repaired).
    pub digest_mismatches: u64,
    /// Why the table is not in sync although the active server answers: it announces commits and sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
    /// Times that the active server was stalled.
    #[serde(default)]
    pub stalls: u64,
    /// The checkpoint, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
}

/// A server's role for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Used as long as it is capable.
    Primary,
    /// Standby.
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
    /// The configured role.
    pub address: String,
    /// The configured address.
    pub role: Role,
    /// The server's name, once known.
    pub name: Option<String>,
    /// State of the session.
    pub state: String,
    /// Whether it reports to be ready.
    pub ready: bool,
    /// Whether it reports that its table has no capable source.
    #[serde(default)]
    pub stale: bool,
    /// Commits that it announced and that are not applied here yet; 0 if it is not active.
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
    /// Error of the last connection.
    pub last_error: Option<String>,
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its node name.
    pub name: String,
    /// Remote address.
    pub address: String,
    /// Table that it registered for.
    pub table: String,
    /// Role of this server for it, `primary` or `secondary`.
    pub role: Role,
    /// State of the session.
    #[serde(default)]
    pub state: String,
    /// Whether it gets data.
    pub active: bool,
    /// Last serial sent to it.
    pub serial: u64,
    /// The serial that its sink forwards by, as it reported; none if it has not since its activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// Milliseconds since that report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_age_ms: Option<u64>,
    /// Number of routes that its sink does not forward by, as it reported.
    #[serde(default)]
    pub refused: u64,
    /// The first of them, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_first: Vec<RefusedRoute>,
    /// Commits of its table not yet sent; 0 in standby.
    #[serde(default)]
    pub lag: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    #[serde(default)]
    pub received_bytes: u64,
    /// Bytes in its send queue.
    #[serde(default)]
    pub queued_bytes: u64,
    /// Names in its certificate; empty on plain TCP.
    #[serde(default)]
    pub certificate: Vec<String>,
    /// Why its previous session ended.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// Acknowledgement of the forwarding table by the required clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgeStatus {
    /// The serial that all required clients have installed, or that was announced without them.
    pub acknowledged: u64,
    /// Commits that wait for an acknowledgement.
    pub behind: u64,
    /// Milliseconds that the oldest of them has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_ms: Option<u64>,
    /// Timeouts since the start.
    pub timeouts: u64,
    /// Routes that count as refused: fewer than the required clients forward by them.
    #[serde(default)]
    pub refused: u64,
    /// The nodes that are or were active here.
    pub nodes: Vec<AcknowledgeNode>,
}

/// A node in [`AcknowledgeStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcknowledgeNode {
    /// Its name.
    pub name: String,
    /// `counts`, `lost` (still counts), `joining`, `gone` or `not required`.
    pub state: String,
    /// The serial that it forwards by, as it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// Milliseconds since its last report, activation or loss.
    pub age_ms: u64,
    /// Routes that it does not forward by.
    #[serde(default)]
    pub refused: u64,
}

/// A route that a node does not forward by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRoute {
    /// Routing instance.
    pub vrf: u32,
    /// Destination.
    pub prefix: IpNet,
    /// Why.
    pub reason: String,
}

/// A source of a route server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Name of the protocol instance.
    pub origin: String,
    /// `static`, `mrt`, …
    pub kind: String,
    /// State.
    pub state: String,
    /// Current routes.
    pub routes: u64,
    /// Changes since the start.
    pub changes: u64,
    /// Whether the end of its table was reached.
    pub end_of_table: bool,
    /// By what: `sentinel`, `refreshed` (nothing is stale any more), `dump`, `file`; `quiet` and `timeout` are no proof that it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_table_by: Option<String>,
    /// Announcements that its filter denied.
    #[serde(default)]
    pub denied: u64,
    /// Route limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prefixes: Option<u64>,
    /// The last error.
    pub last_error: Option<String>,
    /// Counters of a live source by name: routes stale, parked, skipped by reason, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
}

/// An origin (protocol instance) as this route server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// Name of the instance.
    pub name: String,
    /// The route server that it belongs to.
    pub server: String,
    /// Its id, the last tie-breaker among routes: 16 hexadecimal digits.
    pub id: String,
    /// Epoch: new at each start.
    #[serde(deserialize_with = "number_or_text")]
    pub epoch: u64,
    /// Sequence: increases while it is alive.
    pub sequence: u64,
    /// State of its lease, the same on all route servers: `live`, `loading`, `stale` or `expired`.
    pub state: String,
    /// Eligibility of its routes for best path here: `live`; `stale`, ranked last; or `ineligible`.
    pub eligibility: String,
    /// Its routes held here.
    pub routes: u64,
    /// Milliseconds until its lease ends or, if stale, its hold time; none for an own or expired one.
    pub lease_left_ms: Option<u64>,
    /// The route servers that its routes come through, nearest last; empty for an own one.
    pub path: Vec<String>,
    /// Whether another route server has an origin with the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
}

/// A peer: a route server that this one is registered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The configured address.
    pub address: String,
    /// Its name, once known.
    pub name: Option<String>,
    /// State.
    pub state: String,
    /// Origins held from it.
    pub origins: Vec<String>,
    /// Routes held from it.
    pub routes: u64,
    /// The connection is lost; its routes are kept until they expire.
    pub stale: bool,
    /// Error of the last connection.
    pub last_error: Option<String>,
}

/// Forwarding state of a dataplane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingStatus {
    /// Serial of the published generation.
    pub serial: u64,
    /// Routes in the published generation, the host's own included.
    pub routes: u64,
    /// Generations published since the start.
    pub published: u64,
    /// Retired generations that workers may still hold.
    pub retired: u64,
    /// Bytes that they keep from being freed.
    #[serde(default)]
    pub retired_bytes: u64,
    /// Bound of that; route changes wait at it.
    #[serde(default)]
    pub retired_bytes_most: u64,
    /// Next hops in use, and those without a known MAC address.
    pub next_hops: u64,
    /// See `next_hops`.
    pub next_hops_unresolved: u64,
    /// Batches that wait because applying them failed.
    pub pending_batches: u64,
    /// Workers that are stalled or have ended.
    #[serde(default)]
    pub workers_stalled: u64,
    /// Restarts of the agent's thread after a panic or a stall.
    #[serde(default)]
    pub agent_restarts: u64,
    /// Address conflicts: another station claimed an address of this router (RFC 5227, RFC 4862 §5.4).
    #[serde(default)]
    pub address_conflicts: u64,
    /// Entries of the neighbor table.
    #[serde(default)]
    pub neighbors: u64,
    /// Neighbors that a limit refused, or that gave way to others.
    #[serde(default)]
    pub neighbors_refused: u64,
    /// Error of the last batch, while it waits.
    pub apply_error: Option<String>,
    /// What is bounded, and how far it is used.
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
    /// Comparison of routes and groups with the agent's table.
    #[serde(default)]
    pub scrub_table: ScrubStatus,
    /// Comparison of what workers read with routes and groups.
    #[serde(default)]
    pub scrub_tries: ScrubStatus,
}

/// A bound of the dataplane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// The key of the configuration that sets it.
    pub key: String,
    /// Use, in the unit of `most`.
    pub used: u64,
    /// The bound.
    pub most: u64,
    /// Times since the start that something did not fit.
    pub hits: u64,
}

/// A slow comparison of what forwards with the table whose digest is audited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Complete passes since the start.
    pub passes: u64,
    /// Routes or lookups compared since the start.
    pub compared: u64,
    /// Differences found since the start.
    pub differences: u64,
    /// Those that were corrected.
    pub mended: u64,
    /// Parts that were left out because a change was under way.
    pub skipped: u64,
    /// Time since the last complete pass; none: not yet.
    pub pass_age_ms: Option<u64>,
    /// The last difference.
    pub last_difference: Option<String>,
}

/// Kernel table of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// Number of the table for VRF 0.
    pub table: u32,
    /// Routes in the kernel that are up to date.
    pub routes: u64,
    /// Routes that the kernel currently refuses; they are retried.
    pub refused: u64,
    /// Routes that this host cannot have: their port is not an interface here, they lead to the host itself, their gateway is an
    /// address of the host, or `[kernel] next_hop` does not suit them.
    pub unfit: u64,
    /// Those of them whose gateway is an address of this host.
    #[serde(default)]
    pub own_gateway: u64,
    /// One of these, with its gateway; none while there is none.
    #[serde(default)]
    pub own_gateway_example: Option<String>,
    /// Routes of VRFs without a table.
    pub left_out: u64,
    /// Routes of an earlier run found at the start.
    pub leftovers: u64,
    /// Routes of the current batch not yet written.
    pub pending: u64,
    /// Whether a batch is being written.
    pub busy: bool,
    /// Milliseconds since the batch that is being written was accepted.
    #[serde(default)]
    pub busy_ms: u64,
    /// Batches written since the start.
    pub batches: u64,
    /// Messages written since the start.
    pub written: u64,
    /// Routes refused by the kernel since the start.
    pub refusals: u64,
    /// Refused routes are no fault here (`[kernel] accept_refused`).
    #[serde(default)]
    pub refusals_accepted: bool,
    /// The last refused route with the kernel's reason; none while nothing is refused.
    #[serde(default)]
    pub last_refusal: Option<String>,
    /// Routes of others in our tables.
    #[serde(default)]
    pub foreign: u64,
    /// Routes that packets do not take, because the kernel prefers a route of somebody else for the same prefix.
    #[serde(default)]
    pub shadowed: u64,
    /// Shadowed routes are no fault here (`[kernel] accept_shadowed`).
    #[serde(default)]
    pub shadows_accepted: bool,
    /// One of the shadowed routes, with the other route and what removes it; none while nothing is shadowed.
    #[serde(default)]
    pub shadow: Option<String>,
    /// Times that the kernel's table was read and repaired since the start.
    pub audits: u64,
    /// Comparison of the kernel's table with the wanted one.
    #[serde(default)]
    pub scrub: ScrubStatus,
    /// The last error.
    pub last_error: Option<String>,
}
