//! State of the agent's table and state machines in the types that operators see.

use std::net::IpAddr;
use std::time::Duration;

use fibcast_control::status::{self, ClientStatus, Refused, ServerStatus, SyncStatus, TableStatus};
use fibcast_control::tables::{GroupEntry, GroupList, Route};
use fibcast_daemon::routes::RouteTable;
use fibcast_sync_proto::acknowledge::Acknowledge;
use fibcast_sync_proto::ages::Ages;
use fibcast_sync_proto::frame;
use fibcast_sync_proto::node::{ClientId, Node, NodeRole};
use fibcast_sync_proto::{GroupValue, Key, Label, Table, Value};
use ipnet::IpNet;

use crate::acknowledge;
use crate::shell::ShellState;

/// Status of one copy of a table; `changes` is its owner's counter.
pub fn table_status(table: &Table, changes: u64) -> TableStatus {
    let counts = table.counts();
    let digest = table.digest();
    TableStatus {
        epoch: table.epoch(),
        serial: table.serial(),
        ipv4_routes: counts.routes_v4 + counts.rib_routes_v4,
        ipv6_routes: counts.routes_v6 + counts.rib_routes_v6,
        groups: counts.groups,
        records: digest.count,
        digest: format!("{:032x}", digest.hash),
        changes,
    }
}

/// A client of a node and its connections.
pub(super) fn sync_status<R: NodeRole>(node: &Node<R>, client: ClientId, state: &ShellState) -> SyncStatus {
    let (Some(machine), Some(connections)) = (node.client(client), state.clients.get(client)) else {
        return SyncStatus::default();
    };
    let counters = machine.counters();
    let links = machine.links();
    let (active, base) = (machine.active(), machine.base());
    let lag = |i: usize, announced: Option<(u64, u64)>| match (announced, base) {
        (Some((epoch, serial)), Some((of, at))) if active == Some(i) && epoch == of => {
            serial.saturating_sub(at)
        }
        _ => 0,
    };
    let stalled = active.filter(|_| machine.is_stalled()).map(|id| {
        let announced = links.get(id).and_then(|link| link.announced);
        let behind = match lag(id, announced) {
            0 => "a table".to_owned(),
            n => format!("{n} commits"),
        };
        format!("{} announces {behind} and sends none", connections.address(id))
    });
    SyncStatus {
        active: active.and_then(|id| links.get(id)).map(|l| role(l.role)),
        servers: links
            .into_iter()
            .enumerate()
            .map(|(i, l)| ServerStatus {
                lag: lag(i, l.announced),
                sent_bytes: connections.wires.get(i).map_or(0, |w| w.sent),
                certificate: connections.wires.get(i).map(|w| w.names.clone()).unwrap_or_default(),
                address: connections.address(i).to_owned(),
                role: role(l.role),
                name: l.name,
                state: l.state.to_owned(),
                ready: l.ready,
                stale: l.stale,
                received_bytes: connections.wires.get(i).map_or(0, |w| w.received),
                last_error: l.last_error,
            })
            .collect(),
        failovers: counters.failovers,
        last_failover_ms: counters.last_failover.map(|d| d.as_secs_f64() * 1e3),
        routes_copied: counters.routes_copied,
        last_failover_routes_copied: counters.last_failover_routes_copied,
        routes_differing: counters.routes_differing,
        routes_applied: counters.routes_applied,
        routes_passed_on: node.server().routes_passed_on(),
        digest_mismatches: counters.digest_mismatches,
        stalled,
        stalls: counters.stalls,
        checkpoint: None,
    }
}

/// All registered clients downstream, with what `acknowledge` knows of them.
pub fn clients<R: NodeRole>(
    now: Duration,
    node: &Node<R>,
    state: &ShellState,
    acknowledge: Option<&Acknowledge>,
) -> Vec<ClientStatus> {
    let sessions = node.server().sessions().into_iter();
    sessions
        .map(|s| {
            let peer = state.peers.get(&s.session);
            let serial = node.role().served(&s.table).map_or(s.serial, |t| t.table.serial());
            let (refused, refused_first) =
                acknowledge.map(|a| acknowledge::refused_by(a, s.session)).unwrap_or_default();
            ClientStatus {
                refused,
                refused_first,
                address: peer.map_or_else(String::new, |p| p.address.to_string()),
                name: s.name,
                table: s.table,
                role: role(s.role),
                state: s.state.to_owned(),
                active: s.active,
                serial: s.serial,
                installed: s.installed.map(|(serial, _)| serial),
                installed_age_ms: s.installed.map(|(_, at)| now.saturating_sub(at).as_millis() as u64),
                lag: if s.active { serial.saturating_sub(s.serial) } else { 0 },
                sent_bytes: peer.map_or(s.sent_bytes, |p| p.sent),
                received_bytes: peer.map_or(0, |p| p.received),
                queued_bytes: s.queued_bytes,
                certificate: peer.map(|p| p.names.clone()).unwrap_or_default(),
                last_error: peer.and_then(|p| p.last_error.clone()),
            }
        })
        .collect()
}

/// Refused connections.
pub fn refused(state: &ShellState) -> Refused {
    let r = state.refusals;
    Refused {
        turned_away: r.turned_away,
        handshake: r.handshake,
        not_allowed: r.not_allowed,
        over_budget: state.over_budget,
    }
}

fn role(role: frame::Role) -> status::Role {
    match role {
        frame::Role::Primary => status::Role::Primary,
        frame::Role::Secondary => status::Role::Secondary,
    }
}

/// The forwarding routes of a host's table, as operators page through them.
pub struct HostRoutes<'t> {
    /// The table.
    pub table: &'t Table,
    /// Times of its serials.
    pub ages: &'t Ages,
    /// The present.
    pub now: Duration,
    /// The server that it is from, which stands for the origin: forwarding records have none.
    pub server: Option<String>,
}

impl RouteTable for HostRoutes<'_> {
    type Label = Label;

    fn vrfs(&self) -> impl Iterator<Item = u32> {
        self.table.vrfs()
    }

    fn total(&self) -> u64 {
        let counts = self.table.counts();
        counts.routes_v4 + counts.routes_v6
    }

    fn get(&self, vrf: u32, prefix: IpNet) -> Option<Label> {
        route(self.table, vrf, prefix)
    }

    fn longest_match(&self, vrf: u32, address: IpAddr) -> Option<(IpNet, Label)> {
        self.table.longest_match(vrf, address)
    }

    fn after(&self, vrf: u32, prefix: Option<IpNet>) -> impl Iterator<Item = (IpNet, Label)> {
        self.table.routes_of(vrf, prefix)
    }

    fn has_gateway(&self, label: Label, gateway: IpAddr) -> bool {
        has_gateway(self.table, label, gateway)
    }

    fn is_from(&self, _: u32, _: IpNet, origin: &str) -> bool {
        self.server.as_ref().is_some_and(|server| server == origin)
    }

    fn show(&self, vrf: u32, prefix: IpNet, label: Label) -> Vec<Route> {
        let age_ms = age_ms(self.table, &Key::Route { vrf, prefix }, self.ages, self.now);
        let (label, via) = (label.to_string(), via(self.table, label));
        vec![Route { vrf, prefix, label, via, origin: self.server.clone(), age_ms, choice: None }]
    }
}

/// The group of a forwarding route.
pub fn route(table: &Table, vrf: u32, prefix: IpNet) -> Option<Label> {
    match table.get(&Key::Route { vrf, prefix })? {
        Value::Route(label) => Some(label),
        _ => None,
    }
}

/// Whether a group has a next hop with this gateway.
pub fn has_gateway(table: &Table, label: Label, gateway: IpAddr) -> bool {
    table.group(label).is_some_and(|group| match &*group {
        GroupValue::Hops(hops) => hops.iter().any(|hop| hop.gateway == Some(gateway)),
        _ => false,
    })
}

/// Time since a record last changed.
pub fn age_ms(table: &Table, key: &Key, ages: &Ages, now: Duration) -> Option<u64> {
    table.changed_at(key).map(|serial| ages.of(serial, now).as_millis() as u64)
}

/// Groups of a table.
pub fn groups(table: &Table) -> GroupList {
    let page = table.page(None, usize::MAX, |k| matches!(k, Key::Group(_)));
    let groups = page.records.into_iter().filter_map(|(key, value)| match (key, value) {
        (Key::Group(label), Value::Group(group)) => {
            Some(GroupEntry { label: label.to_string(), via: words(&group), traffic: None })
        }
        _ => None,
    });
    GroupList { groups: groups.collect() }
}

/// The next hops of a group of a table as text.
pub fn via(table: &Table, label: Label) -> Vec<String> {
    table.group(label).map(|g| words(&g)).unwrap_or_default()
}

/// The next hops of a group as text.
pub fn words(group: &GroupValue) -> Vec<String> {
    let hops = match group {
        GroupValue::Blackhole => return vec!["blackhole".into()],
        GroupValue::Unreachable => return vec!["unreachable".into()],
        GroupValue::Prohibit => return vec!["prohibit".into()],
        GroupValue::Local => return vec!["local".into()],
        GroupValue::Hops(hops) => hops,
    };
    hops.iter()
        .map(|hop| {
            let gateway = hop.gateway.map(|g| g.to_string());
            let port = hop.port.as_deref().map(|p| format!("port {p}"));
            let weight = (hop.weight != 1).then(|| format!("weight {}", hop.weight));
            [gateway, port, weight].into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fibcast_control::protocol::{RouteQuery, RouteRequest};
    use fibcast_daemon::routes::page;
    use fibcast_sync_proto::Change;

    use super::*;

    #[test]
    fn routes_are_looked_for_in_every_vrf() {
        let mut table = Table::new(1);
        let group = GroupValue::Blackhole;
        let label = Label::of(&group);
        let route = |vrf, prefix: &str| {
            Change::Put(Key::Route { vrf, prefix: prefix.parse().unwrap() }, Value::Route(label))
        };
        let changes = [route(0, "10.0.0.0/8"), route(7, "10.0.0.0/8"), route(7, "10.1.0.0/16")];
        let group = Change::Put(Key::Group(label), Value::Group(group));
        table.commit([group].into_iter().chain(changes)).unwrap();
        let mut ages = Ages::default();
        ages.note(table.serial(), Duration::from_secs(2));
        let now = Duration::from_secs(5);
        let routes = HostRoutes { table: &table, ages: &ages, now, server: Some("server rs-a".into()) };
        let asked = |query: RouteQuery| -> Vec<(u32, String)> {
            let list = page(&routes, &RouteRequest { query, ..RouteRequest::default() });
            let old =
                |route: &Route| (route.age_ms, route.origin.as_deref()) == (Some(3_000), Some("server rs-a"));
            assert!(list.routes.iter().all(old), "{list:?}");
            list.routes.iter().map(|route| (route.vrf, route.prefix.to_string())).collect()
        };
        let named = |vrf, prefix: &str| (vrf, prefix.to_owned());
        let of_prefix = asked(RouteQuery::Prefix("10.0.0.0/8".parse().unwrap()));
        assert_eq!(of_prefix, [named(0, "10.0.0.0/8"), named(7, "10.0.0.0/8")]);
        let of_address = asked(RouteQuery::Address("10.1.2.3".parse().unwrap()));
        assert_eq!(of_address, [named(0, "10.0.0.0/8"), named(7, "10.1.0.0/16")]);
        assert_eq!(asked(RouteQuery::All).len(), 3);
        assert_eq!(asked(RouteQuery::Address("11.0.0.1".parse().unwrap())), []);
    }
}
