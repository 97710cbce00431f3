//! A router of two ports on plain memory, with a clock that tests move, and the packets that tests send to it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_dataplane::capture::Hub;
use fibcast_dataplane::control::own_routes::StaticRoute;
use fibcast_dataplane::control::{Batch, Control, PortSetup, Setup};
use fibcast_dataplane::counters::{Snapshot, WorkerCounters};
use fibcast_dataplane::io::memory::{Memory, MemoryPool, MemoryQueue};
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::pipeline::icmp_error;
use fibcast_dataplane::pipeline::output::Rings;
use fibcast_dataplane::pipeline::port::{Link, PortFacts, ReversePath};
use fibcast_dataplane::reason::Reason;
use fibcast_dataplane::worker::{Parts, RxSlot, Worker};
use fibcast_fib::{Change, Group, GroupLabel, Limits, NextHop, Special, VrfId};

/// Most unproven neighbors of a port, by default.
pub const UNPROVEN_LIMIT: usize = 4_096;
/// MAC addresses of the router's ports.
pub const PORT: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 0]), Mac([2, 0, 0, 0, 1, 1])];
/// A host behind port 0.
pub const HOST: Mac = Mac([2, 0, 0, 0, 2, 7]);
/// The gateway behind port 1, 198.51.100.9 and 2001:db8:1::9.
pub const GATEWAY: Mac = Mac([2, 0, 0, 0, 2, 9]);
/// Packets that wait for a transmit queue.
pub const BACKLOG: usize = 100;

pub struct Stage {
    pub control: Control,
    pub worker: Worker<Memory>,
    pub counters: Arc<WorkerCounters>,
    pub now: Instant,
    pub rx: [MemoryQueue; 2],
    pub tx: [MemoryQueue; 2],
    pub pool: MemoryPool,
    pub capture: Arc<Hub>,
    pub rings: Rings,
    serial: u64,
}

impl Stage {
    /// Static neighbors, routes 10.0.0.0/8 and 2001:db8:f::/48 to the gateway, 10.66.0.0/16 to nowhere.
    pub fn new() -> Stage {
        Stage::with(|_| ())
    }

    /// The same with another configuration.
    pub fn with(change: impl FnOnce(&mut Setup)) -> Stage {
        Stage::made(Stage::known(), change)
    }

    /// The same without anybody known on the links.
    pub fn with_neighbors(neighbors: Vec<(usize, std::net::IpAddr, Mac)>) -> Stage {
        Stage::made(neighbors, |_| ())
    }

    fn known() -> Vec<(usize, std::net::IpAddr, Mac)> {
        vec![
            (0, "192.0.2.7".parse().unwrap(), HOST),
            (0, "2001:db8::7".parse().unwrap(), HOST),
            (1, "198.51.100.9".parse().unwrap(), GATEWAY),
            (1, "2001:db8:1::9".parse().unwrap(), GATEWAY),
        ]
    }

    fn made(neighbors: Vec<(usize, std::net::IpAddr, Mac)>, change: impl FnOnce(&mut Setup)) -> Stage {
        let now = Instant::now();
        let port = |port_index: usize, addresses: [&str; 2]| PortSetup {
            name: format!("p{port_index}"),
            mac: PORT[port_index],
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            loopback: Vec::new(),
            mtu: 1_500,
            vrf: VrfId::DEFAULT,
            link: Link { device: port_index as u16, vlan: None },
            reverse_path: ReversePath::Off,
            exception_path: false,
        };
        let mut setup = Setup {
            ports: vec![
                port(0, ["192.0.2.1/24", "2001:db8::1/64"]),
                port(1, ["198.51.100.1/24", "2001:db8:1::1/64"]),
            ],
            routes: vec![
                route("10.0.0.0/8", "198.51.100.9"),
                StaticRoute {
                    vrf: VrfId::DEFAULT,
                    prefix: "10.66.0.0/16".parse().unwrap(),
                    group: Group::Special(Special::Blackhole),
                },
                route("2001:db8:f::/48", "2001:db8:1::9"),
            ],
            neighbors,
            limits: Limits { max_routes: 10_000, ..Limits::default() },
            icmp: icmp_error::Limits::default(),
            allow_class_e: false,
            rings: vec![Rings::default()],
            counters: Vec::new(),
        };
        change(&mut setup);
        let counters = Arc::new(WorkerCounters::new(setup.ports.len()));
        setup.counters = vec![counters.clone()];
        let (icmp, allow_class_e) = (setup.icmp, setup.allow_class_e);
        let facts = |port: &PortSetup| PortFacts { allow_class_e, ..port.facts() };
        let facts: Vec<PortFacts> = setup.ports.iter().map(facts).collect();
        let rings = setup.rings[0].clone();
        let mut control = Control::new(setup, now).unwrap();
        let pool = MemoryPool::default();
        let capture = Arc::new(Hub::new(vec!["p0".to_owned(), "p1".to_owned()]));
        let (rx, tx) = (
            [MemoryQueue::default(), MemoryQueue::default()],
            [MemoryQueue::default(), MemoryQueue::default()],
        );
        let slot = |port: usize| RxSlot { port, queue: rx[port].clone() };
        let worker = Worker::new(Parts {
            rx: vec![slot(0), slot(1)],
            tx: facts
                .iter()
                .map(|port| port.link.vlan.is_none().then(|| tx[usize::from(port.link.device)].clone()))
                .collect(),
            pool: pool.clone(),
            ports: facts,
            seed: 1,
            backlog: BACKLOG,
            icmp,
            capture: capture.clone(),
            reader: control.reader("worker 0"),
            counters: counters.clone(),
            rings: rings.clone(),
        });
        Stage { control, worker, counters, now, rx, tx, pool, capture, rings, serial: 0 }
    }

    /// The worker shares flows with others.
    pub fn share(&mut self, spread: Option<fibcast_dataplane::worker::spread::Spread<Memory>>) {
        self.worker.share(spread);
    }

    /// Time passes, and everybody gets a turn.
    pub fn after(&mut self, pause: Duration) {
        self.now += pause;
        self.worker.turn();
        self.control.turn(self.now);
        self.worker.tick(self.now);
        self.worker.turn();
    }

    /// Sends a frame into a port and lets the worker handle it.
    pub fn send(&mut self, port: usize, frame: Vec<u8>) {
        self.rx[port].put(frame);
        self.worker.tick(self.now);
        self.worker.turn();
    }

    /// What came out of a port.
    pub fn out(&mut self, port: usize) -> Option<Vec<u8>> {
        self.tx[port].take()
    }

    /// Applies a batch as if a server had sent it.
    pub fn batch(&mut self, changes: Vec<Change>) {
        self.push(changes, false);
    }

    /// The same for a batch that holds the whole table.
    pub fn replace(&mut self, changes: Vec<Change>) {
        self.push(changes, true);
    }

    fn push(&mut self, changes: Vec<Change>, replaces: bool) {
        self.serial += 1;
        self.control.push(Batch { changes, serial: self.serial, number: 0, replaces });
        self.after(Duration::ZERO);
    }

    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.counters.snapshot();
        assert!(snapshot.adds_up(), "{snapshot:?}");
        snapshot
    }

    /// Sends a frame into port 0 that must end as this drop and nothing else.
    #[track_caller]
    pub fn expect_drop(&mut self, frame: Vec<u8>, reason: Reason) {
        while self.out(0).is_some() {}
        let before = self.snapshot();
        self.send(0, frame);
        let after = self.snapshot();
        assert_eq!(after.drops(reason) - before.drops(reason), 1, "{}: {after:?}", reason.name());
        assert_eq!((after.dropped() - before.dropped(), after.sent - before.sent), (1, 0));
        assert_eq!(self.out(1), None);
        // The tests of ICMP errors check the error to its source.
        assert_eq!(u64::from(self.out(0).is_some()), after.originated - before.originated);
    }

    /// Sends a frame into port 0 that must be dropped, with a word to its source.
    #[track_caller]
    pub fn expect_error(&mut self, frame: Vec<u8>, reason: Reason) -> Vec<u8> {
        let before = self.snapshot();
        self.send(0, frame);
        let after = self.snapshot();
        assert_eq!(after.drops(reason) - before.drops(reason), 1, "{}: {after:?}", reason.name());
        assert_eq!((after.icmp_sent - before.icmp_sent, after.originated - before.originated), (1, 1));
        self.out(0).expect("an error out of port 0")
    }

    /// Sends a frame into port 0 that must wait.
    #[track_caller]
    pub fn expect_held(&mut self, frame: Vec<u8>) {
        let before = self.snapshot();
        self.send(0, frame);
        let after = self.snapshot();
        assert_eq!((after.held - before.held, after.sent - before.sent), (1, 0), "{after:?}");
    }

    /// Sends a frame into port 0 that must come out of port 1.
    #[track_caller]
    pub fn expect_forward(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let before = self.snapshot();
        self.send(0, frame);
        let after = self.snapshot();
        assert_eq!(after.sent - before.sent, 1, "{after:?}");
        self.out(1).expect("a frame out of port 1")
    }
}

/// A frame from the host to the router's port 0.
pub fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [PORT[0].0, HOST.0].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Writes the right checksum into the IPv4 header of a frame.
pub fn seal(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let field = checksum::checksum(&frame[14..end]);
    frame[24..26].copy_from_slice(&field.to_be_bytes());
    frame
}

/// UDP over IPv4 from 192.0.2.7, with 18 bytes of data, TTL 64.
pub fn ipv4(destination: &str) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 46, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 7];
    packet.extend(destination.parse::<Ipv4Addr>().unwrap().octets());
    packet.extend([0x30, 0x39, 0, 53, 0, 26, 0, 0]);
    packet.extend(1..=18);
    seal(frame(0x0800, &packet))
}

/// UDP over IPv6 from 2001:db8::7, with 4 bytes of data, hop limit 64.
pub fn ipv6(destination: &str) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
    packet.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    packet.extend(destination.parse::<Ipv6Addr>().unwrap().octets());
    packet.extend([0x30, 0x39, 0, 53, 0, 12, 0xab, 0xcd, 1, 2, 3, 4]);
    frame(0x86dd, &packet)
}

/// A route of the configuration.
pub fn route(prefix: &str, via: &str) -> StaticRoute {
    let group = Group::one(NextHop::via(via.parse().unwrap())).unwrap();
    StaticRoute { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap(), group }
}

/// A group of one gateway.
pub fn put(label: u64, gateway: &str) -> Change {
    let group = Group::one(NextHop::via(gateway.parse().unwrap())).unwrap();
    Change::PutGroup { label: GroupLabel(label), group }
}

pub fn announce(prefix: &str, label: u64) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap(), label: GroupLabel(label) }
}

pub fn withdraw(prefix: &str) -> Change {
    Change::Withdraw { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap() }
}

/// The neighbor behind port 1 in VRF 7.
pub const IN_VRF: Mac = Mac([2, 0, 0, 0, 7, 9]);

/// Both ports have a sub-interface on VLAN 7 in VRF 7, with the same subnets and the same gateways' addresses.
pub fn vrf_stage() -> Stage {
    Stage::with(|setup| {
        for (port, neighbor, mac) in [(0, "192.0.2.7", HOST), (1, "198.51.100.9", IN_VRF)] {
            let mut sub = setup.ports[port].clone();
            sub.name += ".7";
            sub.vrf = VrfId(7);
            sub.link.vlan = Some(7);
            setup.neighbors.push((setup.ports.len(), neighbor.parse().unwrap(), mac));
            setup.ports.push(sub);
        }
    })
}

/// The frame with the tag of VLAN 7.
pub fn in_vrf(mut packet: Vec<u8>) -> Vec<u8> {
    packet.splice(12..12, [0x81, 0, 0, 7]);
    packet
}
