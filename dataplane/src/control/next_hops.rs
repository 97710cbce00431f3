//! Maps a next hop to a neighbor: the gateway itself, on the named port or on the connected subnet of the default VRF.
//!
//! A gateway with a port is on that port's link, whether a subnet of the port has its address or not, as in VPP; Linux asks for `onlink` where
//! none has. Recursive gateways are resolved by [`super::recursion`] before: here they have a port or are unresolvable.

use std::cmp::Reverse;
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
    /// The neighbor of a next hop that came into use; `None` for a connected subnet and for an unresolvable gateway.
    pub fn resolve(&mut self, next_hop: NextHop, ports: &[PortSetup]) -> Option<Key> {
        let gateway = next_hop.gateway?;
        let port = match next_hop.port {
            Some(port) => port,
            None => connected(gateway, VrfId::DEFAULT, ports)?,
        };
        let vrf = ports.get(usize::from(port.0))?.vrf;
        if owned_at(port, gateway, ports) || !can_be_gateway(gateway, vrf, ports) {
            return None;
        }
        let users = self.neighbors.entry((port, gateway)).or_default();
        if !users.contains(&next_hop) {
            users.push(next_hop);
        }
        Some((port, gateway))
    }

    /// The next hops whose gateway's port is found by its address, with their neighbors.
    pub fn by_address(&self, fib: &Fib) -> Vec<(NextHop, Option<Key>)> {
        let known: HashMap<NextHop, Key> =
            self.neighbors.iter().flat_map(|(key, users)| users.iter().map(|user| (*user, *key))).collect();
        let found = fib.next_hops().filter(|hop| hop.port.is_none() && hop.gateway.is_some());
        found.map(|hop| (hop, known.get(&hop).copied())).collect()
    }

    /// A next hop leaves its neighbor, which is released if no other uses it.
    pub fn leave(&mut self, next_hop: NextHop, key: Key, neighbors: &mut Table) {
        if let Some(users) = self.neighbors.get_mut(&key) {
            users.retain(|user| *user != next_hop);
            if users.is_empty() {
                self.neighbors.remove(&key);
                neighbors.release(key);
            }
        }
    }

    /// The next hops that use this neighbor.
    pub fn of(&self, key: &Key) -> &[NextHop] {
        self.neighbors.get(key).map_or(&[], Vec::as_slice)
    }

    /// Forgets next hops that no group uses, and releases their neighbors.
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

    /// Number of next hops with a neighbor.
    pub fn len(&self) -> usize {
        self.neighbors.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.neighbors.is_empty()
    }

    /// Next hops by neighbor.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[NextHop])> {
        self.neighbors.iter().map(|(key, users)| (key, users.as_slice()))
    }
}

/// The port of a VRF with the longest matching subnet of an address.
pub fn connected(address: IpAddr, vrf: VrfId, ports: &[PortSetup]) -> Option<PortId> {
    // RFC 4291 §2.5.6: every link has these addresses, so they do not determine a port.
    if ipv6::is_link_local_v6(address) {
        return None;
    }
    let subnets =
        ports.iter().enumerate().filter(|(_, port)| port.vrf == vrf).flat_map(|(port_index, port)| {
            port.addresses
                .iter()
                .filter(|subnet| subnet.contains(&address))
                .map(move |subnet| (subnet, port_index))
        });
    // The first of equal ones, whose route the table has.
    let longest = subnets.min_by_key(|(subnet, _)| Reverse(IpNet::prefix_len(subnet)));
    longest.map(|(_, port_index)| PortId(port_index as u16))
}

/// Whether an address of a VRF may be that of a gateway: neither one of the router's own nor the network or broadcast address of a subnet
/// (RFC 1812 §4.2.2.11).
pub fn can_be_gateway(address: IpAddr, vrf: VrfId, ports: &[PortSetup]) -> bool {
    // A link-local address may be another station's on another link; see `owned_at`.
    let scoped = ipv6::is_link_local_v6(address);
    let mut of_vrf = ports.iter().filter(|port| port.vrf == vrf);
    !of_vrf.any(|port| (!scoped && port.owns(address)) || port.has_edge(address))
}

/// Whether an address of a VRF is one of the router's own.
pub fn owned(address: IpAddr, vrf: VrfId, ports: &[PortSetup]) -> bool {
    ports.iter().any(|port| port.vrf == vrf && port.owns(address))
}

/// Whether an address is one of the router's own as seen from a port: in its VRF, or for link-local addresses on its link (RFC 4291 §2.5.6).
pub fn owned_at(port: PortId, address: IpAddr, ports: &[PortSetup]) -> bool {
    let Some(port) = ports.get(usize::from(port.0)) else { return false };
    match address {
        IpAddr::V6(v6) if ipv6::is_link_local(v6) => port.owns(address),
        _ => owned(address, port.vrf, ports),
    }
}
