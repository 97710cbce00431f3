//! The table against a model, and the promises of its documentation one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::change::record_id;
use crate::digest::DigestKey;
use crate::record::{GroupValue, HopValue, OriginValue, Value};
use crate::sketch::sketch_id;

fn group(n: u8) -> (Label, Change) {
    let value = GroupValue::via([192, 0, 2, n].into());
    let label = Label::of(&value);
    (label, Change::Put(Key::Group(label), Value::Group(value)))
}

fn route(prefix: &str) -> Key {
    Key::Route { vrf: 0, prefix: prefix.parse().unwrap() }
}

fn put(prefix: &str, n: u8) -> Change {
    Change::Put(route(prefix), Value::Route(group(n).0))
}

fn table() -> Table {
    let mut t = Table::new(1);
    t.commit([group(1).1, group(2).1, put("10.0.0.0/8", 1), put("2001:db8::/32", 2)]).unwrap().unwrap();
    t
}

#[test]
fn batch_that_changes_nothing_makes_no_commit() {
    let mut t = table();
    let same = [put("10.0.0.0/8", 1), Change::Delete(route("11.0.0.0/8"))];
    assert_eq!(t.commit(same).unwrap(), None);
    let there_and_back = [Change::Delete(route("10.0.0.0/8")), put("10.0.0.0/8", 1)];
    assert_eq!(t.commit(there_and_back).unwrap(), None);
    let new_and_gone = [put("12.0.0.0/8", 1), Change::Delete(route("12.0.0.0/8"))];
    assert_eq!(t.commit(new_and_gone).unwrap(), None);
    assert_eq!(t.serial(), 1);
    assert!(t.is_sound());
}

#[test]
fn route_on_a_missing_group_refuses_the_whole_batch() {
    let mut t = table();
    let before = (t.digest(), t.counts(), t.serial());
    let error = t.commit([put("12.0.0.0/8", 1), put("13.0.0.0/8", 9)]).unwrap_err();
    assert!(matches!(error, TableError::MissingGroup { routes: 1, label } if label == group(9).0), "{error}");
    assert_eq!((t.digest(), t.counts(), t.serial()), before);
    assert_eq!(t.get(&route("12.0.0.0/8")), None);
    assert!(t.is_sound());
    t.commit([put("13.0.0.0/8", 9), group(9).1]).unwrap().unwrap();
    assert!(t.is_sound());
}

#[test]
fn group_in_use_cannot_be_deleted() {
    let mut t = table();
    let error = t.commit([Change::Delete(Key::Group(group(1).0))]).unwrap_err();
    assert!(matches!(error, TableError::MissingGroup { routes: 1, .. }));
    assert!(t.group(group(1).0).is_some());
    t.commit([Change::Delete(Key::Group(group(1).0)), Change::Delete(route("10.0.0.0/8"))]).unwrap().unwrap();
    assert!(t.is_sound());
}

#[test]
fn collecting_commit_deletes_groups_that_lost_their_last_route() {
    let mut t = table();
    let mut transaction = t.begin();
    transaction.push_all([put("10.0.0.0/8", 2)]).unwrap();
    let c = transaction.commit_and_collect().unwrap().unwrap();
    assert_eq!((c.count, t.group(group(1).0)), (2, None));
    let changes: Vec<_> = t.changes_since(1).unwrap().changes().map(Change::from).collect();
    assert_eq!(changes, [put("10.0.0.0/8", 2), Change::Delete(Key::Group(group(1).0))]);
    assert!(t.is_sound());
}

#[test]
fn wrong_digest_undoes_the_batch() {
    let mut t = table();
    let before = t.digest();
    let mut transaction = t.begin();
    transaction.push_all([put("10.0.0.0/8", 2)]).unwrap();
    let error = transaction.commit_expecting(RootDigest::default()).unwrap_err();
    assert!(matches!(error, TableError::Digest { .. }));
    assert_eq!(t.digest(), before);
    assert_eq!(t.changes_since(1).unwrap().changes().count(), 0);
}

#[test]
fn groups_come_before_routes_and_leave_after_them() {
    let mut t = table();
    t.commit([put("11.0.0.0/8", 1)]).unwrap();
    // The group's content changes after the route did: it still comes first.
    let value = GroupValue::Hops(vec![HopValue { gateway: None, port: Some("p1".into()), weight: 1 }]);
    t.commit([Change::Put(Key::Group(group(1).0), Value::Group(value.clone()))]).unwrap();
    let changes: Vec<_> = t.changes_since(1).unwrap().changes().map(Change::from).collect();
    assert_eq!(changes, [Change::Put(Key::Group(group(1).0), Value::Group(value)), put("11.0.0.0/8", 1)]);
}

#[test]
fn reader_beyond_the_horizon_is_refused() {
    let mut t = Table::new(1).with_tombstone_limit(2);
    t.commit([group(1).1]).unwrap();
    for i in 1..=4u8 {
        t.commit([put(&format!("{i}.0.0.0/8"), 1)]).unwrap();
    }
    for i in 1..=4u8 {
        t.commit([Change::Delete(route(&format!("{i}.0.0.0/8")))]).unwrap();
    }
    assert_eq!(t.horizon(), 7);
    assert!(t.changes_since(6).is_none());
    assert_eq!(t.changes_since(7).unwrap().changes().count(), 2);
    assert!(t.changes_since(99).is_none());
    assert!(t.is_sound());
}

#[test]
fn pinned_reader_misses_no_deletion() {
    let mut t = Table::new(1).with_tombstone_limit(0);
    t.commit([group(1).1, put("1.0.0.0/8", 1)]).unwrap();
    t.pin(1);
    t.commit([Change::Delete(route("1.0.0.0/8"))]).unwrap();
    assert_eq!(t.changes_since(1).unwrap().changes().count(), 1);
    t.pin(u64::MAX);
    t.commit([put("2.0.0.0/8", 1)]).unwrap();
    assert!(t.changes_since(1).is_none());
}

#[test]
fn pages_follow_prefix_order_and_join_without_gap() {
    let mut t = table();
    let more = ["9.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "2001:db8::/48"];
    t.commit(more.iter().map(|p| put(p, 1))).unwrap();
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = t.page(after.as_ref(), 2, |k| matches!(k, Key::Route { .. }));
        all.extend(page.records.into_iter().map(|(k, _)| k));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let want = ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "2001:db8::/32", "2001:db8::/48"];
    assert_eq!(all, want.map(route));
}

#[test]
fn longest_match_prefers_the_longer_prefix() {
    let mut t = table();
    t.commit([put("10.1.0.0/16", 2)]).unwrap();
    let get = |a: &str| t.longest_match(0, a.parse().unwrap()).map(|(p, _)| p.to_string());
    assert_eq!(get("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
    assert_eq!(get("10.2.2.3").as_deref(), Some("10.0.0.0/8"));
    assert_eq!(get("11.2.2.3"), None);
}

#[test]
fn records_are_found_by_identity() {
    let t = table();
    let id =
        sketch_id(record_id(&DigestKey::PUBLIC, &route("10.0.0.0/8"), &Value::Route(group(1).0)).unwrap());
    let found = t.find_ids(&[id, 42].into_iter().collect());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, &found[0].1), (id, &route("10.0.0.0/8")));
}

#[test]
fn host_bits_do_not_make_another_route() {
    let mut t = table();
    assert_eq!(t.commit([put("10.1.2.3/8", 1)]).unwrap(), None);
}

#[test]
fn records_that_no_frame_can_carry_are_refused_with_their_whole_batch() {
    let hop = |port: Option<String>| HopValue { gateway: Some([192, 0, 2, 1].into()), port, weight: 1 };
    let group = |hops| Change::Put(Key::Group(Label(5)), Value::Group(GroupValue::Hops(hops)));
    let opaque = |key: usize, value: usize| {
        Change::Put(Key::Opaque(vec![1; key].into()), Value::Opaque(vec![2; value].into()))
    };
    let origin = |name: String, server: &str| {
        let value = OriginValue {
            name,
            server: server.into(),
            epoch: 1,
            sequence: 1,
            ready: true,
            lease_ms: 3_000,
            stale: false,
        };
        Change::Put(Key::Origin(OriginId(1)), Value::Origin(Box::new(value)))
    };
    let refused = [
        (group(vec![hop(None); 257]), "expected at most 256 next hops of a group, found 257"),
        (group(vec![hop(Some("p".repeat(65)))]), "expected at most 64 bytes in the name of a port, found 65"),
        (opaque(16_385, 1), "expected at most 16384 bytes of an opaque key, found 16385"),
        (opaque(1, 16_385), "expected at most 16384 bytes of an opaque value, found 16385"),
        (origin("o".repeat(65), "s"), "expected at most 64 bytes in the name of an origin, found 65"),
        (
            origin("o".into(), "a\nb"),
            "expected a name of an origin's server without control characters, found one",
        ),
    ];
    let mut t = table();
    let before = t.digest();
    for (change, text) in refused {
        let error = t.commit([put("12.0.0.0/8", 1), change]).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!((t.digest(), t.serial()), (before, 1));
    }
    assert!(t.is_sound());
    t.commit([group(vec![hop(Some("p".repeat(64))); 256]), opaque(16_384, 16_384)]).unwrap().unwrap();
    assert!(t.is_sound());
}

fn any_change() -> impl Strategy<Value = Change> {
    let prefix = (0u8..6, 0u8..4, any::<bool>()).prop_map(|(a, l, six)| {
        if six { format!("2001:db8:{a}::/{}", 45 + l) } else { format!("10.{a}.0.0/{}", 13 + l) }
    });
    let prefix = prefix.prop_map(|p| p.parse::<ipnet::IpNet>().unwrap().trunc());
    let origin = (0u8..2).prop_map(|o| OriginId::of(&format!("o{o}")));
    prop_oneof![
        3 => (prefix.clone(), 0u8..3, 0u32..2)
            .prop_map(|(prefix, g, vrf)| Change::Put(Key::Route { vrf, prefix }, Value::Route(group(g).0))),
        2 => (prefix.clone(), 0u32..2).prop_map(|(prefix, vrf)| Change::Delete(Key::Route { vrf, prefix })),
        2 => (prefix.clone(), origin.clone(), 0u8..3, any::<u8>(), 0u32..3).prop_map(
            |(prefix, origin, g, distance, metric)| Change::Put(
                Key::RibRoute { origin, vrf: 0, prefix },
                Value::RibRoute { label: group(g).0, distance, metric }
            )
        ),
        1 => (prefix, origin.clone())
            .prop_map(|(prefix, origin)| Change::Delete(Key::RibRoute { origin, vrf: 0, prefix })),
        1 => (0u8..3).prop_map(|g| group(g).1),
        1 => (0u8..3).prop_map(|g| Change::Delete(Key::Group(group(g).0))),
        1 => (origin, 0u64..3).prop_map(|(o, sequence)| Change::Put(
            Key::Origin(o),
            Value::Origin(Box::new(OriginValue {
                name: "o".into(),
                server: "s".into(),
                epoch: 1,
                sequence,
                ready: true,
                lease_ms: 3_000,
                stale: false,
            }))
        )),
        1 => (0u8..3, 0u8..3).prop_map(|(k, v)| Change::Put(
            Key::Opaque(vec![k].into()),
            Value::Opaque(vec![v].into())
        )),
        1 => (0u8..3).prop_map(|k| Change::Delete(Key::Opaque(vec![k].into()))),
    ]
}

type Model = BTreeMap<Key, Value>;

fn apply(model: &mut Model, change: Change) {
    match change {
        Change::Put(k, v) => model.insert(k, v),
        Change::Delete(k) => model.remove(&k),
    };
}

fn label_of(value: &Value) -> Option<Label> {
    match value {
        Value::Route(label) | Value::RibRoute { label, .. } => Some(*label),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn table_equals_its_model_and_readers_catch_up(
        batches in proptest::collection::vec(proptest::collection::vec(any_change(), 1..12), 1..25),
        limit in 0usize..20,
    ) {
        let mut table = Table::new(1).with_tombstone_limit(limit);
        let mut model = Model::new();
        let mut history = vec![(0u64, Model::new())];
        for batch in batches {
            let mut next = model.clone();
            batch.iter().cloned().for_each(|c| apply(&mut next, c));
            let sound = next.values().filter_map(label_of).all(|l| next.contains_key(&Key::Group(l)));
            match table.commit(batch) {
                Ok(commit) => {
                    prop_assert!(sound);
                    prop_assert_eq!(commit.is_some(), next != model);
                    model = next;
                    history.push((table.serial(), model.clone()));
                }
                Err(e) => prop_assert!(!sound, "{}", e),
            }
            prop_assert!(table.is_sound());
            prop_assert_eq!(table.iter().collect::<Model>(), model.clone());
        }
        for (serial, mut copy) in history {
            match table.changes_since(serial) {
                None => prop_assert!(serial < table.horizon()),
                Some(b) => {
                    prop_assert_eq!(b.count(), b.changes().count() as u64);
                    b.changes().for_each(|c| apply(&mut copy, c.into()));
                    prop_assert_eq!(&copy, &model);
                }
            }
        }
    }
}

#[test]
fn a_refused_batch_leaves_no_vrf_behind() {
    let mut t = Table::new(1);
    t.commit([group(1).1, put("10.0.0.0/8", 1)]).unwrap();
    for vrf in 1..200_000u32 {
        let key = Key::Route { vrf, prefix: "10.0.0.0/8".parse().unwrap() };
        let missing = Change::Put(key, Value::Route(group(2).0));
        assert!(matches!(t.commit([missing]), Err(TableError::MissingGroup { .. })));
    }
    assert_eq!(t.vrfs().collect::<Vec<_>>(), [0]);
    assert!(t.is_sound());
}

#[test]
fn memory_counts_what_records_hold_and_gives_it_back() {
    let mut t = Table::new(1).with_tombstone_limit(0);
    let empty = t.memory_bytes();
    let key = |i: u32| Key::Opaque(format!("{i:0>1000}").into_bytes().into());
    let put = |i| Change::Put(key(i), Value::Opaque(vec![7; 16_000].into()));
    t.commit((0..100).map(put)).unwrap();
    let full = t.memory_bytes();
    assert!((1_800_000..2_000_000).contains(&(full - empty)), "{}", full - empty);
    // A refused batch holds nothing.
    let missing =
        Change::Put(Key::Route { vrf: 0, prefix: "10.0.0.0/8".parse().unwrap() }, Value::Route(Label(9)));
    t.commit((100..110).map(put).chain([missing])).unwrap_err();
    assert!(t.memory_bytes() < full + 20_000, "{}", t.memory_bytes() - full);
    t.commit((0..100).map(|i| Change::Delete(key(i)))).unwrap();
    assert!(t.memory_bytes() < empty + 40_000, "{}", t.memory_bytes() - empty);
}

#[test]
fn keys_of_deleted_opaque_records_are_remembered_up_to_a_number_of_bytes() {
    let mut t = Table::new(1);
    let key = |i: u32| Key::Opaque(format!("{i:0>16000}").into_bytes().into());
    for i in 0..2_000 {
        t.commit([Change::Put(key(i), Value::Opaque([1].into()))]).unwrap();
        t.commit([Change::Delete(key(i))]).unwrap();
    }
    // 64 MB of keys were deleted, half of that in each of two places.
    let remembered = t.count_since(0, usize::MAX);
    assert!((400..=600).contains(&remembered), "{remembered}");
    assert!(t.horizon() > 0 && t.memory_bytes() < 20 << 20, "{}", t.memory_bytes());
}
