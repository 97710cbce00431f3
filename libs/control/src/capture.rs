//! Captured packets and traced ones, on their way to an operator.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where a packet was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// As a port received it.
    In,
    /// As it was given to a port.
    Out,
    /// When it was dropped.
    Drop,
}

impl std::str::FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Direction, String> {
        match text {
            "in" => Ok(Direction::In),
            "out" => Ok(Direction::Out),
            "drop" => Ok(Direction::Drop),
            _ => Err(format!("expected in, out or drop, found {text:?}")),
        }
    }
}

/// A packet that was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// Place of its port in [`Captured::ports`]: of arrival, or of departure where it went out.
    pub port: u16,
    /// Where.
    pub direction: Direction,
    /// Why it was dropped, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Length of the whole frame in bytes.
    pub length: u32,
    /// Its first bytes, in hexadecimal.
    pub bytes: String,
}

/// What a capture has by now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// By which it is read and stopped.
    pub id: u64,
    /// Names of all ports, by place.
    pub ports: Vec<String>,
    /// Packets since the last look, oldest first.
    pub packets: Vec<CapturedPacket>,
    /// Packets that found no room since the start, because nobody took the others away in time.
    pub lost: u64,
}

/// What would happen to a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// VRF that was asked.
    pub vrf: u32,
    /// Destination.
    pub address: Option<IpAddr>,
    /// Matching prefix.
    pub prefix: Option<ipnet::IpNet>,
    /// Group's label: 16 hexadecimal digits.
    pub label: Option<String>,
    /// `own` for the host's own routes, `servers` for all else.
    pub origin: Option<String>,
    /// Serial of the table.
    pub serial: u64,
    /// Content of the group.
    pub via: Vec<String>,
    /// The member that the flow takes.
    pub next_hop: Option<String>,
    /// MAC address that it has.
    pub mac: Option<String>,
    /// Port that the packet leaves by.
    pub port: Option<String>,
    /// Largest IP packet there.
    pub mtu: Option<u16>,
    /// `sent`, `host`, `held`, or `dropped: ` and the reason.
    pub outcome: String,
}
