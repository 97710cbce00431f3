//! Requests and answers of the control protocol.
//!
//! Something new to show is added in three places: in this crate with its answer, in the daemon that answers, and in `fibcast show`
//! (`cli/src/show.rs`). Daemons have no arm for "all else", so that the compiler names those that do not answer yet.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::about::{RunningConfig, Version};
use crate::capture::{Captured, Direction, Trace};
use crate::interfaces::{InterfaceList, NextHopList};
use crate::kv::{KvList, KvValue};
use crate::probe::{ProbeRequest, Probed};
pub use crate::routes::{RouteQuery, RouteRequest};
use crate::status::Status;
use crate::tables::{DropList, GroupList, NeighborList, PortList, RouteList, WorkerList};

/// Longest answer that a client accepts, in bytes.
pub const MAX_LINE: usize = 64 << 20;

/// Longest request that a daemon accepts, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// What an operator asks for: what every daemon knows of, what concerns opaque records, and what a dataplane alone has.
///
/// A daemon matches all variants of the groups that it has a part in, and refuses the others as a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The daemon as a whole: table, servers, clients, sources.
    Status,
    /// Its version, and how it was built.
    Version,
    /// The configuration that it runs by.
    Config,
    /// Routes, a page of all or of those that match.
    Routes(RouteRequest),
    /// Next-hop groups.
    Groups,
    /// Compares the table of an agent or dataplane with the servers' again, and applies all of it again.
    Resync,
    /// Reads the configuration's changeable parts and the certificates again.
    Reload,
    /// Opaque records.
    Kv(KvRequest),
    /// What a dataplane alone has.
    Dataplane(DataplaneRequest),
}

/// What concerns opaque records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KvRequest {
    /// Writes a record, at a route server.
    Put {
        /// Its key.
        key: String,
        /// Its value from now on.
        value: KvValue,
    },
    /// Deletes a record, at a route server.
    Delete {
        /// Its key.
        key: String,
    },
    /// One record.
    Get {
        /// Its key.
        key: String,
    },
    /// Records, in key order.
    List {
        /// What their keys begin with.
        #[serde(default)]
        prefix: String,
        /// The most that are listed.
        #[serde(default = "default_limit")]
        limit: usize,
    },
    /// Waits until records change.
    Watch {
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

/// What a dataplane alone has: ports, workers, neighbors, packets, and routes of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataplaneRequest {
    /// ARP and ND entries.
    Neighbors,
    /// Ports, with totals since the start.
    Ports,
    /// Ports, VLAN sub-interfaces and the loopback, without counters.
    Interfaces,
    /// Next hops in use.
    NextHops {
        /// Only those that packets cannot be sent to.
        #[serde(default)]
        unresolved: bool,
    },
    /// Workers, with totals since the start.
    Workers,
    /// Dropped packets by reason, in total since the start.
    Drops,
    /// One of these pages, with what was counted since the last [`DataplaneRequest::ClearCounters`].
    SinceClear(CounterPage),
    /// What [`DataplaneRequest::SinceClear`] and [`Request::Groups`] count begins at zero. Totals and metrics go on.
    ClearCounters,
    /// What would happen to a packet.
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
    /// Sends an echo request by the router's own table, and waits for its answer.
    Probe(Box<ProbeRequest>),
    /// Begins to copy packets; one capture at a time.
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
        /// End it when the connection that carries this request is closed.
        #[serde(default)]
        until_closed: bool,
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
    /// Adds a static neighbor, until the next start.
    NeighborAdd {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
        /// Its MAC address.
        mac: String,
    },
    /// Removes a neighbor that [`DataplaneRequest::NeighborAdd`] or the configuration added.
    NeighborDelete {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
    },
    /// Adds a route that wins over those from servers, until the next start or, with `save`, for good.
    RouteAdd(Box<OwnRoute>),
    /// Removes a route that [`DataplaneRequest::RouteAdd`] or the configuration added; a server's route to the prefix is used again.
    RouteDelete {
        /// VRF.
        #[serde(default)]
        vrf: u32,
        /// Destination prefix.
        prefix: ipnet::IpNet,
        /// Forget a route that was added with `save`; otherwise it is there again at the next start.
        #[serde(default)]
        save: bool,
    },
}

/// A page of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CounterPage {
    /// As [`DataplaneRequest::Ports`].
    Ports,
    /// As [`DataplaneRequest::Workers`].
    Workers,
    /// As [`DataplaneRequest::Drops`].
    Drops,
}

impl From<KvRequest> for Request {
    fn from(request: KvRequest) -> Self {
        Self::Kv(request)
    }
}

impl From<DataplaneRequest> for Request {
    fn from(request: DataplaneRequest) -> Self {
        Self::Dataplane(request)
    }
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
    /// Name of the gateways' port: they are on its link. Without a gateway, the destinations are.
    pub port: Option<String>,
    /// The gateways are on the port's link, which has to be named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// Weights of the gateways in their order; empty: equal.
    pub weights: Vec<u16>,
    /// Instead of gateways: `blackhole`, `unreachable` or `prohibit`.
    pub special: Option<String>,
    /// Write it to the file of `[saved_routes]` as well, so that it survives a restart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub save: bool,
}

fn default_limit() -> usize {
    100
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Answer to `Status`.
    Status(Box<Status>),
    /// Answer to `Version`.
    Version(Version),
    /// Answer to `Config`.
    Config(Box<RunningConfig>),
    /// Answer to `Routes`.
    Routes(RouteList),
    /// Answer to `Groups`.
    Groups(GroupList),
    /// Answer to `Neighbors`.
    Neighbors(NeighborList),
    /// Answer to `Ports`.
    Ports(PortList),
    /// Answer to `Interfaces`.
    Interfaces(InterfaceList),
    /// Answer to `NextHops`.
    NextHops(NextHopList),
    /// Answer to `Workers`.
    Workers(WorkerList),
    /// Answer to `Drops`.
    Drops(DropList),
    /// Answer to all capture requests.
    Captured(Captured),
    /// Answer to `Probe`.
    Probed(Box<Probed>),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{Family, RouteFilter, RoutePlace};

    #[test]
    fn requests_keep_their_shape_on_the_wire() {
        let address = "192.0.2.1".parse().unwrap();
        let requests = [
            (Request::Status, r#""status""#),
            (
                Request::Routes(RouteRequest {
                    query: RouteQuery::Address(address),
                    limit: 5,
                    ..RouteRequest::default()
                }),
                r#"{"routes":{"query":{"address":"192.0.2.1"},"limit":5}}"#,
            ),
            (
                Request::Routes(RouteRequest {
                    query: RouteQuery::Orlonger("10.0.0.0/8".parse().unwrap()),
                    limit: 0,
                    filter: RouteFilter { family: Some(Family::Ipv4), ..RouteFilter::default() },
                    after: Some(RoutePlace { vrf: 7, prefix: "10.1.0.0/16".parse().unwrap() }),
                    ..RouteRequest::default()
                }),
                r#"{"routes":{"query":{"orlonger":"10.0.0.0/8"},"limit":0,"filter":{"family":"ipv4"},"after":{"vrf":7,"prefix":"10.1.0.0/16"}}}"#,
            ),
            (KvRequest::Get { key: "motd".into() }.into(), r#"{"kv":{"get":{"key":"motd"}}}"#),
            (DataplaneRequest::Ports.into(), r#"{"dataplane":"ports"}"#),
            (
                DataplaneRequest::NeighborDelete { port: "p0".into(), address }.into(),
                r#"{"dataplane":{"neighbor-delete":{"port":"p0","address":"192.0.2.1"}}}"#,
            ),
        ];
        for (request, text) in requests {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
    }

    #[test]
    fn a_route_by_a_port_alone_and_one_by_an_on_link_gateway_are_told_apart() {
        let port = |via: &[&str], onlink| OwnRoute {
            prefix: "10.0.0.0/8".parse().ok(),
            via: via.iter().map(|gateway| gateway.parse().unwrap()).collect(),
            port: Some("p1".to_owned()),
            onlink,
            ..OwnRoute::default()
        };
        for (route, text) in [
            (port(&[], false), r#"{"prefix":"10.0.0.0/8","port":"p1"}"#),
            (
                port(&["172.31.1.1"], true),
                r#"{"prefix":"10.0.0.0/8","via":["172.31.1.1"],"port":"p1","onlink":true}"#,
            ),
        ] {
            assert_eq!(serde_json::from_str::<OwnRoute>(text).unwrap(), route);
            let again = serde_json::to_string(&route).unwrap();
            assert_eq!(serde_json::from_str::<OwnRoute>(&again).unwrap(), route);
        }
    }

    #[test]
    fn what_is_not_said_is_as_usual_and_what_is_not_known_is_refused() {
        let request: Request = serde_json::from_str(r#"{"routes":{}}"#).unwrap();
        assert_eq!(request, Request::Routes(RouteRequest::default()));
        for wrong in [r#""everything""#, r#"{"routes":{"most":5}}"#, r#"{"kv":"watch"}"#] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
