//! The kernel sink's scrubber beside a busy table, in a network namespace: it reports nothing that is right, and misses nothing that is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fibcast_control::status::KernelStatus;
use fibcast_sync_agent::kernel::{Kernel, KernelSink};
use fibcast_sync_agent::sink::{Sink, SinkError};
use fibcast_sync_proto::{Change, GroupValue, HopValue, Key, Label, Table, Value};
use fibcast_testbed::{Namespace, Namespaces};
use ipnet::IpNet;

/// Routes of each family.
const ROUTES: u32 = 5_000;
/// Of those, the ones that never change by themselves.
const QUIET: u32 = 2_000;

fn prefix(v6: bool, number: u32) -> IpNet {
    if v6 {
        let bits = 0x2001_0db8 << 96 | u128::from(number) << 80;
        ipnet::Ipv6Net::new(bits.into(), 48).unwrap().into()
    } else {
        ipnet::Ipv4Net::new((0x0a00_0000 + (number << 8)).into(), 24).unwrap().into()
    }
}

/// Three gateways of each family, and what drops.
fn groups() -> Vec<(Label, GroupValue)> {
    let hop = |gateway: String| HopValue { gateway: Some(gateway.parse().unwrap()), port: None, weight: 1 };
    let v4 = (2..=3).map(|host| GroupValue::Hops(vec![hop(format!("192.0.2.{host}"))]));
    let v6 = (2..=3).map(|host| GroupValue::Hops(vec![hop(format!("2001:db9::{host}"))]));
    let both =
        [GroupValue::Hops(vec![hop("192.0.2.2".into()), hop("192.0.2.3".into())]), GroupValue::Blackhole];
    v4.chain(v6).chain(both).map(|value| (Label::of(&value), value)).collect()
}

struct Stage {
    host: Namespace,
    sink: KernelSink,
    table: Table,
    sent: u64,
    groups: Vec<(Label, GroupValue)>,
    _namespaces: Namespaces,
}

impl Stage {
    /// None, with a line that says why, where this machine cannot.
    fn new() -> Option<Stage> {
        let skip = |why: &str| {
            eprintln!("{}: skipped: {why}", std::thread::current().name().unwrap_or("a test"));
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skip("not root");
        }
        let namespaces = Namespaces::new();
        let (host, up) = match (namespaces.add("h"), namespaces.add("up")) {
            (Ok(host), Ok(up)) => (host, up),
            (Err(failure), _) | (_, Err(failure)) => {
                return skip(&format!("no network namespaces: {failure}"));
            }
        };
        host.link("eth0", &up, "eth0").unwrap();
        host.up("eth0", &["192.0.2.1/24", "2001:db9::1/64"]).unwrap();
        up.up("eth0", &["192.0.2.2/24"]).unwrap();
        host.enter().unwrap();
        let config: Kernel = toml::from_str("table = 200").unwrap();
        let sink = KernelSink::start(&config, Some(Duration::from_millis(1))).unwrap();
        let mut table = Table::new(1);
        let groups = groups();
        let put =
            groups.iter().map(|(label, value)| Change::Put(Key::Group(*label), Value::Group(value.clone())));
        table.commit(put).unwrap();
        let mut stage = Stage { host, sink, table, sent: 0, groups, _namespaces: namespaces };
        stage.commit(
            (0..ROUTES).flat_map(|number| [(false, number, Some(0)), (true, number, Some(0))]).collect(),
        );
        Some(stage)
    }

    fn status(&self) -> KernelStatus {
        self.sink.view().status()
    }

    /// Which group a route has: those of its own family, both, or none.
    fn change(&self, (v6, number, turn): (bool, u32, Option<u32>)) -> Change {
        let key = Key::Route { vrf: 0, prefix: prefix(v6, number) };
        let choice: &[usize] = if v6 { &[2, 3, 5] } else { &[0, 1, 4, 5] };
        match turn {
            Some(turn) => Change::Put(key, Value::Route(self.groups[choice[turn as usize % choice.len()]].0)),
            None => Change::Delete(key),
        }
    }

    /// A commit, until the kernel has it.
    fn commit(&mut self, routes: Vec<(bool, u32, Option<u32>)>) {
        let changes: Vec<Change> = routes.into_iter().map(|route| self.change(route)).collect();
        self.table.commit(changes).unwrap();
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let batch = self.table.changes_since(self.sent).unwrap();
            match self.sink.apply(&batch) {
                Ok(()) => break,
                Err(SinkError::Busy) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_micros(500))
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.sent = self.table.serial();
    }

    /// Changes routes until `done`.
    fn churn(&mut self, seed: u32, mut done: impl FnMut(&KernelStatus) -> bool) {
        let end = Instant::now() + Duration::from_secs(240);
        let mut random = seed;
        loop {
            let status = self.status();
            if done(&status) {
                return;
            }
            assert!(Instant::now() < end, "{status:?}");
            let routes = (0..200).map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let number = QUIET + (random >> 8) % (ROUTES - QUIET);
                (random & 0x80 == 0, number, (random & 0x70 != 0).then_some(random >> 16))
            });
            let routes = routes.collect();
            self.commit(routes);
        }
    }

    fn passes(&self, passes: u64) -> KernelStatus {
        let (goal, end) = (self.status().scrub.passes + passes, Instant::now() + Duration::from_secs(120));
        loop {
            let status = self.status();
            if status.scrub.passes >= goal && !status.busy {
                return status;
            }
            assert!(Instant::now() < end, "{status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Commands of `ip`, all at once.
    fn batch(&self, lines: &[String]) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, (lines.join("\n") + "\n").as_bytes()).unwrap();
        self.host.sh(&format!("ip -force -batch {} 2>/dev/null; true", file.path().display())).unwrap();
    }

    /// The routes that the kernel has of ours, and those that it should have.
    fn compare(&self) {
        let text =
            ["-4", "-6"].map(|family| self.host.ip(&format!("{family} route show table 200 proto 217")));
        let text = text.map(|text| text.unwrap()).concat();
        let lines = text.lines().filter(|line| !line.starts_with(char::is_whitespace));
        let found: BTreeSet<IpNet> = lines
            .map(|line| {
                let mut words = line.split_whitespace();
                let word = words.find(|word| *word != "blackhole").unwrap();
                word.parse().unwrap_or_else(|_| panic!("{line}"))
            })
            .collect();
        let all = self.table.page(None, 4 * ROUTES as usize, |_| true).records;
        let wanted: BTreeSet<IpNet> = all
            .iter()
            .filter_map(|(key, _)| match key {
                Key::Route { prefix, .. } => Some(*prefix),
                _ => None,
            })
            .collect();
        let missing: Vec<_> = wanted.difference(&found).take(5).collect();
        let ghosts: Vec<_> = found.difference(&wanted).take(5).collect();
        assert!(missing.is_empty() && ghosts.is_empty(), "missing {missing:?}, too many {ghosts:?}");
    }
}

#[test]
fn a_busy_table_gives_no_false_report_and_hides_no_damage() {
    let Some(mut stage) = Stage::new() else { return };
    let goal = stage.status().scrub.passes + 10;
    stage.churn(1, |status| status.scrub.passes >= goal);
    let status = stage.status();
    assert_eq!(status.scrub.differences, 0, "{:?}", status.scrub);
    assert!(status.scrub.skipped > 0, "nothing changed during a pass: {:?}", status.scrub);

    // Damage to what is quiet, of each kind and family, while the rest changes: each is found once.
    let mut lines = Vec::new();
    for number in (0..QUIET).step_by(40) {
        let at = |v6: bool, offset: u32| prefix(v6, number + offset);
        lines.extend([
            format!("route del {} table 200", at(false, 0)),
            format!("-6 route del {} table 200", at(true, 1)),
            format!("route replace {} via 192.0.2.77 table 200 proto 217 metric 1024", at(false, 2)),
            format!("-6 route replace {} via 2001:db9::77 table 200 proto 217 metric 1024", at(true, 3)),
            format!("route replace unreachable {} table 200 proto 217 metric 1024", at(false, 4)),
        ]);
        let ghost = number + 20_000;
        lines.extend([
            format!("route add blackhole {} table 200 proto 217 metric 1024", prefix(false, ghost)),
            format!("-6 route add {} via 2001:db9::2 table 200 proto 217 metric 1024", prefix(true, ghost)),
        ]);
    }
    let damaged = lines.len() as u64;
    stage.batch(&lines);
    stage.churn(2, |status| status.scrub.mended >= damaged);
    let passes = stage.status().scrub.passes;
    stage.churn(3, |status| status.scrub.passes >= passes + 5);
    let scrub = stage.status().scrub;
    assert_eq!((scrub.differences, scrub.mended), (damaged, damaged), "{scrub:?}");

    // Damage to what changes as well: by a batch or by the scrubber, it ends.
    let lines: Vec<String> = (QUIET..ROUTES)
        .step_by(7)
        .flat_map(|number| {
            [
                format!("route del {} table 200", prefix(false, number)),
                format!("-6 route del {} table 200", prefix(true, number)),
            ]
        })
        .collect();
    let churned = stage.status().scrub.passes + 2;
    stage.batch(&lines);
    stage.churn(4, |status| status.scrub.passes >= churned);
    let status = stage.passes(3);
    assert_eq!((status.refused, status.shadowed, status.unfit), (0, 0, 0), "{status:?}");
    stage.compare();
    let differences = stage.status().scrub.differences;
    assert_eq!(stage.passes(2).scrub.differences, differences, "nothing is left");
}
