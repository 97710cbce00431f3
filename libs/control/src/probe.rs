//! Echo requests of a dataplane itself: what `fibcast ping` and `fibcast traceroute` ask for.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Longest wait for an answer, in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 10_000;
/// Most bytes of data.
pub const MAX_SIZE: u16 = 8_900;

/// One echo request, out of the port that the router's table chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// Destination.
    pub address: IpAddr,
    /// An own address; none: the router chooses.
    #[serde(default)]
    pub source: Option<IpAddr>,
    /// VRF.
    #[serde(default)]
    pub vrf: u32,
    /// Bytes of data.
    pub size: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// How long to wait for an answer.
    pub timeout_ms: u32,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Its source.
    pub source: IpAddr,
    /// Port that the table chose; none with several next hops, and if the MAC address was not known when it was sent.
    pub port: Option<String>,
    /// The answer; none: there was none in time.
    pub answer: Option<ProbeAnswer>,
}

/// An answer to an echo request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// Who sent it.
    pub from: IpAddr,
    /// What it says.
    pub outcome: ProbeOutcome,
    /// ICMP code of an unreachable destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// MTU of the link that it did not fit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// TTL or hop limit at arrival.
    pub ttl: u8,
    /// Bytes of the ICMP message.
    pub bytes: u16,
    /// Microseconds from request to answer, as the router's control thread sees them.
    pub rtt_us: u64,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// The echo reply.
    Reply,
    /// TTL or hop limit exceeded.
    TimeExceeded,
    /// Destination unreachable.
    Unreachable,
    /// Too big for a link.
    TooBig,
}
