//! The scrubber: silent while the table is right, however busy, and whatever the host adds of its own; finds and mends what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use fibcast_control::status::{ForwardingStatus, ScrubStatus};
use fibcast_dataplane::control::own_routes::StaticRoute;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::control::thread::{ControlHandle, ControlThread};
use fibcast_dataplane::control::{Batch, Control, PortSetup, Setup};
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::pipeline::icmp_error;
use fibcast_dataplane::pipeline::output::Rings;
use fibcast_dataplane::pipeline::port::{Link, ReversePath};
use fibcast_fib as fib;
use fibcast_fib::{GroupLabel, Limits, NextHop, Special, VrfId};
use fibcast_sync_agent::agent::{Sink, SinkError, TablePart};
use fibcast_sync_proto::{Change, GroupValue, HopValue, Key, Label, Table, Value};
use ipnet::IpNet;

fn port(number: u8, vrf: u32) -> PortSetup {
    PortSetup {
        name: format!("p{number}"),
        mac: Mac([2, 0, 0, 0, 0, number]),
        addresses: vec![format!("192.0.{number}.1/24").parse().unwrap()],
        loopback: vec!["203.0.113.1".parse().unwrap()],
        mtu: 1_500,
        vrf: VrfId(vrf),
        link: Link { device: u16::from(number), vlan: None },
        reverse_path: ReversePath::Off,
        exception_path: false,
    }
}

/// A control side with ports in two VRFs, connected hosts, a static route and routes that override the server's.
fn control(pass: Duration) -> ControlThread {
    let mut control = Control::new(setup(), Instant::now()).unwrap();
    control.scrub_every(Some(pass));
    ControlThread::spawn(control).unwrap()
}

fn setup() -> Setup {
    let own = |prefix: &str| StaticRoute {
        vrf: VrfId::DEFAULT,
        prefix: prefix.parse().unwrap(),
        group: fib::Group::Special(Special::Blackhole),
    };
    Setup {
        ports: vec![port(0, 0), port(1, 0), port(2, 7)],
        // The server has 0.0.5.0/24, too.
        routes: vec![own("172.16.0.0/12"), own("0.0.5.0/24")],
        neighbors: vec![(0, "192.0.0.9".parse().unwrap(), Mac([2, 0, 0, 0, 1, 9]))],
        limits: Limits::default(),
        icmp: icmp_error::Limits::default(),
        allow_class_e: false,
        rings: vec![Rings::default()],
        counters: Vec::new(),
    }
}

/// Groups of all kinds: direct, recursive, several next hops, on a port that is not here, dropping, local.
fn groups() -> Vec<(Label, GroupValue)> {
    let hop = |gateway: &str, port: Option<&str>| HopValue {
        gateway: Some(gateway.parse().unwrap()),
        port: port.map(str::to_owned),
        weight: 1,
    };
    let values = vec![
        GroupValue::Hops(vec![hop("192.0.0.9", None)]),
        GroupValue::Hops(vec![hop("192.0.1.9", Some("p1")), hop("192.0.0.9", None)]),
        // By 0.0.1.0/24 of the table itself.
        GroupValue::Hops(vec![hop("0.0.1.7", None)]),
        GroupValue::Hops(vec![hop("192.0.77.9", None)]),
        GroupValue::Hops(vec![hop("192.0.0.9", Some("not-here"))]),
        GroupValue::Blackhole,
        GroupValue::Unreachable,
        GroupValue::Local,
    ];
    values.into_iter().map(|value| (Label::of(&value), value)).collect()
}

fn v4(i: u32) -> Key {
    Key::Route {
        vrf: if i.is_multiple_of(11) { 7 } else { 0 },
        prefix: ipnet::Ipv4Net::new((i << 8).into(), 24).unwrap().into(),
    }
}

fn v6(i: u32) -> Key {
    let bits = 0x2001_0db8 << 96 | u128::from(i) << 72;
    Key::Route { vrf: 0, prefix: ipnet::Ipv6Net::new(bits.into(), 56).unwrap().into() }
}

struct Stage {
    control: ControlThread,
    sink: ControlSink,
    table: Table,
    sent: u64,
    /// Comparisons of the whole table that were sent.
    passes: u64,
}

impl Stage {
    fn new(routes: u32, pass: Duration) -> Self {
        let control = control(pass);
        let sink = ControlSink::new(control.handle.clone(), vec!["p0".into(), "p1".into(), "p2".into()]);
        let mut table = Table::new(1);
        let groups = groups();
        let label = |i: u32| Value::Route(groups[i as usize % groups.len()].0);
        let put =
            groups.iter().map(|(label, value)| Change::Put(Key::Group(*label), Value::Group(value.clone())));
        let keys = (0..routes).flat_map(|i| [(v4(i), label(i)), (v6(i), label(i))]);
        table.commit(put.chain(keys.map(|(key, value)| Change::Put(key, value)))).unwrap();
        let mut stage = Stage { control, sink, table, sent: 0, passes: 0 };
        stage.deliver();
        stage
    }

    fn handle(&self) -> &ControlHandle {
        &self.control.handle
    }

    fn again<T>(mut act: impl FnMut() -> Result<T, SinkError>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match act() {
                Ok(done) => return done,
                Err(SinkError::Busy) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_micros(200))
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn deliver(&mut self) {
        let batch = self.table.changes_since(self.sent).unwrap();
        Self::again(|| self.sink.apply(&batch));
        self.sent = self.table.serial();
        self.wait("the batch is in use", |status| status.serial == self.sent && status.pending_batches == 0);
    }

    fn wait(&self, what: &str, done: impl Fn(&ForwardingStatus) -> bool) -> ForwardingStatus {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let status = self.forwarding();
            if done(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not within 120 s: {what}: {status:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One part from a place on, as the agent passes it; returns where the next one begins.
    fn compare(&mut self, after: Option<Key>, records: usize) -> Option<Key> {
        let page = self.table.page(after.as_ref(), records, |_| true);
        let part = TablePart { after, until: page.next, records: page.records };
        Self::again(|| self.sink.compare(&part));
        self.passes += u64::from(part.until.is_none());
        part.until
    }

    /// Compares the whole table, and returns when that is done.
    fn pass(&mut self, records: usize) {
        let mut after = self.compare(None, records);
        while after.is_some() {
            after = self.compare(after, records);
        }
        self.wait("the comparison", |status| status.scrub_table.passes >= self.passes);
    }

    fn forwarding(&self) -> ForwardingStatus {
        self.handle().ask(Duration::from_secs(60), |control| control.forwarding()).unwrap()
    }

    /// Returns when it is done: only passes that begin later are sure to find it.
    fn damage(&self, damage: impl FnOnce(&mut fib::Fib) + Send + 'static) {
        let done = self.handle().ask_mut(Duration::from_secs(60), move |control| control.fault(damage));
        done.expect("the control thread answers");
    }

    /// Waits until the scrubber of the tries has done whole passes from now on.
    fn passes_of_tries(&self, passes: u64) -> ScrubStatus {
        let goal = self.forwarding().scrub_tries.passes + passes;
        self.wait("passes", |status| status.scrub_tries.passes >= goal).scrub_tries
    }
}

#[test]
fn busy_table_with_routes_of_the_host_vrfs_and_recursion_has_no_difference() {
    let mut stage = Stage::new(3_000, Duration::from_secs(1));
    let groups = groups();
    let mut after = None;
    // A hundred commits of a hundred changes: what 10,000 changes/s are in a second.
    for round in 0..100u32 {
        let changes = (0..100u32).map(|n| {
            let i = (round * 7_919 + n * 31) % 3_000;
            let key = if n % 2 == 0 { v4(i) } else { v6(i) };
            match n % 5 {
                0 => Change::Delete(key),
                _ => Change::Put(key, Value::Route(groups[((round + n) % 8) as usize].0)),
            }
        });
        stage.table.commit(changes).unwrap();
        stage.deliver();
        after = stage.compare(after, 97);
    }
    for records in [1_000, 256] {
        stage.pass(records);
    }
    stage.passes_of_tries(1);
    let status = stage.forwarding();
    let (table, tries) = (status.scrub_table, status.scrub_tries);
    assert_eq!((table.differences, tries.differences), (0, 0), "{table:?} {tries:?}");
    assert!(table.passes >= 2 && table.compared > 12_000 && table.skipped == 0, "{table:?}");
}

/// A batch that the table of the agent knows nothing of.
fn wrong(stage: &Stage, changes: Vec<fib::Change>) {
    assert!(stage.handle().push(Batch { changes, serial: 1, number: 0, replaces: false }));
}

#[test]
fn routes_and_groups_that_differ_from_the_table_are_found_and_mended() {
    let mut stage = Stage::new(500, Duration::from_secs(1));
    let groups = groups();
    let label = |n: usize| GroupLabel(groups[n].0.0);
    let prefix = |key: Key| match key {
        Key::Route { prefix, .. } => prefix,
        _ => panic!("a route"),
    };
    let vrf = VrfId::DEFAULT;
    let ghost: IpNet = "198.18.0.0/15".parse().unwrap();
    let other = fib::Group::one(NextHop::via("192.0.1.77".parse().unwrap())).unwrap();
    let cases: Vec<(&str, Vec<fib::Change>)> = vec![
        ("another group", vec![fib::Change::Announce { vrf, prefix: prefix(v4(3)), label: label(5) }]),
        ("missing", vec![fib::Change::Withdraw { vrf, prefix: prefix(v6(9)) }]),
        ("missing in another VRF", vec![fib::Change::Withdraw { vrf: VrfId(7), prefix: prefix(v4(22)) }]),
        ("too many", vec![fib::Change::Announce { vrf, prefix: ghost, label: label(0) }]),
        ("content of a group", vec![fib::Change::PutGroup { label: label(0), group: other.clone() }]),
        ("a group too many", vec![fib::Change::PutGroup { label: GroupLabel(77), group: other }]),
    ];
    for (what, changes) in cases {
        let before = stage.forwarding().scrub_table;
        wrong(&stage, changes);
        stage.pass(100);
        let found = stage.forwarding().scrub_table;
        assert_eq!(found.differences, before.differences + 1, "{what}: {found:?}");
        assert_eq!(found.mended, before.mended + 1, "{what}: {found:?}");
        stage.pass(100);
        assert_eq!(stage.forwarding().scrub_table.differences, found.differences, "{what}: not mended");
    }
    let last = stage.forwarding().scrub_table.last_difference.unwrap();
    assert!(last.contains("not in the table, found here"), "{last}");
    stage.passes_of_tries(1);
    assert_eq!(stage.forwarding().scrub_tries.differences, 0);
}

#[test]
fn wrong_words_in_the_tries_are_found_and_mended() {
    let stage = Stage::new(2_000, Duration::from_millis(100));
    let label = GroupLabel(groups()[5].0.0);
    let ghost: IpNet = "198.18.0.0/15".parse().unwrap();
    let (v4, v6) = match (v4(1_234), v6(777)) {
        (Key::Route { prefix: a, .. }, Key::Route { prefix: b, .. }) => (a, b),
        _ => panic!("routes"),
    };
    for (prefix, wrong) in [(v4, Some(label)), (v6, Some(label)), (v4, None), (ghost, Some(label))] {
        let before = stage.forwarding().scrub_tries;
        stage.damage(move |fib| fib.corrupt(VrfId::DEFAULT, prefix, wrong));
        let found = stage.passes_of_tries(2);
        assert!(found.differences > before.differences, "{prefix}: {found:?}");
        assert_eq!(
            found.mended - before.mended,
            found.differences - before.differences,
            "{prefix}: {found:?}"
        );
        let text = found.last_difference.clone().unwrap();
        assert!(text.contains("the table says") && text.contains("workers find"), "{text}");
        assert_eq!(stage.passes_of_tries(1).differences, found.differences, "{prefix}: not mended");
    }
}

/// The differences that this damage causes, all of which are mended; none remains after it.
fn damaged(stage: &Stage, what: &str, damage: impl FnOnce(&mut fib::Fib) + Send + 'static) -> ScrubStatus {
    let before = stage.forwarding().scrub_tries;
    stage.damage(damage);
    let found = stage.passes_of_tries(2);
    assert!(found.differences > before.differences, "{what}: not found: {found:?}");
    let new = found.differences - before.differences;
    assert_eq!(found.mended - before.mended, new, "{what}: {found:?}");
    assert_eq!(stage.passes_of_tries(2).differences, found.differences, "{what}: not mended");
    found
}

#[test]
fn wrong_bytes_of_adjacencies_are_found_and_mended() {
    let stage = Stage::new(200, Duration::from_millis(50));
    assert_eq!(stage.passes_of_tries(2).differences, 0);
    // Of a static neighbor, of one that nobody has resolved, of one behind a port, and of one that is on no link here.
    let hop = |gateway: &str, port: Option<u16>| NextHop {
        gateway: Some(gateway.parse().unwrap()),
        port: port.map(fib::PortId),
    };
    let hops = stage.handle().ask_mut(Duration::from_secs(60), |control| {
        let mut hops = Vec::new();
        control.fault(|fib| hops.extend(fib.next_hops().map(|hop| (hop, *fib.adjacency(&hop).unwrap()))));
        hops
    });
    let hops = hops.unwrap();
    let resolved = |hop: &NextHop| hops.iter().any(|(other, to)| other == hop && to.mtu == 1_500);
    let known = hop("192.0.0.9", None);
    assert!(resolved(&known), "{hops:?}");
    assert!(hops.iter().any(|(hop, to)| hop.gateway.is_some() && to.port.0 == u16::MAX), "{hops:?}");
    type Damage = fn(&mut fib::Adjacency);
    let damages: [(&str, Damage); 6] = [
        ("a byte of the destination", |to| to.header[3] ^= 1),
        ("a byte of the source", |to| to.header[11] ^= 0x80),
        ("the port", |to| to.port.0 ^= 1),
        ("the MTU", |to| to.mtu ^= 0x400),
        ("the state", |to| {
            to.state = match to.state {
                fib::AdjacencyState::Reachable => fib::AdjacencyState::Incomplete,
                fib::AdjacencyState::Incomplete => fib::AdjacencyState::Reachable,
            }
        }),
        ("all", |to| *to = fib::Adjacency { header: [7; 12], mtu: 9, ..*to }),
    ];
    for (what, damage) in damages {
        for (next_hop, right) in hops.iter().filter(|(hop, _)| hop.gateway.is_some()).copied() {
            let status = damaged(&stage, what, move |fib| {
                assert!(fib.corrupt_adjacency(next_hop, false, damage));
            });
            let text = status.last_difference.unwrap();
            let check = stage.handle().ask_mut(Duration::from_secs(60), move |control| {
                let mut found = None;
                control.fault(|fib| found = fib.adjacency(&next_hop).copied());
                found
            });
            assert_eq!(check.unwrap(), Some(right), "{what} of {next_hop:?}: {text}");
        }
        // The copy in groups of this next hop alone.
        if what != "the state" {
            damaged(&stage, what, move |fib| assert!(fib.corrupt_adjacency(known, true, damage)));
        }
    }
}

#[test]
fn wrong_connected_hosts_are_found_and_mended() {
    let stage = Stage::new(50, Duration::from_millis(50));
    assert_eq!(stage.passes_of_tries(2).differences, 0);
    let (port, address) = (fib::PortId(0), "192.0.0.9".parse().unwrap());
    let hosts = move |stage: &Stage| {
        let all = stage.handle().ask_mut(Duration::from_secs(60), |control| {
            let mut all = Vec::new();
            control.fault(|fib| all.extend(fib.neighbors().map(|(port, address, to)| (port, address, *to))));
            all
        });
        all.unwrap()
    };
    let before = hosts(&stage);
    assert_eq!(
        before.iter().map(|(port, address, _)| (*port, *address)).collect::<Vec<_>>(),
        [(port, address)]
    );
    let right = before[0].2;
    type Damage = fn(&mut fib::Adjacency);
    let damages: [(&str, Damage); 4] = [
        ("a byte of its MAC address", |to| to.header[0] ^= 2),
        ("its port", |to| to.port.0 = 2),
        ("its MTU", |to| to.mtu = 68),
        ("its state", |to| to.state = fib::AdjacencyState::Incomplete),
    ];
    for (what, damage) in damages {
        damaged(&stage, what, move |fib| {
            let mut wrong = right;
            damage(&mut wrong);
            fib.set_neighbor(port, address, wrong).unwrap();
        });
        assert_eq!(hosts(&stage), before, "{what}");
    }
    damaged(&stage, "missing", move |fib| assert!(fib.remove_neighbor(port, address)));
    let nobody = "192.0.0.10".parse().unwrap();
    damaged(&stage, "unknown", move |fib| _ = fib.set_neighbor(port, nobody, right).unwrap());
    damaged(&stage, "misplaced", move |fib| {
        fib.remove_neighbor(port, address);
        fib.misplace_neighbor(port, address, right);
    });
    damaged(&stage, "there twice", move |fib| fib.misplace_neighbor(port, address, right));
    assert_eq!(hosts(&stage), before);
}

/// `cargo nextest run -p fibcast-dataplane --test scrub --run-ignored only --no-capture`
#[test]
#[ignore = "a measurement: prints what a pass of each comparison costs with the whole Internet table"]
fn cost_of_a_pass_with_the_whole_table() {
    use fibcast_dataplane::control::scrub::{Place, TablePart};
    const PERIOD_S: f64 = 600.0;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../verify/data/full-table-2024.prefixes.txt.gz");
    let mut prefixes = fibcast_testbed::tablegen::read_prefixes(&path).unwrap();
    prefixes.sort();
    prefixes.dedup();
    // Of this thread alone, whatever else runs.
    let spent = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let mut now = Instant::now();
    let setup = Setup { routes: Vec::new(), limits: Limits::default(), ..setup() };
    let mut control = Control::new(setup, now).unwrap();
    let group =
        |n: usize| fib::Group::one(NextHop::via(format!("192.0.0.{}", 20 + n).parse().unwrap())).unwrap();
    let groups: Vec<(GroupLabel, fib::Group)> =
        (0..64).map(|n| (GroupLabel(n as u64 + 1), group(n))).collect();
    let vrf = VrfId::DEFAULT;
    let routes: Vec<(VrfId, IpNet, GroupLabel)> =
        prefixes.iter().enumerate().map(|(n, prefix)| (vrf, *prefix, groups[n * 7 % 64].0)).collect();
    let put =
        groups.iter().map(|(label, group)| fib::Change::PutGroup { label: *label, group: group.clone() });
    let announce = routes.iter().map(|&(vrf, prefix, label)| fib::Change::Announce { vrf, prefix, label });
    control.push(Batch { changes: put.chain(announce).collect(), serial: 1, number: 0, replaces: false });
    // Beyond the wait for neighbors that never answer.
    for _ in 0..5 {
        now += Duration::from_secs(1);
        control.turn(now);
    }
    control.scrub_every(Some(Duration::from_secs(1)));
    let (mut cpu, mut longest, mut slices) = (Duration::ZERO, Duration::ZERO, 0);
    while control.forwarding().scrub_tries.passes == 0 {
        for _ in 0..32 {
            // Any slice is due, and no neighbor is asked again.
            now += Duration::from_millis(1);
            let before = spent();
            control.turn(now);
            let took = spent() - before;
            (cpu, longest, slices) = (cpu + took, longest.max(took), slices + 1);
        }
    }
    let show = |of: &str, cpu: Duration, longest: Duration, slices: usize| {
        let (cpu, longest) = (cpu.as_secs_f64(), longest.as_micros());
        let share = 100.0 * cpu / PERIOD_S;
        println!(
            "{of}: {cpu:.2} s of CPU in {slices} slices, the longest {longest} us; every {PERIOD_S} s that is {share:.2} % of a core"
        );
    };
    show("tries", cpu, longest, slices);
    let (mut cpu, mut longest, mut slices) = (Duration::ZERO, Duration::ZERO, 0);
    let mut after = Place::Start;
    let parts = routes.chunks(256).map(<[_]>::to_vec);
    let count = parts.len();
    for (n, routes) in parts.enumerate() {
        let until = if n + 1 == count {
            Place::End
        } else {
            routes.last().map_or(Place::End, |last| Place::Route(vrf, last.1))
        };
        let groups = if n == 0 { groups.clone() } else { Vec::new() };
        let part = TablePart { after, until, groups, routes };
        after = until;
        let before = spent();
        control.scrub_table(&part, now);
        let took = spent() - before;
        (cpu, longest, slices) = (cpu + took, longest.max(took), slices + 1);
    }
    show("table", cpu, longest, slices);
    let status = control.forwarding();
    assert_eq!((status.scrub_tries.differences, status.scrub_table.differences), (0, 0), "{status:?}");
    assert_eq!(status.scrub_table.passes, 1);
}
