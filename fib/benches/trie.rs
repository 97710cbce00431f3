//! Micro-benchmarks for who works on the trie: `cargo bench -p fibcast-fib`. The table is synthetic and small (50,000 routes of each
//! family), so that a run takes a minute; `fibcast-bench lpm` and `apply` measure the real one beside its peers.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fibcast_fib::*;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ROUTES: usize = 50_000;
const GROUPS: u64 = 64;

/// Lengths about as often as in the Internet: most are /24s and /48s.
fn prefixes(random: &mut SmallRng) -> Vec<IpNet> {
    let v4 = |random: &mut SmallRng| {
        let length = if random.random_range(0..5) < 3 { 24 } else { random.random_range(12..=28) };
        Ipv4Net::new(random.random_range(0x0100_0000u32..0xe000_0000).into(), length).unwrap().trunc().into()
    };
    let v6 = |random: &mut SmallRng| {
        let length = if random.random() { 48 } else { random.random_range(24..=64) };
        let bits = 0x2000 << 112
            | u128::from(random.random_range(0..0x1000_0000u32)) << 96 >> 12 << 12
            | u128::from(random.random::<u32>()) << 64;
        Ipv6Net::new(bits.into(), length).unwrap().trunc().into()
    };
    let mut all: Vec<IpNet> = (0..ROUTES).flat_map(|_| [v4(random), v6(random)]).collect();
    all.sort();
    all.dedup();
    all
}

fn announce(prefix: IpNet, label: u64) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) }
}

fn puts() -> Vec<Change> {
    let group =
        |n: u64| Group::one(NextHop::via(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).into())).unwrap();
    (0..GROUPS).map(|n| Change::PutGroup { label: GroupLabel(n), group: group(n) }).collect()
}

fn table(prefixes: &[IpNet], random: &mut SmallRng) -> (Fib, Vec<Change>) {
    let routes: Vec<Change> =
        prefixes.iter().map(|&prefix| announce(prefix, random.random_range(0..GROUPS))).collect();
    let mut fib = Fib::new(Limits::default());
    fib.apply(&puts(), 0).unwrap();
    fib.apply(&routes, 1).unwrap();
    (fib, routes)
}

fn lookups(criterion: &mut Criterion) {
    let mut random = SmallRng::seed_from_u64(1);
    let prefixes = prefixes(&mut random);
    let (mut fib, _) = table(&prefixes, &mut random);
    let generation = fib.generation();
    let inside = |prefix: &IpNet, random: &mut SmallRng| match prefix {
        IpNet::V4(net) => {
            u128::from(net.network().to_bits() | random.random::<u32>() & net.hostmask().to_bits())
        }
        IpNet::V6(net) => net.network().to_bits() | random.random::<u128>() & net.hostmask().to_bits(),
    };
    let draw = |v4: bool, random: &mut SmallRng| -> Vec<u128> {
        let of: Vec<&IpNet> = prefixes.iter().filter(|prefix| matches!(prefix, IpNet::V4(_)) == v4).collect();
        (0..1 << 16).map(|_| inside(of[random.random_range(0..of.len())], random)).collect()
    };
    let v4: Vec<u32> = draw(true, &mut random).into_iter().map(|bits| bits as u32).collect();
    let v6 = draw(false, &mut random);
    for burst in [1, 32, 256] {
        let mut found = vec![GroupIndex::NO_ROUTE; burst];
        let mut group = criterion.benchmark_group("lookup");
        group.throughput(Throughput::Elements(v4.len() as u64));
        group.bench_function(BenchmarkId::new("ipv4", burst), |bencher| {
            bencher.iter(|| {
                for dst in v4.chunks(burst) {
                    generation.lookup_v4(VrfId::DEFAULT, dst, &mut found);
                    black_box(&found);
                }
            });
        });
        group.bench_function(BenchmarkId::new("ipv6", burst), |bencher| {
            bencher.iter(|| {
                for dst in v6.chunks(burst) {
                    generation.lookup_v6(VrfId::DEFAULT, dst, &mut found);
                    black_box(&found);
                }
            });
        });
        group.finish();
    }
}

fn changes(criterion: &mut Criterion) {
    let mut random = SmallRng::seed_from_u64(2);
    let prefixes = prefixes(&mut random);
    let (mut fib, routes) = table(&prefixes, &mut random);
    let mut publisher = Publisher::new(fib.generation());
    let mut group = criterion.benchmark_group("apply");
    for size in [1, 1_000, 10_000] {
        group.throughput(Throughput::Elements(size as u64));
        let mut batch = || -> Vec<Change> {
            let one = |random: &mut SmallRng| {
                let prefix = prefixes[random.random_range(0..prefixes.len())];
                match random.random_range(0..4) {
                    0 => Change::Withdraw { vrf: VrfId::DEFAULT, prefix },
                    _ => announce(prefix, random.random_range(0..GROUPS)),
                }
            };
            (0..size).map(|_| one(&mut random)).collect()
        };
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                &mut batch,
                |batch| {
                    fib.apply(&batch, 2).unwrap();
                    publisher.publish(fib.generation());
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.throughput(Throughput::Elements(routes.len() as u64));
    group.bench_function("build", |bencher| {
        bencher.iter_batched(
            || {
                let mut fib = Fib::new(Limits::default());
                fib.apply(&puts(), 0).unwrap();
                fib
            },
            |mut fib| {
                fib.apply(&routes, 1).unwrap();
                fib
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = lookups, changes
}
criterion_main!(benches);
