//! The dataplane's pipeline on memory buffers: any packets, and each ends in exactly one counter.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_dataplane::control::own_routes::StaticRoute;
use fibcast_dataplane::control::{Control, PortSetup, Setup};
use fibcast_dataplane::counters::WorkerCounters;
use fibcast_dataplane::io::memory::{Memory, MemoryPool, MemoryQueue};
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::pipeline::output::Rings;
use fibcast_dataplane::pipeline::port::{Link, PortFacts, ReversePath};
use fibcast_dataplane::worker::{Parts, RxSlot, Worker};
use fibcast_fib::{Group, Limits, NextHop, Special, VrfId};

use crate::Input;

struct Router {
    control: Control,
    worker: Worker<Memory>,
    counters: Arc<WorkerCounters>,
    rx: [MemoryQueue; 2],
    tx: [MemoryQueue; 2],
    now: Instant,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// MAC addresses of the router's ports.
pub const PORT: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 0]), Mac([2, 0, 0, 0, 1, 1])];
/// A host behind port 0, 192.0.2.7 and 2001:db8::7.
pub const HOST: Mac = Mac([2, 0, 0, 0, 2, 7]);
/// The gateway behind port 1.
const GATEWAY: Mac = Mac([2, 0, 0, 0, 2, 9]);

fn router(flags: u8) -> Router {
    let now = Instant::now();
    let port = |port_index: usize, addresses: [&str; 2]| PortSetup {
        name: format!("p{port_index}"),
        mac: PORT[port_index],
        addresses: addresses.iter().map(|a| a.parse().expect("an address")).collect(),
        loopback: Vec::new(),
        mtu: 1_500,
        vrf: VrfId::DEFAULT,
        link: Link { device: port_index as u16, vlan: None },
        reverse_path: [ReversePath::Off, ReversePath::Loose, ReversePath::Strict][usize::from(flags % 3)],
        exception_path: false,
    };
    let route = |prefix: &str, group: Group| StaticRoute {
        vrf: VrfId::DEFAULT,
        prefix: prefix.parse().expect("a prefix"),
        group,
    };
    let via = |gateway: &str| Group::one(NextHop::via(ip(gateway))).expect("a group of one");
    let mut setup = Setup {
        ports: vec![
            port(0, ["192.0.2.1/24", "2001:db8::1/64"]),
            port(1, ["198.51.100.1/24", "2001:db8:1::1/64"]),
        ],
        routes: vec![
            route("10.0.0.0/8", via("198.51.100.9")),
            route("10.66.0.0/16", Group::Special(Special::Blackhole)),
            route("2001:db8:f::/48", via("2001:db8:1::9")),
        ],
        neighbors: vec![
            (0, ip("192.0.2.7"), HOST),
            (0, ip("2001:db8::7"), HOST),
            (1, ip("198.51.100.9"), GATEWAY),
            (1, ip("2001:db8:1::9"), GATEWAY),
        ],
        limits: Limits { max_routes: 1_000, ..Limits::default() },
        icmp: fibcast_dataplane::pipeline::icmp_error::Limits::default(),
        allow_class_e: false,
        rings: vec![Rings::default()],
        counters: Vec::new(),
    };
    let counters = Arc::new(WorkerCounters::new(setup.ports.len()));
    setup.counters = vec![counters.clone()];
    let facts: Vec<PortFacts> =
        setup.ports.iter().map(|port| PortFacts { partial_checksums: true, ..port.facts() }).collect();
    let rings = setup.rings.first().cloned().unwrap_or_default();
    let mut control = Control::new(setup, now).expect("a good setup");
    let (rx, tx) =
        ([MemoryQueue::default(), MemoryQueue::default()], [MemoryQueue::default(), MemoryQueue::default()]);
    let slot = |port: usize| RxSlot { port, queue: rx[port].clone() };
    let worker = Worker::new(Parts {
        rx: vec![slot(0), slot(1)],
        tx: tx.iter().map(|queue| Some(queue.clone())).collect(),
        pool: MemoryPool::default(),
        ports: facts,
        seed: 1,
        backlog: 100,
        icmp: fibcast_dataplane::pipeline::icmp_error::Limits::default(),
        capture: Arc::default(),
        reader: control.reader("worker 0"),
        counters: counters.clone(),
        rings,
    });
    Router { control, worker, counters, rx, tx, now }
}

/// Packets into both ports while time passes. An input is a byte of flags, then per packet a byte (bit 0: port, bit 1: no Ethernet
/// header of its own, bit 7: a second passes before), two of length, and its bytes.
pub fn packets(data: &[u8]) {
    let mut input = Input::new(data);
    let mut router = router(input.byte().unwrap_or(0));
    let mut count = 0;
    while let Some(how) = input.byte() {
        let n = usize::from(input.number() % 2_048);
        let body = input.take(n);
        let port = usize::from(how & 1);
        let mut frame = Vec::new();
        if how & 2 != 0 {
            frame.extend(PORT[port].0);
            frame.extend(HOST.0);
            frame.extend(if how & 4 == 0 { [8, 0] } else { [0x86, 0xdd] });
        }
        frame.extend(body);
        // Nobody waits for an answer to a ping here, so that only this reads them as one.
        let _ = fibcast_dataplane::control::probes::is_answer(&frame);
        router.rx[port].put(frame);
        count += 1;
        if how & 128 != 0 {
            router.now += Duration::from_secs(1);
            router.worker.turn();
            router.control.turn(router.now);
            router.worker.tick(router.now);
        }
        router.worker.turn();
        if count >= 200 {
            break;
        }
    }
    for _ in 0..4 {
        router.now += Duration::from_secs(1);
        router.worker.turn();
        router.control.turn(router.now);
        router.worker.tick(router.now);
        router.worker.turn();
    }
    let snapshot = router.counters.snapshot();
    assert!(snapshot.adds_up(), "{snapshot:?}");
    assert_eq!(snapshot.received, count);
    assert_eq!((router.tx[0].len() + router.tx[1].len()) as u64, snapshot.sent + snapshot.originated);
}
