//! What the pipeline knows about a port: addresses, device and checks.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::VrfId;
use ipnet::{IpNet, Ipv4Net};
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
    /// Addresses of the router itself, which belong to no link: of all ports of the default VRF.
    pub loopback: Box<[IpAddr]>,
    /// MTU: largest IP packet in bytes.
    pub mtu: u16,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to its TAP interface in the kernel (exception path).
    pub exception_path: bool,
    /// The device verifies IPv4 header checksums.
    pub ipv4_checksum: bool,
    /// Its driver does not tell which TCP and UDP checksums are unfinished; see [`super::partial_checksum`].
    pub partial_checksums: bool,
    /// Class E (240.0.0.0/4) is used for hosts; of all ports or of none.
    pub allow_class_e: bool,
}

/// RFC 7600 §4.8: source of IPv4 errors from an IPv6-only router.
const DUMMY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Network and broadcast address of a subnet; none for subnets of one or two addresses (RFC 3021).
pub fn edges(subnet: &Ipv4Net) -> Option<[IpAddr; 2]> {
    (subnet.prefix_len() <= 30).then(|| [subnet.network().into(), subnet.broadcast().into()])
}

/// Longest prefix of a subnet with a subnet-router anycast address (RFC 6164 §5).
const LONGEST_WITH_ANYCAST: u8 = 126;

/// The subnet-router anycast address of an own address' subnet (RFC 4291 §2.6.1).
pub fn subnet_router_anycast(own: &IpNet) -> Option<Ipv6Addr> {
    match own {
        IpNet::V6(v6) if v6.prefix_len() <= LONGEST_WITH_ANYCAST && !v6.addr().is_unicast_link_local() => {
            Some(v6.network())
        }
        _ => None,
    }
}

impl PortFacts {
    /// The own address on the most specific subnet of `peer`, otherwise the first one of the peer's family. Link-local ones count for peers
    /// on their subnet only: no router forwards packets from them (RFC 3927 §7, RFC 4291 §2.5.6).
    fn address_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        let of_family = self.addresses.iter().filter(|own| own.addr().is_ipv4() == peer.is_ipv4());
        let on_subnet =
            of_family.clone().filter(|own| own.contains(&peer)).min_by_key(|own| Reverse(own.prefix_len()));
        on_subnet.map(IpNet::addr).or_else(|| of_family.map(IpNet::addr).find(|own| !is_link_local(*own)))
    }

    /// The router's loopback of the peer's family.
    fn loopback_towards(&self, peer: IpAddr) -> Option<IpAddr> {
        self.loopback.iter().copied().find(|own| own.is_ipv4() == peer.is_ipv4())
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// An address of the port, else the loopback, else an address of another port of the VRF.
fn source_towards(ports: &[PortFacts], port: &PortFacts, peer: IpAddr) -> Option<IpAddr> {
    let mut others = ports.iter().filter(|other| other.vrf == port.vrf);
    port.address_towards(peer)
        .or_else(|| port.loopback_towards(peer))
        .or_else(|| others.find_map(|other| other.address_towards(peer)))
}

/// RFC 1812 §4.3.2.4: the source of an error is an address of the port of arrival. If it has none (unnumbered), the router's loopback, as its
/// router ID (§2.2.7); without one, an address of another port of the VRF.
pub fn error_source_v4(ports: &[PortFacts], port: &PortFacts, peer: Ipv4Addr) -> Ipv4Addr {
    match source_towards(ports, port, peer.into()) {
        Some(IpAddr::V4(address)) => address,
        _ => DUMMY_V4,
    }
}

/// Like [`error_source_v4`] for IPv6 (RFC 4443 §2.2 (d), RFC 7404 §2.3: links with link-local addresses only). The link-local address is for
/// neighbors on the link, and for others if the VRF has no global address at all.
pub fn error_source_v6(ports: &[PortFacts], port: &PortFacts, peer: Ipv6Addr) -> Ipv6Addr {
    if crate::packet::ipv6::is_link_local(peer) {
        return port.mac.link_local();
    }
    match source_towards(ports, port, peer.into()) {
        Some(IpAddr::V6(address)) => address,
        _ => port.mac.link_local(),
    }
}
