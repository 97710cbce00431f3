//! Room that gives out in the middle of a batch: the table stays as it was, and the same batch goes in when there is room again.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;

/// All that a table says, so that what a refused batch left behind shows.
#[derive(Debug, PartialEq)]
struct Picture {
    routes: Vec<(VrfId, IpNet, GroupLabel)>,
    groups: Vec<(GroupLabel, Group, usize)>,
    next_hops: Vec<NextHop>,
    answers: Vec<Option<u64>>,
    serials: (u64, u64),
}

fn picture(fib: &mut Fib, asked: &[IpAddr]) -> Picture {
    let vrfs: Vec<VrfId> = fib.vrfs().collect();
    let of = |vrf| fib.routes(vrf, None).map(move |(prefix, label)| (vrf, prefix, label));
    let routes = vrfs.into_iter().flat_map(of).collect();
    let mut groups: Vec<_> =
        fib.groups().map(|(label, group, routes)| (label, group.clone(), routes)).collect();
    groups.sort_by_key(|(label, ..)| *label);
    let mut next_hops: Vec<NextHop> = fib.next_hops().collect();
    next_hops.sort();
    let answers = lookup(fib, asked);
    Picture { routes, groups, next_hops, answers, serials: (fib.serial(), fib.generation().serial()) }
}

/// Applies a batch that may be refused: then nothing has changed, not even the generation.
fn apply_or_nothing(fib: &mut Fib, batch: &[Change], asked: &[IpAddr]) -> Result<Applied, ApplyError> {
    let (before, generation) = (picture(fib, asked), fib.generation());
    let done = fib.apply(batch, 77);
    if let Err(error) = &done {
        assert!(error.is_capacity(), "{error}");
        assert_eq!(picture(fib, asked), before, "{error}");
        assert!(Arc::ptr_eq(&generation, &fib.generation()), "{error}");
    }
    done
}

fn prefixes(first: u32, count: u32) -> Vec<IpNet> {
    let v4 = (first..first + count)
        .map(|n| net(true, u128::from(0x0a00_0000 + (n << 10)) << 96, 22 + (n % 5) as u8));
    let v6 = (first..first + count)
        .map(|n| net(false, 0x2001_0db8 << 96 | u128::from(n) << 88, 40 + (n % 11) as u8));
    v4.chain(v6).collect()
}

fn all(prefixes: &[IpNet], label: u64) -> Vec<Change> {
    let announce =
        |&prefix: &IpNet| Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) };
    prefixes.iter().map(announce).collect()
}

fn none(prefixes: &[IpNet]) -> Vec<Change> {
    prefixes.iter().map(|&prefix| Change::Withdraw { vrf: VrfId::DEFAULT, prefix }).collect()
}

fn edges_of(prefixes: &[IpNet]) -> Vec<IpAddr> {
    prefixes.iter().copied().flat_map(edges).collect()
}

/// Groups 1 to 4 and some routes, and a batch that does everything a batch can: new routes and groups, routes that move, routes and
/// groups that go.
fn table_and_batch(limits: Limits) -> (Fib, Vec<Change>, Vec<IpAddr>) {
    let (old, new) = (prefixes(0, 20), prefixes(100, 15));
    let mut fib = Fib::new(limits);
    let mut first: Vec<Change> = (1..=4).map(put).collect();
    first.extend(all(&old, 1));
    fib.apply(&first, 1).unwrap();
    let mut batch = all(&new, 5);
    batch.extend(none(&old[..7]));
    batch.extend(all(&old[7..20], 6));
    batch.extend([put(6), put(5), put(7), Change::DeleteGroup { label: GroupLabel(3) }]);
    (fib, batch, edges_of(&[old, new].concat()))
}

#[test]
fn every_limit_of_routes_takes_the_batch_whole_or_not_at_all() {
    let (mut fib, batch, asked) = table_and_batch(Limits::default());
    apply_or_nothing(&mut fib, &batch, &asked).unwrap();
    let wanted = picture(&mut fib, &asked);
    let (had, has) = (40, wanted.routes.len());
    assert_eq!(has, 40 + 30 - 7);
    for max_routes in had..has + 3 {
        let (mut fib, batch, asked) = table_and_batch(Limits { max_routes, ..Limits::default() });
        let done = apply_or_nothing(&mut fib, &batch, &asked);
        assert_eq!(done.is_ok(), max_routes >= has, "{max_routes}");
        if done.is_ok() {
            assert_eq!(picture(&mut fib, &asked), wanted);
            continue;
        }
        // Others go, and the same batch goes in.
        let others = prefixes(0, 20).split_off(20);
        fib.apply(&none(&others), 2).unwrap();
        let done = apply_or_nothing(&mut fib, &batch, &asked);
        assert_eq!(done.is_ok(), max_routes >= has - others.len());
        if done.is_err() {
            continue;
        }
        let left = |route: &(VrfId, IpNet, GroupLabel)| !others.contains(&route.1);
        let mut expected = wanted.routes.clone();
        expected.retain(left);
        assert_eq!(picture(&mut fib, &asked).routes, expected);
    }
}

#[test]
fn every_limit_of_groups_takes_the_batch_whole_or_not_at_all() {
    for max_groups in 4..8 {
        let (mut fib, batch, asked) = table_and_batch(Limits { max_groups, ..Limits::default() });
        // 4 there are, 3 come, 1 goes.
        let done = apply_or_nothing(&mut fib, &batch, &asked);
        assert_eq!(done.is_ok(), max_groups >= 6, "{max_groups}");
        if done.is_err() {
            let unused = [2, 4].map(|label| Change::DeleteGroup { label: GroupLabel(label) });
            fib.apply(&unused, 2).unwrap();
            apply_or_nothing(&mut fib, &batch, &asked).unwrap();
        }
        assert_eq!(lookup(&mut fib, &edges_of(&prefixes(100, 1))[..1]), [Some(5)]);
    }
}

#[test]
fn a_batch_that_adds_and_removes_as_many_groups_fits_a_full_table() {
    let mut fib = Fib::new(Limits { max_groups: 2, ..Limits::default() });
    fib.apply(&[put(1), put(2), announce("10.0.0.0/8", 1)], 1).unwrap();
    let swap = [put(3), announce("10.0.0.0/8", 3), Change::DeleteGroup { label: GroupLabel(1) }];
    fib.apply(&swap, 2).unwrap();
    let more = [put(4), Change::DeleteGroup { label: GroupLabel(99) }];
    assert!(fib.apply(&more, 3).unwrap_err().is_capacity(), "a group that is not there makes no room");
}

#[test]
fn neighbors_beyond_the_limit_are_refused_by_name_until_one_goes() {
    let mut fib = Fib::new(Limits { max_neighbors: 2, ..Limits::default() });
    let host = |n: u8| IpAddr::from([192, 0, 2, n]);
    let adjacency =
        |n: u8| Adjacency { port: PortId(1), state: AdjacencyState::Reachable, header: [n; 12], mtu: 1500 };
    let set = |fib: &mut Fib, n: u8, mac: u8| fib.set_neighbor(PortId(1), host(n), adjacency(mac));
    assert_eq!((set(&mut fib, 1, 1), set(&mut fib, 2, 2)), (Ok(true), Ok(true)));
    let before = fib.generation();
    let error = set(&mut fib, 3, 3).unwrap_err();
    assert_eq!(error.to_string(), "neighbor 192.0.2.3 at port 1: expected at most 2 neighbors");
    assert!(error.is_capacity());
    assert!(Arc::ptr_eq(&before, &fib.generation()), "nothing changed");
    assert_eq!(set(&mut fib, 2, 9), Ok(true), "one that is there may change");
    assert!(fib.remove_neighbor(PortId(1), host(1)));
    assert_eq!(set(&mut fib, 3, 3), Ok(true));
}

/// The memory of the tries gives out after as many batches as there is room for: each time another step of a batch is the one that
/// finds none. A stalled worker keeps the blocks of its generation from being used again; when it moves on, there is room.
#[test]
fn memory_that_gives_out_at_any_step_leaves_the_table_whole_and_comes_back() {
    let mut refusals = 0;
    for run in 0..6u32 {
        let mut fib = Fib::new(Limits { trie_bytes: 0, ..Limits::default() });
        fib.apply(&(1..=9).map(put).collect::<Vec<_>>(), 0).unwrap();
        let mut oracle = Oracle::default();
        let mut held = vec![fib.generation()];
        let routes = prefixes(0, 1_500);
        // Batches of another size in each run, so that the end comes at another place.
        let size = 40 + 37 * run as usize;
        let asked: Vec<IpAddr> = edges_of(&routes).into_iter().step_by(19).collect();
        let mut batches = (0..40_000u64).flat_map(|round| {
            let label = 1 + round % 9;
            let changes = |part: &[IpNet]| if round % 5 == 4 { none(part) } else { all(part, label) };
            routes.chunks(size).map(changes).collect::<Vec<_>>()
        });
        // Until a batch finds no room.
        let refused = loop {
            let batch = batches.next().expect("memory without end");
            match fib.apply(&batch, 5) {
                Ok(_) => {
                    batch.iter().for_each(|change| oracle.apply(change));
                    held.push(fib.generation());
                }
                Err(error) => {
                    assert!(matches!(error, ApplyError::TrieMemory { .. }), "{error}");
                    break batch;
                }
            }
        };
        refusals += 1;
        agree(&mut fib, &oracle, &asked);
        assert!(apply_or_nothing(&mut fib, &refused, &asked).is_err(), "still no room");
        assert!(apply_or_nothing(&mut fib, &refused, &asked).is_err(), "asking leaks nothing");
        // The workers move on.
        held.clear();
        let last = fib.generation();
        apply_or_nothing(&mut fib, &refused, &asked).unwrap();
        drop(last);
        refused.iter().for_each(|change| oracle.apply(change));
        agree(&mut fib, &oracle, &asked);
        assert_eq!(fib.len(), oracle.len());
    }
    assert_eq!(refusals, 6);
}

#[test]
fn a_refused_batch_leaves_no_demand_for_memory_behind() {
    let mut fib = Fib::new(Limits { trie_bytes: 0, ..Limits::default() });
    fib.apply(&[put(1)], 1).unwrap();
    // As dear as they come: each subnet far from the others.
    let far_apart: Vec<IpNet> =
        (0..60_000u128).map(|n| net(false, 0x2000 << 112 | n << 96 | 1 << 64, 64)).collect();
    let asked = edges_of(&far_apart[..100]);
    assert!(apply_or_nothing(&mut fib, &all(&far_apart, 1), &asked).is_err());
    apply_or_nothing(&mut fib, &all(&far_apart[..1], 1), &asked).unwrap();
    assert_eq!(fib.len(), 1);
}
