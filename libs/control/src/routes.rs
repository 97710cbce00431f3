//! What an operator asks about routes. A table of a million is asked for page by page, each answered at once, so that neither the daemon nor
//! who asks ever holds all of it: the answer's `next` is the `after` of the next request. Between two pages the table may change; each page is
//! true when it is answered.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Routes, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteRequest {
    /// Which routes.
    pub query: RouteQuery,
    /// Most destinations in the answer; a daemon may give fewer. 0: they are counted only.
    pub limit: usize,
    /// Route server: each origin's route, best first, with the deciding criterion.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Which of them.
    #[serde(skip_serializing_if = "RouteFilter::is_open")]
    pub filter: RouteFilter,
    /// The place after which the page begins; none: at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RoutePlace>,
}

impl Default for RouteRequest {
    fn default() -> Self {
        Self { query: RouteQuery::All, limit: 100, all: false, filter: RouteFilter::default(), after: None }
    }
}

/// Selection of routes by destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteQuery {
    /// All routes in prefix order.
    #[default]
    All,
    /// Exactly this prefix.
    Prefix(IpNet),
    /// Longest match of this address.
    Address(IpAddr),
    /// This prefix and all within it.
    Orlonger(IpNet),
    /// All within this prefix, without itself.
    LongerThan(IpNet),
}

/// Selection of routes by everything else; what is none does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteFilter {
    /// VRF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vrf: Option<u32>,
    /// Address family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Gateway of one of its next hops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// Name of its origin; `own` for a dataplane's own routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl RouteFilter {
    /// Whether all routes pass.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A place in a table: VRF by VRF, IPv4 before IPv6, by address, the shorter prefix first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePlace {
    /// VRF.
    pub vrf: u32,
    /// Destination.
    pub prefix: IpNet,
}
