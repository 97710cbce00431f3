//! The scrubber: finds each wrong word that a packet could meet, reports none that is right, and a rebuild mends all.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;

/// Routes of all shapes: nested, adjacent, long, host routes, both families, the default route.
fn mixed() -> Fib {
    let mut fib = Fib::new(limits());
    let mut changes: Vec<Change> = (1..=40).map(put).collect();
    for i in 0..3_000u32 {
        let bits = i.wrapping_mul(0x9e37_79b9);
        let len = 6 + (i % 27) as u8;
        let v4 = IpNet::new(std::net::Ipv4Addr::from_bits(bits).into(), len).unwrap().trunc();
        let wide = u128::from(bits) << 90 | u128::from(bits ^ 0xffff) << 40 | 0x2000 << 112;
        let v6 =
            IpNet::new(std::net::Ipv6Addr::from_bits(wide).into(), 16 + (i % 113) as u8).unwrap().trunc();
        for prefix in [v4, v6] {
            let label = GroupLabel(u64::from(i % 40) + 1);
            changes.push(Change::Announce { vrf: VrfId::DEFAULT, prefix, label });
        }
    }
    changes.extend([announce("0.0.0.0/0", 3), announce("255.255.255.255/32", 4), announce("10.0.0.0/8", 5)]);
    fib.apply(&changes, 1).unwrap();
    fib
}

/// A full pass.
fn pass(fib: &mut Fib, routes: usize) -> (usize, Vec<WrongLookup>) {
    let generation = fib.generation();
    assert!(fib.is_staged_as(&generation));
    let (mut cursor, mut compared, mut wrong) = (Some(ScrubCursor::default()), 0, Vec::new());
    while let Some(at) = cursor {
        let done = fib.scrub(&generation, at, routes);
        compared += done.compared;
        wrong.extend(done.wrong);
        assert_ne!(done.next, Some(at), "it does not proceed");
        cursor = done.next;
    }
    (compared, wrong)
}

#[test]
fn sound_tries_have_no_difference_whatever_the_slices() {
    let mut fib = mixed();
    for routes in [1, 50, 256, 1 << 20] {
        let (compared, wrong) = pass(&mut fib, routes);
        assert_eq!(wrong, []);
        assert!(compared > 2 * fib.len(), "{compared}");
    }
    let generation = fib.generation();
    assert_eq!(fib.scrub_groups(&generation), []);
    let mut empty = Fib::new(limits());
    assert_eq!(pass(&mut empty, 256).1, []);
}

#[test]
fn every_wrong_route_is_found_and_a_rebuild_mends_it() {
    let mut fib = mixed();
    let routes: Vec<(IpNet, GroupLabel)> = fib.routes(VrfId::DEFAULT, None).collect();
    for (at, &(prefix, label)) in routes.iter().enumerate().step_by(701) {
        let other = GroupLabel(label.0 % 40 + 1);
        for (wrong, what) in [(Some(other), "another group"), (None, "no route")] {
            // A route that is covered by more specific ones entirely, or leads where the covering one does, concerns no packet.
            fib.corrupt(VrfId::DEFAULT, prefix, wrong);
            let concerns = concerned(&mut fib, prefix);
            let (_, found) = pass(&mut fib, 256);
            assert_eq!(!found.is_empty(), concerns, "route {at} {prefix}: {what}");
            for one in &found {
                assert!(prefix.contains(&one.address), "{prefix}: {one:?}");
            }
            fib.rebuild().unwrap();
            assert_eq!(pass(&mut fib, 256).1, [], "{prefix}: {what}, rebuilt");
        }
    }
}

/// Whether a packet to some address of the prefix would notice, by the addresses at which lookups can change.
fn concerned(fib: &mut Fib, prefix: IpNet) -> bool {
    let inside = fib.routes(VrfId::DEFAULT, Some(prefix)).map(|(p, _)| p);
    let inside: Vec<IpNet> = inside.take_while(|p| prefix.contains(p)).collect();
    let after = |p: &IpNet| -> Option<std::net::IpAddr> {
        match p.broadcast() {
            std::net::IpAddr::V4(a) => {
                Some(std::net::Ipv4Addr::from_bits(a.to_bits().checked_add(1)?).into())
            }
            std::net::IpAddr::V6(a) => {
                Some(std::net::Ipv6Addr::from_bits(a.to_bits().checked_add(1)?).into())
            }
        }
    };
    let mut addresses: Vec<std::net::IpAddr> = inside.iter().map(IpNet::network).collect();
    addresses.extend(inside.iter().filter_map(after).filter(|a: &std::net::IpAddr| prefix.contains(a)));
    let expected: Vec<_> =
        addresses.iter().map(|a| fib.longest_match(VrfId::DEFAULT, *a).map(|(_, l)| l.0)).collect();
    lookup(fib, &addresses) != expected
}

#[test]
fn ghosts_are_found_where_the_table_has_no_route() {
    let mut fib = Fib::new(limits());
    let real = [announce("10.0.0.0/8", 1), announce("10.9.0.0/16", 3), announce("2001:db8::/32", 1)];
    let more = [announce("2001:db8:ff00::/40", 3), announce("2001:db8:5:6:7:8:9:a/128", 3)];
    fib.apply(&[&[put(1), put(2), put(3)][..], &real, &more].concat(), 1).unwrap();
    for ghost in [
        "11.0.0.0/8",
        "10.7.0.0/16",
        "203.0.113.0/24",
        // Longer than a /24, at its beginning, inside and at its end.
        "10.7.8.0/25",
        "10.7.8.128/25",
        "10.7.8.64/27",
        "203.0.113.7/32",
        "203.0.113.255/32",
        "10.9.1.130/31",
        "0.0.0.0/32",
        "255.255.255.255/32",
        "2002::/16",
        "2001:db8:1::/48",
        "2001:db8:ff12:3400::/56",
        "2001:db8:5:6:7:8:9:b/128",
        "2001:db8:5:6:7:8:8:0/112",
        "2001:db8:5:6:8000::/65",
        "2620:fe::fe/128",
        "::1/128",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    ] {
        let prefix: IpNet = ghost.parse().unwrap();
        fib.corrupt(VrfId::DEFAULT, prefix, Some(GroupLabel(2)));
        for routes in [1, 256] {
            let (_, found) = pass(&mut fib, routes);
            assert!(!found.is_empty(), "{ghost}");
            assert!(found.iter().all(|one| prefix.contains(&one.address)), "{ghost}: {found:?}");
        }
        fib.rebuild().unwrap();
        assert_eq!(pass(&mut fib, 256).1, [], "{ghost}");
        let address = prefix.network();
        let expected = fib.longest_match(VrfId::DEFAULT, address).map(|(_, label)| label.0);
        assert_eq!(lookup(&mut fib, &[address]), [expected], "{ghost}");
    }
}

#[test]
fn a_ghost_of_any_length_among_many_routes_is_found() {
    let mut fib = mixed();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        random >> 20
    };
    let routes: Vec<(IpNet, GroupLabel)> = fib.routes(VrfId::DEFAULT, None).collect();
    for _ in 0..60 {
        // Below a route that is there, so that it may share a block with others.
        let (near, _) = routes[next() as usize % routes.len()];
        let width = near.max_prefix_len();
        let len = near.prefix_len() + (next() % u64::from(width - near.prefix_len() + 1)) as u8;
        let bits = (u128::from(next()) << 64 | u128::from(next())) << 20 | u128::from(next());
        let host = match near {
            IpNet::V4(near) => {
                let below = u32::MAX.checked_shr(near.prefix_len().into()).unwrap_or(0);
                std::net::Ipv4Addr::from_bits(near.network().to_bits() | bits as u32 & below).into()
            }
            IpNet::V6(near) => {
                let below = u128::MAX.checked_shr(near.prefix_len().into()).unwrap_or(0);
                std::net::Ipv6Addr::from_bits(near.network().to_bits() | bits & below).into()
            }
        };
        let ghost = IpNet::new(host, len).unwrap().trunc();
        if fib.get(VrfId::DEFAULT, ghost).is_some() {
            continue;
        }
        // A group of its own, which no route around has.
        fib.apply(&[put(99)], 1).unwrap();
        fib.corrupt(VrfId::DEFAULT, ghost, Some(GroupLabel(99)));
        let inside = fib.routes(VrfId::DEFAULT, Some(ghost)).map(|(prefix, _)| prefix);
        let inside: Vec<IpNet> = inside.take_while(|prefix| ghost.contains(prefix)).collect();
        let covered = ipnet_covers(ghost, &inside);
        let (_, found) = pass(&mut fib, 256);
        assert_eq!(found.is_empty(), covered, "{ghost}, of which {inside:?} are routes");
        fib.rebuild().unwrap();
    }
}

/// Whether these prefixes inside of another one, in order, leave none of its addresses.
fn ipnet_covers(all: IpNet, inside: &[IpNet]) -> bool {
    if inside.first() == Some(&all) {
        return true;
    }
    if all.prefix_len() == all.max_prefix_len() {
        return false;
    }
    all.subnets(all.prefix_len() + 1).unwrap().all(|half| {
        let of_half: Vec<IpNet> = inside.iter().copied().filter(|prefix| half.contains(prefix)).collect();
        !of_half.is_empty() && ipnet_covers(half, &of_half)
    })
}

#[test]
fn rebuild_leaves_no_blocks_behind() {
    let mut fib = mixed();
    let size = |fib: &mut Fib| {
        let generation = fib.generation();
        generation.memory().tries
    };
    fib.rebuild().unwrap();
    let before = size(&mut fib);
    for _ in 0..5 {
        fib.rebuild().unwrap();
    }
    assert_eq!(size(&mut fib), before);
}
