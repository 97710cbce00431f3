//! What an operator sees of the tables, sources and peers.

use fibcast_control::protocol::RouteQuery;
use fibcast_control::status::{PeerStatus, SourceStatus, TableStatus};
use fibcast_control::tables::{GroupEntry, GroupList, Route, RouteList};
use fibcast_sync_proto::{GroupValue, HopValue, Key, Label, Table, Value};
use ipnet::IpNet;

use super::peers::Phase;
use super::{Engine, contenders};

impl Engine {
    /// Name of this server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The forwarding table in figures.
    pub fn table_status(&self) -> TableStatus {
        let counts = self.fib.counts();
        TableStatus {
            epoch: self.fib.epoch(),
            serial: self.fib.serial(),
            ipv4_routes: counts.routes_v4,
            ipv6_routes: counts.routes_v6,
            groups: counts.groups,
            records: self.fib.len(),
            digest: self.fib.digest().to_string(),
            changes: self.changes,
        }
    }

    /// Each source.
    pub fn source_status(&self) -> Vec<SourceStatus> {
        let status = |source: &super::Source| SourceStatus {
            origin: source.value.name.clone(),
            kind: source.kind.to_owned(),
            state: match (source.end_of_table, source.finished, &source.error) {
                (_, _, Some(_)) => "failed",
                (false, ..) => "loading",
                (true, false, _) => "live",
                (true, true, _) => "finished",
            }
            .to_owned(),
            routes: source.routes,
            changes: source.changes,
            end_of_table: source.end_of_table,
            last_error: source.error.clone(),
        };
        self.sources.iter().map(status).collect()
    }

    /// Each peer, as far as its routes are concerned; the session's owner adds name and state of the session.
    pub fn peer_status(&self, copies: &[&Table]) -> Vec<PeerStatus> {
        let status = |(peer, copy): (&super::Peer, &&Table)| PeerStatus {
            address: peer.address.clone(),
            name: peer.origins.values().next().map(|origin| origin.server.clone()),
            state: match peer.phase {
                Phase::Waiting => "waiting",
                Phase::Live => "in sync",
                Phase::Stale { .. } => "stale",
                Phase::Expired => "expired",
            }
            .to_owned(),
            origins: peer.origins.values().map(|origin| origin.name.clone()).collect(),
            routes: if peer.counts() { copy.counts().routes() } else { 0 },
            stale: matches!(peer.phase, Phase::Stale { .. }),
            last_error: None,
        };
        self.peers.iter().zip(copies).map(status).collect()
    }

    /// Routes that an operator asked for, each with the origin it is from.
    pub fn routes(&self, query: &RouteQuery, limit: usize, copies: &[&Table]) -> RouteList {
        let contenders = contenders(&self.own, &self.sources, &self.peers, copies);
        let show = |vrf: u32, prefix: IpNet, label: Label| Route {
            vrf,
            prefix,
            label: label.to_string(),
            via: self.fib.group(label).map(|group| words(&group)).unwrap_or_default(),
            origin: contenders.best(vrf, prefix).map(|(_, of)| of.origin.name.clone()),
        };
        let routes = match query {
            RouteQuery::Prefix(prefix) => {
                let (vrf, prefix) = (0, prefix.trunc());
                let found = self.fib.get(&Key::Route { vrf, prefix });
                found
                    .and_then(|value| {
                        if let Value::Route(label) = value { Some(show(vrf, prefix, label)) } else { None }
                    })
                    .into_iter()
                    .collect()
            }
            RouteQuery::Address(address) => self
                .fib
                .longest_match(0, *address)
                .map(|(prefix, label)| show(0, prefix, label))
                .into_iter()
                .collect(),
            RouteQuery::All => {
                let page = self.fib.page(None, limit, |key| matches!(key, Key::Route { .. }));
                let route = |(key, value): &(Key, Value)| match (key, value) {
                    (Key::Route { vrf, prefix }, Value::Route(label)) => Some(show(*vrf, *prefix, *label)),
                    _ => None,
                };
                page.records.iter().filter_map(route).collect()
            }
        };
        RouteList { total: self.fib.counts().routes(), routes }
    }

    /// All groups in the forwarding table.
    pub fn groups(&self) -> GroupList {
        // Groups come first in the order of a table.
        let page = self.fib.page(None, self.fib.counts().groups as usize, |_| true);
        let entry = |(key, value): &(Key, Value)| match (key, value) {
            (Key::Group(label), Value::Group(group)) => {
                Some(GroupEntry { label: label.to_string(), via: words(group) })
            }
            _ => None,
        };
        GroupList { groups: page.records.iter().filter_map(entry).collect() }
    }
}

/// A group in words, as `fibcast show` prints it.
fn words(group: &GroupValue) -> Vec<String> {
    let hop = |hop: &HopValue| {
        let mut words = Vec::new();
        words.extend(hop.gateway.map(|gateway| gateway.to_string()));
        words.extend(hop.port.as_ref().map(|port| format!("port {port}")));
        if hop.weight != 1 {
            words.push(format!("weight {}", hop.weight));
        }
        words.join(" ")
    };
    match group {
        GroupValue::Hops(hops) => hops.iter().map(hop).collect(),
        GroupValue::Blackhole => vec!["blackhole".to_owned()],
        GroupValue::Unreachable => vec!["unreachable".to_owned()],
        GroupValue::Prohibit => vec!["prohibit".to_owned()],
        GroupValue::Local => vec!["local".to_owned()],
    }
}
