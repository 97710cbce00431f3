//! What the pipeline knows of a port: its addresses, where its frames leave, which checks it asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::VrfId;
use ipnet::IpNet;
use serde::Deserialize;

use crate::packet::ethernet::Mac;

/// Reverse-path check of a port (RFC 3704).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// Sources are not looked at.
    #[default]
    Off,
    /// Somewhere there is a way back.
    Loose,
    /// The way back is by this port.
    Strict,
}

/// Where a port's frames come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Place of the port that has the device: its own, or that of the port it is a sub-interface of.
    pub device: u16,
    /// IEEE 802.1Q VLAN of a sub-interface.
    pub vlan: Option<u16>,
}

/// What the pipeline knows of a port.
#[derive(Debug, Clone)]
pub struct PortFacts {
    /// Own MAC address.
    pub mac: Mac,
    /// Routing and forwarding instance.
    pub vrf: VrfId,
    /// Device and tag.
    pub link: Link,
    /// Own addresses with their subnets.
    pub addresses: Box<[IpNet]>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to a twin in the kernel.
    pub host_path: bool,
    /// The device checks IPv4 header checksums and says which are good.
    pub ipv4_checksum: bool,
}

/// RFC 7600 §4.8: what an IPv6-only router says IPv4 errors from.
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

impl PortFacts {
    /// The own address that `peer` sees on its subnet, else the first of the peer's family.
    fn address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        let family = |own: &&IpNet| own.addr().is_ipv4() == peer.is_ipv4();
        let mut of_family = self.addresses.iter().filter(family);
        let first = of_family.clone().next();
        of_family.find(|own| own.contains(&peer)).or(first).map(IpNet::addr)
    }
}

/// RFC 1812 §4.3.2.4, RFC 4443 §2.2: errors come from an address of the port that the packet came in by; where it has none, from
/// one of another port of the VRF.
pub fn error_source_v4(ports: &[PortFacts], port: &PortFacts, peer: Ipv4Addr) -> Ipv4Addr {
    let others = ports.iter().filter(|other| other.vrf == port.vrf);
    let found = std::iter::once(port).chain(others).find_map(|port| port.address_towards(peer.into()));
    match found {
        Some(IpAddr::V4(address)) => address,
        _ => DUMMY_V4,
    }
}

/// As [`error_source_v4`]; a port without a global address has its link-local one, and says so to neighbours on the link only.
pub fn error_source_v6(ports: &[PortFacts], port: &PortFacts, peer: Ipv6Addr) -> Ipv6Addr {
    if crate::packet::ipv6::is_link_local(peer) {
        return port.mac.link_local();
    }
    let others = ports.iter().filter(|other| other.vrf == port.vrf);
    let found = std::iter::once(port).chain(others).find_map(|port| port.address_towards(peer.into()));
    match found {
        Some(IpAddr::V6(address)) => address,
        _ => port.mac.link_local(),
    }
}
