//! Requests and answers of the control protocol.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::capture::{Captured, Direction, Trace};
use crate::kv::{KvList, KvValue};
use crate::status::Status;
use crate::tables::{DropList, GroupList, NeighborList, PortList, RouteList, WorkerList};

/// Longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 64 << 20;

/// Longest request that a daemon accepts, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// A request of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "show", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The daemon as a whole: table, servers, clients, sources.
    Status {},
    /// Routes: all, or those that match.
    Routes {
        /// Which routes.
        #[serde(default)]
        query: RouteQuery,
        /// Most routes in the answer.
        #[serde(default = "default_limit")]
        limit: usize,
        /// Route server: each origin's route, best first, with the deciding criterion.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// Next-hop groups.
    Groups {},
    /// Dataplane: ARP and ND entries.
    Neighbors {},
    /// Dataplane: ports.
    Ports {},
    /// Dataplane: workers.
    Workers {},
    /// Dataplane: dropped packets by reason.
    Drops {},
    /// Dataplane: starts a packet capture. One capture at a time.
    CaptureStart {
        /// Name of a port; none for all.
        #[serde(default)]
        port: Option<String>,
        /// Directions; empty for all.
        #[serde(default)]
        directions: Vec<Direction>,
        /// Filter expression; empty for all packets.
        #[serde(default)]
        filter: String,
    },
    /// The packets captured since the last read. A capture that is not read for 10 s may be replaced by another one.
    CaptureRead {
        /// Id from the answer to the start.
        id: u64,
    },
    /// Stops a capture and returns its last packets.
    CaptureStop {
        /// Id from the answer to the start.
        id: u64,
    },
    /// Dataplane: traces a packet without sending it.
    Trace {
        /// Destination.
        address: IpAddr,
        /// Source.
        #[serde(default)]
        from: Option<IpAddr>,
        /// VRF.
        #[serde(default)]
        vrf: u32,
    },
    /// Dataplane: adds a static neighbor until the next start.
    NeighborAdd {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
        /// Its MAC address.
        mac: String,
    },
    /// Removes a static neighbor, configured or added.
    NeighborDelete {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
    },
    /// Dataplane: adds a route that takes precedence over those from servers, until the next start.
    RouteAdd(Box<OwnRoute>),
    /// Removes such a route, configured or added; a server's route to the prefix is used again.
    RouteDelete {
        /// VRF.
        #[serde(default)]
        vrf: u32,
        /// Destination prefix.
        prefix: ipnet::IpNet,
    },
    /// Agent, dataplane: compares the table with the servers' again and applies all of it.
    Resync {},
    /// Reloads certificates and the changeable parts of the configuration.
    Reload {},
    /// Route server: writes an opaque record.
    KvPut {
        /// Its key.
        key: String,
        /// Its new value.
        value: KvValue,
    },
    /// Route server: deletes an opaque record.
    KvDelete {
        /// Its key.
        key: String,
    },
    /// Gets one opaque record.
    KvGet {
        /// Its key.
        key: String,
    },
    /// Lists opaque records in key order.
    KvList {
        /// Prefix of their keys.
        #[serde(default)]
        prefix: String,
        /// Most records in the answer.
        #[serde(default = "default_limit")]
        limit: usize,
    },
    /// Waits for changes of opaque records.
    KvWatch {
        /// Prefix of their keys.
        #[serde(default)]
        prefix: String,
        /// Epoch and serial of the previous answer; 0 and 0 for an immediate full list.
        #[serde(default)]
        epoch: u64,
        /// See `epoch`.
        #[serde(default)]
        serial: u64,
    },
}

/// A route as in `[[static_route]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnRoute {
    /// VRF.
    pub vrf: u32,
    /// Destination prefix.
    pub prefix: Option<ipnet::IpNet>,
    /// Gateways.
    pub via: Vec<IpAddr>,
    /// Name of the gateways' port, if their addresses do not determine it.
    pub port: Option<String>,
    /// Weights of the gateways in their order; empty: equal.
    pub weights: Vec<u16>,
    /// Instead of gateways: `blackhole`, `unreachable` or `prohibit`.
    pub special: Option<String>,
}

impl Request {
    /// Whether the request concerns opaque records.
    pub fn is_kv(&self) -> bool {
        matches!(
            self,
            Self::KvPut { .. }
                | Self::KvDelete { .. }
                | Self::KvGet { .. }
                | Self::KvList { .. }
                | Self::KvWatch { .. }
        )
    }
}

fn default_limit() -> usize {
    100
}

/// Selection of routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteQuery {
    /// All routes in prefix order.
    #[default]
    All,
    /// Exactly this prefix.
    Prefix(ipnet::IpNet),
    /// Longest match of this address.
    Address(IpAddr),
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Answer to `Status`.
    Status(Box<Status>),
    /// Answer to `Routes`.
    Routes(RouteList),
    /// Answer to `Groups`.
    Groups(GroupList),
    /// Answer to `Neighbors`.
    Neighbors(NeighborList),
    /// Answer to `Ports`.
    Ports(PortList),
    /// Answer to `Workers`.
    Workers(WorkerList),
    /// Answer to `Drops`.
    Drops(DropList),
    /// Answer to all capture requests.
    Captured(Captured),
    /// Answer to `Trace`.
    Trace(Box<Trace>),
    /// Answer to all requests for opaque records.
    Kv(KvList),
    /// Answer to commands: what was done, as text.
    Done(String),
}

/// The envelope of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Success.
    Ok(Answer),
    /// Failure, with the text for the operator.
    Error(String),
}
