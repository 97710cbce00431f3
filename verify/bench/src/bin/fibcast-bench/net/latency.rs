//! From the source's word to the workers: a route server, an agent, the control side of a NIC host and a worker, each on its thread,
//! with the full table, while 10,000 routes change a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fibcast_dataplane::control::Control;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::control::thread::ControlThread;
use fibcast_route_server::source::{BATCH, Event, Group, Message, Outlet, QUEUE, RouteChange};
use fibcast_route_server::{config, run};
use fibcast_sync_agent::agent::{Sink, SinkError};
use fibcast_sync_agent::shell::Shell;
use fibcast_sync_proto::{Batch, ChangeRef, GroupValue};
use ipnet::IpNet;

use super::{agent, percentile, status, until, without_ports};
use crate::input::{Random, Table};
use crate::row::Row;
use crate::{Course, Failure, codec};

const NAME: &str = "latency";
/// Changes of one word of the source, which speaks once in a millisecond: 10,000 a second.
const AT_ONCE: usize = 10;
/// How long changes come.
const SECONDS: usize = 6;

/// Which changes came with which serial of the agent's table.
type Arrivals = Arc<Mutex<Vec<(u64, u32)>>>;

/// The sink of a NIC host, and a note of what passed it.
struct Tap {
    inner: ControlSink,
    numbers: Arc<HashMap<IpNet, u32>>,
    arrivals: Arrivals,
}

impl Sink for Tap {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.inner.apply(batch)?;
        let serial = batch.serial();
        if batch.count() > 100_000 {
            return Ok(());
        }
        let numbers = batch.changes().filter_map(|change| match change {
            ChangeRef::Route { prefix, .. } => self.numbers.get(&prefix).map(|&n| (serial, n)),
            _ => None,
        });
        let numbers: Vec<_> = numbers.collect();
        self.arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(numbers);
        Ok(())
    }
}

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
            order.len() as u32 - 1
        });
    }
    let arrivals: Arrivals = Arc::default();
    let mut control = Control::new(without_ports(), Instant::now()).map_err(|e| net(&e))?;
    let mut reader = control.reader("worker");
    let control = ControlThread::spawn(control)?;
    let tap = Tap {
        inner: ControlSink::new(control.handle.clone(), Vec::new()),
        numbers: Arc::new(numbers),
        arrivals: arrivals.clone(),
    };
    let worker = std::thread::Builder::new().name("worker".into()).spawn({
        let stop = stop.clone();
        move || {
            let (mut seen, mut last) = (Vec::new(), 0);
            while !stop.load(Ordering::Acquire) {
                let serial = reader.burst().serial();
                if serial != last {
                    seen.push((serial, Instant::now()));
                    last = serial;
                }
                // The cores are few: a worker that spins would take one from the threads that are measured.
                std::thread::sleep(Duration::from_micros(20));
            }
            seen
        }
    })?;
    let nic = agent(&[address], Box::new(tap))?;
    until("the NIC host has the table", || {
        let now = status(&nic)?;
        Ok(now.ready && now.table.ipv4_routes + now.table.ipv6_routes == prefixes.len() as u64)
    })?;
    until("the trie has the table", || {
        let serial = status(&nic)?.table.serial;
        Ok(control.handle.ask(Duration::from_secs(5), |c| c.forwarding().serial) == Some(serial))
    })?;
    std::thread::sleep(Duration::from_millis(500));

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
    stop.store(true, Ordering::Release);
    nic.stop();
    drop(outlet);
    let seen = worker.join().map_err(|_| Failure::Router)?;
    let _ = server.join();

    let arrivals = arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut waits: Vec<f64> = arrivals
        .iter()
        .filter_map(|&(serial, number)| {
            // A later generation has it as well.
            let at = seen.partition_point(|&(s, _)| s < serial);
            let (_, at) = seen.get(at)?;
            Some(at.saturating_duration_since(sent_at[number as usize]).as_secs_f64() * 1e6)
        })
        .collect();
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
