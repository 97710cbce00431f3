//! The loss of a server: how long until the other one is in use, and what that moves.

use std::time::{Duration, Instant};

use fibcast_sync_agent::agent::{AgentHandle, NoSink};
use fibcast_testbed::process::free_addresses;
use fibcast_testbed::tablegen::Rule;
use ipnet::IpNet;
use rustix::process::Signal;

use super::server::{Server, write_mrt};
use super::{agent, status, until};
use crate::input::{Random, Table};
use crate::row::{Better, Row, median};
use crate::{Course, Failure, codec};

const NAME: &str = "failover";
/// Routes in which the other server differs in the last part.
const DIFFER: usize = 1_000;

/// The routes of a server; `other` of them, spread evenly, by another gateway.
pub fn routes<'a>(
    table: &'a Table,
    rule: &'a Rule,
    other: usize,
) -> impl Iterator<Item = (IpNet, std::net::IpAddr)> + 'a {
    let mut random = Random(77);
    let mut chosen = std::collections::HashSet::new();
    while chosen.len() < other {
        chosen.insert(random.below(table.routes.len()));
    }
    table.routes.iter().enumerate().map(move |(i, &(prefix, _))| {
        let mut gateway = rule.gateway(prefix);
        if chosen.contains(&i) {
            gateway = (gateway + 1) % rule.gateways.count();
        }
        (prefix, rule.gateways.address(gateway, prefix))
    })
}

/// What one failover was.
struct Failover {
    ms: f64,
    bytes: u64,
    applied: u64,
    copied: u64,
    differing: u64,
}

/// Ends the server in use by a signal and waits until the other one is in use, in sync.
fn lose(nic: &AgentHandle, server: &mut Server, signal: Signal) -> Result<Failover, Failure> {
    let before = status(nic)?.sync.unwrap_or_default();
    let received = |s: &fibcast_control::status::SyncStatus| {
        s.servers.iter().filter(|s| Some(s.role) != before.active).map(|s| s.received_bytes).sum::<u64>()
    };
    let begin = Instant::now();
    server.signal(signal);
    let mut after = before.clone();
    let mut ms = 0.0;
    until("the other server is in use", || {
        let now = status(nic)?;
        ms = begin.elapsed().as_secs_f64() * 1e3;
        after = now.sync.unwrap_or_default();
        Ok(after.failovers > before.failovers && now.ready)
    })?;
    Ok(Failover {
        ms,
        bytes: received(&after) - received(&before),
        applied: after.routes_applied - before.routes_applied,
        copied: after.last_failover_routes_copied,
        differing: after.routes_differing,
    })
}

/// All rows of this bench.
pub fn run(table: &Table, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let rule = codec::rule()?;
    let [same, other] = ["same.mrt", "other.mrt"].map(|name| folder.path().join(name));
    write_mrt(&same, routes(table, &rule, 0))?;
    write_mrt(&other, routes(table, &rule, DIFFER))?;
    let addresses = free_addresses::<2>()?;
    let names = ["rs-a", "rs-b"];
    let start = |i: usize, mrt| Server::start(folder.path(), names[i], addresses[i], mrt);
    let mut servers = [start(0, &same)?, start(1, &same)?];
    let nic = agent(&addresses, Box::new(NoSink))?;
    let standby = |nic: &AgentHandle| {
        until("both servers answer", || {
            let now = status(nic)?;
            let servers = now.sync.map(|s| s.servers).unwrap_or_default();
            Ok(now.ready && servers.iter().all(|s| s.ready))
        })?;
        std::thread::sleep(Duration::from_millis(700));
        Ok::<_, Failure>(())
    };
    standby(&nic)?;
    let full = status(&nic)?.sync.map_or(0, |s| s.servers[0].received_bytes);

    let (mut reset, mut silence, mut copied, mut equal_bytes) = (Vec::new(), Vec::new(), 0, 0);
    let mut active = 0;
    for round in 0..2 * course.rounds.min(3) {
        let signal = if round % 2 == 0 { Signal::KILL } else { Signal::STOP };
        let seen = lose(&nic, &mut servers[active], signal)?;
        if round % 2 == 0 {
            reset.push(seen.ms)
        } else {
            silence.push(seen.ms)
        }
        copied += seen.copied;
        equal_bytes = equal_bytes.max(seen.bytes);
        servers[active].signal(Signal::KILL);
        servers[active] = start(active, &same)?;
        active = 1 - active;
        standby(&nic)?;
    }
    // The standby comes back with 1,000 other routes, and then the one in use is lost.
    let spare = 1 - active;
    servers[spare].signal(Signal::KILL);
    servers[spare] = start(spare, &other)?;
    standby(&nic)?;
    let seen = lose(&nic, &mut servers[active], Signal::KILL)?;
    let theirs = servers[spare].status()?.table.digest;
    if status(&nic)?.table.digest != theirs {
        return Err(Failure::Copy);
    }
    let beside = |row: Row| row.beside("full copy", full as f64, Better::Less);
    Ok(vec![
        Row::new(NAME, "reset", median(reset.clone()), "ms"),
        Row::new(NAME, "reset_worst", reset.into_iter().fold(0.0, f64::max), "ms"),
        Row::new(NAME, "silence", median(silence.clone()), "ms"),
        Row::new(NAME, "silence_worst", silence.into_iter().fold(0.0, f64::max), "ms"),
        Row::new(NAME, "copied_equal", copied as f64, "routes"),
        beside(Row::new(NAME, "bytes_equal", equal_bytes as f64, "bytes")),
        beside(Row::new(NAME, "bytes_1000_differ", seen.bytes as f64, "bytes")),
        Row::new(NAME, "differ_1000", seen.ms, "ms"),
        Row::new(NAME, "applied_1000_differ", seen.applied as f64, "routes"),
        Row::new(NAME, "differing_1000_differ", seen.differing as f64, "routes"),
        Row::new(NAME, "copied_1000_differ", seen.copied as f64, "routes"),
    ])
}
