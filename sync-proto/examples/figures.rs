//! Figures of the protocol on the real table: bytes per route, routes per second, memory, failover.
//!
//! `cargo run --release -p fibcast-sync-proto --example figures -- PREFIXES.txt` (one prefix per line).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::BufRead;
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::{Action, Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Served, Server, Tables};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};

struct One<'a>(&'a Table);

impl Tables for One<'_> {
    fn served(&self, _: &str) -> Option<Served<'_>> {
        Some(Served { table: self.0, ready: true, path: &[] })
    }
}

fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / (1 << 20) as f64
}

/// Next hops by a rule with runs, as neighbors in the real table often share one.
fn group(i: usize) -> (Label, GroupValue) {
    let n = (i / 3).wrapping_mul(2_654_435_761) >> 7 & 0xfff;
    let value = GroupValue::via([198, 18, (n >> 8) as u8, n as u8].into());
    (Label::of(&value), value)
}

/// Moves bytes until nothing moves; gives what the server sent, and the seconds spent in the client.
fn run(server: &mut Server, table: &Table, client: &mut Client, copy: &mut Table) -> (u64, f64) {
    let now = Duration::from_secs(1);
    let mut id = 0;
    let (mut bytes, mut spent) = (0, 0.0);
    while let Some(action) = client.poll_action() {
        if action == Action::Connect(0) {
            id = server.accept(now);
            client.handle_connected(now, 0);
        }
    }
    if id == 0 {
        id = server.sessions().last().map_or(0, |s| s.session);
    }
    loop {
        let up = client.transmit(0).to_vec();
        client.sent(0, up.len());
        server.handle_bytes(now, id, &up, &One(table));
        let down = server.transmit(id);
        let down = down[..down.len().min(64 * 1024)].to_vec();
        server.sent(id, down.len());
        server.pump(&One(table));
        if up.is_empty() && down.is_empty() {
            return (bytes, spent);
        }
        bytes += down.len() as u64;
        let start = Instant::now();
        client.handle_bytes(now, 0, &down, copy);
        spent += start.elapsed().as_secs_f64();
    }
}

/// Random routes of the whole table get other groups, in batches as sources make them.
fn commits(table: &mut Table, prefixes: &[ipnet::IpNet]) {
    const ROUNDS: usize = 60;
    const BATCH: usize = 10_000;
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let labels: Vec<Label> =
        (0..4096).map(|i| group(i * 3).0).filter(|l| table.group(*l).is_some()).collect();
    let batches: Vec<Vec<Change>> = (0..ROUNDS)
        .map(|_| {
            let mut change = || {
                let (prefix, label) = (prefixes[random() % prefixes.len()], labels[random() % labels.len()]);
                Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label))
            };
            (0..BATCH).map(|_| change()).collect()
        })
        .collect();
    let (mut changed, mut slowest) = (0, Duration::ZERO);
    let start = Instant::now();
    for batch in batches {
        let begin = Instant::now();
        changed += table.commit(batch).expect("commit").map_or(0, |c| c.count);
        slowest = slowest.max(begin.elapsed());
    }
    println!(
        "commit: {:.2} M changes/s, random routes in batches of {BATCH}, slowest batch {:.2} ms",
        changed as f64 / start.elapsed().as_secs_f64() / 1e6,
        slowest.as_secs_f64() * 1e3
    );
}

/// Pages of 100 after the table's structure changed.
fn pages(table: &Table) {
    let start = Instant::now();
    let mut after = None;
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let begin = Instant::now();
        after = table.page(after.as_ref(), 100, |k| matches!(k, Key::Route { .. })).next;
        slowest = slowest.max(begin.elapsed());
    }
    println!(
        "pages of 100: {:.3} ms each, slowest {:.3} ms",
        start.elapsed().as_secs_f64() * 10.0,
        slowest.as_secs_f64() * 1e3
    );
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: figures PREFIXES.txt");
    let file = std::io::BufReader::new(std::fs::File::open(path).expect("file"));
    let prefixes: Vec<ipnet::IpNet> =
        file.lines().map_while(Result::ok).filter_map(|l| l.trim().parse().ok()).collect();
    let changes = || {
        prefixes.iter().enumerate().flat_map(|(i, &prefix)| {
            let (label, value) = group(i);
            [
                Change::Put(Key::Group(label), Value::Group(value)),
                Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label)),
            ]
        })
    };
    let before = resident();
    let start = Instant::now();
    let mut table = Table::new(1);
    let mut batch = Vec::new();
    for change in changes() {
        batch.push(change);
        if batch.len() == 20_000 {
            table.commit(batch.drain(..)).expect("commit");
        }
    }
    table.commit(batch).expect("commit");
    let seconds = start.elapsed().as_secs_f64();
    let n = table.counts().routes();
    println!(
        "table: {n} routes, {} groups, {:.1} MiB, built at {:.2} M routes/s",
        table.counts().groups,
        resident() - before,
        n as f64 / seconds / 1e6
    );

    let mut server = Server::new("a");
    let mut client = Client::new(ClientConfig::new("n", "fib", vec![Role::Primary]), Duration::ZERO);
    let mut copy = Table::new(2);
    let start = Instant::now();
    let (bytes, spent) = run(&mut server, &table, &mut client, &mut copy);
    println!(
        "snapshot: {bytes} bytes, {:.2} per route; {:.3} s in all, {:.2} M routes/s decoded and applied",
        bytes as f64 / n as f64,
        start.elapsed().as_secs_f64(),
        n as f64 / spent / 1e6
    );
    assert_eq!(copy.digest(), table.digest());

    let v4: Vec<_> = prefixes.iter().filter(|p| p.addr().is_ipv4()).collect();
    let mut only4 = Table::new(3);
    only4
        .commit(changes().filter(|c| match c.key() {
            Key::Route { prefix, .. } => prefix.addr().is_ipv4(),
            _ => true,
        }))
        .expect("commit");
    let mut server4 = Server::new("b");
    let mut client4 = Client::new(ClientConfig::new("n", "fib", vec![Role::Primary]), Duration::ZERO);
    let (bytes, _) = run(&mut server4, &only4, &mut client4, &mut Table::new(4));
    println!("snapshot of IPv4 alone: {:.2} bytes per route", bytes as f64 / v4.len() as f64);
    drop((only4, server4, client4));

    commits(&mut table, &prefixes);
    pages(&table);
    server.pump(&One(&table));
    run(&mut server, &table, &mut client, &mut copy);
    assert_eq!(copy.digest(), table.digest());

    for differing in [0usize, 30, 1000] {
        let mut other = Server::new("c");
        let changes: Vec<_> = (0..differing)
            .map(|i| {
                let prefix = prefixes[i * 911];
                let old = copy.get(&Key::Route { vrf: 0, prefix });
                let label =
                    (0..).map(|k| group(i + k * 3).0).find(|l| old != Some(Value::Route(*l))).expect("label");
                Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label))
            })
            .collect();
        let mut changed = 0;
        if differing > 0 {
            changed = table.commit(changes).expect("commit").map_or(0, |c| c.count);
        }
        let mut client = Client::new(ClientConfig::new("n", "fib", vec![Role::Primary]), Duration::ZERO);
        let start = Instant::now();
        let (bytes, _) = run(&mut other, &table, &mut client, &mut copy);
        println!(
            "activate with {changed} differing: {bytes} bytes, {:.2} ms, {} routes copied",
            start.elapsed().as_secs_f64() * 1e3,
            client.counters().routes_copied
        );
        assert_eq!(copy.digest(), table.digest());
    }
}
