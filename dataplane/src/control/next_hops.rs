//! Which neighbour a next hop means: a gateway on a connected subnet itself, any other gateway what the table's route to it means.
//!
//! Recursion is at most [`LEVELS`] routes deep and never goes in a circle. What it went by is remembered, and a batch that touches any of
//! it has the recursive next hops resolved anew; other batches cost one look into a set per change. Of a covering route with several next hops
//! each recursive gateway takes one, chosen by its address. Recursion asks the default VRF; a gateway in another one is named with its port.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Change, Fib, GroupLabel, NextHop, PortId, VrfId};
use ipnet::IpNet;

use super::PortSetup;
use crate::neighbor::{Key, Table};
use crate::packet::ipv6;

/// Most routes between a gateway and the neighbour that it means.
pub const LEVELS: usize = 4;

/// The next hops in use and their neighbours.
#[derive(Debug, Default)]
pub struct NextHops {
    neighbors: HashMap<Key, Vec<NextHop>>,
    /// Those whose gateway is on no connected subnet, with the neighbour that the table leads to.
    recursive: HashMap<NextHop, Option<Key>>,
    /// Every prefix that covers an address that recursion asked for: a change of none of them changes nothing.
    watched: HashSet<IpNet>,
    labels: HashSet<GroupLabel>,
}

impl NextHops {
    /// The neighbour of a next hop that came into use; `None` for a connected subnet and for a gateway that nothing leads to.
    pub fn resolve(&mut self, next_hop: NextHop, ports: &[PortSetup], fib: &Fib) -> Option<Key> {
        let gateway = next_hop.gateway?;
        let own = ports.iter().any(|port| port.owns(gateway));
        let key = match next_hop.port {
            Some(port) => (usize::from(port.0) < ports.len() && !own).then_some((port, gateway)),
            None => match connected(gateway, ports) {
                Some(port) => (!own).then_some((port, gateway)),
                None => {
                    let key = self.walk(gateway, ports, fib);
                    if key.is_none() && !self.recursive.contains_key(&next_hop) {
                        tracing::warn!(
                            "next hop {gateway} is on no connected subnet and no route leads to it: packets to it are not sent"
                        );
                    }
                    self.recursive.insert(next_hop, key);
                    key
                }
            },
        }?;
        let users = self.neighbors.entry(key).or_default();
        if !users.contains(&next_hop) {
            users.push(next_hop);
        }
        Some(key)
    }

    /// Follows the table from a gateway to a neighbour.
    fn walk(&mut self, gateway: IpAddr, ports: &[PortSetup], fib: &Fib) -> Option<Key> {
        let (mut address, mut seen) = (gateway, Vec::new());
        for level in 0..=LEVELS {
            if let Some(port) = connected(address, ports) {
                return (!ports.iter().any(|port| port.owns(address))).then_some((port, address));
            }
            self.watch(address);
            if level == LEVELS || seen.contains(&address) {
                return None;
            }
            seen.push(address);
            let (_, label) = fib.longest_match(VrfId::DEFAULT, address)?;
            self.labels.insert(label);
            let members = fib.group(label)?.members();
            let chosen = members.get(spread(gateway) % members.len().max(1))?.next_hop;
            match (chosen.gateway, chosen.port) {
                (None, Some(port)) => return Some((port, address)),
                (Some(next), Some(port)) => return Some((port, next)),
                (Some(next), None) => address = next,
                (None, None) => return None,
            }
        }
        None
    }

    fn watch(&mut self, address: IpAddr) {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let cover = (0..=longest).filter_map(|length| IpNet::new(address, length).ok());
        self.watched.extend(cover.map(|prefix| prefix.trunc()));
    }

    /// Whether a batch may change what recursive next hops mean.
    pub fn touched_by(&self, changes: &[Change]) -> bool {
        !self.recursive.is_empty()
            && changes.iter().any(|change| match change {
                Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => {
                    *vrf == VrfId::DEFAULT && self.watched.contains(prefix)
                }
                Change::PutGroup { label, .. } | Change::DeleteGroup { label } => self.labels.contains(label),
            })
    }

    /// Resolves all recursive next hops anew; returns those that mean another neighbour than before.
    pub fn resolve_again(&mut self, ports: &[PortSetup], fib: &Fib) -> Vec<NextHop> {
        self.watched.clear();
        self.labels.clear();
        let before: Vec<(NextHop, Option<Key>)> =
            self.recursive.iter().map(|(next_hop, key)| (*next_hop, *key)).collect();
        let mut moved = Vec::new();
        for (next_hop, before) in before {
            let Some(gateway) = next_hop.gateway else { continue };
            let now = self.walk(gateway, ports, fib);
            if now == before {
                continue;
            }
            if let Some(users) = before.and_then(|key| self.neighbors.get_mut(&key)) {
                users.retain(|user| *user != next_hop);
            }
            if let Some(key) = now {
                self.neighbors.entry(key).or_default().push(next_hop);
            }
            self.recursive.insert(next_hop, now);
            moved.push(next_hop);
        }
        moved
    }

    /// The neighbour that a recursive next hop means.
    pub fn recursive(&self, next_hop: &NextHop) -> Option<Key> {
        self.recursive.get(next_hop).copied().flatten()
    }

    /// The next hops that mean this neighbour.
    pub fn of(&self, key: &Key) -> &[NextHop] {
        self.neighbors.get(key).map_or(&[], Vec::as_slice)
    }

    /// Forgets next hops that no group uses any more, and releases their neighbours.
    pub fn sweep(&mut self, fib: &Fib, neighbors: &mut Table) {
        let used: HashSet<NextHop> = fib.next_hops().collect();
        self.recursive.retain(|next_hop, _| used.contains(next_hop));
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

    /// Gateways that nothing leads to.
    pub fn unresolved(&self) -> usize {
        self.recursive.values().filter(|key| key.is_none()).count()
    }

    /// Next hops by neighbour.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[NextHop])> {
        self.neighbors.iter().map(|(key, users)| (key, users.as_slice()))
    }
}

/// The port with the longest subnet around an address.
fn connected(address: IpAddr, ports: &[PortSetup]) -> Option<PortId> {
    // RFC 4291 §2.5.6: every link has these, so the address does not say which.
    if matches!(address, IpAddr::V6(v6) if ipv6::is_link_local(v6)) {
        return None;
    }
    let subnets = ports.iter().enumerate().flat_map(|(place, port)| {
        port.addresses.iter().filter(|subnet| subnet.contains(&address)).map(move |subnet| (subnet, place))
    });
    let longest = subnets.max_by_key(|(subnet, _)| IpNet::prefix_len(subnet));
    longest.map(|(_, place)| PortId(place as u16))
}

/// A number by which gateways spread over the next hops of a route.
fn spread(gateway: IpAddr) -> usize {
    let bits = match gateway {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() as u64 ^ (v6.to_bits() >> 64) as u64,
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}
