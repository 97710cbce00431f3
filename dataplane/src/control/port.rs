//! Ports as configured, for the control side.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use fibcast_fib::VrfId;
use ipnet::IpNet;

use crate::packet::ethernet::Mac;
use crate::packet::ipv6;
use crate::pipeline::port::{Link, PortFacts, ReversePath, edges};

/// A port as configured.
#[derive(Debug, Clone)]
pub struct PortSetup {
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac: Mac,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Addresses of the router itself, which belong to no link: of all ports of the default VRF.
    pub loopback: Vec<IpAddr>,
    /// MTU: largest IP packet in bytes.
    pub mtu: u16,
    /// VRF.
    pub vrf: VrfId,
    /// Device and VLAN.
    pub link: Link,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to its TAP interface in the kernel (exception path).
    pub exception_path: bool,
}

impl PortSetup {
    /// The part of it that workers need.
    pub fn facts(&self) -> PortFacts {
        PortFacts {
            mac: self.mac,
            vrf: self.vrf,
            link: self.link,
            addresses: self.addresses.clone().into(),
            loopback: self.loopback.clone().into(),
            mtu: self.mtu,
            reverse_path: self.reverse_path,
            exception_path: self.exception_path,
            ipv4_checksum: false,
            partial_checksums: false,
            allow_class_e: false,
        }
    }

    /// The source of a request for `target` on this port's link, which need not be on a subnet of the port (RFC 826: the sender's protocol
    /// address; RFC 4861 §7.2.2: one of the interface's addresses). In this order:
    ///
    /// * the own address with the most specific subnet that has the target, the first of equal ones;
    /// * IPv6: the link-local address, which every port has;
    /// * IPv4: any other address of the port, then the router's loopback;
    /// * 0.0.0.0, as in a probe (RFC 5227 §1.1): it is answered all the same, and nobody learns an address of ours that is on another link.
    ///   Linux sends one of those first (`arp_announce` = 0) and 0.0.0.0 if it has none.
    pub fn source_for(&self, target: IpAddr) -> IpAddr {
        let on_subnet = self.addresses.iter().filter(|own| own.contains(&target));
        if let Some(own) = on_subnet.min_by_key(|own| Reverse(own.prefix_len())) {
            return own.addr();
        }
        if target.is_ipv6() {
            return self.mac.link_local().into();
        }
        let mut own = self.addresses.iter().map(IpNet::addr).chain(self.loopback.iter().copied());
        own.find(IpAddr::is_ipv4).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether an address is on this port's link by itself: in a subnet of the port, or link-local. A station with another one is a neighbor only
    /// if a next hop or a packet asked for it on this port.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.contains(&address)) || ipv6::is_link_local_v6(address)
    }

    /// Whether the address belongs to this port.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
            || self.loopback.contains(&address)
            || address == IpAddr::V6(self.mac.link_local())
    }

    /// Whether the address is the network or broadcast address of one of the port's subnets, which no station has.
    pub fn has_edge(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| match own {
            IpNet::V4(subnet) => edges(subnet).is_some_and(|edges| edges.contains(&address)),
            IpNet::V6(_) => false,
        })
    }
}
