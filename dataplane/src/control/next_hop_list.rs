//! `fibcast show next-hops`: what packets are sent to, whether that works now, and what would be lost with it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use fibcast_control::interfaces::{NextHopEntry, NextHopList};
use fibcast_fib::{AdjacencyState, GroupLabel, NextHop, PortId};

use super::Control;
use crate::neighbor::Key;

/// Gateway and port; without a port: it cannot be resolved.
type Place = (Option<IpAddr>, Option<PortId>);

/// What is known of a next hop.
#[derive(Debug, Default)]
struct Found {
    resolved: bool,
    reason: Option<String>,
    /// Groups that use it, with the number of their routes.
    groups: BTreeMap<GroupLabel, usize>,
}

impl Control {
    /// Next hops of all groups, or those alone that packets cannot be sent to now.
    pub fn next_hop_list(&self, unresolved: bool) -> NextHopList {
        let neighbors: HashMap<NextHop, Key> =
            self.next_hops.iter().flat_map(|(key, hops)| hops.iter().map(|hop| (*hop, *key))).collect();
        let mut all: BTreeMap<Place, Found> = BTreeMap::new();
        for (label, group, routes) in self.fib.groups() {
            for hop in group.members().iter().map(|member| member.next_hop) {
                let key = neighbors.get(&hop);
                let port = key.map(|(port, _)| *port).or(hop.port.filter(|_| hop.gateway.is_none()));
                let found = all.entry((hop.gateway, port)).or_default();
                found.resolved |= match hop.gateway {
                    Some(_) => self.is_reachable(&hop),
                    None => port.is_some_and(|port| self.link_up(usize::from(port.0))),
                };
                found.groups.insert(label, routes);
            }
        }
        let routes: HashMap<GroupLabel, usize> =
            self.fib.groups().map(|(label, _, routes)| (label, routes)).collect();
        for (label, gateway, reason) in self.recursion.lost_gateways() {
            let found = all.entry((Some(gateway), None)).or_default();
            found.reason = Some(reason.to_string());
            found.groups.insert(label, routes.get(&label).copied().unwrap_or(0));
        }
        let wanted = all.into_iter().filter(|(_, found)| !(unresolved && found.resolved));
        NextHopList { next_hops: wanted.map(|(place, found)| self.next_hop_entry(place, found)).collect() }
    }

    fn is_reachable(&self, hop: &NextHop) -> bool {
        self.fib.adjacency(hop).is_some_and(|known| known.state == AdjacencyState::Reachable)
    }

    fn next_hop_entry(&self, (gateway, port): Place, found: Found) -> NextHopEntry {
        let neighbor = port.zip(gateway).and_then(|key| self.neighbors.get(&key));
        let state = match (gateway, neighbor) {
            (_, Some(entry)) => entry.state.name(),
            (None, None) => "connected",
            (Some(_), None) => "unresolved",
        };
        NextHopEntry {
            gateway,
            port: port.map(|port| self.port_name(usize::from(port.0))),
            mac: neighbor.and_then(|entry| entry.mac).map(|mac| mac.to_string()),
            state: state.to_owned(),
            resolved: found.resolved,
            reason: found.reason,
            groups: found.groups.keys().map(|label| format!("{:016x}", label.0)).collect(),
            routes: found.groups.values().map(|routes| *routes as u64).sum(),
        }
    }
}
