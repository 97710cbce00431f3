//! Interfaces and next hops of a dataplane.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceList {
    /// Ports in the order of the configuration, then the loopback if it has an address.
    pub interfaces: Vec<Interface>,
}

/// A port, a VLAN sub-interface, or the loopback `lo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name in the configuration.
    pub name: String,
    /// Sub-interface: name of the port that has the device.
    pub parent: Option<String>,
    /// Sub-interface: VLAN id.
    pub vlan: Option<u16>,
    /// Device arguments or PCI address; none without a device.
    pub device: Option<String>,
    /// Driver of the device.
    pub driver: Option<String>,
    /// Link is up; none if the device does not report it.
    pub link_up: Option<bool>,
    /// Speed of the link in Mbit/s, if the device reports it. Virtual devices report a made-up value.
    pub speed_mbps: Option<u32>,
    /// MTU in bytes, without Ethernet header; none for the loopback.
    pub mtu: Option<u16>,
    /// VRF.
    pub vrf: u32,
    /// MAC address.
    pub mac: Option<String>,
    /// Own addresses: those of the configuration, those that the kernel has on its TAP interface, and the IPv6 link-local one.
    pub addresses: Vec<IpNet>,
}

/// Next hops in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopList {
    /// Sorted by gateway and port.
    pub next_hops: Vec<NextHopEntry>,
}

/// A gateway, or a port on whose link destinations are, and what uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopEntry {
    /// The gateway; none: the destinations are on the port's link themselves.
    pub gateway: Option<IpAddr>,
    /// Name of the port that it is reached by; none if it cannot be resolved.
    pub port: Option<String>,
    /// MAC address of the gateway, if known.
    pub mac: Option<String>,
    /// State of the neighbor (`static`, `incomplete`, `reachable`, `stale`, `delay`, `probe`, `failed`), `connected` without a gateway, or
    /// `unresolved`.
    pub state: String,
    /// Packets can be sent to it now.
    pub resolved: bool,
    /// Why it cannot be resolved.
    pub reason: Option<String>,
    /// Labels of the groups that use it, sorted: 16 hexadecimal digits.
    pub groups: Vec<String>,
    /// Number of routes of these groups.
    pub routes: u64,
}
