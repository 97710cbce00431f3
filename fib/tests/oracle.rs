//! Tables that are hard on a trie, and random ones, against a hash map per prefix length after each batch.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;
use proptest::prelude::*;

const LABELS: u64 = 6;

/// A small generator, so that a failing case is the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

fn announce(prefix: IpNet, label: u64) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) }
}

fn withdraw(prefix: IpNet) -> Change {
    Change::Withdraw { vrf: VrfId::DEFAULT, prefix }
}

/// Adds all in random order and batches, then takes all away in another; compares at the edges on the way.
fn up_and_down(prefixes: &[IpNet], batch: usize, seed: u64) {
    let mut random = Random(seed);
    let mut both = Both::new(LABELS);
    let mut prefixes = prefixes.to_vec();
    let edges: Vec<IpAddr> = prefixes.iter().copied().flat_map(edges).collect();
    random.shuffle(&mut prefixes);
    for prefixes in prefixes.chunks(batch) {
        let changes: Vec<Change> =
            prefixes.iter().map(|&prefix| announce(prefix, 1 + random.below(LABELS))).collect();
        both.apply(&changes);
        both.agree(&edges);
        rebuilt_is_the_same(&mut both, &edges);
    }
    random.shuffle(&mut prefixes);
    for prefixes in prefixes.chunks(batch) {
        let changes: Vec<Change> = prefixes.iter().map(|&prefix| withdraw(prefix)).collect();
        both.apply(&changes);
        both.agree(&edges);
        rebuilt_is_the_same(&mut both, &edges);
    }
    assert!(both.fib.is_empty());
    assert_eq!(lookup(&mut both.fib, &edges), vec![None; edges.len()]);
}

/// A table made in one batch from the routes of this one answers the same.
fn rebuilt_is_the_same(both: &mut Both, asked: &[IpAddr]) {
    let routes: Vec<(IpNet, GroupLabel)> = both.fib.routes(VrfId::DEFAULT, None).collect();
    assert_eq!(routes.iter().map(|route| route.0).collect::<Vec<_>>(), both.oracle.prefixes());
    let mut rebuilt = Both::new(LABELS);
    rebuilt.apply(&routes.iter().map(|(prefix, label)| announce(*prefix, label.0)).collect::<Vec<_>>());
    assert_eq!(lookup(&mut both.fib, asked), lookup(&mut rebuilt.fib, asked));
    rebuilt.fib.use_scalar_kernel();
    assert_eq!(lookup(&mut both.fib, asked), lookup(&mut rebuilt.fib, asked));
}

#[test]
fn nested_chains_from_the_shortest_to_a_host() {
    let v4: Vec<IpNet> = (0..=32).map(|len| net(true, 0xc0a8_37c9 << 96, len)).collect();
    up_and_down(&v4, 1, 1);
    let bits = 0x2001_0db8_5a5a_c3c3_1234_5678_9abc_def1;
    let v6: Vec<IpNet> = (0..=128).map(|len| net(false, bits, len)).collect();
    up_and_down(&v6, 1, 2);
    for bits in [0, u128::MAX] {
        up_and_down(&(0..=128).map(|len| net(false, bits, len)).collect::<Vec<_>>(), 3, 3);
        up_and_down(&(0..=32).map(|len| net(true, bits, len)).collect::<Vec<_>>(), 3, 4);
    }
}

#[test]
fn all_hosts_of_a_subnet() {
    let v4: Vec<IpNet> = (0..256u128).map(|host| net(true, (0x0a01_0200 + host) << 96, 32)).collect();
    up_and_down(&v4, 16, 5);
    let v6: Vec<IpNet> = (0..2048u128).map(|host| net(false, (0x2001_0db8 << 96) + host, 128)).collect();
    up_and_down(&v6, 256, 6);
}

#[test]
fn all_48s_of_a_32() {
    let v6: Vec<IpNet> =
        (0..65_536u128).step_by(7).map(|n| net(false, 0x2001_0db8 << 96 | n << 80, 48)).collect();
    up_and_down(&v6, 1_500, 7);
}

#[test]
fn all_24s_of_a_14_and_the_prefixes_above_them() {
    let mut v4: Vec<IpNet> = (0..1024u128).map(|n| net(true, (0x0a00_0000 | n << 8) << 96, 24)).collect();
    v4.extend((1..24).map(|len| net(true, 0x0a02_0000 << 96, len)));
    v4.extend(
        (15..24u8).flat_map(|len| (0..4u128).map(move |n| net(true, (0x0a00_0000 | n << 16) << 96, len))),
    );
    v4.sort();
    v4.dedup();
    up_and_down(&v4, 100, 8);
}

#[test]
fn one_prefix_flaps_often() {
    let mut both = Both::new(LABELS);
    let around =
        ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "2001:db8::/33"].map(|net| net.parse().unwrap());
    both.apply(&around.map(|net| announce(net, 1)));
    let flapping: [IpNet; 5] = ["0.0.0.0/0", "10.1.2.0/24", "10.1.2.3/32", "2001:db8::/48", "2000::/3"]
        .map(|net| net.parse().unwrap());
    let asked: Vec<IpAddr> = flapping.iter().copied().flat_map(edges).collect();
    let mut random = Random(9);
    let before = both.fib.generation().memory();
    for flap in 0..500_000u64 {
        let prefix = flapping[flap as usize % flapping.len()];
        let change =
            if random.below(2) == 0 { withdraw(prefix) } else { announce(prefix, 1 + random.below(LABELS)) };
        both.apply(&[change]);
        if flap % 1_997 == 0 {
            both.agree(&asked);
        }
    }
    both.apply(&flapping.map(withdraw));
    both.agree(&asked);
    // Uniform blocks of groups stay; nothing else may.
    let after = both.fib.generation().memory();
    assert!(after.tries < before.tries + (256 << 10), "{before:?} {after:?}");
}

#[test]
fn the_default_route_flaps_under_a_table() {
    let mut both = Both::new(LABELS);
    let table = [
        "0.0.0.0/1",
        "10.0.0.0/8",
        "10.1.2.0/24",
        "10.1.2.3/32",
        "2000::/3",
        "2001:db8::/32",
        "2001:db8::1/128",
    ];
    both.apply(&table.map(|net| announce(net.parse().unwrap(), 1)));
    let mut asked: Vec<IpAddr> = table.into_iter().flat_map(|net| edges(net.parse().unwrap())).collect();
    asked.extend(
        ["255.255.255.255", "0.0.0.0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
            .map(|ip| ip.parse::<IpAddr>().unwrap()),
    );
    let before = both.fib.generation().memory();
    for flap in 0..2_000u64 {
        let (v4, v6): (IpNet, IpNet) = ("0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap());
        match flap % 3 {
            0 => both.apply(&[announce(v4, 1 + flap % LABELS), withdraw(v6)]),
            1 => both.apply(&[announce(v6, 1 + flap % LABELS), announce(v4, 1 + (flap + 1) % LABELS)]),
            _ => both.apply(&[withdraw(v4)]),
        };
        both.agree(&asked);
    }
    rebuilt_is_the_same(&mut both, &asked);
    assert!(both.fib.generation().memory().tries < before.tries + (64 << 10));
}

#[test]
fn everything_is_withdrawn_at_once() {
    let mut random = Random(12);
    let mut both = Both::new(LABELS);
    let empty = both.fib.generation().memory().tries;
    let prefix = |random: &mut Random| {
        if random.below(2) == 0 {
            net(true, u128::from(random.next() as u32 | 0x0100_0000) << 96, 8 + random.below(25) as u8)
        } else {
            net(false, 0x2000 << 112 | u128::from(random.next()) << 60, 16 + random.below(113) as u8)
        }
    };
    let prefixes: Vec<IpNet> = (0..4_000).map(|_| prefix(&mut random)).collect();
    for _ in 0..3 {
        both.apply(
            &prefixes.iter().map(|&prefix| announce(prefix, 1 + random.below(LABELS))).collect::<Vec<_>>(),
        );
        both.agree_at_edges();
        both.apply(&prefixes.iter().map(|&prefix| withdraw(prefix)).collect::<Vec<_>>());
        assert!(both.fib.is_empty());
        both.agree(&prefixes.iter().step_by(9).copied().flat_map(edges).collect::<Vec<_>>());
    }
    let after = both.fib.generation().memory().tries;
    assert!(after < empty + (1 << 20), "uniform blocks may stay, {after} is more");
}

#[test]
fn a_full_arena_refuses_the_batch_and_takes_it_later() {
    let mut fib = Fib::with_trie_bytes(Limits::default(), 0);
    fib.apply(&[put(1)], 0).unwrap();
    let mut oracle = Oracle::default();
    // Each /32 alone in its /16: two blocks for each.
    let far_apart: Vec<IpNet> = (0..1 << 16).map(|n: u128| net(true, n << 16 << 96, 32)).collect();
    let (mut serial, mut refused) = (0, 0);
    for prefixes in far_apart.chunks(1_024) {
        let batch: Vec<Change> = prefixes.iter().map(|&prefix| announce(prefix, 1)).collect();
        serial += 1;
        match fib.apply(&batch, serial) {
            Ok(_) => batch.iter().for_each(|change| oracle.apply(change)),
            Err(error) => {
                assert!(error.is_capacity(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && refused < 64, "{refused}");
    let asked: Vec<IpAddr> = far_apart.iter().copied().flat_map(edges).collect();
    agree(&mut fib, &oracle, &asked);
    assert_eq!(fib.len(), oracle.len());
    // Room again: as many small batches as it takes.
    for prefixes in oracle.prefixes().chunks(64) {
        let batch: Vec<Change> = prefixes.iter().map(|&prefix| withdraw(prefix)).collect();
        fib.generation();
        if fib.apply(&batch, serial).is_ok() {
            batch.iter().for_each(|change| oracle.apply(change));
        }
    }
    agree(&mut fib, &oracle, &asked);
    assert_eq!(oracle.len(), 0);
}

/// Prefixes that crowd in few places, so that they nest and touch.
fn crowded() -> impl Strategy<Value = IpNet> {
    let v4 = (prop_oneof![0..=32u8, 12..=26u8], any::<u32>(), 0..3u32).prop_map(|(len, bits, place)| {
        let bits = match place {
            0 => bits & 0x0007_ffff | 0x0a00_0000,
            1 => bits & 0x0000_03ff | 0x0a00_0400,
            _ => bits,
        };
        net(true, u128::from(bits) << 96, len)
    });
    let v6 = (prop_oneof![0..=128u8, 20..=64u8], any::<u128>(), 0..4u32).prop_map(|(len, bits, place)| {
        let bits = match place {
            0 => bits >> 32 | 0x2001_0db8 << 96,
            1 => bits >> 60 | 0x2001_0db8_0f00_0000 << 64,
            2 => bits >> 120 | 0x2001_0db8 << 96,
            _ => bits,
        };
        net(false, bits, len)
    });
    prop_oneof![v4, v6]
}

fn change() -> impl Strategy<Value = (IpNet, u64)> {
    (crowded(), 0..=LABELS)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_answer_as_the_oracle(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..120), 1..8),
    ) {
        let mut both = Both::new(LABELS);
        let mut asked = Vec::new();
        for batch in batches {
            asked.extend(batch.iter().flat_map(|(prefix, _)| edges(*prefix)));
            let changes: Vec<Change> = batch
                .into_iter()
                .map(|(prefix, label)| if label == 0 { withdraw(prefix) } else { announce(prefix, label) })
                .collect();
            both.apply(&changes);
            both.agree(&asked);
            rebuilt_is_the_same(&mut both, &asked);
        }
        for address in asked.iter().take(200) {
            let longest = both.fib.longest_match(VrfId::DEFAULT, *address);
            prop_assert_eq!(longest.map(|(_, label)| label.0), both.oracle.lookup(*address));
            if let Some((prefix, label)) = longest {
                prop_assert!(prefix.contains(address));
                prop_assert_eq!(both.fib.get(VrfId::DEFAULT, prefix), Some(label));
            }
        }
        let prefixes = both.oracle.prefixes();
        for from in prefixes.iter().step_by(5) {
            let page: Vec<IpNet> = both.fib.routes(VrfId::DEFAULT, Some(*from)).take(9).map(|route| route.0).collect();
            let expected: Vec<IpNet> = prefixes.iter().copied().skip_while(|prefix| prefix < from).take(9).collect();
            prop_assert_eq!(page, expected);
        }
        both.apply(&prefixes.into_iter().map(withdraw).collect::<Vec<_>>());
        both.agree(&asked);
    }
}
