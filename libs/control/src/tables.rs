//! Lists for operators: routes, groups, neighbors, ports, workers, drops.

use serde::{Deserialize, Serialize};

use crate::routes::RoutePlace;

/// A page of routes, in prefix order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteList {
    /// Number of routes in the table.
    pub total: u64,
    /// Number of destinations that match on this page, listed or counted.
    #[serde(default)]
    pub matched: u64,
    /// The requested routes, up to the limit.
    pub routes: Vec<Route>,
    /// There may be more after this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RoutePlace>,
}

/// A route as shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// VRF.
    pub vrf: u32,
    /// Destination.
    pub prefix: ipnet::IpNet,
    /// Group's label: 16 hexadecimal digits.
    pub label: String,
    /// Next hops as text: `198.18.1.7`, `198.18.1.7 weight 2`, `port p0`, `blackhole`, …
    pub via: Vec<String>,
    /// Route server: the protocol instance that it is from. Hosts: `own`, or `server NAME`, since forwarding records have no origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Time since it last changed here, in milliseconds: exact for late changes, and for early ones less than the truth rather than more. In a
    /// host that started with a checkpoint, since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Route server with all origins requested: how it was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
}

/// Rank of a route among those of other origins for the same prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Whether it is the best path.
    pub best: bool,
    /// The route server of its origin.
    pub server: String,
    /// Administrative distance: the lowest wins.
    pub distance: u8,
    /// Metric: the lowest wins among equal distances.
    pub metric: u32,
    /// Id of the origin, 16 hexadecimal digits: the lowest wins among equals.
    pub origin_id: String,
    /// Its origin is stale: it only wins without competition.
    pub stale: bool,
    /// For the best path: `only route`, or the criterion by which it won over the next. For the others: the criterion by which they lost to
    /// the one before. Criteria are `stale`, `distance`, `metric` and `origin id`.
    pub decided_by: String,
}

/// Next-hop groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupList {
    /// Sorted by label.
    pub groups: Vec<GroupEntry>,
}

/// A next-hop group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// Label, 16 hexadecimal digits.
    pub label: String,
    /// Next hops as in [`Route::via`].
    pub via: Vec<String>,
    /// Dataplane: forwarded traffic; none for groups beyond the first 65,535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<GroupTraffic>,
}

/// Traffic forwarded by a group since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTraffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP.
    pub bytes: u64,
}

/// ARP and ND entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborList {
    /// Sorted by port and address.
    pub neighbors: Vec<Neighbor>,
}

/// A neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Name of the port.
    pub port: String,
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its MAC address, if known.
    pub mac: Option<String>,
    /// `static`, `incomplete`, `reachable`, `stale`, `delay`, `probe` or `failed`.
    pub state: String,
}

/// Ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList {
    /// In the order of the configuration.
    pub ports: Vec<PortStatus>,
    /// Milliseconds since the counters were cleared; none: they count since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_age_ms: Option<u64>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name in the configuration.
    pub name: String,
    /// Device arguments or PCI address.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// MAC address.
    pub mac: String,
    /// Link is up.
    pub link_up: bool,
    /// MTU in bytes, without Ethernet header.
    pub mtu: u16,
    /// Own addresses.
    pub addresses: Vec<ipnet::IpNet>,
    /// Packets received by workers.
    pub rx_packets: u64,
    /// Bytes received by workers.
    pub rx_bytes: u64,
    /// Packets sent by workers.
    pub tx_packets: u64,
    /// Bytes sent by workers.
    pub tx_bytes: u64,
    /// Packets dropped by the device before a worker received them (no buffer, ring full), as counted by its driver.
    pub rx_missed: u64,
    /// Errors of sending, as counted by the driver: packets that it took and lost, which are part of `tx_packets`; some drivers (`net_vhost`)
    /// also count those that they did not take.
    #[serde(default)]
    pub tx_errors: u64,
    /// Times that the driver took fewer packets than offered (TX backpressure). The packets waited, or were dropped as `tx_full`.
    #[serde(default)]
    pub tx_backpressure: u64,
}

/// Workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerList {
    /// Sorted by number.
    pub workers: Vec<WorkerStatus>,
    /// Milliseconds since the counters were cleared; none: they count since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_age_ms: Option<u64>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Number.
    pub worker: usize,
    /// CPU core.
    pub core: usize,
    /// Packets received.
    pub received: u64,
    /// Packets forwarded.
    pub sent: u64,
    /// Packets dropped, all reasons.
    pub dropped: u64,
    /// Packets for the router itself.
    pub host: u64,
    /// Packets sent by the router itself through this worker.
    pub originated: u64,
    /// Bursts that held at least one packet.
    pub bursts: u64,
    /// Empty polls.
    pub idle_polls: u64,
    /// Serial of the generation in use.
    pub serial: u64,
    /// Whether it sleeps and holds no generation.
    pub idle: bool,
    /// Share of its time spent on packets, in percent.
    #[serde(default)]
    pub busy_percent: f64,
    /// CPU usage of its thread in percent, from the scheduler.
    #[serde(default)]
    pub cpu_percent: f64,
    /// Its receive queues, in polling order.
    #[serde(default)]
    pub queues: Vec<QueueStatus>,
    /// Whether it made no progress for more than a second, or its thread has ended.
    #[serde(default)]
    pub stalled: bool,
    /// Packets held for a neighbor's address or for room in a transmit queue.
    #[serde(default)]
    pub held: u64,
    /// Packets of the router itself that could not be sent.
    #[serde(default)]
    pub originate_failed: u64,
    /// ICMP errors sent.
    #[serde(default)]
    pub icmp_sent: u64,
    /// ICMP errors that were due but not sent, mostly because of the rate limit.
    #[serde(default)]
    pub icmp_limited: u64,
    /// Fragments created, without the first of each packet.
    #[serde(default)]
    pub fragments: u64,
    /// Trie destructors that ran on this worker. Anything but 0 is a bug.
    pub destructors: u64,
}

/// A receive queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Name of its port.
    pub port: String,
    /// Packets received.
    pub packets: u64,
    /// Full bursts, after which more packets may have waited.
    pub full_bursts: u64,
    /// Of these, packets steered to other workers by software RSS.
    pub software_rss: u64,
}

/// Dropped packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropList {
    /// All packets received by workers.
    pub received: u64,
    /// Of those, forwarded.
    pub sent: u64,
    /// Of those, for the router itself.
    pub host: u64,
    /// Of those, dropped.
    pub dropped: u64,
    /// Of those, held for a neighbor's address or for room in a transmit queue.
    pub held: u64,
    /// Dropped packets by port of arrival and reason, without zeros.
    pub drops: Vec<DropCount>,
    /// ICMP messages of the router itself that were due but not sent, by kind, without zeros.
    #[serde(default)]
    pub icmp_limited: Vec<IcmpCount>,
    /// Milliseconds since the counters were cleared; none: they count since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_age_ms: Option<u64>,
}

/// ICMP messages of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpCount {
    /// Name of the kind, as in `[icmp]`.
    pub kind: String,
    /// How many.
    pub messages: u64,
}

/// Packets dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Name of the port of arrival.
    pub port: String,
    /// Name of the reason.
    pub reason: String,
    /// How many.
    pub packets: u64,
}
