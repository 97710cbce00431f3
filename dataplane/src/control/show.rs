//! What operators see of the control side: routes, groups, neighbors, forwarding state.

use std::net::IpAddr;
use std::sync::Arc;

use fibcast_control::protocol::RouteRequest;
use fibcast_control::status::{ForwardingStatus, LimitStatus};
use fibcast_control::tables::{
    GroupEntry, GroupList, GroupTraffic, Neighbor, NeighborList, Route, RouteList,
};
use fibcast_daemon::routes::{RouteTable, page};
use fibcast_fib::{AdjacencyState, Group, GroupIndex, GroupLabel, Member, NextHop, PublisherStats, VrfId};
use ipnet::IpNet;

use super::Control;
use crate::counters::{Traffic, WorkerCounters};
use crate::packet::icmp_kind::Kind;

/// Origin of the host's own routes.
const OWN: &str = "own";

impl Control {
    /// Forwarding state.
    pub fn forwarding(&self) -> ForwardingStatus {
        let stats = self.publisher.stats();
        let unreachable = |next_hop: &&NextHop| {
            // One that no group uses any more has none.
            self.fib.adjacency(next_hop).is_some_and(|known| known.state != AdjacencyState::Reachable)
        };
        let waiting = self.next_hops.iter().flat_map(|(_, users)| users).filter(unreachable).count();
        ForwardingStatus {
            serial: stats.serial,
            routes: self.fib.len() as u64,
            published: stats.published,
            retired: stats.retired as u64,
            retired_bytes: stats.retired_bytes as u64,
            retired_bytes_most: self.publisher.most_retired_bytes() as u64,
            next_hops: (self.next_hops.len() + self.recursion.lost()) as u64,
            next_hops_unresolved: (waiting + self.recursion.lost()) as u64,
            pending_batches: self.pending.len() as u64,
            workers_stalled: 0,
            agent_restarts: 0,
            address_conflicts: self.host.conflicts(),
            neighbors: self.neighbors.iter().count() as u64,
            neighbors_refused: self.neighbors.refused(),
            limits: self.limits_in_use(&stats),
            apply_error: self.failure.as_ref().map(|failure| failure.text.clone()),
            scrub_table: self.scrubber.table.status(),
            scrub_tries: self.scrubber.tries.status(),
        }
    }

    fn limits_in_use(&self, stats: &PublisherStats) -> Vec<LimitStatus> {
        let limit = |key: &str, (most, used): (usize, usize), hits| LimitStatus {
            key: key.to_owned(),
            used: used as u64,
            most: most as u64,
            hits,
        };
        let refused = self.neighbors.refused();
        let retired = (self.publisher.most_retired_bytes() >> 20, stats.retired_bytes >> 20);
        vec![
            limit("fib.max_routes", (self.limits.max_routes, self.fib.len()), 0),
            limit("fib.max_groups", (self.limits.max_groups, self.fib.groups().count()), 0),
            limit("fib.max_neighbors", self.neighbors.use_of_limit(), refused),
            limit("fib.max_unproven_neighbors", self.neighbors.use_of_unproven_limit(), refused),
            limit("fib.retired_memory", retired, stats.deferred),
        ]
    }

    /// ICMP messages of the control side that were due but not sent because of the rate limit, by number of their kind.
    pub fn icmp_limited(&self) -> [u64; Kind::COUNT] {
        self.host.limited()
    }

    /// Trie destructors that ran on each worker, by its name. Anything but 0 is a bug.
    pub fn destructors(&self) -> Vec<(String, u64)> {
        self.publisher.stats().workers.into_iter().map(|worker| (worker.name, worker.freed)).collect()
    }

    /// A page of the table, the host's own routes included.
    pub fn routes(&self, request: &RouteRequest) -> RouteList {
        page(self, request)
    }

    /// Groups by label.
    pub fn groups(&self, workers: &[Arc<WorkerCounters>]) -> GroupList {
        let mut groups: Vec<(GroupLabel, &Group)> =
            self.fib.groups().map(|(label, group, _)| (label, group)).collect();
        groups.sort_unstable_by_key(|(label, _)| *label);
        let entry = |(label, group): (GroupLabel, &Group)| GroupEntry {
            label: format!("{:016x}", label.0),
            via: self.words(group),
            traffic: self.traffic(label, workers),
        };
        GroupList { groups: groups.into_iter().map(entry).collect() }
    }

    /// Packets and bytes forwarded by a group since it was created. Group indices are reused, so the counter's value at creation is
    /// subtracted.
    fn traffic(&self, label: GroupLabel, workers: &[Arc<WorkerCounters>]) -> Option<GroupTraffic> {
        let index = self.fib.group_index(label)?;
        let before = self.baselines.get(&label).copied().unwrap_or_default();
        let all = total(index, workers)?;
        Some(GroupTraffic {
            packets: all.packets.saturating_sub(before.packets),
            bytes: all.bytes.saturating_sub(before.bytes),
        })
    }

    /// Records the counter values of groups that a batch is about to create.
    pub(super) fn note_baselines(&mut self, new: &[GroupLabel]) {
        for label in new {
            let stands = self.fib.group_index(*label).and_then(|index| total(index, &self.counters));
            match stands.filter(|stands| stands.packets != 0) {
                Some(stands) => _ = self.baselines.insert(*label, stands),
                None => _ = self.baselines.remove(label),
            }
        }
    }

    /// What groups have forwarded counts from now on.
    pub fn clear_group_counters(&mut self) {
        let labels: Vec<GroupLabel> = self.fib.groups().map(|(label, ..)| label).collect();
        self.note_baselines(&labels);
    }

    /// The addresses of each port, those that the kernel has on its TAP interface included, and those of the loopback.
    pub fn addresses(&self) -> (Vec<Vec<IpNet>>, Vec<IpAddr>) {
        let loopback = self.ports.iter().find(|port| port.vrf == VrfId::DEFAULT);
        (
            self.ports.iter().map(|port| port.addresses.clone()).collect(),
            loopback.map_or_else(Vec::new, |port| port.loopback.clone()),
        )
    }

    /// Neighbors by port and address.
    pub fn neighbor_list(&self) -> NeighborList {
        let mut entries: Vec<_> = self.neighbors.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| **key);
        let neighbors = entries.into_iter().map(|((port, address), entry)| Neighbor {
            port: self.port_name(usize::from(port.0)),
            address: *address,
            mac: entry.mac.map(|mac| mac.to_string()),
            state: entry.state.name().to_owned(),
        });
        NeighborList { neighbors: neighbors.collect() }
    }

    pub(super) fn words(&self, group: &Group) -> Vec<String> {
        match group {
            Group::Hops(members) => members.iter().map(|member| self.word(member)).collect(),
            Group::Special(special) => vec![special.name().to_owned()],
        }
    }

    fn word(&self, member: &Member) -> String {
        let port = member.next_hop.port.map(|port| format!("port {}", self.port_name(usize::from(port.0))));
        let gateway = member.next_hop.gateway.map(|gateway| gateway.to_string());
        let mut words: Vec<String> = gateway.into_iter().chain(port).collect();
        if member.weight != 1 {
            words.push(format!("weight {}", member.weight));
        }
        words.join(" ")
    }

    pub(super) fn port_name(&self, port_index: usize) -> String {
        self.ports.get(port_index).map_or_else(|| port_index.to_string(), |port| port.name.clone())
    }
}

impl RouteTable for Control {
    type Label = GroupLabel;

    fn vrfs(&self) -> impl Iterator<Item = u32> {
        self.fib.vrfs().map(|vrf| vrf.0)
    }

    fn total(&self) -> u64 {
        self.fib.len() as u64
    }

    fn get(&self, vrf: u32, prefix: IpNet) -> Option<GroupLabel> {
        self.fib.get(VrfId(vrf), prefix)
    }

    fn longest_match(&self, vrf: u32, address: IpAddr) -> Option<(IpNet, GroupLabel)> {
        self.fib.longest_match(VrfId(vrf), address)
    }

    fn after(&self, vrf: u32, prefix: Option<IpNet>) -> impl Iterator<Item = (IpNet, GroupLabel)> {
        // Those that start there may start with itself.
        self.fib.routes(VrfId(vrf), prefix).filter(move |(found, _)| prefix != Some(*found))
    }

    fn has_gateway(&self, label: GroupLabel, gateway: IpAddr) -> bool {
        match self.fib.group(label) {
            Some(Group::Hops(members)) => {
                members.iter().any(|member| member.next_hop.gateway == Some(gateway))
            }
            _ => false,
        }
    }

    /// The agent knows which server the others are from.
    fn is_from(&self, vrf: u32, prefix: IpNet, origin: &str) -> bool {
        self.own.contains(VrfId(vrf), prefix) == (origin == OWN)
    }

    fn show(&self, vrf: u32, prefix: IpNet, label: GroupLabel) -> Vec<Route> {
        let since = self.own.since(VrfId(vrf), prefix);
        let (name, via) = (format!("{:016x}", label.0), self.fib.group(label).map(|group| self.words(group)));
        vec![Route {
            vrf,
            prefix,
            label: name,
            via: via.unwrap_or_default(),
            origin: since.map(|_| OWN.to_owned()),
            age_ms: since.map(|since| since.elapsed().as_millis() as u64),
            choice: None,
        }]
    }
}

/// Sum of all workers' counters of a group index.
fn total(index: GroupIndex, workers: &[Arc<WorkerCounters>]) -> Option<Traffic> {
    workers.iter().try_fold(Traffic::default(), |sum, worker| {
        let one = worker.of_group(index.0)?;
        Some(Traffic { packets: sum.packets + one.packets, bytes: sum.bytes + one.bytes })
    })
}
