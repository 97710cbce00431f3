//! Batches: whole or not at all, and the errors that name the route.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::*;
use fibcast_fib::*;

fn fib() -> Fib {
    let mut fib = Fib::new(Limits { max_routes: 3, max_groups: 2, max_vrfs: 2, ..limits() });
    fib.apply(&[put(1), announce("10.0.0.0/8", 1)], 1).unwrap();
    fib
}

/// The batch is refused with this message, and nothing has changed.
fn refused(fib: &mut Fib, batch: &[Change], message: &str) -> ApplyError {
    let before: Vec<_> = fib.routes(VrfId::DEFAULT, None).collect();
    let groups = fib.groups().count();
    let error = fib.apply(batch, 99).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(fib.routes(VrfId::DEFAULT, None).collect::<Vec<_>>(), before);
    assert_eq!(fib.groups().count(), groups);
    assert_eq!((fib.serial(), fib.generation().serial()), (1, 1));
    assert_eq!(lookup(fib, &["10.1.1.1".parse().unwrap(), "11.1.1.1".parse().unwrap()]), [Some(1), None]);
    error
}

#[test]
fn an_unknown_label_is_an_error_that_names_the_route() {
    let batch = [announce("11.0.0.0/8", 1), announce("12.0.0.0/8", 5)];
    let message = "route 12.0.0.0/8 in vrf 0: expected a known group, found label 0x0000000000000005";
    refused(&mut fib(), &batch, message);
}

#[test]
fn an_unknown_vrf_is_an_error_that_names_the_route() {
    let prefix = "11.0.0.0/8".parse().unwrap();
    let unknown = Change::Announce { vrf: VrfId(1), prefix, label: GroupLabel(1) };
    let batch = [announce("11.0.0.0/8", 1), unknown];
    refused(&mut fib(), &batch, "route 11.0.0.0/8 in vrf 1: expected an existing vrf");
}

#[test]
fn a_route_into_an_unknown_vrf_is_refused_with_the_whole_batch() {
    let mut unknown = announce("11.0.0.0/8", 1);
    if let Change::Announce { vrf, .. } = &mut unknown {
        *vrf = VrfId(1_000_000);
    }
    let message = "route 11.0.0.0/8 in vrf 1000000: expected an existing vrf";
    refused(&mut fib(), &[put(2), announce("12.0.0.0/8", 2), unknown], message);
}

#[test]
fn a_group_that_the_batch_itself_deletes_is_unknown() {
    let batch =
        [announce("11.0.0.0/8", 1), Change::DeleteGroup { label: GroupLabel(1) }, withdraw("10.0.0.0/8")];
    let message = "route 11.0.0.0/8 in vrf 0: expected a known group, found label 0x0000000000000001";
    refused(&mut fib(), &batch, message);
}

#[test]
fn a_prefix_longer_than_an_address_cannot_be_made() {
    assert!(ipnet::Ipv4Net::new([10, 0, 0, 0].into(), 33).is_err());
    assert!(ipnet::Ipv6Net::new([0; 16].into(), 129).is_err());
    assert!("10.0.0.0/33".parse::<ipnet::IpNet>().is_err());
    assert!("2001:db8::/129".parse::<ipnet::IpNet>().is_err());
}

#[test]
fn host_bits_are_an_error_that_names_the_route() {
    let message = "route 11.0.0.1/8 in vrf 0: expected 11.0.0.0/8, found host bits set";
    refused(&mut fib(), &[announce("11.0.0.1/8", 1)], message);
    let message = "route 2001:db8::1/64 in vrf 0: expected 2001:db8::/64, found host bits set";
    refused(&mut fib(), &[announce("11.0.0.0/8", 1), withdraw("2001:db8::1/64")], message);
}

#[test]
fn too_many_routes_are_refused_and_the_batch_can_be_retried() {
    let mut fib = fib();
    let batch = [announce("11.0.0.0/8", 1), announce("12.0.0.0/8", 1), announce("2001:db8::/32", 1)];
    let message = "route 2001:db8::/32 in vrf 0: expected at most 3 routes";
    assert!(refused(&mut fib, &batch, message).is_capacity());
    fib.apply(&[withdraw("10.0.0.0/8")], 2).unwrap();
    fib.apply(&batch, 3).unwrap();
    assert_eq!(fib.len(), 3);
}

#[test]
fn a_full_table_takes_a_batch_that_withdraws_as_many_as_it_adds() {
    let mut fib = fib();
    fib.apply(&[announce("11.0.0.0/8", 1), announce("12.0.0.0/8", 1)], 2).unwrap();
    fib.apply(&[announce("13.0.0.0/8", 1), withdraw("12.0.0.0/8")], 3).unwrap();
    assert_eq!(fib.len(), 3);
}

#[test]
fn too_many_groups_are_refused() {
    let mut fib = fib();
    let batch = [put(2), announce("11.0.0.0/8", 2), put(3)];
    assert!(fib.apply(&batch, 9).unwrap_err().is_capacity());
    assert_eq!((fib.groups().count(), fib.len(), fib.serial()), (1, 1, 1));
    fib.apply(&batch[..2], 2).unwrap();
}

#[test]
fn a_vrf_id_beyond_the_limit_is_refused() {
    let error = fib().create_vrf(VrfId(2)).unwrap_err();
    assert_eq!(error.to_string(), "vrf 2: expected an id below 2");
    assert!(fib().create_vrf(VrfId(1)).is_ok());
}

#[test]
fn a_bad_group_is_an_error_that_names_the_group() {
    let bad = |members: Vec<Member>| Change::PutGroup {
        label: GroupLabel(2),
        group: Group::Hops(members.into_boxed_slice()),
    };
    let good = Member { next_hop: NextHop::connected(PortId(1)), weight: 1 };
    let nothing = NextHop { gateway: None, port: None };
    let cases = [
        (bad(vec![]), "expected 1 to 256 members, found none"),
        (bad(vec![good; 257]), "expected 1 to 256 members, found 257"),
        (bad(vec![good, Member { weight: 0, ..good }]), "member 1: expected a weight of at least 1, found 0"),
        (
            bad(vec![Member { next_hop: nothing, weight: 1 }]),
            "member 0: expected a gateway, a port or both, found neither",
        ),
    ];
    for (change, rule) in cases {
        refused(&mut fib(), &[change], &format!("group 0x0000000000000002: {rule}"));
    }
}

#[test]
fn a_group_in_use_cannot_be_deleted() {
    let mut fib = fib();
    let delete = Change::DeleteGroup { label: GroupLabel(1) };
    let message = "group 0x0000000000000001: expected no route to point to a deleted group, found 1";
    refused(&mut fib, std::slice::from_ref(&delete), message);
    // In any order: a batch is a set of end states.
    let applied = fib.apply(&[delete, withdraw("10.0.0.0/8")], 2).unwrap();
    assert_eq!((applied.groups_deleted, applied.withdrawn), (1, 1));
    assert_eq!(fib.groups().count(), 0);
    assert_eq!(fib.next_hops().count(), 0);
}

#[test]
fn a_batch_may_put_a_group_after_the_route_that_uses_it() {
    let mut fib = fib();
    fib.apply(&[announce("11.0.0.0/8", 2), put(2)], 2).unwrap();
    assert_eq!(lookup(&mut fib, &["11.1.1.1".parse().unwrap()]), [Some(2)]);
}

#[test]
fn withdraw_of_unknown_prefix_is_ignored_and_counted() {
    let mut fib = fib();
    let batch = [withdraw("11.0.0.0/8"), announce("10.0.0.0/8", 1), withdraw("10.0.0.0/9"), withdraw("::/0")];
    let applied = fib.apply(&batch, 2).unwrap();
    assert_eq!(applied, Applied { unknown: 3, unchanged: 1, ..Applied::default() });
    assert_eq!(fib.len(), 1);
}

#[test]
fn the_last_word_on_a_prefix_counts() {
    let mut fib = fib();
    fib.apply(&[put(2), announce("10.0.0.0/8", 2), withdraw("10.0.0.0/8"), announce("10.0.0.0/8", 2)], 2)
        .unwrap();
    assert_eq!(lookup(&mut fib, &["10.1.1.1".parse().unwrap()]), [Some(2)]);
    fib.apply(&[announce("10.0.0.0/8", 1), withdraw("10.0.0.0/8")], 3).unwrap();
    assert_eq!(lookup(&mut fib, &["10.1.1.1".parse().unwrap()]), [None]);
}

#[test]
fn group_content_changes_under_its_routes() {
    let mut fib = fib();
    let hop = NextHop::via(IpAddr::from([192, 0, 2, 9]));
    let group = Group::one(hop).unwrap();
    let change = Change::PutGroup { label: GroupLabel(1), group: group.clone() };
    let index = fib.group_index(GroupLabel(1)).unwrap();
    let before = fib.generation();
    let applied = fib.apply(std::slice::from_ref(&change), 2).unwrap();
    assert_eq!(applied, Applied { groups: 1, ..Applied::default() });
    assert_eq!(fib.generation().forward(index, 0), Forward::Incomplete { next_hop: &hop });
    assert_ne!(before.forward(index, 0), Forward::Incomplete { next_hop: &hop });
    assert_eq!(fib.apply(&[change], 3).unwrap().groups, 0);
    assert_eq!(fib.group(GroupLabel(1)), Some(&group));
}

#[test]
fn a_withdrawal_corrects_an_announcement_in_an_unknown_vrf() {
    let mut fib = Fib::new(Limits::default());
    let (vrf, prefix) = (VrfId(7), "10.0.0.0/8".parse().unwrap());
    let applied = fib.apply(&[Change::Withdraw { vrf, prefix }], 3).unwrap();
    assert_eq!((applied.unknown, fib.serial()), (1, 3));
}
