//! From a group to an adjacency: next hops, neighbors, members that go silent.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::limits;
use fibcast_fib::*;

fn hop(last: u8) -> NextHop {
    NextHop::via(IpAddr::from([192, 0, 2, last]))
}

fn adjacency(last: u8, state: AdjacencyState) -> Adjacency {
    Adjacency { port: PortId(u16::from(last)), state, header: [last; 12], mtu: 1500 }
}

fn with_group(group: Group) -> (Fib, GroupIndex) {
    let mut fib = Fib::new(limits());
    fib.apply(&[Change::PutGroup { label: GroupLabel(1), group }], 1).unwrap();
    let index = fib.group_index(GroupLabel(1)).unwrap();
    (fib, index)
}

#[test]
fn a_next_hop_is_incomplete_until_its_adjacency_is_set() {
    let (mut fib, index) = with_group(Group::one(hop(1)).unwrap());
    assert_eq!(fib.generation().forward(index, 5), Forward::Incomplete { next_hop: &hop(1) });
    assert_eq!(fib.take_new_next_hops(), [hop(1)]);
    assert_eq!(fib.take_new_next_hops(), []);
    let reachable = adjacency(1, AdjacencyState::Reachable);
    assert!(fib.set_adjacency(hop(1), reachable));
    assert_eq!(fib.generation().forward(index, 5), Forward::Via(&reachable));
    assert!(!fib.set_adjacency(hop(1), reachable));
    assert!(fib.set_adjacency(hop(1), adjacency(1, AdjacencyState::Incomplete)));
    assert_eq!(fib.generation().forward(index, 5), Forward::Incomplete { next_hop: &hop(1) });
    assert!(!fib.set_adjacency(hop(2), reachable));
}

#[test]
fn nothing_changed_means_the_same_generation() {
    let (mut fib, _) = with_group(Group::one(hop(1)).unwrap());
    let first = fib.generation();
    fib.set_adjacency(hop(2), adjacency(2, AdjacencyState::Reachable));
    assert!(std::sync::Arc::ptr_eq(&first, &fib.generation()));
    fib.set_adjacency(hop(1), adjacency(1, AdjacencyState::Reachable));
    assert!(!std::sync::Arc::ptr_eq(&first, &fib.generation()));
}

#[test]
fn flows_of_a_silent_member_move_to_one_that_answers() {
    let members = [1, 2, 3].map(|last| Member { next_hop: hop(last), weight: 1 });
    let (mut fib, index) = with_group(Group::hops(members.to_vec()).unwrap());
    fib.set_adjacency(hop(1), adjacency(1, AdjacencyState::Reachable));
    fib.set_adjacency(hop(3), adjacency(3, AdjacencyState::Reachable));
    let generation = fib.generation();
    let mut ports = std::collections::BTreeSet::new();
    for flow in 0..1_000 {
        let Forward::Via(adjacency) = generation.forward(index, flow) else { panic!("flow {flow} is lost") };
        ports.insert(adjacency.port);
    }
    assert_eq!(ports.into_iter().collect::<Vec<_>>(), [PortId(1), PortId(3)]);
    // All silent: the flow's own member is the one to resolve.
    fib.set_adjacency(hop(1), adjacency(1, AdjacencyState::Incomplete));
    fib.set_adjacency(hop(3), adjacency(3, AdjacencyState::Incomplete));
    let asked = (0..1_000)
        .filter(|&flow| fib.generation().forward(index, flow) == Forward::Incomplete { next_hop: &hop(2) });
    assert!((200..500).contains(&asked.count()));
}

#[test]
fn groups_that_are_no_next_hops_say_so() {
    for (group, forward) in [
        (Group::Special(Special::Blackhole), Forward::Special(Special::Blackhole)),
        (Group::Special(Special::Unreachable), Forward::Special(Special::Unreachable)),
        (Group::Special(Special::Prohibit), Forward::Special(Special::Prohibit)),
        (Group::Special(Special::Local), Forward::Special(Special::Local)),
        (Group::one(NextHop::connected(PortId(4))).unwrap(), Forward::Connected(PortId(4))),
    ] {
        let (mut fib, index) = with_group(group);
        assert_eq!(fib.generation().forward(index, 1), forward);
        assert_eq!(fib.generation().forward(GroupIndex::NO_ROUTE, 1), Forward::NoRoute);
        assert_eq!(fib.generation().forward(GroupIndex(123_456), 1), Forward::NoRoute);
    }
}

#[test]
fn neighbors_come_and_go() {
    let mut fib = Fib::new(limits());
    let (port, host) = (PortId(1), IpAddr::from([192, 0, 2, 77]));
    let there = adjacency(7, AdjacencyState::Reachable);
    assert_eq!(fib.set_neighbor(port, host, there), Ok(true));
    assert_eq!(fib.set_neighbor(port, host, there), Ok(false));
    let with = fib.generation();
    assert_eq!(with.neighbor(port, host), Some(&there));
    assert_eq!(with.neighbor(PortId(2), host), None);
    assert!(fib.remove_neighbor(port, host));
    assert!(!fib.remove_neighbor(port, host));
    assert_eq!(fib.generation().neighbor(port, host), None);
    assert_eq!(with.neighbor(port, host), Some(&there));
}

#[test]
fn a_next_hop_is_forgotten_with_its_last_group() {
    let (mut fib, _) = with_group(Group::one(hop(1)).unwrap());
    let second =
        Group::hops(vec![Member { next_hop: hop(1), weight: 1 }, Member { next_hop: hop(2), weight: 3 }]);
    fib.apply(&[Change::PutGroup { label: GroupLabel(2), group: second.unwrap() }], 2).unwrap();
    fib.apply(&[Change::PutGroup { label: GroupLabel(1), group: Group::Special(Special::Blackhole) }], 3)
        .unwrap();
    assert_eq!(fib.next_hops().count(), 2);
    fib.apply(&[Change::DeleteGroup { label: GroupLabel(2) }], 4).unwrap();
    assert_eq!(fib.next_hops().count(), 0);
    assert_eq!(fib.take_new_next_hops(), []);
}

/// Whatever is done to groups and next hops, the short answer is the long one where there is one next hop, and says nothing else.
#[test]
fn the_answer_of_a_single_next_hop_follows_groups_and_adjacencies() {
    let mut fib = Fib::new(limits());
    // Any fixed sequence will do; this one is Knuth's multiplier.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut answers, mut silent) = (0, 0);
    for serial in 1..2_000 {
        let (label, last) = (GroupLabel(1 + random(6)), 1 + random(3) as u8);
        let group = match random(8) {
            0 => Group::Special(Special::Blackhole),
            1 => Group::one(NextHop::connected(PortId(last.into()))).unwrap(),
            2 => Group::hops([1, 2].map(|last| Member { next_hop: hop(last), weight: 1 }).to_vec()).unwrap(),
            _ => Group::one(hop(last)).unwrap(),
        };
        let state = if random(3) == 0 { AdjacencyState::Incomplete } else { AdjacencyState::Reachable };
        match random(4) {
            0 => _ = fib.apply(&[Change::DeleteGroup { label }], serial).unwrap(),
            1 => _ = fib.apply(&[Change::PutGroup { label, group }], serial).unwrap(),
            _ => _ = fib.set_adjacency(hop(last), adjacency(last, state)),
        }
        let generation = fib.generation();
        for label in 1..=6 {
            let Some(index) = fib.group_index(GroupLabel(label)) else { continue };
            let one = fib.group(GroupLabel(label)).is_some_and(|group| group.members().len() == 1);
            match (one, generation.forward(index, 1)) {
                (true, Forward::Via(adjacency)) => {
                    assert_eq!(*generation.single_hop(index), SingleHop::from(adjacency));
                    answers += 1;
                }
                _ => {
                    assert_eq!(generation.single_hop(index).mtu, 0);
                    silent += 1;
                }
            }
        }
        assert_eq!(generation.single_hop(GroupIndex::NO_ROUTE).mtu, 0);
    }
    assert!(answers > 1_000 && silent > 1_000, "{answers} {silent}");
}
