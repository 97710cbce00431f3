//! Batches that wait to be applied.
//!
//! A batch that the table refuses stays, and the others must not wait behind it for ever: what makes room for it, or sets it right, may
//! be among them. So once one failed, all that wait become one batch with the last word on each route and group. It is a table that the
//! server did commit, that of the last of them, and it is no larger than the table, however long the failure lasts.

use std::collections::{HashSet, VecDeque};

use fibcast_fib::{Change, GroupLabel, VrfId};
use ipnet::IpNet;

use super::Batch;

/// What a change is about.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Group(GroupLabel),
    Route(VrfId, IpNet),
}

fn key(change: &Change) -> Key {
    match *change {
        Change::PutGroup { label, .. } | Change::DeleteGroup { label } => Key::Group(label),
        Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => Key::Route(vrf, prefix),
    }
}

/// Makes one batch of all.
pub fn coalesce(batches: &mut VecDeque<Batch>) {
    if batches.len() < 2 {
        return;
    }
    // What came before a batch that holds the whole table is of no account.
    let first = batches.iter().rposition(|batch| batch.replaces).unwrap_or(0);
    let replaces = batches.get(first).is_some_and(|batch| batch.replaces);
    let serial = batches.back().map_or(0, |batch| batch.serial);
    let mut seen = HashSet::new();
    let mut changes: Vec<Change> = Vec::new();
    for batch in batches.drain(..).skip(first).rev() {
        changes.extend(batch.changes.into_iter().rev().filter(|change| seen.insert(key(change))));
    }
    changes.reverse();
    batches.push_back(Batch { changes, serial, replaces });
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_fib::Group;

    fn batch(serial: u64, changes: &[Change]) -> Batch {
        Batch { changes: changes.to_vec(), serial, replaces: false }
    }

    fn route(prefix: &str, label: Option<u64>) -> Change {
        let (vrf, prefix) = (VrfId::DEFAULT, prefix.parse().unwrap());
        match label {
            Some(label) => Change::Announce { vrf, prefix, label: GroupLabel(label) },
            None => Change::Withdraw { vrf, prefix },
        }
    }

    fn put(label: u64) -> Change {
        Change::PutGroup { label: GroupLabel(label), group: Group::Blackhole }
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
