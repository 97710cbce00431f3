//! Captured and traced packets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Point of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Received by a port.
    In,
    /// Sent to a port.
    Out,
    /// Dropped.
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

/// A captured packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// Index of its port in [`Captured::ports`]: of arrival, or of departure for sent packets.
    pub port: u16,
    /// Where it was captured.
    pub direction: Direction,
    /// Drop reason, if it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time in nanoseconds since 1970.
    pub time_ns: u64,
    /// Length of the whole frame in bytes.
    pub length: u32,
    /// Its first bytes, in hexadecimal.
    pub bytes: String,
}

/// Current state of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Id by which it is read and stopped.
    pub id: u64,
    /// Names of all ports, by port index.
    pub ports: Vec<String>,
    /// Packets since the last read, oldest first.
    pub packets: Vec<CapturedPacket>,
    /// Packets lost since the start, because nobody read the others in time.
    pub lost: u64,
}

/// The forwarding decision for a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// VRF of the lookup.
    pub vrf: u32,
    /// Destination.
    pub address: Option<IpAddr>,
    /// Matching prefix.
    pub prefix: Option<ipnet::IpNet>,
    /// Group's label: 16 hexadecimal digits.
    pub label: Option<String>,
    /// `own` for the host's own routes, `servers` otherwise.
    pub origin: Option<String>,
    /// Serial of the table.
    pub serial: u64,
    /// Next hops of the group.
    pub via: Vec<String>,
    /// The next hop of the flow.
    pub next_hop: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Outgoing port.
    pub port: Option<String>,
    /// MTU of that port in bytes.
    pub mtu: Option<u16>,
    /// `sent`, `host`, `held`, or `dropped: ` with the reason.
    pub outcome: String,
}
