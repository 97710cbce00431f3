//! Lists that an operator can see: routes, groups, neighbors, ports, workers, drops.

use serde::{Deserialize, Serialize};

/// Routes, in prefix order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteList {
    /// How many there are in all.
    pub total: u64,
    /// Those that were asked for, up to the limit.
    pub routes: Vec<Route>,
}

/// A route as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// VRF.
    pub vrf: u32,
    /// Destination.
    pub prefix: ipnet::IpNet,
    /// Group's label: 16 hexadecimal digits.
    pub label: String,
    /// Next hops in words: `198.18.1.7`, `198.18.1.7 weight 2`, `port p0`, `blackhole`, …
    pub via: Vec<String>,
    /// Origin of the route, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What decided that it is used, of a route server that was asked for all origins' routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
}

/// Where a route stands among those that other origins have for the same prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// It is the one in the forwarding table.
    pub best: bool,
    /// The route server of its origin.
    pub server: String,
    /// Administrative distance: the lowest wins.
    pub distance: u8,
    /// Metric: the lowest wins among equal distances.
    pub metric: u32,
    /// Id of the origin, 16 hexadecimal digits: the lowest wins among equals.
    pub origin_id: String,
    /// The origin's lease is over, or nobody has its routes any more: it wins only where there is no other.
    pub stale: bool,
    /// Of the best: `only route`, or by what it won over the next. Of the others: by what they lost to the one before.
    /// One of `stale`, `distance`, `metric`, `origin id`.
    pub decided_by: String,
}

/// Next-hop groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupList {
    /// By label.
    pub groups: Vec<GroupEntry>,
}

/// A next-hop group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// 16 hexadecimal digits.
    pub label: String,
    /// As in [`Route::via`].
    pub via: Vec<String>,
    /// What was forwarded by it, of a dataplane; none of the groups beyond the first 65,535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<GroupTraffic>,
}

/// What was forwarded by a group since it was made.
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
    /// By port and address.
    pub neighbors: Vec<Neighbor>,
}

/// A neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Name of the port.
    pub port: String,
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its MAC address, once known.
    pub mac: Option<String>,
    /// `static`, `reachable`, `probing`, `incomplete`, …
    pub state: String,
}

/// Ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList {
    /// In the order of the configuration.
    pub ports: Vec<PortStatus>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// In bytes, without the Ethernet header.
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
    /// Packets that the device dropped before a worker saw them (no buffer, ring full), as its driver says.
    pub rx_missed: u64,
    /// Times that the driver took fewer packets than it was offered: back-pressure. The packets waited, or were dropped as `tx_full`.
    #[serde(default)]
    pub tx_backpressure: u64,
}

/// Workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerList {
    /// By number.
    pub workers: Vec<WorkerStatus>,
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
    /// Packets sent on.
    pub sent: u64,
    /// Packets dropped, all reasons.
    pub dropped: u64,
    /// Packets given to the router itself.
    pub host: u64,
    /// Packets that the router itself sent through this worker.
    pub originated: u64,
    /// Bursts that held at least one packet.
    pub bursts: u64,
    /// Polls that found nothing.
    pub idle_polls: u64,
    /// Serial of the generation that it forwards by.
    pub serial: u64,
    /// It sleeps and holds no generation.
    pub idle: bool,
    /// Percent of its time that it spent on packets lately.
    #[serde(default)]
    pub busy_percent: f64,
    /// Percent of a CPU that its thread used lately, as the system counts it.
    #[serde(default)]
    pub cpu_percent: f64,
    /// Its receive queues, in the order in which it polls them.
    #[serde(default)]
    pub queues: Vec<QueueStatus>,
    /// It gave no sign of life for more than a second, or its thread has ended.
    #[serde(default)]
    pub stalled: bool,
    /// Packets that wait for a neighbor's address or for room in a transmit queue.
    #[serde(default)]
    pub held: u64,
    /// Packets of the router's own that were not sent.
    #[serde(default)]
    pub originate_failed: u64,
    /// ICMP errors sent.
    #[serde(default)]
    pub icmp_sent: u64,
    /// ICMP errors that were due and not sent, because of the rate limit above all.
    #[serde(default)]
    pub icmp_limited: u64,
    /// Pieces made of packets that were too large, besides the first of each.
    #[serde(default)]
    pub fragments: u64,
    /// Trie destructors that ran on this worker; anything but 0 is a defect.
    pub destructors: u64,
}

/// A receive queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Name of its port.
    pub port: String,
    /// Packets received.
    pub packets: u64,
    /// Bursts that were as long as they can be: more packets may have waited behind them.
    pub full_bursts: u64,
    /// Of the packets, handed to other workers, where flows are shared by software.
    pub software_rss: u64,
}

/// Dropped packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropList {
    /// All packets received by workers.
    pub received: u64,
    /// Of them, sent on.
    pub sent: u64,
    /// Of them, given to the router itself.
    pub host: u64,
    /// Of them, dropped.
    pub dropped: u64,
    /// Of them, waiting for a neighbor's address or for room in a TX queue.
    pub held: u64,
    /// Dropped, by port of arrival and reason; only those that are not 0.
    pub drops: Vec<DropCount>,
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
