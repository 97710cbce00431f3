//! Many groups and many VRFs.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;

use common::*;
use fibcast_fib::*;
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

fn announce_in(vrf: VrfId, prefix: IpNet, label: u64) -> Change {
    Change::Announce { vrf, prefix, label: GroupLabel(label) }
}

/// One route for each group, in neighboring subnets, so that no answer repeats: past the numbers that 15 and 16 bits hold.
#[test]
fn groups_beyond_16_bits_are_told_apart() {
    for groups in [32_700..=32_900u64, 65_400..=65_700] {
        let mut both = Both::new(*groups.end());
        let v4 = |n: u64| net(true, u128::from(0x0a00_0000 + ((n - groups.start()) << 7)) << 96, 25);
        let v6 = |n: u64| net(false, 0x2001_0db8 << 96 | u128::from(n - groups.start()) << 72, 56);
        let batch: Vec<Change> = groups
            .clone()
            .flat_map(|n| [announce_in(VrfId::DEFAULT, v4(n), n), announce_in(VrfId::DEFAULT, v6(n), n)])
            .collect();
        both.apply(&batch);
        both.agree_at_edges();
        // As hosts too, and as the only route of a large prefix.
        let last = *groups.end();
        both.apply(&[
            announce_in(VrfId::DEFAULT, "10.255.0.1/32".parse().unwrap(), last),
            announce_in(VrfId::DEFAULT, "2001:db8:ffff::1/128".parse().unwrap(), last),
            announce_in(VrfId::DEFAULT, "64.0.0.0/2".parse().unwrap(), last - 1),
            announce_in(VrfId::DEFAULT, "4000::/2".parse().unwrap(), last - 1),
            announce_in(VrfId::DEFAULT, "0.0.0.0/0".parse().unwrap(), last - 2),
            announce_in(VrfId::DEFAULT, "::/0".parse().unwrap(), last - 2),
        ]);
        both.agree_at_edges();
        both.fib.use_scalar_kernel();
        both.agree_at_edges();
    }
}

/// An index that was given back is given out again, and no route of the group before answers for the new one.
#[test]
fn groups_come_and_go_and_their_indices_are_used_again() {
    let mut fib = Fib::new(Limits { max_groups: 300, ..Limits::default() });
    let mut random = SmallRng::seed_from_u64(31);
    let mut oracle = Oracle::default();
    let prefix = |n: u64| net(true, u128::from(0x0a00_0000 + (n << 8)) << 96, 24);
    let mut label_of: Vec<Option<u64>> = vec![None; 200];
    for round in 1..400u64 {
        let mut batch = Vec::new();
        for _ in 0..10 {
            let place = random.random_range(0..200);
            let label = round * 1_000 + place as u64;
            if let Some(gone) = label_of[place].replace(label) {
                batch.push(Change::DeleteGroup { label: GroupLabel(gone) });
            }
            batch.extend([put(label), announce_in(VrfId::DEFAULT, prefix(place as u64), label)]);
        }
        fib.apply(&batch, round).unwrap();
        batch.iter().for_each(|change| oracle.apply(change));
        let asked: Vec<IpAddr> = (0..200).flat_map(|n| edges(prefix(n))).collect();
        agree(&mut fib, &oracle, &asked);
    }
    assert!(fib.groups().count() <= 200);
    assert!(fib.groups().all(|(_, _, routes)| routes == 1));
}

#[test]
fn vrfs_under_churn_answer_each_by_its_own_table() {
    let mut random = SmallRng::seed_from_u64(32);
    let mut fib = Fib::new(Limits::default());
    fib.apply(&(1..=9).map(put).collect::<Vec<_>>(), 0).unwrap();
    let vrfs = [VrfId::DEFAULT, VrfId(3), VrfId(4), VrfId(900)];
    let mut oracles = vec![Oracle::default(); vrfs.len()];
    let mut asked: Vec<IpAddr> = Vec::new();
    for round in 1..=60u64 {
        // They come into being one after the other, while the others change.
        let there = (1 + round as usize / 10).min(vrfs.len());
        for vrf in &vrfs[..there] {
            fib.create_vrf(*vrf).unwrap();
        }
        let mut batch = Vec::new();
        for _ in 0..40 {
            let place = random.random_range(0..there);
            let prefix = if random.random() {
                let bits = 0x0a00_0000 | random.random::<u32>() & 0x0000_ffff;
                net(true, u128::from(bits) << 96, random.random_range(0..=32))
            } else {
                let bits = 0x2001_0db8 << 96 | random.random::<u128>() >> 40;
                net(false, bits, random.random_range(0..=128))
            };
            asked.extend(edges(prefix));
            let change = match random.random_range(0..3) {
                0 => Change::Withdraw { vrf: vrfs[place], prefix },
                _ => announce_in(vrfs[place], prefix, random.random_range(1..=9)),
            };
            oracles[place].apply(&change);
            batch.push(change);
        }
        fib.apply(&batch, round).unwrap();
        let generation = fib.generation();
        for (oracle, &vrf) in oracles.iter().zip(&vrfs) {
            for &address in asked.iter().rev().take(400) {
                let mut found = [GroupIndex(77)];
                match address {
                    IpAddr::V4(ip) => generation.lookup_v4(vrf, &[ip.to_bits()], &mut found),
                    IpAddr::V6(ip) => generation.lookup_v6(vrf, &[ip.to_bits()], &mut found),
                }
                let found = fib.group_label(found[0]).map(|label| label.0);
                assert_eq!(found, oracle.lookup(address), "{address} in {vrf:?}, round {round}");
            }
        }
    }
    for (oracle, &vrf) in oracles.iter().zip(&vrfs) {
        let routes: Vec<IpNet> = fib.routes(vrf, None).map(|(prefix, _)| prefix).collect();
        assert_eq!(routes, oracle.prefixes());
    }
    assert_eq!(fib.len(), oracles.iter().map(Oracle::len).sum::<usize>());
}
