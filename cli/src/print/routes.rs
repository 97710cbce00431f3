//! `show routes` and `show groups`: the table.

use fibcast_control::tables::{Choice, GroupList, Route, RouteList};

use super::columns::{Table, or_dash, yes};

/// Pages of routes as one table, whose columns are as wide as those of the pages before.
#[derive(Debug, Default)]
pub struct RoutePages {
    widths: Vec<usize>,
}

impl RoutePages {
    /// The next page; the first one has the heading.
    pub fn page(&mut self, list: &RouteList) -> String {
        if list.routes.is_empty() && !self.widths.is_empty() {
            return String::new();
        }
        let choices: Vec<(&Route, &Choice)> =
            list.routes.iter().filter_map(|route| Some((route, route.choice.as_ref()?))).collect();
        let table = if choices.is_empty() {
            Table::continued(&list.routes, &mut self.widths)
                .value("vrf", |route| route.vrf)
                .value("prefix", |route| route.prefix)
                .value("via", |route| route.via.join(", "))
                .value("origin", |route| or_dash(route.origin.as_ref()))
                .value("age", |route| or_dash(route.age_ms.map(age)))
                .text("group", |route| &route.label)
        } else {
            return self.choices(&choices);
        };
        table.finish()
    }

    /// Every origin's route, the best one marked, with the deciding criterion.
    fn choices(&mut self, choices: &[(&Route, &Choice)]) -> String {
        let lost = |best| if best { "" } else { "lost by " };
        Table::continued(choices, &mut self.widths)
            .text("", |(_, choice)| if choice.best { "*" } else { "" })
            .value("vrf", |(route, _)| route.vrf)
            .value("prefix", |(route, _)| route.prefix)
            .value("via", |(route, _)| route.via.join(", "))
            .value("origin", |(route, _)| or_dash(route.origin.as_ref()))
            .value("age", |(route, _)| or_dash(route.age_ms.map(age)))
            .text("server", |(_, choice)| &choice.server)
            .value("distance", |(_, choice)| choice.distance)
            .value("metric", |(_, choice)| choice.metric)
            .text("origin id", |(_, choice)| &choice.origin_id)
            .text("stale", |(_, choice)| yes(choice.stale))
            .value("decided by", |(_, choice)| format!("{}{}", lost(choice.best), choice.decided_by))
            .finish()
    }
}

/// A time in two units, as routing daemons write it: `07s`, `3m07s`, `2h05m`, `9d04h`.
fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
    }
}

pub fn groups(list: &GroupList) -> String {
    Table::of(&list.groups)
        .text("group", |group| &group.label)
        .value("packets", |group| or_dash(group.traffic.as_ref().map(|traffic| traffic.packets)))
        .value("bytes", |group| or_dash(group.traffic.as_ref().map(|traffic| traffic.bytes)))
        .value("via", |group| group.via.join(", "))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let ages = [999, 59_999, 60_000, 3_599_000, 7_500_000, 86_400_000, 800_000_000];
        assert_eq!(ages.map(age), ["0s", "59s", "1m00s", "59m59s", "2h05m", "1d00h", "9d06h"]);
    }

    #[test]
    fn pages_are_one_table() {
        let route = |prefix: &str, age_ms| Route {
            prefix: prefix.parse().unwrap(),
            via: vec!["192.0.2.1".into()],
            label: "00000000000000aa".into(),
            age_ms,
            ..Route::default()
        };
        let list = |routes| RouteList { routes, ..RouteList::default() };
        let mut pages = RoutePages::default();
        let first = pages.page(&list(vec![route("10.0.0.0/8", Some(61_000)), route("10.1.0.0/16", None)]));
        assert_eq!(
            first,
            "vrf  prefix       via        origin  age    group\n\
             \u{20} 0  10.0.0.0/8   192.0.2.1  -       1m01s  00000000000000aa\n\
             \u{20} 0  10.1.0.0/16  192.0.2.1  -       -      00000000000000aa\n"
        );
        let second = pages.page(&list(vec![route("9.0.0.0/8", None)]));
        assert_eq!(second, "  0  9.0.0.0/8    192.0.2.1  -       -      00000000000000aa\n");
        assert_eq!(pages.page(&list(vec![])), "");
        assert!(RoutePages::default().page(&list(vec![])).starts_with("vrf  prefix"));
    }
}
