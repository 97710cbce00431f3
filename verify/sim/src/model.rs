//! The expected result: protocols with their routes, and the resulting forwarding table.
//!
//! The model shares nothing with the production RIB: it looks at every route of every protocol and selects the best by the documented rule
//! (live before stale, lowest distance, metric, origin id). That is slow and simple, and only done when the network is at rest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fibcast_route_server::source::{Group, RouteChange};
use fibcast_sync_proto::{GroupValue, HopValue, Key, OriginId, Value};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::rng::Rng;

/// VRF and prefix.
pub type Destination = (u32, IpNet);
/// A group by its number, and a metric.
pub type Path = (usize, u32);

/// Stale, distance, metric, origin's id: the lowest wins.
type Rank = (bool, u8, u32, OriginId);

/// A protocol instance beside one route server.
#[derive(Debug)]
pub struct Protocol {
    /// Name of its origin.
    pub name: String,
    /// Administrative distance.
    pub distance: u8,
    /// The route server, by node.
    pub home: usize,
    /// Its source is not live: its routes rank last.
    pub stale: bool,
    /// What it announces now.
    pub routes: BTreeMap<Destination, Path>,
}

/// All protocols, with the destinations and groups to choose from.
#[derive(Debug)]
pub struct Model {
    /// The protocols.
    pub protocols: Vec<Protocol>,
    destinations: Vec<Destination>,
    groups: Vec<Arc<Group>>,
}

impl Model {
    /// Protocols without routes yet, over so many destinations.
    pub fn new(protocols: Vec<Protocol>, destinations: usize, groups: usize) -> Self {
        Self {
            protocols,
            destinations: (0..destinations as u32).map(destination).collect(),
            groups: (0..groups.max(1) as u8).map(group).collect(),
        }
    }

    /// How many destinations there are.
    pub fn size(&self) -> usize {
        self.destinations.len()
    }

    /// Changes about `n` routes of a protocol; returns the changes.
    pub fn churn(
        &mut self,
        protocol: usize,
        n: usize,
        withdraw_percent: u64,
        rng: &mut Rng,
    ) -> Vec<RouteChange> {
        let picks: Vec<Destination> = (0..n).filter_map(|_| rng.pick(&self.destinations).copied()).collect();
        let mut changes = Vec::new();
        for at in picks {
            let path = (!rng.percent(withdraw_percent))
                .then(|| (rng.index(self.groups.len()), rng.below(3) as u32 * 10));
            changes.extend(self.set(protocol, at, path));
        }
        changes
    }

    /// The protocol loses all routes.
    pub fn withdraw_all(&mut self, protocol: usize) -> Vec<RouteChange> {
        let all: Vec<Destination> =
            self.protocols.get(protocol).map(|p| p.routes.keys().copied().collect()).unwrap_or_default();
        all.into_iter().filter_map(|at| self.set(protocol, at, None)).collect()
    }

    /// Moves all routes of one group to another, as for a flapping next hop.
    pub fn move_group(&mut self, protocol: usize, from: usize, to: usize) -> Vec<RouteChange> {
        let Some(p) = self.protocols.get(protocol) else { return Vec::new() };
        let users: Vec<(Destination, u32)> =
            p.routes.iter().filter(|(_, (g, _))| *g == from).map(|(at, (_, m))| (*at, *m)).collect();
        users.into_iter().filter_map(|(at, metric)| self.set(protocol, at, Some((to, metric)))).collect()
    }

    /// Number of groups to choose from.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Everything that a protocol announces, as a source sends it at its start.
    pub fn whole(&self, protocol: usize) -> Vec<RouteChange> {
        let routes = self.protocols.get(protocol).into_iter().flat_map(|p| &p.routes);
        routes.filter_map(|(at, path)| self.change(*at, Some(*path))).collect()
    }

    fn set(&mut self, protocol: usize, at: Destination, path: Option<Path>) -> Option<RouteChange> {
        let routes = &mut self.protocols.get_mut(protocol)?.routes;
        match path {
            Some(path) => routes.insert(at, path),
            None => routes.remove(&at),
        };
        self.change(at, path)
    }

    fn change(&self, (vrf, prefix): Destination, path: Option<Path>) -> Option<RouteChange> {
        let path = match path {
            Some((group, metric)) => Some((Arc::clone(self.groups.get(group)?), metric)),
            None => None,
        };
        Some(RouteChange { vrf, prefix, path })
    }

    /// The forwarding table of all nodes if exactly the protocols of these route servers are alive.
    pub fn forwarding(
        &self,
        alive: impl Fn(usize) -> bool,
        name: impl Fn(usize) -> String,
    ) -> BTreeMap<Key, Value> {
        let mut best: BTreeMap<Destination, (Rank, usize)> = BTreeMap::new();
        for p in self.protocols.iter().filter(|p| alive(p.home)) {
            for (at, (group, metric)) in &p.routes {
                let rank = (p.stale, p.distance, *metric, OriginId::instance(&name(p.home), &p.name));
                match best.get(at) {
                    Some((other, _)) if *other <= rank => {}
                    _ => {
                        best.insert(*at, (rank, *group));
                    }
                }
            }
        }
        let mut table = BTreeMap::new();
        for ((vrf, prefix), (_, group)) in best {
            let Some(group) = self.groups.get(group) else { continue };
            table.insert(Key::Route { vrf, prefix }, Value::Route(group.label));
            table.insert(Key::Group(group.label), Value::Group(group.value.clone()));
        }
        table
    }
}

/// Destinations of both families, several lengths and two VRFs.
fn destination(i: u32) -> Destination {
    let vrf = u32::from(i % 11 == 7);
    let v4 = |bits: u32, len: u8| Ipv4Net::new(Ipv4Addr::from(bits), len).map(|n| IpNet::V4(n.trunc()));
    let v6 = |bits: u128, len: u8| Ipv6Net::new(Ipv6Addr::from(bits), len).map(|n| IpNet::V6(n.trunc()));
    let net = match i % 8 {
        0 if i == 0 => v4(0, 0),
        1 => v4(0x0a00_0000 | i << 4, 28),
        2 => v6(0x2001_0db8 << 96 | u128::from(i) << 64, 64),
        3 => v6(0x2001_0db9 << 96 | u128::from(i), 128),
        5 => v4(0xc000_0000 | i << 12, 20),
        6 => v4(0xac10_0000 | i, 32),
        _ => v4(0x0b00_0000 | i << 8, 24),
    };
    (vrf, net.unwrap_or(IpNet::V4(Ipv4Net::default())))
}

/// Groups with one next hop, with several, and without.
fn group(i: u8) -> Arc<Group> {
    let hop = |last: u8, weight| HopValue {
        gateway: Some(IpAddr::from([192, 0, 2, last])),
        port: (last.is_multiple_of(3)).then(|| format!("p{}", last % 4)),
        weight,
    };
    Group::new(match i % 6 {
        5 => GroupValue::Hops(vec![hop(i, 1), hop(i + 1, 3)]),
        4 if i == 4 => GroupValue::Blackhole,
        _ => GroupValue::Hops(vec![hop(i, 1)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_and_groups_are_distinct() {
        let all: std::collections::BTreeSet<_> = (0..3000).map(destination).collect();
        assert_eq!(all.len(), 3000);
        let all: std::collections::BTreeSet<_> = (0..60).map(|i| group(i).label).collect();
        assert_eq!(all.len(), 60);
    }

    #[test]
    fn the_best_path_is_by_distance_first() {
        let protocol = |name: &str, distance, home| Protocol {
            name: name.into(),
            distance,
            home,
            stale: false,
            routes: BTreeMap::new(),
        };
        let mut model = Model::new(vec![protocol("ospf", 110, 0), protocol("bgp", 20, 1)], 10, 4);
        let at = destination(1);
        model.set(0, at, Some((0, 0)));
        model.set(1, at, Some((1, 90)));
        let label = |n: u8| Value::Route(group(n).label);
        let key = Key::Route { vrf: at.0, prefix: at.1 };
        let name = |n: usize| format!("rs{n}");
        assert_eq!(model.forwarding(|_| true, name).get(&key), Some(&label(1)));
        let alone = model.forwarding(|n| n == 0, name);
        assert_eq!((alone.get(&key), alone.len()), (Some(&label(0)), 2));
        model.protocols[1].stale = true;
        assert_eq!(model.forwarding(|_| true, name).get(&key), Some(&label(0)));
    }
}
