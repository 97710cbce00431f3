//! Each lookup function against the other and the oracle, at every length of a burst.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Prefixes of all lengths that crowd in a few places, a third of them host routes.
fn crowded(random: &mut SmallRng, count: usize) -> Vec<IpNet> {
    let one = |random: &mut SmallRng| {
        let host = random.random_range(0..3) == 0;
        if random.random() {
            let bits = 0x0a00_0000 | random.random::<u32>() & 0x0003_ffff;
            net(true, u128::from(bits) << 96, if host { 32 } else { random.random_range(8..=32) })
        } else {
            let bits = 0x2001_0db8 << 96 | random.random::<u128>() >> random.random_range(32..120);
            net(false, bits, if host { 128 } else { random.random_range(16..=128) })
        }
    };
    (0..count).map(|_| one(random)).collect()
}

/// What lies behind the answers must not be written to.
const BEHIND: GroupIndex = GroupIndex(0xdead_beef);

#[test]
fn bursts_of_every_length_answer_alike_and_write_no_further() {
    let mut random = SmallRng::seed_from_u64(21);
    let mut both = Both::new(50);
    let prefixes = crowded(&mut random, 3_000);
    let table: Vec<Change> = prefixes
        .iter()
        .map(|&prefix| Change::Announce {
            vrf: VrfId::DEFAULT,
            prefix,
            label: GroupLabel(random.random_range(1..=50)),
        })
        .collect();
    both.apply(&table);
    let mut asked: Vec<IpAddr> = prefixes.iter().copied().flat_map(edges).collect();
    asked.shuffle(&mut random);
    let v4: Vec<u32> = asked
        .iter()
        .filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip.to_bits()) } else { None })
        .collect();
    let v6: Vec<u128> = asked
        .iter()
        .filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(ip.to_bits()) } else { None })
        .collect();
    let generations: Vec<_> = Fib::kernels()
        .into_iter()
        .map(|kernel| {
            assert!(both.fib.use_kernel(kernel));
            both.fib.generation()
        })
        .collect();
    assert!(!both.fib.use_kernel("no such kernel"));
    let right = |both: &Both, ip: IpAddr| {
        let label = both.oracle.lookup(ip);
        label.map_or(GroupIndex::NO_ROUTE, |label| both.fib.group_index(GroupLabel(label)).unwrap())
    };
    for length in 0..=256 {
        let from = (length * 37) % (v4.len().min(v6.len()) - 256);
        for generation in &generations {
            let mut found = vec![BEHIND; length + 8];
            generation.lookup_v4(VrfId::DEFAULT, &v4[from..from + length], &mut found);
            let expected: Vec<GroupIndex> =
                v4[from..from + length].iter().map(|&bits| right(&both, IpAddr::V4(bits.into()))).collect();
            assert_eq!(found[..length], expected, "IPv4, a burst of {length}");
            assert_eq!(found[length..], [BEHIND; 8], "IPv4, a burst of {length}");
            let mut found = vec![BEHIND; length + 8];
            generation.lookup_v6(VrfId::DEFAULT, &v6[from..from + length], &mut found);
            let expected: Vec<GroupIndex> =
                v6[from..from + length].iter().map(|&bits| right(&both, IpAddr::V6(bits.into()))).collect();
            assert_eq!(found[..length], expected, "IPv6, a burst of {length}");
            assert_eq!(found[length..], [BEHIND; 8], "IPv6, a burst of {length}");
        }
    }
}

#[test]
fn the_shorter_of_the_two_slices_counts() {
    let mut both = Both::new(1);
    both.apply(&[announce("0.0.0.0/0", 1), announce("::/0", 1)]);
    let generation = both.fib.generation();
    let index = both.fib.group_index(GroupLabel(1)).unwrap();
    let mut found = [BEHIND; 70];
    generation.lookup_v4(VrfId::DEFAULT, &[7; 200], &mut found[..65]);
    assert_eq!((found[64], found[65]), (index, BEHIND));
    let mut found = [BEHIND; 70];
    generation.lookup_v6(VrfId::DEFAULT, &[7; 200], &mut found[..65]);
    assert_eq!((found[64], found[65]), (index, BEHIND));
}

/// Addresses at random, most of them in no crowded place.
#[test]
fn any_address_is_answered_alike_by_each() {
    let mut random = SmallRng::seed_from_u64(22);
    let mut both = Both::new(9);
    for round in 0..6u64 {
        let batch: Vec<Change> = crowded(&mut random, 400)
            .into_iter()
            .map(|prefix| match round % 3 {
                2 => Change::Withdraw { vrf: VrfId::DEFAULT, prefix },
                _ => Change::Announce {
                    vrf: VrfId::DEFAULT,
                    prefix,
                    label: GroupLabel(random.random_range(1..=9)),
                },
            })
            .collect();
        both.apply(&batch);
        let best = both.fib.generation();
        let mut other = Both::new(9);
        other.apply(
            &both
                .fib
                .routes(VrfId::DEFAULT, None)
                .map(|(prefix, label)| Change::Announce { vrf: VrfId::DEFAULT, prefix, label })
                .collect::<Vec<_>>(),
        );
        other.fib.use_scalar_kernel();
        let scalar = other.fib.generation();
        let v4: Vec<u32> = (0..5_000).map(|_| 0x0a00_0000 | random.random::<u32>() & 0x0007_ffff).collect();
        let v6: Vec<u128> = (0..5_000)
            .map(|_| 0x2001_0db8 << 96 | random.random::<u128>() >> random.random_range(30..128))
            .collect();
        let (mut one, mut two) = (vec![BEHIND; 5_000], vec![BEHIND; 5_000]);
        let labels = |fib: &Fib, found: &[GroupIndex]| -> Vec<Option<GroupLabel>> {
            found.iter().map(|&index| fib.group_label(index)).collect()
        };
        best.lookup_v4(VrfId::DEFAULT, &v4, &mut one);
        scalar.lookup_v4(VrfId::DEFAULT, &v4, &mut two);
        assert_eq!(labels(&both.fib, &one), labels(&other.fib, &two));
        best.lookup_v6(VrfId::DEFAULT, &v6, &mut one);
        scalar.lookup_v6(VrfId::DEFAULT, &v6, &mut two);
        assert_eq!(labels(&both.fib, &one), labels(&other.fib, &two));
    }
}
