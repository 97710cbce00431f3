//! From the source's word to the workers: a route server, an agent, the control side of a NIC host and a worker, each on its thread,
//! with the full table, while 10,000 routes change a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_route_server::source::{BATCH, Event, Group, Message, Outlet, QUEUE, RouteChange};
use fibcast_route_server::{config, run};
use fibcast_sync_agent::shell::Shell;
use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;

use super::nic::Nic;
use super::percentile;
use crate::input::{Random, Table};
use crate::row::Row;
use crate::{Course, Failure, codec};

const NAME: &str = "latency";
/// Changes of one word of the source, which speaks once in a millisecond: 10,000 a second.
const AT_ONCE: usize = 10;
/// How long changes come.
const SECONDS: usize = 6;

/// All rows of this bench.
pub fn run(table: &Table, _: Course) -> Result<Vec<Row>, Failure> {
    let net = |e: &dyn std::fmt::Display| Failure::Net(e.to_string());
    let folder = tempfile::tempdir()?;
    let (file, routes_file) = (folder.path().join("rs.toml"), folder.path().join("none"));
    std::fs::write(&routes_file, "")?;
    let text = format!(
        "[node]\nname = \"rs\"\n[[source]]\norigin = \"bgp\"\nkind = \"static\"\npath = {routes_file:?}\nallow_empty = true\n"
    );
    std::fs::write(&file, text)?;
    let checked = config::read(&file).map_err(|e| net(&e))?.checked;
    let stop: Arc<AtomicBool> = Arc::default();
    let mut shell = Shell::new("rs").map_err(|e| net(&e))?;
    let address = shell.listen(([127, 0, 0, 1], 0).into()).map_err(|e| net(&e))?;
    let (to, from) = crossbeam_channel::bounded::<Message>(QUEUE);
    let waker = shell.waker();
    let outlet = Outlet::new(0, to, Arc::new(move || waker.wake()), stop.clone());
    let server = std::thread::Builder::new().name("server".into()).spawn({
        let stop = stop.clone();
        move || run::embed(&checked, &mut shell, from, &stop).map_err(|e| e.to_string())
    })?;

    let rule = codec::rule()?;
    let mut groups: HashMap<IpAddr, Arc<Group>> = HashMap::new();
    let mut change = |prefix: IpNet, gateway: u64| {
        let via = rule.gateways.address(gateway, prefix);
        let group = groups.entry(via).or_insert_with(|| Group::new(GroupValue::via(via))).clone();
        RouteChange { vrf: 0, prefix, path: Some((group, 0)) }
    };
    let prefixes: Vec<IpNet> = table.routes.iter().map(|&(prefix, _)| prefix).collect();
    for part in prefixes.chunks(BATCH) {
        let batch = part.iter().map(|&p| change(p, rule.gateway(p))).collect();
        outlet.send(Event::Batch(batch)).map_err(|_| Failure::Net("the server has ended".into()))?;
    }
    let _ = outlet.send(Event::EndOfTable);

    // Each change is of another prefix, so that a batch says which changes it has.
    let mut random = Random(5);
    let mut numbers = HashMap::new();
    let mut order = Vec::new();
    while order.len() < SECONDS * 1000 * AT_ONCE {
        let prefix = prefixes[random.below(prefixes.len())];
        numbers.entry(prefix).or_insert_with(|| {
            order.push(prefix);
            order.len() - 1
        });
    }
    let nic = Nic::start(address)?;
    nic.wait_for(prefixes.len() as u64)?;
    std::thread::sleep(Duration::from_millis(500));
    nic.begin();

    let mut sent_at = vec![Instant::now(); order.len()];
    let mut due = Instant::now();
    for (i, part) in order.chunks(AT_ONCE).enumerate() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due += Duration::from_millis(1);
        let other = |&p: &IpNet| change(p, (rule.gateway(p) + 1) % rule.gateways.count());
        let batch: Vec<RouteChange> = part.iter().map(other).collect();
        let now = Instant::now();
        sent_at[i * AT_ONCE..i * AT_ONCE + part.len()].fill(now);
        if outlet.send(Event::Batch(batch)).is_err() {
            return Err(Failure::Net("the server has ended".into()));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let seen = nic.seen();
    stop.store(true, Ordering::Release);
    drop((nic, outlet));
    let _ = server.join();

    let wait = |(prefix, at): (IpNet, Instant)| {
        Some(at.saturating_duration_since(sent_at[*numbers.get(&prefix)?]).as_secs_f64() * 1e6)
    };
    let mut waits: Vec<f64> = seen.into_iter().filter_map(wait).collect();
    waits.sort_by(f64::total_cmp);
    let lost = order.len() - waits.len();
    Ok(vec![
        Row::new(NAME, "visible_p50", percentile(&waits, 0.5), "us"),
        Row::new(NAME, "visible_p99", percentile(&waits, 0.99), "us"),
        Row::new(NAME, "visible_worst", percentile(&waits, 1.0), "us"),
        Row::new(NAME, "changes", waits.len() as f64, "changes"),
        Row::new(NAME, "not_seen", lost as f64, "changes"),
    ])
}
