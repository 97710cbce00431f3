//! `show routes` and `show groups`: the table.

use fibcast_control::tables::{GroupList, RouteList};

use super::columns::{Table, or_dash, yes};

pub fn routes(list: &RouteList) -> String {
    let choices: Vec<_> =
        list.routes.iter().filter_map(|route| Some((route, route.choice.as_ref()?))).collect();
    let table = if choices.is_empty() {
        Table::of(&list.routes)
            .value("vrf", |route| route.vrf)
            .value("prefix", |route| route.prefix)
            .value("via", |route| route.via.join(", "))
            .value("origin", |route| or_dash(route.origin.as_ref()))
            .text("group", |route| &route.label)
            .finish()
    } else {
        // Every origin's route, the best one marked, with the deciding criterion.
        let lost = |best| if best { "" } else { "lost by " };
        Table::of(&choices)
            .text("", |(_, choice)| if choice.best { "*" } else { "" })
            .value("vrf", |(route, _)| route.vrf)
            .value("prefix", |(route, _)| route.prefix)
            .value("via", |(route, _)| route.via.join(", "))
            .value("origin", |(route, _)| or_dash(route.origin.as_ref()))
            .text("server", |(_, choice)| &choice.server)
            .value("distance", |(_, choice)| choice.distance)
            .value("metric", |(_, choice)| choice.metric)
            .text("origin id", |(_, choice)| &choice.origin_id)
            .text("stale", |(_, choice)| yes(choice.stale))
            .value("decided by", |(_, choice)| format!("{}{}", lost(choice.best), choice.decided_by))
            .finish()
    };
    format!("{table}{} shown, {} in the table\n", list.routes.len(), list.total)
}

pub fn groups(list: &GroupList) -> String {
    Table::of(&list.groups)
        .text("group", |group| &group.label)
        .value("packets", |group| or_dash(group.traffic.as_ref().map(|traffic| traffic.packets)))
        .value("bytes", |group| or_dash(group.traffic.as_ref().map(|traffic| traffic.bytes)))
        .value("via", |group| group.via.join(", "))
        .finish()
}
