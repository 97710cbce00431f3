//! Ports as the control side knows them.

use std::net::IpAddr;

use fibcast_fib::VrfId;
use ipnet::IpNet;

use crate::packet::ethernet::Mac;
use crate::pipeline::port::{Link, PortFacts, ReversePath};

/// A port as the control side knows it.
#[derive(Debug, Clone)]
pub struct PortSetup {
    /// Name in the configuration.
    pub name: String,
    /// Own MAC address.
    pub mac: Mac,
    /// Own addresses with the length of their subnet.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Routing and forwarding instance.
    pub vrf: VrfId,
    /// Device and tag.
    pub link: Link,
    /// Reverse-path check.
    pub reverse_path: ReversePath,
    /// Packets for the router itself go to a twin in the kernel.
    pub host_path: bool,
}

impl PortSetup {
    /// What workers know of it.
    pub fn facts(&self) -> PortFacts {
        PortFacts {
            mac: self.mac,
            vrf: self.vrf,
            link: self.link,
            addresses: self.addresses.clone().into(),
            mtu: self.mtu,
            reverse_path: self.reverse_path,
            host_path: self.host_path,
            ipv4_checksum: false,
        }
    }

    /// The own address on the subnet of `target`, or the link-local one where the target is such.
    pub fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let same = self.addresses.iter().find(|own| own.contains(&target)).map(IpNet::addr);
        match target {
            IpAddr::V6(v6) if same.is_none() && crate::packet::ipv6::is_link_local(v6) => {
                Some(self.mac.link_local().into())
            }
            _ => same,
        }
    }

    /// Whether the address is this port's.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address) || address == IpAddr::V6(self.mac.link_local())
    }
}
