//! What the pipeline knows about a port: addresses, device and checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::VrfId;
use ipnet::IpNet;
use serde::Deserialize;

use crate::packet::ethernet::Mac;

/// Reverse-path check of a port (RFC 3704).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// No check.
    #[default]
    Off,
    /// Loose (RFC 3704 §2.4): a route back exists.
    Loose,
    /// Strict (§2.2): the route back leaves by this port.
    Strict,
}

/// The device and VLAN of a port's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Index of the port that owns the device: its own, or that of its parent port.
    pub device: u16,
    /// VLAN id of a sub-interface (IEEE 802.1Q).
    pub vlan: Option<u16>,
}

/// The facts about a port that the pipeline needs.
#[derive(Debug, Clone)]
pub struct PortFacts {
    /// MAC address.
    pub mac: Mac,
    /// VRF.
    pub vrf: VrfId,
    /// Device and VLAN.
    pub link: Link,
    /// Addresses with their subnets.
    pub addresses: Box<[IpNet]>,
    /// MTU: largest IP packet in bytes.
    pub mtu: u16,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to its TAP interface in the kernel (exception path).
    pub exception_path: bool,
    /// The device verifies IPv4 header checksums.
    pub ipv4_checksum: bool,
    /// Class E (240.0.0.0/4) is used for hosts; of all ports or of none.
    pub allow_class_e: bool,
}

/// RFC 7600 §4.8: source of IPv4 errors from an IPv6-only router.
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

impl PortFacts {
    /// The own address on the subnet of `peer`, otherwise the first one of the peer's family.
    fn address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        let family = |own: &&IpNet| own.addr().is_ipv4() == peer.is_ipv4();
        let mut of_family = self.addresses.iter().filter(family);
        let first = of_family.clone().next();
        of_family.find(|own| own.contains(&peer)).or(first).map(IpNet::addr)
    }
}

/// RFC 1812 §4.3.2.4, RFC 4443 §2.2: the source of an error is an address of the port of arrival; if it has none, one of another port of
/// the VRF.
pub fn error_source_v4(ports: &[PortFacts], port: &PortFacts, peer: Ipv4Addr) -> Ipv4Addr {
    let others = ports.iter().filter(|other| other.vrf == port.vrf);
    let found = std::iter::once(port).chain(others).find_map(|port| port.address_towards(peer.into()));
    match found {
        Some(IpAddr::V4(address)) => address,
        _ => DUMMY_V4,
    }
}

/// Like [`error_source_v4`] for IPv6. A port without a global address uses its link-local one, towards neighbors on the link only.
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
