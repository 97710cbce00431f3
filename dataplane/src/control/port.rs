//! Ports as configured, for the control side.

use std::net::IpAddr;

use fibcast_fib::VrfId;
use ipnet::IpNet;

use crate::packet::ethernet::Mac;
use crate::pipeline::port::{Link, PortFacts, ReversePath};

/// A port as configured.
#[derive(Debug, Clone)]
pub struct PortSetup {
    /// Name.
    pub name: String,
    /// MAC address.
    pub mac: Mac,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
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
            mtu: self.mtu,
            reverse_path: self.reverse_path,
            exception_path: self.exception_path,
            ipv4_checksum: false,
            allow_class_e: false,
        }
    }

    /// The own address on the subnet of `target`, or the link-local address if `target` is link-local.
    pub fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let same = self.addresses.iter().find(|own| own.contains(&target)).map(IpNet::addr);
        match target {
            IpAddr::V6(v6) if same.is_none() && crate::packet::ipv6::is_link_local(v6) => {
                Some(self.mac.link_local().into())
            }
            _ => same,
        }
    }

    /// Whether the address belongs to this port.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address) || address == IpAddr::V6(self.mac.link_local())
    }
}
