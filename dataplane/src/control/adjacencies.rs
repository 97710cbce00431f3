//! Neighbors and links to adjacencies, which workers write packets by. A change here touches no trie.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::{Adjacency, AdjacencyState, NextHop, PortId};

use super::Control;
use crate::neighbor;
use crate::packet::ethernet::Mac;

/// How long a publication waits for the first answer of next hops that nobody used before, so that traffic does not move to a next hop
/// that cannot be sent to yet.
const HOLD: Duration = Duration::from_millis(100);

/// New next hops whose first answer a publication waits for.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pub(super) until: Option<Instant>,
    pub(super) waiting: HashSet<neighbor::Key>,
}

impl Control {
    /// Finds the neighbors that next hops which came into use mean.
    pub(super) fn resolve_new(&mut self, now: Instant) {
        for next_hop in self.fib.take_new_next_hops() {
            let key = self.next_hops.resolve(next_hop, &self.ports);
            self.use_neighbor(next_hop, key, now);
        }
    }

    /// Points a next hop to the neighbor that it means; none: packets to it have no way.
    fn use_neighbor(&mut self, next_hop: NextHop, key: Option<neighbor::Key>, now: Instant) {
        let Some(key) = key else {
            let nowhere = Adjacency {
                port: PortId(u16::MAX),
                state: AdjacencyState::Incomplete,
                header: [0; 12],
                mtu: 0,
            };
            if next_hop.gateway.is_some() {
                self.dirty |= self.fib.set_adjacency(next_hop, nowhere);
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

    /// A device's link went up or down: its next hops, and those of its sub-interfaces, count as silent until it is back. The next
    /// publication moves their groups, and touches no trie.
    pub fn set_link(&mut self, device: usize, up: bool, now: Instant) {
        let mut places = HashSet::new();
        for (place, port) in self.ports.iter().enumerate() {
            if usize::from(port.link.device) == device
                && let Some(down) = self.down.get_mut(place)
                && std::mem::replace(down, !up) == up
            {
                tracing::warn!("port {}: link is {}", port.name, if up { "up" } else { "down" });
                places.insert(place as u16);
            }
        }
        if places.is_empty() {
            return;
        }
        let keys: Vec<_> = self.neighbors.iter().filter(|(key, _)| places.contains(&key.0.0)).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, entry)| (*key, entry.mac)).collect();
        for (key, mac) in keys {
            self.neighbor_changed(key, mac);
        }
        if up {
            self.neighbors.probe(|key| places.contains(&key.0.0), now);
        }
    }

    /// Whether the link of the port at this place is up, as far as anybody said.
    pub fn link_up(&self, place: usize) -> bool {
        !self.down.get(place).copied().unwrap_or(false)
    }

    /// A changed neighbor touches neighbors and adjacencies, never a trie.
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

    /// A neighbor that the table has no room for stays unknown to workers, which go on asking for it.
    fn set_neighbor(&mut self, port: PortId, address: IpAddr, adjacency: Adjacency) -> bool {
        match self.fib.set_neighbor(port, address, adjacency) {
            Ok(changed) => {
                self.neighbors_full &= !changed;
                changed
            }
            Err(error) => {
                // Once, until there was room again: a scan of a subnet must not fill the log.
                if !std::mem::replace(&mut self.neighbors_full, true) {
                    tracing::error!("{error}; packets to it wait or are dropped");
                }
                false
            }
        }
    }

    fn adjacency(&self, port: PortId, mac: Option<Mac>) -> Option<Adjacency> {
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
