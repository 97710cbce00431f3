//! The RIB: routes of origins, best path selection, and the resulting forwarding table.
//!
//! An origin's routes are in one sync table, with keys {origin, VRF, prefix}: that of an own source, or the copy of another server's
//! origin. The best path for a prefix is selected among these tables, so the RIB needs no storage of its own. [`commit_source`] writes a
//! source's batch into its table; [`select`] updates the forwarding table for prefixes that changed anywhere.
//!
//! Best path: live origins before stale ones, then lowest administrative distance, then lowest metric, then lowest origin id. All of these
//! are replicated with the routes, so servers with the same origins select the same paths.

use std::sync::Arc;

use fibcast_sync_proto::{
    ChangeRef, Commit, GroupValue, Key, Label, OriginId, Path, Table, TableError, Transaction, Value,
};
use ipnet::IpNet;

use crate::source::{Group, RouteChange};

/// An origin with eligible routes.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'t> {
    /// Key of its routes in the table, and the last tie-breaker.
    pub id: OriginId,
    /// Its lease has expired, or its routes are unreachable: used only if no other origin has a route.
    pub stale: bool,
    /// The table.
    pub table: &'t Table,
}

/// Criteria between the routes of two origins, the most important first; the lowest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// See [`Contender::stale`].
    pub stale: bool,
    /// Administrative distance.
    pub distance: u8,
    /// Metric within the origin.
    pub metric: u32,
    /// The origin.
    pub origin: OriginId,
}

impl Rank {
    /// The criterion by which this better one won over another one.
    pub fn won_by(&self, other: &Rank) -> &'static str {
        match () {
            () if self.stale != other.stale => "stale",
            () if self.distance != other.distance => "distance",
            () if self.metric != other.metric => "metric",
            () => "origin id",
        }
    }
}

/// All eligible origins.
#[derive(Debug, Clone, Default)]
pub struct Contenders<'t>(Vec<Contender<'t>>);

impl<'t> Contenders<'t> {
    /// In any order.
    pub fn new(all: Vec<Contender<'t>>) -> Self {
        Self(all)
    }

    /// Each origin's route for a prefix, in no particular order.
    pub fn each(&self, vrf: u32, prefix: IpNet) -> impl Iterator<Item = (Rank, Label, &Contender<'t>)> {
        self.0.iter().filter_map(move |contender| {
            let key = Key::RibRoute { origin: contender.id, vrf, prefix };
            let Some(Value::RibRoute { label, distance, metric }) = contender.table.get(&key) else {
                return None;
            };
            let rank = Rank { stale: contender.stale, distance, metric, origin: contender.id };
            Some((rank, label, contender))
        })
    }

    /// The best path for a prefix: its group and its origin.
    pub fn best(&self, vrf: u32, prefix: IpNet) -> Option<(Label, &Contender<'t>)> {
        let best = self.each(vrf, prefix).min_by_key(|(rank, ..)| *rank);
        best.map(|(_, label, contender)| (label, contender))
    }
}

/// Commits a source's batch as routes of `origin` into its table.
///
/// # Errors
/// [`TableError`] if the table refuses the batch.
pub fn commit_source(
    own: &mut Table,
    origin: OriginId,
    distance: u8,
    batch: &[RouteChange],
) -> Result<Option<Commit>, TableError> {
    let mut transaction = own.begin();
    // Neighboring routes often share one.
    let mut last: Option<(&Arc<Group>, Label)> = None;
    for RouteChange { vrf, prefix, path } in batch {
        let path = match path {
            None => None,
            Some((group, metric)) => {
                let label = match last.filter(|(known, _)| Arc::ptr_eq(known, group)) {
                    Some((_, label)) => label,
                    None => push_group(&mut transaction, group.label, &group.value)?,
                };
                last = Some((group, label));
                Some(Path { label, distance, metric: *metric })
            }
        };
        transaction.push(ChangeRef::RibRoute { origin, vrf: *vrf, prefix: *prefix, path })?;
    }
    transaction.commit_and_collect()
}

/// Adds a group to the batch if the table lacks it; returns its label there.
fn push_group(
    transaction: &mut Transaction<'_>,
    label: Label,
    content: &GroupValue,
) -> Result<Label, TableError> {
    let (label, known) = transaction.label_for(label, content);
    if !known {
        transaction.push(ChangeRef::Group { label, value: Some(content) })?;
    }
    Ok(label)
}

/// Updates the forwarding table for these prefixes: one commit with the changed best paths.
///
/// # Errors
/// [`TableError`] if the forwarding table refuses the batch.
pub fn select(
    fib: &mut Table,
    contenders: &Contenders<'_>,
    prefixes: impl IntoIterator<Item = (u32, IpNet)>,
) -> Result<Option<Commit>, TableError> {
    let mut transaction = fib.begin();
    for (vrf, prefix) in prefixes {
        // Two origins may have two contents under one label.
        let best = contenders.best(vrf, prefix);
        let best = best.and_then(|(label, of)| Some((label, of.table.group_ref(label)?)));
        let label = best.map(|(label, content)| push_group(&mut transaction, label, content)).transpose()?;
        // Most prefixes of a peer's first copy are already the same.
        if transaction.route(vrf, &prefix) != label {
            transaction.push(ChangeRef::Route { vrf, prefix, label })?;
        }
    }
    transaction.commit_and_collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn net(s: &str) -> IpNet {
        s.parse().unwrap()
    }

    fn route(prefix: &str, via: Option<&str>, metric: u32) -> RouteChange {
        let path = via.map(|v| (Group::new(GroupValue::via(v.parse::<IpAddr>().unwrap())), metric));
        RouteChange { vrf: 0, prefix: net(prefix), path }
    }

    fn contender<'t>(table: &'t Table, name: &str, stale: bool) -> Contender<'t> {
        Contender { id: OriginId::of(name), stale, table }
    }

    /// A table with one route 10.0.0.0/8 of one origin.
    fn table(origin: &str, distance: u8, via: &str, metric: u32) -> Table {
        let mut table = Table::new(1);
        let batch = [route("10.0.0.0/8", Some(via), metric)];
        commit_source(&mut table, OriginId::of(origin), distance, &batch).unwrap();
        table
    }

    fn winner(contenders: Vec<Contender<'_>>) -> OriginId {
        let contenders = Contenders::new(contenders);
        let (_, of) = contenders.best(0, net("10.0.0.0/8")).unwrap();
        of.id
    }

    #[test]
    fn lowest_distance_then_metric_then_origin_id_wins_in_whatever_order_they_are_given() {
        let a = table("ospf", 110, "192.0.2.1", 0);
        let b = table("bgp", 20, "192.0.2.2", 50);
        let c = table("bgp2", 20, "192.0.2.3", 10);
        let d = table("bgp3", 20, "192.0.2.4", 10);
        let all = [contender(&a, "ospf", false), contender(&b, "bgp", false)];
        assert_eq!(winner(all.to_vec()), OriginId::of("bgp"));
        let more = [contender(&c, "bgp2", false), contender(&d, "bgp3", false)];
        let lowest = OriginId::of("bgp2").min(OriginId::of("bgp3"));
        let mut all = [all.to_vec(), more.to_vec()].concat();
        assert_eq!(winner(all.clone()), lowest);
        all.reverse();
        assert_eq!(winner(all), lowest);
    }

    #[test]
    fn a_stale_origin_is_used_only_where_no_other_has_a_route() {
        let a = table("bgp", 20, "192.0.2.1", 0);
        let b = table("ospf", 110, "192.0.2.2", 0);
        let both = vec![contender(&a, "bgp", true), contender(&b, "ospf", false)];
        assert_eq!(winner(both), OriginId::of("ospf"));
        assert_eq!(winner(vec![contender(&a, "bgp", true)]), OriginId::of("bgp"));
    }

    #[test]
    fn what_decided_is_the_first_in_which_two_routes_differ() {
        let rank =
            |stale, distance, metric, origin| Rank { stale, distance, metric, origin: OriginId(origin) };
        let best = rank(false, 20, 5, 1);
        let others =
            [rank(true, 1, 0, 0), rank(false, 110, 0, 0), rank(false, 20, 9, 0), rank(false, 20, 5, 2)];
        assert_eq!(
            others.map(|other| (best < other, best.won_by(&other))),
            [(true, "stale"), (true, "distance"), (true, "metric"), (true, "origin id")]
        );
    }

    #[test]
    fn the_forwarding_table_follows_and_holds_the_groups_in_use_only() {
        let origin = OriginId::of("bgp");
        let (mut own, mut fib) = (Table::new(1), Table::new(1));
        let mut step = |batch: &[RouteChange]| {
            commit_source(&mut own, origin, 20, batch).unwrap();
            let contenders = Contenders::new(vec![contender(&own, "bgp", false)]);
            let touched = batch.iter().map(|c| (c.vrf, c.prefix));
            let commit = select(&mut fib, &contenders, touched).unwrap();
            (commit.map(|c| c.count), fib.counts().routes_v4, fib.counts().groups)
        };
        let two = [route("10.0.0.0/8", Some("192.0.2.1"), 0), route("10.1.0.0/16", Some("192.0.2.2"), 0)];
        assert_eq!(step(&two), (Some(4), 2, 2));
        assert_eq!(step(&two), (None, 2, 2), "what is already so makes no commit");
        assert_eq!(
            step(&[route("10.0.0.0/8", Some("192.0.2.1"), 7)]),
            (None, 2, 2),
            "the metric is not forwarding"
        );
        assert_eq!(step(&[route("10.1.0.0/16", Some("192.0.2.1"), 0)]), (Some(2), 2, 1));
        assert_eq!(step(&[route("10.0.0.0/8", None, 0), route("10.9.0.0/16", None, 0)]), (Some(1), 1, 1));
        let again = [route("10.1.0.0/16", None, 0), route("10.1.0.0/16", Some("192.0.2.3"), 0)];
        assert_eq!(step(&again), (Some(3), 1, 1));
        assert_eq!(step(&[route("10.1.0.0/16", None, 0)]), (Some(2), 0, 0));
    }

    /// A route whose group has the label of others, as if an adversary had found its content.
    fn forged(prefix: &str, via: &str) -> RouteChange {
        let value = GroupValue::via(via.parse().unwrap());
        RouteChange {
            vrf: 0,
            prefix: net(prefix),
            path: Some((Arc::new(Group { label: Label(7), value }), 0)),
        }
    }

    fn forwards(fib: &Table, prefix: &str) -> GroupValue {
        let Some(Value::Route(label)) = fib.get(&Key::Route { vrf: 0, prefix: net(prefix) }) else {
            panic!("no route to {prefix}");
        };
        fib.group_ref(label).unwrap().clone()
    }

    fn via(address: &str) -> GroupValue {
        GroupValue::via(address.parse().unwrap())
    }

    #[test]
    fn two_contents_with_one_label_stay_two_groups_within_an_origin_and_among_origins() {
        let (a, b) = (OriginId::of("a"), OriginId::of("b"));
        let (mut of_a, mut of_b, mut fib) = (Table::new(1), Table::new(1), Table::new(1));
        let batch = [forged("10.0.0.0/8", "192.0.2.1"), forged("10.1.0.0/16", "192.0.2.2")];
        commit_source(&mut of_a, a, 20, &batch).unwrap();
        commit_source(&mut of_a, a, 20, &[forged("10.2.0.0/16", "192.0.2.2")]).unwrap();
        // The other origin has a third content under the label, and for one of the prefixes the better route.
        commit_source(&mut of_b, b, 10, &[forged("10.3.0.0/16", "192.0.2.3")]).unwrap();
        commit_source(&mut of_b, b, 10, &[forged("10.1.0.0/16", "192.0.2.3")]).unwrap();
        let all = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"].map(|prefix| (0, net(prefix)));
        let select_all = |of_a: &Table, of_b: &Table, fib: &mut Table| {
            let both = Contenders::new(vec![contender(of_a, "a", false), contender(of_b, "b", false)]);
            select(fib, &both, all).unwrap()
        };
        select_all(&of_a, &of_b, &mut fib);
        let expected = ["192.0.2.1", "192.0.2.3", "192.0.2.2", "192.0.2.3"];
        for ((_, prefix), address) in all.iter().zip(expected) {
            assert_eq!(forwards(&fib, &prefix.to_string()), via(address), "{prefix}");
        }
        assert_eq!(fib.counts().groups, 3);
        assert_eq!(select_all(&of_a, &of_b, &mut fib), None, "what is already so makes no commit");
        // A prefix whose route moves to another content under the same label moves.
        commit_source(&mut of_b, b, 10, &[route("10.1.0.0/16", None, 0)]).unwrap();
        select_all(&of_a, &of_b, &mut fib);
        assert_eq!(forwards(&fib, "10.1.0.0/16"), via("192.0.2.2"));
        // The content that had the label leaves; the others stay what they are.
        commit_source(&mut of_a, a, 20, &[route("10.0.0.0/8", None, 0)]).unwrap();
        select_all(&of_a, &of_b, &mut fib);
        assert_eq!(forwards(&fib, "10.2.0.0/16"), via("192.0.2.2"));
        assert_eq!(forwards(&fib, "10.3.0.0/16"), via("192.0.2.3"));
        assert_eq!(fib.counts().groups, 2);
    }

    #[test]
    fn the_same_route_of_another_origin_changes_nothing_downstream() {
        let a = table("bgp-a", 20, "192.0.2.1", 0);
        let b = table("bgp-b", 20, "192.0.2.1", 0);
        let mut fib = Table::new(1);
        let prefixes = || [(0, net("10.0.0.0/8"))];
        let both = vec![contender(&a, "bgp-a", false), contender(&b, "bgp-b", false)];
        assert!(select(&mut fib, &Contenders::new(both), prefixes()).unwrap().is_some());
        let alone = Contenders::new(vec![contender(&b, "bgp-b", false)]);
        assert_eq!(select(&mut fib, &alone, prefixes()).unwrap(), None);
        assert!(select(&mut fib, &Contenders::default(), prefixes()).unwrap().is_some());
        assert!(fib.is_empty());
    }
}
