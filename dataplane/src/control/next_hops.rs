//! Which neighbour a next hop means: a gateway is reached by the port whose subnet holds it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Fib, NextHop, PortId};
use ipnet::IpNet;

use super::PortSetup;
use crate::neighbor::{Key, Table};

/// The next hops in use and their neighbours.
#[derive(Debug, Default)]
pub struct NextHops {
    neighbors: HashMap<Key, Vec<NextHop>>,
    unresolved: HashSet<NextHop>,
}

impl NextHops {
    /// The neighbour of a next hop that came into use; `None` for a connected subnet and for a gateway that no port leads to.
    pub fn resolve(&mut self, next_hop: NextHop, ports: &[PortSetup]) -> Option<Key> {
        let gateway = next_hop.gateway?;
        let Some(port) = port_of(gateway, next_hop.port, ports) else {
            if self.unresolved.insert(next_hop) {
                tracing::warn!(
                    "next hop {gateway} is on no connected subnet: packets to it are dropped as neighbor_incomplete"
                );
            }
            return None;
        };
        self.unresolved.remove(&next_hop);
        let users = self.neighbors.entry((port, gateway)).or_default();
        if !users.contains(&next_hop) {
            users.push(next_hop);
        }
        Some((port, gateway))
    }

    /// The next hops that mean this neighbour.
    pub fn of(&self, key: &Key) -> &[NextHop] {
        self.neighbors.get(key).map_or(&[], Vec::as_slice)
    }

    /// Forgets next hops that no group uses any more, and releases their neighbours.
    pub fn sweep(&mut self, fib: &Fib, neighbors: &mut Table) {
        let used: HashSet<NextHop> = fib.next_hops().collect();
        self.unresolved.retain(|next_hop| used.contains(next_hop));
        self.neighbors.retain(|key, users| {
            users.retain(|next_hop| used.contains(next_hop));
            if users.is_empty() {
                neighbors.release(*key);
            }
            !users.is_empty()
        });
    }

    /// Next hops that mean a neighbour.
    pub fn len(&self) -> usize {
        self.neighbors.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.neighbors.is_empty()
    }

    /// Gateways that no port leads to.
    pub fn unresolved(&self) -> usize {
        self.unresolved.len()
    }

    /// Next hops by neighbour.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[NextHop])> {
        self.neighbors.iter().map(|(key, users)| (key, users.as_slice()))
    }
}

/// The named port, or the one with the longest subnet around the gateway, which must not be an own address.
fn port_of(gateway: IpAddr, named: Option<PortId>, ports: &[PortSetup]) -> Option<PortId> {
    if ports.iter().any(|port| port.owns(gateway)) {
        return None;
    }
    if let Some(port) = named {
        return (usize::from(port.0) < ports.len()).then_some(port);
    }
    let subnets = ports.iter().enumerate().flat_map(|(place, port)| {
        port.addresses.iter().filter(|subnet| subnet.contains(&gateway)).map(move |subnet| (subnet, place))
    });
    let longest = subnets.max_by_key(|(subnet, _)| IpNet::prefix_len(subnet));
    longest.map(|(_, place)| PortId(place as u16))
}
