//! The protocol's bytes and its receiver's speed, on the real table with next hops by the demo's rule, beside FRR's FPM.

use std::time::{Duration, Instant};

use fibcast_bench::tablegen::{Gateways, Rule};
use fibcast_sync_proto::client::{Action, Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Served, Server, Tables};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};
use ipnet::IpNet;

use crate::input::{self, Random};
use crate::row::{Better, Row, median};
use crate::{Course, Failure, cpu};

const NAME: &str = "codec";

/// What the server serves: one table under any name.
struct One<'a>(&'a Table);

impl Tables for One<'_> {
    fn served(&self, _: &str) -> Option<Served<'_>> {
        Some(Served { table: self.0, ready: true, path: &[] })
    }
}

/// All rows of this bench.
pub fn run(table: &input::Table, course: Course) -> Result<Vec<Row>, Failure> {
    cpu::pin(&[course.core])?;
    let rule = rule()?;
    let prefixes: Vec<IpNet> = table.routes.iter().map(|&(prefix, _)| prefix).collect();
    let routes = prefixes.len() as f64;
    let mut source = Table::new(1);
    for part in prefixes.chunks(10_000) {
        source.commit(part.iter().flat_map(|&prefix| changes(&rule, prefix, rule.gateway(prefix))))?;
    }

    let (mut snapshot, mut speed, mut update) = (0.0, Vec::new(), Vec::new());
    let mut random = Random(7);
    for _ in 0..course.rounds {
        let mut link = Link::new(&source);
        let (bytes, spent) = link.run(&source);
        snapshot = bytes as f64 / routes;
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
            bytes += link.run(&source).0;
        }
        update.push(bytes as f64 / changed as f64);
        if link.copy.digest() != source.digest() {
            return Err(Failure::Copy);
        }
    }

    let of_v6 = prefixes.iter().filter(|prefix| prefix.addr().is_ipv6()).count() as f64 / routes;
    let fpm = fpm(4.0) * (1.0 - of_v6) + fpm(16.0) * of_v6;
    let beside = |row: Row| row.beside("FPM netlink, by its layout", fpm, Better::Less);
    Ok(vec![
        beside(Row::new(NAME, "snapshot_route", snapshot, "bytes")),
        beside(Row::new(NAME, "update_route", median(update), "bytes")),
        Row::new(NAME, "decode_apply", median(speed), "routes/s"),
    ])
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
    fn run(&mut self, source: &Table) -> (usize, f64) {
        let (mut bytes, mut spent) = (0, 0.0);
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
            bytes += down.len();
            let start = Instant::now();
            self.client.handle_bytes(NOW, 0, &down, &mut self.copy);
            spent += start.elapsed().as_secs_f64();
        }
    }
}
