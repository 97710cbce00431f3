//! `show routes` and `show groups`: the table.

use std::fmt::Write;

use fibcast_control::tables::{GroupList, GroupTraffic, RouteList};

use super::columns::{Columns, or_dash, yes};

/// Every origin's route, the best one marked, with the deciding criterion.
fn choices(list: &RouteList) -> String {
    let heads = [
        "",
        "vrf",
        "prefix",
        "via",
        "origin",
        "server",
        "distance",
        "metric",
        "origin id",
        "stale",
        "decided by",
    ];
    let mut columns = Columns::new(&heads);
    for route in &list.routes {
        let Some(choice) = &route.choice else { continue };
        columns.row(vec![
            if choice.best { "*" } else { "" }.to_owned(),
            route.vrf.to_string(),
            route.prefix.to_string(),
            route.via.join(", "),
            or_dash(&route.origin),
            choice.server.clone(),
            choice.distance.to_string(),
            choice.metric.to_string(),
            choice.origin_id.clone(),
            yes(choice.stale),
            if choice.best { choice.decided_by.clone() } else { format!("lost by {}", choice.decided_by) },
        ]);
    }
    let mut text = columns.finish();
    let _ = writeln!(text, "{} shown, {} in the table", list.routes.len(), list.total);
    text
}

pub fn routes(list: &RouteList) -> String {
    if list.routes.iter().any(|route| route.choice.is_some()) {
        return choices(list);
    }
    let mut columns = Columns::new(&["vrf", "prefix", "via", "origin", "group"]);
    for route in &list.routes {
        columns.row(vec![
            route.vrf.to_string(),
            route.prefix.to_string(),
            route.via.join(", "),
            or_dash(&route.origin),
            route.label.clone(),
        ]);
    }
    let mut text = columns.finish();
    let _ = writeln!(text, "{} shown, {} in the table", list.routes.len(), list.total);
    text
}

pub fn groups(list: &GroupList) -> String {
    let mut columns = Columns::new(&["group", "packets", "bytes", "via"]);
    for group in &list.groups {
        let count = |count: fn(&GroupTraffic) -> u64| {
            group.traffic.as_ref().map_or_else(|| "-".to_owned(), |traffic| count(traffic).to_string())
        };
        let (packets, bytes) = (count(|traffic| traffic.packets), count(|traffic| traffic.bytes));
        columns.row(vec![group.label.clone(), packets, bytes, group.via.join(", ")]);
    }
    columns.finish()
}
