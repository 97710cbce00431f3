//! One EAL per test process; tests in one file take turns.
#![allow(dead_code)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use dpdk::{Burst, Eal, Mempool, Packet, RegisteredThread};

static EAL: OnceLock<Eal> = OnceLock::new();
static TURN: Mutex<()> = Mutex::new(());

/// EAL arguments that need neither hugepages nor devices nor files. (`--in-memory` and `--no-huge` exclude
/// each other in DPDK 22.11; `--no-shconf` lets all test processes share one prefix.)
pub fn arguments() -> impl Iterator<Item = &'static str> {
    "--no-huge -m 256 --no-pci --no-shconf --no-telemetry --iova-mode=va --file-prefix fibcast-test -l 0"
        .split(' ')
}

/// A turn with the EAL, on a thread that it knows.
pub struct Turn {
    pub eal: Eal,
    _thread: RegisteredThread,
    _turn: MutexGuard<'static, ()>,
}

pub fn turn() -> Turn {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let eal = EAL.get_or_init(|| Eal::init(arguments()).unwrap()).clone();
    let thread = eal.register_thread().unwrap();
    Turn { eal, _thread: thread, _turn: turn }
}

impl Turn {
    pub fn pool(&self) -> Mempool {
        Mempool::new(&self.eal, "test", 1023, 32, 2048, None).unwrap()
    }
}

/// Packets that hold `first`, `first + 1`, … as their only byte.
pub fn numbered<const N: usize>(pool: &Mempool, first: u8, count: u8) -> Burst<N> {
    let mut burst = Burst::new();
    assert_eq!(pool.allocate(&mut burst, usize::from(count)), usize::from(count));
    for (number, packet) in (first..).zip(burst.iter_mut()) {
        packet.append(1).unwrap()[0] = number;
    }
    burst
}

pub fn numbers(packets: &[Packet]) -> Vec<u8> {
    packets.iter().map(|packet| packet.data()[0]).collect()
}
