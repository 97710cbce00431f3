//! The protocol's bytes, its receiver's speed and that of a server's table, on the real table with next hops by the demo's rule, beside
//! FRR's FPM; bytes also of an older table with the next hops that its router had (`--transfer`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fibcast_mrt::{Event, Reader};
use fibcast_sync_proto::client::{Action, Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Served, Server, Tables};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};
use fibcast_testbed::tablegen::{Gateways, Rule};
use ipnet::IpNet;

use crate::input::{self, Random};
use crate::row::{Better, Row, median};
use crate::{Course, Failure, Options, cpu};

const NAME: &str = "codec";

/// What the server serves: one table under any name.
struct One<'a>(&'a Table);

impl Tables for One<'_> {
    fn served(&self, _: &str) -> Option<Served<'_>> {
        Some(Served { table: self.0, ready: true, path: &[] })
    }
}

/// All rows of this bench.
pub fn run(table: &input::Table, options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    cpu::pin(&[course.core])?;
    let rule = rule()?;
    let prefixes: Vec<IpNet> = table.routes.iter().map(|&(prefix, _)| prefix).collect();
    let routes = prefixes.len() as f64;
    let mut source = Table::new(1);
    for part in prefixes.chunks(10_000) {
        source.commit(part.iter().flat_map(|&prefix| changes(&rule, prefix, rule.gateway(prefix))))?;
    }

    let (mut snapshot, mut packed, mut speed, mut update) = (0.0, 0.0, Vec::new(), Vec::new());
    let mut random = Random(7);
    for _ in 0..course.rounds {
        let mut link = Link::new(&source);
        let (bytes, spent) = link.run(&source);
        snapshot = bytes.len() as f64 / routes;
        packed = zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL)?.len() as f64 / routes;
        speed.push(routes / spent);
        // What 10,000 changes a second are when a server commits every 10 ms.
        let (mut bytes, mut changed) = (0, 0);
        for _ in 0..20 {
            let gateways = rule.gateways.count() as usize;
            let batch: Vec<Change> = (0..100)
                .flat_map(|_| {
                    let prefix = prefixes[random.below(prefixes.len())];
                    changes(&rule, prefix, random.below(gateways) as u64)
                })
                .collect();
            changed += source.commit(batch)?.map_or(0, |commit| commit.count);
            bytes += link.run(&source).0.len();
        }
        update.push(bytes as f64 / changed as f64);
        if link.copy.digest() != source.digest() {
            return Err(Failure::Copy);
        }
    }

    let accepted = accept(&mut source, &prefixes, &rule, course)?;
    let mut rows = Vec::new();
    if options.transfer.is_file() {
        let (table, routes) = transfer(&options.transfer)?;
        let (bytes, _) = Link::new(&table).run(&table);
        let zstd = zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL)?.len();
        let of_real = |name, bytes: usize| Row::new(NAME, name, bytes as f64 / routes, "bytes");
        rows.push(of_real("snapshot_real_route", bytes.len()));
        rows.push(of_real("snapshot_real_route_zstd", zstd));
    } else {
        eprintln!("fibcast-bench: {}: not there, no bytes of its routes", options.transfer.display());
    }

    let of_v6 = prefixes.iter().filter(|prefix| prefix.addr().is_ipv6()).count() as f64 / routes;
    let fpm = fpm(4.0) * (1.0 - of_v6) + fpm(16.0) * of_v6;
    let beside = |row: Row| row.beside("FPM netlink, by its layout", fpm, Better::Less);
    let mut all = vec![
        beside(Row::new(NAME, "snapshot_route", snapshot, "bytes")),
        Row::new(NAME, "snapshot_route_zstd", packed, "bytes"),
        beside(Row::new(NAME, "update_route", median(update), "bytes")),
        Row::new(NAME, "decode_apply", median(speed), "routes/s"),
        Row::new(NAME, "accept", median(accepted.moves), "changes/s"),
        Row::new(NAME, "accept_flaps", median(accepted.flaps), "changes/s"),
    ];
    all.append(&mut rows);
    Ok(all)
}

/// Changes per second that a server's table takes in batches of 10,000 at random places, with sketch and change order kept.
struct Accepted {
    /// Routes go to another gateway.
    moves: Vec<f64>,
    /// Routes go away, and come back a batch later.
    flaps: Vec<f64>,
}

fn accept(table: &mut Table, prefixes: &[IpNet], rule: &Rule, course: Course) -> Result<Accepted, Failure> {
    const BATCH: usize = 10_000;
    const BATCHES: usize = 30;
    let mut random = Random(11);
    let mut accepted = Accepted { moves: Vec::new(), flaps: Vec::new() };
    let timed = |table: &mut Table, batches: Vec<Vec<Change>>| {
        let (begin, mut changed) = (Instant::now(), 0);
        for batch in batches {
            changed += table.commit(batch)?.map_or(0, |commit| commit.count);
        }
        Ok::<f64, Failure>(changed as f64 / begin.elapsed().as_secs_f64())
    };
    let gateways = rule.gateways.count() as usize;
    for _ in 0..course.rounds {
        let route = |random: &mut Random| {
            let [_, route] =
                changes(rule, prefixes[random.below(prefixes.len())], random.below(gateways) as u64);
            route
        };
        let moves = (0..BATCHES).map(|_| (0..BATCH).map(|_| route(&mut random)).collect()).collect();
        accepted.moves.push(timed(table, moves)?);
        let flaps = (0..BATCHES / 2).flat_map(|_| {
            let again: Vec<Change> = (0..BATCH).map(|_| route(&mut random)).collect();
            let gone = again.iter().map(|change| Change::Delete(change.key().clone())).collect();
            [gone, again]
        });
        accepted.flaps.push(timed(table, flaps.collect())?);
    }
    Ok(accepted)
}

/// The table at the end of a real router's transfer, and the number of its routes.
fn transfer(path: &std::path::Path) -> Result<(Table, f64), Failure> {
    let mut routes = BTreeMap::new();
    for route in Reader::open(path)? {
        let route = route?;
        match route.event {
            Event::Announce { next_hop, .. } if route.prefix.addr().is_ipv4() => {
                routes.insert(route.prefix, next_hop);
            }
            _ => drop(routes.remove(&route.prefix)),
        }
    }
    let mut table = Table::new(1);
    table.commit(routes.iter().flat_map(|(&prefix, &via)| {
        let group = GroupValue::via(via);
        let label = Label::of(&group);
        [
            Change::Put(Key::Group(label), Value::Group(group)),
            Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label)),
        ]
    }))?;
    Ok((table, routes.len() as f64))
}

/// Two ports with 64 gateways each, as in `make demo`.
pub fn rule() -> Result<Rule, Failure> {
    let parsed = |_| Failure::Rule;
    let v4 = vec!["198.18.0.0/16".parse().map_err(parsed)?, "198.19.0.0/16".parse().map_err(parsed)?];
    let v6 = vec!["2001:2::/64".parse().map_err(parsed)?, "2001:2:0:1::/64".parse().map_err(parsed)?];
    Ok(Rule { gateways: Gateways::new(v4, v6, 64).map_err(|_| Failure::Rule)?, seed: 1 })
}

/// A route and its group, which is known already but for the first time.
fn changes(rule: &Rule, prefix: IpNet, gateway: u64) -> [Change; 2] {
    let group = GroupValue::via(rule.gateways.address(gateway, prefix));
    let label = Label::of(&group);
    [
        Change::Put(Key::Group(label), Value::Group(group)),
        Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label)),
    ]
}

/// Bytes of one route in FRR's FPM (dplane_fpm_nl): headers of FPM, netlink and rtmsg, then attributes for destination, metric,
/// gateway and interface, each with a header of 4. FRR 8 sends a deletion before it at a change, which is not counted.
fn fpm(address: f64) -> f64 {
    4.0 + 16.0 + 12.0 + (4.0 + address) + 8.0 + (4.0 + address) + 8.0
}

/// A server and a client without a network between them.
struct Link {
    server: Server,
    session: u64,
    client: Client,
    copy: Table,
}

const NOW: Duration = Duration::from_secs(1);

impl Link {
    fn new(source: &Table) -> Link {
        let mut server = Server::new("a");
        let mut client = Client::new(ClientConfig::new("n", "fib", vec![Role::Primary]), Duration::ZERO);
        let mut session = 0;
        while let Some(action) = client.poll_action() {
            if action == Action::Connect(0) {
                session = server.accept(NOW);
                client.handle_connected(NOW, 0);
            }
        }
        server.pump(&One(source));
        Link { server, session, client, copy: Table::new(2) }
    }

    /// Moves bytes until nothing moves. Gives what the server sent, and the seconds that the client spent on it.
    fn run(&mut self, source: &Table) -> (Vec<u8>, f64) {
        let (mut bytes, mut spent) = (Vec::new(), 0.0);
        self.server.pump(&One(source));
        loop {
            let up = self.client.transmit(0).to_vec();
            self.client.sent(0, up.len());
            self.server.handle_bytes(NOW, self.session, &up, &One(source));
            let down = self.server.transmit(self.session);
            let down = down[..down.len().min(64 * 1024)].to_vec();
            self.server.sent(self.session, down.len());
            self.server.pump(&One(source));
            if up.is_empty() && down.is_empty() {
                return (bytes, spent);
            }
            bytes.extend_from_slice(&down);
            let start = Instant::now();
            self.client.handle_bytes(NOW, 0, &down, &mut self.copy);
            spent += start.elapsed().as_secs_f64();
        }
    }
}
