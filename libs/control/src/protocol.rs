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

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "show", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The daemon as a whole: table, servers, clients, sources.
    Status {},
    /// Routes, all from the beginning or those that match.
    Routes {
        /// Which routes.
        #[serde(default)]
        query: RouteQuery,
        /// The most that are listed.
        #[serde(default = "default_limit")]
        limit: usize,
        /// Of a route server: each origin's route, the best first, and why it is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// Next-hop groups.
    Groups {},
    /// ARP and ND entries of a dataplane.
    Neighbors {},
    /// Ports of a dataplane.
    Ports {},
    /// Workers of a dataplane.
    Workers {},
    /// Dropped packets by reason, of a dataplane.
    Drops {},
    /// Begins to copy packets, of a dataplane; one capture at a time.
    CaptureStart {
        /// Name of a port; none: all.
        #[serde(default)]
        port: Option<String>,
        /// Where; empty: everywhere.
        #[serde(default)]
        directions: Vec<Direction>,
        /// Which packets; empty: all.
        #[serde(default)]
        filter: String,
    },
    /// The packets captured since the last look. A capture that nobody looks at for 10 s may be ended by the next.
    CaptureRead {
        /// As the start said.
        id: u64,
    },
    /// The last packets of a capture, which ends.
    CaptureStop {
        /// As the start said.
        id: u64,
    },
    /// What would happen to a packet, of a dataplane.
    Trace {
        /// Destination.
        address: IpAddr,
        /// Source.
        #[serde(default)]
        from: Option<IpAddr>,
        /// Routing and forwarding instance.
        #[serde(default)]
        vrf: u32,
    },
    /// A static neighbor of a dataplane, until its next start.
    NeighborAdd {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
        /// Its MAC address.
        mac: String,
    },
    /// Takes back what [`Request::NeighborAdd`] or the configuration said.
    NeighborDelete {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
    },
    /// A route that wins over those from servers, of a dataplane, until its next start.
    RouteAdd(Box<OwnRoute>),
    /// Takes back what [`Request::RouteAdd`] or the configuration said; a server's route to the prefix is used again.
    RouteDelete {
        /// Routing and forwarding instance.
        #[serde(default)]
        vrf: u32,
        /// Destination.
        prefix: ipnet::IpNet,
    },
    /// Compares the table with the servers' anew and applies all of it again, of an agent or dataplane.
    Resync {},
    /// Reads the configuration's changeable parts and the certificates again.
    Reload {},
    /// Writes an opaque record, at a route server.
    KvPut {
        /// Its key.
        key: String,
        /// Its value from now on.
        value: KvValue,
    },
    /// Deletes an opaque record, at a route server.
    KvDelete {
        /// Its key.
        key: String,
    },
    /// One opaque record.
    KvGet {
        /// Its key.
        key: String,
    },
    /// Opaque records, in key order.
    KvList {
        /// What their keys begin with.
        #[serde(default)]
        prefix: String,
        /// The most that are listed.
        #[serde(default = "default_limit")]
        limit: usize,
    },
    /// Waits until opaque records change.
    KvWatch {
        /// What their keys begin with.
        #[serde(default)]
        prefix: String,
        /// Epoch and serial of the answer before; 0 and 0: all there are, at once.
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
    /// Routing and forwarding instance.
    pub vrf: u32,
    /// Destination.
    pub prefix: Option<ipnet::IpNet>,
    /// Gateways.
    pub via: Vec<IpAddr>,
    /// Name of the gateways' port, where their addresses do not say it.
    pub port: Option<String>,
    /// Shares of the gateways, in their order; empty: equal.
    pub weights: Vec<u16>,
    /// Instead of gateways: `blackhole`, `unreachable` or `prohibit`.
    pub special: Option<String>,
}

impl Request {
    /// Whether it is about opaque records.
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

/// Which routes are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteQuery {
    /// All, in prefix order.
    #[default]
    All,
    /// This prefix exactly.
    Prefix(ipnet::IpNet),
    /// The longest match of this address.
    Address(IpAddr),
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `Status`.
    Status(Box<Status>),
    /// To `Routes`.
    Routes(RouteList),
    /// To `Groups`.
    Groups(GroupList),
    /// To `Neighbors`.
    Neighbors(NeighborList),
    /// To `Ports`.
    Ports(PortList),
    /// To `Workers`.
    Workers(WorkerList),
    /// To `Drops`.
    Drops(DropList),
    /// To all about captures.
    Captured(Captured),
    /// To `Trace`.
    Trace(Box<Trace>),
    /// To all about opaque records.
    Kv(KvList),
    /// To what is done and not shown: what was done, in words.
    Done(String),
}

/// The envelope of an answer on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was answered.
    Ok(Answer),
    /// It was not; the text is for the operator.
    Error(String),
}
