//! The agent's table and machines in the types that operators see.

use fibcast_control::protocol::RouteQuery;
use fibcast_control::status::{ClientStatus, Role, ServerStatus, SyncStatus, TableStatus};
use fibcast_control::tables::{GroupEntry, GroupList, Route, RouteList};
use fibcast_sync_proto::frame;
use fibcast_sync_proto::{GroupValue, Key, Label, Table, Value};

use crate::shell::{ClientSlot, ShellState};

/// One copy of a table; `changes` is what its owner counted.
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

/// A client machine and its links.
pub fn sync_status(slot: &ClientSlot, routes_passed_on: u64) -> SyncStatus {
    let counters = slot.machine.counters();
    let links = slot.machine.links();
    SyncStatus {
        active: slot.machine.active().and_then(|id| links.get(id)).map(|l| role(l.role)),
        servers: links
            .into_iter()
            .enumerate()
            .map(|(i, l)| ServerStatus {
                address: slot.address(i).to_owned(),
                role: role(l.role),
                name: l.name,
                state: l.state.to_owned(),
                ready: l.ready,
                received_bytes: l.received_bytes,
                last_error: l.last_error,
            })
            .collect(),
        failovers: counters.failovers,
        last_failover_ms: counters.last_failover.map(|d| d.as_secs_f64() * 1e3),
        routes_copied: counters.routes_copied,
        last_failover_routes_copied: counters.last_failover_routes_copied,
        routes_differing: counters.routes_differing,
        routes_applied: counters.routes_applied,
        routes_passed_on,
        digest_mismatches: counters.digest_mismatches,
    }
}

/// All registered clients.
pub fn clients(state: &ShellState) -> Vec<ClientStatus> {
    let sessions = state.server.sessions().into_iter();
    sessions
        .map(|s| ClientStatus {
            address: state.addresses.get(&s.session).map_or_else(String::new, ToString::to_string),
            name: s.name,
            table: s.table,
            role: role(s.role),
            active: s.active,
            serial: s.serial,
            sent_bytes: s.sent_bytes,
        })
        .collect()
}

fn role(role: frame::Role) -> Role {
    match role {
        frame::Role::Primary => Role::Primary,
        frame::Role::Secondary => Role::Secondary,
    }
}

/// Forwarding routes of a table.
pub fn routes(table: &Table, query: &RouteQuery, limit: usize) -> RouteList {
    let counts = table.counts();
    let total = counts.routes_v4 + counts.routes_v6;
    let found: Vec<(Key, Value)> = match query {
        RouteQuery::All => table.page(None, limit, |k| matches!(k, Key::Route { .. })).records,
        RouteQuery::Prefix(prefix) => {
            let key = Key::Route { vrf: 0, prefix: prefix.trunc() };
            table.get(&key).map(|value| (key, value)).into_iter().collect()
        }
        RouteQuery::Address(address) => table
            .longest_match(0, *address)
            .map(|(prefix, label)| (Key::Route { vrf: 0, prefix }, Value::Route(label)))
            .into_iter()
            .collect(),
    };
    let routes = found.into_iter().filter_map(|(key, value)| match (key, value) {
        (Key::Route { vrf, prefix }, Value::Route(label)) => {
            Some(Route { vrf, prefix, label: label.to_string(), via: via(table, label), origin: None })
        }
        _ => None,
    });
    RouteList { total, routes: routes.collect() }
}

/// Groups of a table.
pub fn groups(table: &Table) -> GroupList {
    let page = table.page(None, usize::MAX, |k| matches!(k, Key::Group(_)));
    let groups = page.records.into_iter().filter_map(|(key, value)| match (key, value) {
        (Key::Group(label), Value::Group(group)) => {
            Some(GroupEntry { label: label.to_string(), via: words(&group) })
        }
        _ => None,
    });
    GroupList { groups: groups.collect() }
}

fn via(table: &Table, label: Label) -> Vec<String> {
    table.group(label).map(|g| words(&g)).unwrap_or_default()
}

/// A group in words.
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
