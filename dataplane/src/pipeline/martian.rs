//! Sources that a packet for the router itself cannot have: the router's own addresses, and network and broadcast addresses of its subnets.
//!
//! RFC 1812 §5.3.7 and RFC 1122 §3.2.1.3: such an address is no source, and an answer would go to the router itself (source and destination
//! may even be the same, "LAND") or to all hosts of a subnet. Packets that are forwarded are checked by [`super::reverse_path`] on the ports
//! that enable it, which accepts none of these either. This is where VPP checks too (`ip4-local`); Linux looks up every source.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_fib::VrfId;
use ipnet::IpNet;

use super::port::{PortFacts, edges};
use crate::packet::ethernet::{self, Frame, ipv4_at, ipv6_at};
use crate::packet::ipv6;

/// The addresses that are no sources, of all ports.
#[derive(Debug)]
pub struct OwnSources {
    vrfs: Box<[VrfId]>,
    addresses: HashSet<(VrfId, IpAddr)>,
    /// Link-local ones, which another station may have on another link (RFC 4007 §6), by port.
    scoped: HashSet<(u16, IpAddr)>,
}

impl OwnSources {
    /// Built from all ports, by port index.
    pub fn new(ports: &[PortFacts]) -> OwnSources {
        let of_port = |port: &PortFacts| {
            let link_local = std::iter::once(IpAddr::V6(port.mac.link_local()));
            let configured = port.addresses.iter().flat_map(|address| of_address(*address));
            configured.chain(link_local).chain(port.loopback.iter().copied()).collect::<Vec<_>>()
        };
        let (mut addresses, mut scoped) = (HashSet::new(), HashSet::new());
        for (port_index, port) in ports.iter().enumerate() {
            for address in of_port(port) {
                if ipv6::is_link_local_v6(address) {
                    scoped.insert((port_index as u16, address));
                } else {
                    addresses.insert((port.vrf, address));
                }
            }
        }
        OwnSources { vrfs: ports.iter().map(|port| port.vrf).collect(), addresses, scoped }
    }

    /// Whether a frame that arrived on the port with index `port` has one of them as its IP source.
    pub fn contain(&self, port: u16, frame: &[u8]) -> bool {
        let (Some(vrf), Ok(frame)) = (self.vrfs.get(usize::from(port)), Frame::new_checked(frame)) else {
            return false;
        };
        let source = match frame.ethertype() {
            ethernet::IPV4 => ipv4_at(frame.payload(), 12).into(),
            ethernet::IPV6 => ipv6_at(frame.payload(), 8).into(),
            _ => return false,
        };
        self.rule_out(*vrf, source) || self.scoped.contains(&(port, source))
    }

    /// Whether no packet from `source` is delivered to the router itself in this VRF.
    pub fn rule_out(&self, vrf: VrfId, source: IpAddr) -> bool {
        self.addresses.contains(&(vrf, source))
    }
}

/// The addresses that a configured address rules out: itself, and both edges of its subnet.
fn of_address(address: IpNet) -> Vec<IpAddr> {
    let mut all = vec![address.addr()];
    if let IpNet::V4(v4) = address {
        all.extend(edges(&v4).into_iter().flatten());
    }
    all
}
