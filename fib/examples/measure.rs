//! Cycles per lookup and time per batch on a file of prefixes: `cargo run --release --example measure -- FILE`.
#![allow(clippy::unwrap_used, clippy::expect_used, unsafe_code)]

use std::time::Instant;

use fibcast_fib::*;
use ipnet::IpNet;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

const PART: usize = 16_384;

fn low(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 4]
}

fn main() {
    let path = std::env::args().nth(1).expect("a file with a prefix on each line");
    let groups: u64 = std::env::args().nth(2).map_or(64, |groups| groups.parse().unwrap());
    let mut prefixes: Vec<IpNet> =
        std::fs::read_to_string(path).unwrap().lines().filter_map(|line| line.trim().parse().ok()).collect();
    prefixes.sort();
    prefixes.dedup();
    let mut random = Random(1);
    let mut fib = Fib::new(Limits::default());
    let puts: Vec<Change> = (0..groups)
        .map(|label| Change::PutGroup {
            label: GroupLabel(label),
            group: Group::one(NextHop::via(std::net::Ipv4Addr::from(label as u32 + 1).into())).unwrap(),
        })
        .collect();
    fib.apply(&puts, 0).unwrap();
    let announce = |prefix: IpNet, random: &mut Random| Change::Announce {
        vrf: VrfId::DEFAULT,
        prefix,
        label: GroupLabel(random.next() % groups),
    };
    for only in ["IPv4", "IPv6"] {
        let batch: Vec<Change> = prefixes
            .iter()
            .filter(|prefix| matches!(prefix, IpNet::V4(_)) == (only == "IPv4"))
            .map(|&prefix| announce(prefix, &mut random))
            .collect();
        let before = fib.generation().memory().tries;
        let start = Instant::now();
        fib.apply(&batch, 1).unwrap();
        let took = start.elapsed();
        let memory = fib.generation().memory().tries - before;
        println!(
            "{only}: {} routes built in {took:?}, tries {:.2} MiB, books {:.1} MiB",
            batch.len(),
            memory as f64 / 1048576.0,
            fib.memory() as f64 / 1048576.0
        );
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let (n4, _) = (prefixes.iter().filter(|p| matches!(p, IpNet::V4(_))).count(), ());
    while v4.len() < 1 << 20 {
        if let IpNet::V4(net) = prefixes[random.next() as usize % n4] {
            v4.push(net.network().to_bits() | (random.next() as u32 & net.hostmask().to_bits()));
        }
    }
    while v6.len() < 1 << 20 {
        if let IpNet::V6(net) = prefixes[n4 + random.next() as usize % (prefixes.len() - n4)] {
            let host = u128::from(random.next()) << 64 | u128::from(random.next());
            v6.push(net.network().to_bits() | (host & net.hostmask().to_bits()));
        }
    }
    if std::env::args().nth(3).is_some() {
        // What the instructions cost when every block is in the first cache.
        let distinct = 256;
        v4 = v4.iter().copied().take(distinct).cycle().take(1 << 20).collect();
        v6 = v6.iter().copied().take(distinct).cycle().take(1 << 20).collect();
    }
    for scalar in [false, true] {
        if scalar {
            fib.use_scalar_kernel();
        }
        let generation = fib.generation();
        for burst in [8, 32, 64, 256] {
            let mut out = vec![GroupIndex(0); burst];
            let (mut c4, mut c6) = (Vec::new(), Vec::new());
            let mut sum = 0u64;
            // Parts short enough that most are not interrupted; the low quarter, so that the others do not count.
            for _ in 0..7 {
                for part in v4.chunks_exact(PART) {
                    let start = ticks();
                    for dst in part.chunks_exact(burst) {
                        generation.lookup_v4(VrfId::DEFAULT, dst, &mut out);
                        sum += u64::from(out[0].0);
                    }
                    c4.push((ticks() - start) as f64 / PART as f64);
                }
                for part in v6.chunks_exact(PART) {
                    let start = ticks();
                    for dst in part.chunks_exact(burst) {
                        generation.lookup_v6(VrfId::DEFAULT, dst, &mut out);
                        sum += u64::from(out[0].0);
                    }
                    c6.push((ticks() - start) as f64 / PART as f64);
                }
            }
            println!("scalar={scalar} burst {burst}: IPv4 {:.2} IPv6 {:.2} cycles ({sum})", low(c4), low(c6));
        }
    }
    let mut publisher = Publisher::new(fib.generation());
    for size in [1, 100, 1_000, 10_000] {
        let mut times = Vec::new();
        for round in 0..(200_000 / size).clamp(20, 2_000) {
            let batch: Vec<Change> = (0..size)
                .map(|_| announce(prefixes[random.next() as usize % prefixes.len()], &mut random))
                .collect();
            let start = Instant::now();
            fib.apply(&batch, round as u64).unwrap();
            publisher.publish(fib.generation());
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let took = low(times);
        println!("batch of {size}: {took:.1} us, {:.2} M changes/s", size as f64 / took);
    }
    let memory = fib.generation().memory();
    println!(
        "after: tries {:.2} MiB, books {:.1} MiB",
        memory.tries as f64 / 1048576.0,
        fib.memory() as f64 / 1048576.0
    );
}
