//! Batches that wait to be applied.
//!
//! The other batches must not wait forever behind a refused one: they may make the room that it needs, or correct it. So after a failure
//! all waiting batches are merged into one with the last change of each route and group. The result is a table that the server committed
//! (that of the last batch), and is never larger than the table, however long the failure lasts.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use fibcast_fib::{Change, GroupLabel, VrfId};
use ipnet::IpNet;

use super::own_routes::is_own;

/// A commit of the table that feeds this host.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
    /// Serial of the commit.
    pub serial: u64,
    /// Number under which its sender learns that all workers use it; 0 if nobody wants to know.
    pub number: u64,
    /// The batch holds the whole table: what it does not name is to be removed.
    pub replaces: bool,
}

/// Why the first batch waits.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) retry_at: Instant,
}

/// The key of a change.
#[derive(PartialEq, Eq, Hash)]
enum ChangeKey {
    Group(GroupLabel),
    Route(VrfId, IpNet),
}

fn key(change: &Change) -> ChangeKey {
    match *change {
        Change::PutGroup { label, .. } | Change::DeleteGroup { label } => ChangeKey::Group(label),
        Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => {
            ChangeKey::Route(vrf, prefix)
        }
    }
}

/// Whether a change brings, uses or deletes one of the host's own groups.
fn is_of_own(change: &Change) -> bool {
    match change {
        Change::PutGroup { label, .. } | Change::DeleteGroup { label } | Change::Announce { label, .. } => {
            is_own(*label)
        }
        Change::Withdraw { .. } => false,
    }
}

/// Merges all batches into one.
pub fn coalesce(batches: &mut VecDeque<Batch>) {
    if batches.len() < 2 {
        return;
    }
    // What precedes a batch with the whole table is irrelevant.
    let first = batches.iter().rposition(|batch| batch.replaces).unwrap_or(0);
    let replaces = batches.get(first).is_some_and(|batch| batch.replaces);
    let (serial, number) = batches.back().map_or((0, 0), |batch| (batch.serial, batch.number));
    let mut seen = HashSet::new();
    let mut changes: Vec<Change> = Vec::new();
    for (at, batch) in batches.drain(..).enumerate().rev() {
        // The host's own routes are in no server's table.
        let kept = |change: &Change| at >= first || is_of_own(change);
        changes.extend(
            batch.changes.into_iter().rev().filter(|change| seen.insert(key(change)) && kept(change)),
        );
    }
    changes.reverse();
    batches.push_back(Batch { changes, serial, number, replaces });
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_fib::{Group, Special};

    fn batch(serial: u64, changes: &[Change]) -> Batch {
        Batch { changes: changes.to_vec(), serial, number: serial, replaces: false }
    }

    fn route(prefix: &str, label: Option<u64>) -> Change {
        let (vrf, prefix) = (VrfId::DEFAULT, prefix.parse().unwrap());
        match label {
            Some(label) => Change::Announce { vrf, prefix, label: GroupLabel(label) },
            None => Change::Withdraw { vrf, prefix },
        }
    }

    fn put(label: u64) -> Change {
        Change::PutGroup { label: GroupLabel(label), group: Group::Special(Special::Blackhole) }
    }

    #[test]
    fn the_last_word_on_each_route_and_group_stays() {
        let delete = Change::DeleteGroup { label: GroupLabel(1) };
        let mut batches = VecDeque::from([
            batch(4, &[put(1), route("10.0.0.0/8", Some(1)), route("11.0.0.0/8", Some(1))]),
            batch(5, &[put(2), route("11.0.0.0/8", Some(2))]),
            batch(6, &[route("10.0.0.0/8", None), delete.clone()]),
        ]);
        coalesce(&mut batches);
        let expected = [put(2), route("11.0.0.0/8", Some(2)), route("10.0.0.0/8", None), delete];
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].serial, batches[0].changes.as_slice()), (6, expected.as_slice()));
    }

    #[test]
    fn a_whole_table_leaves_nothing_of_what_came_before() {
        let mut batches = VecDeque::from([
            batch(4, &[route("10.0.0.0/8", Some(1))]),
            Batch { replaces: true, ..batch(1, &[put(1), route("11.0.0.0/8", Some(1))]) },
            batch(2, &[route("12.0.0.0/8", Some(1))]),
        ]);
        coalesce(&mut batches);
        assert!(batches[0].replaces);
        assert_eq!(batches[0].serial, 2);
        assert_eq!(batches[0].changes, [put(1), route("11.0.0.0/8", Some(1)), route("12.0.0.0/8", Some(1))]);
    }
}
