//! Which neighbor a next hop means: the gateway itself, on the port that is named or on the connected subnet of the default VRF.
//!
//! Gateways that have to be looked for are [`super::recursion`]'s: by the time that they come here they have a port, or lead nowhere.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Fib, NextHop, PortId, VrfId};
use ipnet::IpNet;

use super::PortSetup;
use crate::neighbor::{Key, Table};
use crate::packet::ipv6;

/// The next hops in use and their neighbors.
#[derive(Debug, Default)]
pub struct NextHops {
    neighbors: HashMap<Key, Vec<NextHop>>,
}

impl NextHops {
    /// The neighbor of a next hop that came into use; `None` for a connected subnet and for a gateway that nothing leads to.
    pub fn resolve(&mut self, next_hop: NextHop, ports: &[PortSetup]) -> Option<Key> {
        let gateway = next_hop.gateway?;
        let port = match next_hop.port {
            Some(port) => port,
            None => connected(gateway, VrfId::DEFAULT, ports)?,
        };
        if owned(gateway, ports.get(usize::from(port.0))?.vrf, ports) {
            return None;
        }
        let users = self.neighbors.entry((port, gateway)).or_default();
        if !users.contains(&next_hop) {
            users.push(next_hop);
        }
        Some((port, gateway))
    }

    /// The next hops that mean this neighbor.
    pub fn of(&self, key: &Key) -> &[NextHop] {
        self.neighbors.get(key).map_or(&[], Vec::as_slice)
    }

    /// Forgets next hops that no group uses any more, and releases their neighbors.
    pub fn sweep(&mut self, fib: &Fib, neighbors: &mut Table) {
        let used: HashSet<NextHop> = fib.next_hops().collect();
        self.neighbors.retain(|key, users| {
            users.retain(|next_hop| used.contains(next_hop));
            if users.is_empty() {
                neighbors.release(*key);
            }
            !users.is_empty()
        });
    }

    /// Next hops that mean a neighbor.
    pub fn len(&self) -> usize {
        self.neighbors.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.neighbors.is_empty()
    }

    /// Next hops by neighbor.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[NextHop])> {
        self.neighbors.iter().map(|(key, users)| (key, users.as_slice()))
    }
}

/// The port of a VRF with the longest subnet around an address.
pub fn connected(address: IpAddr, vrf: VrfId, ports: &[PortSetup]) -> Option<PortId> {
    // RFC 4291 §2.5.6: every link has these, so the address does not say which.
    if matches!(address, IpAddr::V6(v6) if ipv6::is_link_local(v6)) {
        return None;
    }
    let subnets = ports.iter().enumerate().filter(|(_, port)| port.vrf == vrf).flat_map(|(place, port)| {
        port.addresses.iter().filter(|subnet| subnet.contains(&address)).map(move |subnet| (subnet, place))
    });
    let longest = subnets.max_by_key(|(subnet, _)| IpNet::prefix_len(subnet));
    longest.map(|(_, place)| PortId(place as u16))
}

/// Whether the router itself has an address in a VRF.
pub fn owned(address: IpAddr, vrf: VrfId, ports: &[PortSetup]) -> bool {
    ports.iter().any(|port| port.vrf == vrf && port.owns(address))
}
