//! Turns neighbors and link states into adjacencies, by which workers rewrite packets. A change here touches no trie.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::{Adjacency, AdjacencyState, NextHop, PortId};

use super::Control;
use crate::neighbor;
use crate::packet::ethernet::Mac;

/// How long a publication waits for the first answers of next hops that came into use, so that traffic does not move to a next hop whose
/// MAC address is unknown.
const HOLD: Duration = Duration::from_millis(100);

/// Of a gateway that is on no link here: packets to it are dropped.
pub(super) const NOWHERE: Adjacency =
    Adjacency { port: PortId(u16::MAX), state: AdjacencyState::Incomplete, header: [0; 12], mtu: 0 };

/// New next hops whose first answer a publication waits for.
#[derive(Debug, Default)]
pub(super) struct PublicationHold {
    pub(super) until: Option<Instant>,
    pub(super) waiting: HashSet<neighbor::Key>,
}

impl Control {
    /// Resolves the next hops that came into use.
    pub(super) fn resolve_new(&mut self, now: Instant) {
        for next_hop in self.fib.take_new_next_hops() {
            let key = self.next_hops.resolve(next_hop, &self.ports);
            self.use_neighbor(next_hop, key, now);
        }
    }

    /// Addresses of ports came or went: gateways may be on another link now.
    pub(super) fn resolve_moved(&mut self, now: Instant) {
        for (next_hop, before) in self.next_hops.by_address(&self.fib) {
            let after = self.next_hops.resolve(next_hop, &self.ports);
            if after == before {
                continue;
            }
            if let Some(before) = before {
                self.next_hops.leave(next_hop, before, &mut self.neighbors);
            }
            self.use_neighbor(next_hop, after, now);
        }
    }

    /// Points a next hop to its neighbor. Without one, packets to the next hop are dropped.
    fn use_neighbor(&mut self, next_hop: NextHop, key: Option<neighbor::Key>, now: Instant) {
        let Some(key) = key else {
            if next_hop.gateway.is_some() {
                self.dirty |= self.fib.set_adjacency(next_hop, NOWHERE);
            }
            return;
        };
        self.neighbors.need(key, now);
        let Some((mac, state)) = self.neighbors.get(&key).map(|entry| (entry.mac, entry.state)) else {
            return;
        };
        if let Some(adjacency) = self.adjacency(key.0, mac) {
            self.dirty |= self.fib.set_adjacency(next_hop, adjacency);
        }
        if mac.is_none() && state == neighbor::State::Incomplete {
            self.hold.waiting.insert(key);
            self.hold.until.get_or_insert(now + HOLD);
        }
    }

    /// The link of a device went up or down. Its next hops, and those of its sub-interfaces, are unreachable while it is down. The next
    /// publication moves their groups and touches no trie.
    pub fn set_link(&mut self, device: usize, up: bool, now: Instant) {
        let mut changed = HashSet::new();
        for (port_index, port) in self.ports.iter().enumerate() {
            if usize::from(port.link.device) == device
                && let Some(down) = self.down.get_mut(port_index)
                && std::mem::replace(down, !up) == up
            {
                tracing::warn!("port {}: link is {}", port.name, if up { "up" } else { "down" });
                changed.insert(port_index as u16);
            }
        }
        if changed.is_empty() {
            return;
        }
        let keys: Vec<_> = self.neighbors.iter().filter(|(key, _)| changed.contains(&key.0.0)).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, entry)| (*key, entry.mac)).collect();
        for (key, mac) in keys {
            self.neighbor_changed(key, mac);
        }
        if up {
            for &port_index in &changed {
                self.announce_port(usize::from(port_index), now);
                self.membership.restart(usize::from(port_index), now);
            }
            self.neighbors.probe(|key| changed.contains(&key.0.0), now);
        }
    }

    /// Whether the link of the port with this index is up, as last reported.
    pub fn link_up(&self, port_index: usize) -> bool {
        !self.down.get(port_index).copied().unwrap_or(false)
    }

    /// A changed neighbor updates neighbors and adjacencies, never a trie.
    pub(super) fn neighbor_changed(&mut self, key: neighbor::Key, mac: Option<Mac>) {
        self.hold.waiting.remove(&key);
        let (port, address) = key;
        let Some(adjacency) = self.adjacency(port, mac) else { return };
        self.dirty |= match mac {
            Some(_) => self.set_neighbor(port, address, adjacency),
            None => self.fib.remove_neighbor(port, address),
        };
        for next_hop in self.next_hops.of(&key) {
            self.dirty |= self.fib.set_adjacency(*next_hop, adjacency);
        }
    }

    fn set_neighbor(&mut self, port: PortId, address: IpAddr, adjacency: Adjacency) -> bool {
        self.fib.set_neighbor(port, address, adjacency).unwrap_or_else(|error| {
            tracing::error!("{error}; packets to it are held or dropped");
            false
        })
    }

    /// Where packets to a neighbor of a port go; none if there is no such port.
    pub(super) fn adjacency(&self, port: PortId, mac: Option<Mac>) -> Option<Adjacency> {
        let setup = self.ports.get(usize::from(port.0))?;
        let (destination, state) = match mac {
            Some(mac) if self.link_up(usize::from(port.0)) => (mac, AdjacencyState::Reachable),
            Some(mac) => (mac, AdjacencyState::Incomplete),
            None => (Mac::default(), AdjacencyState::Incomplete),
        };
        let [a, b, c, d, e, f] = destination.0;
        let [g, h, i, j, k, l] = setup.mac.0;
        Some(Adjacency { port, state, header: [a, b, c, d, e, f, g, h, i, j, k, l], mtu: setup.mtu })
    }
}
