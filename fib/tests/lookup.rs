//! Longest-prefix match, as an operator would check it by hand.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::IpAddr;

use common::*;
use fibcast_fib::*;

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

#[test]
fn an_empty_table_has_no_route() {
    let mut both = Both::new(0);
    both.agree(&[ip("0.0.0.0"), ip("255.255.255.255"), ip("::"), ip("ffff::1")]);
}

#[test]
fn a_default_route_covers_everything_that_nothing_else_covers() {
    let mut both = Both::new(4);
    both.apply(&[announce("0.0.0.0/0", 1), announce("10.0.0.0/8", 2)]);
    both.apply(&[announce("::/0", 3), announce("2001:db8::/32", 4)]);
    let asked =
        ["9.9.9.9", "10.0.0.0", "10.255.255.255", "11.0.0.0", "2001:db8::1", "2001:db9::", "::"].map(ip);
    both.agree(&asked);
    assert_eq!(lookup(&mut both.fib, &asked[..2]), [Some(1), Some(2)]);
    both.apply(&[withdraw("0.0.0.0/0"), withdraw("::/0")]);
    both.agree(&asked);
    assert_eq!(lookup(&mut both.fib, &asked[..2]), [None, Some(2)]);
}

#[test]
fn a_host_route_covers_one_address() {
    let mut both = Both::new(3);
    both.apply(&[announce("192.0.2.7/32", 1), announce("192.0.2.0/24", 2), announce("2001:db8::7/128", 3)]);
    both.agree_at_edges();
    assert_eq!(lookup(&mut both.fib, &[ip("192.0.2.7"), ip("2001:db8::7")]), [Some(1), Some(3)]);
}

#[test]
fn withdraw_uncovers_the_shorter_prefix() {
    let mut both = Both::new(4);
    both.apply(&[announce("10.0.0.0/8", 1), announce("10.1.0.0/16", 2), announce("10.1.2.0/24", 3)]);
    both.apply(&[announce("10.1.2.128/25", 4)]);
    let asked = [ip("10.1.2.200")];
    for (gone, left) in
        [("10.1.2.128/25", Some(3)), ("10.1.0.0/16", Some(3)), ("10.1.2.0/24", Some(1)), ("10.0.0.0/8", None)]
    {
        both.apply(&[withdraw(gone)]);
        both.agree_at_edges();
        assert_eq!(lookup(&mut both.fib, &asked), [left]);
    }
}

#[test]
fn group_label_zero_is_a_group_like_any_other() {
    let mut both = Both::new(0);
    both.apply(&[put(0), announce("0.0.0.0/0", 0), announce("::/0", 0)]);
    both.agree(&[ip("1.2.3.4"), ip("::1")]);
}

#[test]
fn vrfs_do_not_see_each_other() {
    let mut fib = Fib::new(limits());
    fib.create_vrf(VrfId(3)).unwrap();
    let announce = |vrf, label| Change::Announce {
        vrf: VrfId(vrf),
        prefix: "10.0.0.0/8".parse().unwrap(),
        label: GroupLabel(label),
    };
    fib.apply(&[put(1), put(2), announce(0, 1), announce(3, 2)], 1).unwrap();
    let generation = fib.generation();
    let ask = |vrf| {
        let mut found = [GroupIndex(9)];
        generation.lookup_v4(VrfId(vrf), &[0x0a00_0001], &mut found);
        found[0]
    };
    assert_eq!(Some(ask(0)), fib.group_index(GroupLabel(1)));
    assert_eq!(Some(ask(3)), fib.group_index(GroupLabel(2)));
    assert_eq!(ask(2), GroupIndex::NO_ROUTE);
    assert_eq!(ask(1_000_000), GroupIndex::NO_ROUTE);
    assert_eq!(fib.counts(VrfId(3)), Counts { v4: 1, v6: 0 });
}

#[test]
fn a_generation_taken_before_a_batch_does_not_change() {
    let mut both = Both::new(2);
    both.apply(&[announce("10.0.0.0/8", 1), announce("2001:db8::/32", 1)]);
    let before = both.fib.generation();
    both.apply(&[announce("10.0.0.0/8", 2), withdraw("2001:db8::/32")]);
    let mut found = [GroupIndex(9)];
    before.lookup_v4(VrfId::DEFAULT, &[0x0a00_0001], &mut found);
    assert_eq!(Some(found[0]), both.fib.group_index(GroupLabel(1)));
    before.lookup_v6(VrfId::DEFAULT, &[0x2001_0db8 << 96], &mut found);
    assert_eq!(Some(found[0]), both.fib.group_index(GroupLabel(1)));
    assert_eq!((before.serial(), both.fib.generation().serial()), (1, 2));
}

#[test]
fn operators_see_routes_in_order_and_in_pages() {
    let mut both = Both::new(2);
    let prefixes =
        ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.128.0.0/9", "::/0", "2001:db8::/32"];
    for prefix in prefixes.iter().rev() {
        both.apply(&[announce(prefix, 1)]);
    }
    let all: Vec<String> =
        both.fib.routes(VrfId::DEFAULT, None).map(|(prefix, _)| prefix.to_string()).collect();
    assert_eq!(all, prefixes);
    let from = Some("10.0.0.0/20".parse().unwrap());
    let page: Vec<String> =
        both.fib.routes(VrfId::DEFAULT, from).take(3).map(|(prefix, _)| prefix.to_string()).collect();
    assert_eq!(page, prefixes[2..5]);
    let vrf = VrfId::DEFAULT;
    assert_eq!(both.fib.get(vrf, "10.0.0.0/24".parse().unwrap()), Some(GroupLabel(1)));
    assert_eq!(both.fib.get(vrf, "10.0.0.0/23".parse().unwrap()), None);
    let (prefix, _) = both.fib.longest_match(vrf, ip("10.200.0.0")).unwrap();
    assert_eq!(prefix.to_string(), "10.128.0.0/9");
    let (prefix, _) = both.fib.longest_match(vrf, ip("2001:db9::")).unwrap();
    assert_eq!(prefix.to_string(), "::/0");
}
