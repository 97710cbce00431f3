//! A routing daemon hears that a route is installed when the hosts forward by it: of one server, and of two with the host at the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fibcast_control::status::Role;
use fibcast_netlink::testing as wire;
use fibcast_netlink::{Messages, Route};
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle};
use fibcast_sync_agent::shell::Limits;
use fibcast_sync_agent::sink::{Installed, Progress, Reason, Refusals, RouteKey, Sink, SinkError, Wake};
use fibcast_sync_proto::Batch;
use fibcast_testbed::wait::eventually;

use common::{Folder, Server, WAIT_LIMIT, free_addresses};

/// `RTM_F_OFFLOAD`.
const OFFLOAD: u32 = 0x4000;
/// `RTM_F_OFFLOAD_FAILED`.
const FAILED: u32 = 0x2000_0000;

/// A sink whose batches have no effect while it is held.
struct Held {
    installed: Installed,
    switch: Switch,
}

#[derive(Clone, Default)]
struct Switch {
    progress: Progress,
    held: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
}

impl Switch {
    fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.progress.reach(self.last.load(Ordering::SeqCst));
    }

    /// These routes are refused from now on, and no others.
    fn refuse(&self, prefixes: &[&str]) {
        let key = |prefix: &&str| ((0, prefix.parse().unwrap()), Reason::UnknownPort);
        let all: BTreeMap<RouteKey, Reason> = prefixes.iter().map(key).collect();
        self.progress.refuse(|list| list.take(&all, 0));
    }
}

impl Sink for Held {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        let number = self.installed.begin();
        self.installed.accepted(number, batch.serial());
        self.switch.last.store(number, Ordering::SeqCst);
        if !self.switch.held.load(Ordering::SeqCst) {
            self.switch.progress.reach(number);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.installed.forget();
    }

    fn installed(&self) -> Option<u64> {
        Some(self.installed.serial())
    }

    fn refusals(&mut self, known: u64) -> Option<Refusals> {
        (self.installed.refusals_version() != known).then(|| self.installed.refusals())
    }

    fn on_installed(&mut self, wake: Wake) {
        self.installed.on_change(wake);
    }
}

fn agent(name: &str, servers: &[SocketAddr]) -> (AgentHandle, Switch) {
    let servers = servers.iter().zip([Role::Primary, Role::Secondary]);
    let servers = servers.map(|(address, role)| SyncServer { address: address.to_string(), role });
    let sync = Sync {
        servers: servers.collect(),
        heartbeat_ms: 200,
        failback_s: 0,
        checkpoint_interval_s: 30,
        ..Default::default()
    };
    let config = AgentConfig {
        name: name.into(),
        listen: Vec::new(),
        sync,
        security: None,
        limits: Limits::default(),
        acknowledge: None,
        digest_keys: Default::default(),
        scrub: None,
        budgets: Default::default(),
    };
    let switch = Switch::default();
    let sink = Held { installed: Installed::new(switch.progress.clone()), switch: switch.clone() };
    (Agent::spawn(config, Box::new(sink)).unwrap(), switch)
}

/// zebra's end of the connection: what it was told of which prefix.
struct Zebra {
    stream: TcpStream,
    told: Arc<Mutex<Vec<(String, u32, Instant)>>>,
}

impl Zebra {
    fn new(address: SocketAddr) -> Self {
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(begin.elapsed() < WAIT_LIMIT, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let (mut reader, list) = (stream.try_clone().unwrap(), told.clone());
        std::thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..n]);
                while bytes.len() >= 4 {
                    let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
                    if bytes.len() < length {
                        break;
                    }
                    let message = Messages::new(&bytes[4..length]).next().unwrap().unwrap();
                    let flags = u32::from_ne_bytes(message.body[8..12].try_into().unwrap());
                    let mut route = Route::default();
                    assert_eq!(route.read(&message), Ok(true));
                    list.lock().unwrap().push((route.prefix.to_string(), flags, Instant::now()));
                    bytes.drain(..length);
                }
            }
        });
        Self { stream, told }
    }

    fn announce(&mut self, prefix: &str, via: &str) {
        // Without an interface: this host has none of the number that zebra would name.
        let message = wire::route_of(24, prefix, 254, 1, &[wire::gateway(via)]);
        let length = (message.len() + 4) as u16;
        let frame = [&[1, 1][..], &length.to_be_bytes(), &message].concat();
        self.stream.write_all(&frame).unwrap();
    }

    /// The prefixes that it was told are installed.
    fn installed(&self) -> BTreeSet<String> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(_, flags, _)| flags & OFFLOAD != 0).map(|(prefix, ..)| prefix.clone()).collect()
    }

    /// The flags that it was last told of a prefix, of the two.
    fn last(&self, prefix: &str) -> Option<u32> {
        let told = self.told.lock().unwrap();
        told.iter().rev().find(|(of, ..)| of == prefix).map(|(_, flags, _)| flags & (OFFLOAD | FAILED))
    }

    fn has(&self, prefix: &str) -> bool {
        self.installed().contains(prefix)
    }
}

impl Drop for Zebra {
    /// The reading thread holds the connection as well.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn source(listen: SocketAddr, grace_ms: u64) -> String {
    format!(
        "[rib]\nready_timeout_ms = 300\n[acknowledge]\ntimeout_ms = 0\ngrace_ms = {grace_ms}\n\
         [[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{listen}\"\nend_of_table = \"quiet\"\n"
    )
}

#[test]
fn a_route_is_acknowledged_when_the_hosts_sink_uses_it_and_soon() {
    let folder = Folder::new();
    let [listen, fpm] = free_addresses();
    folder.config("rs", Some(listen), &source(fpm, 1_000));
    let server = Server::start(&folder, "rs");
    let (_agent, switch) = agent("nh-1", &[listen]);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.0.0.0/8", "192.0.2.1");
    eventually("the first answer", 30, || zebra.has("10.0.0.0/8"));

    switch.hold();
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    zebra.announce("10.0.0.0/8", "192.0.2.2");
    server.until("both changes", |s| s.table.changes >= 4);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(zebra.told.lock().unwrap().len(), 1, "nothing is said of what no packet is forwarded by");
    let waiting = server.status().unwrap().acknowledge.unwrap();
    assert!(waiting.behind > 0 && waiting.waiting_ms.is_some(), "{waiting:?}");
    switch.release();
    eventually("the others", 30, || zebra.told.lock().unwrap().len() == 3 && zebra.has("10.1.0.0/16"));
    let status = server.until("the host's serial", |s| {
        s.clients.iter().any(|client| client.installed == Some(s.table.serial))
    });
    assert_eq!(status.acknowledge.unwrap().nodes[0].state, "counts");

    // A reconnection: what zebra sends again is answered again.
    drop(zebra);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    eventually("the answer", 30, || zebra.has("10.1.0.0/16"));
    assert!(!zebra.has("10.0.0.0/8"), "zebra has not sent it");

    // How long an answer takes when the sink is at once.
    let mut times = Vec::new();
    for n in 0..200 {
        let prefix = format!("11.{n}.0.0/16");
        let begin = Instant::now();
        zebra.announce(&prefix, "192.0.2.1");
        while !zebra.has(&prefix) {
            assert!(begin.elapsed() < WAIT_LIMIT, "{prefix}");
            std::thread::sleep(Duration::from_micros(200));
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    println!("zebra's update to its answer: p50 {:?}, p99 {:?}", times[100], times[198]);
    assert!(times[100] < Duration::from_secs(1), "{:?}", times[100]);
}

#[test]
fn a_server_waits_for_the_host_that_is_active_at_the_other() {
    let folder = Folder::new();
    let [a, b, fpm, unused] = free_addresses();
    let peer = |peer: SocketAddr| format!("[[peer]]\naddress = \"{peer}\"\n");
    folder.config("rs-a", Some(a), &(source(unused, 1_000).replace("\"bgp\"", "\"other\"") + &peer(b)));
    folder.config("rs-b", Some(b), &(source(fpm, 1_000) + &peer(a)));
    let mut first = Server::start(&folder, "rs-a");
    let second = Server::start(&folder, "rs-b");
    let (_agent, switch) = agent("nh-1", &[a, b]);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.0.0.0/8", "192.0.2.1");
    eventually("the first answer", 60, || zebra.has("10.0.0.0/8"));
    first.until("the host is there", |s| s.clients.iter().any(|c| c.name == "nh-1" && c.active));

    switch.hold();
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    first.until("the change", |s| s.table.ipv4_routes == 2);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!zebra.has("10.1.0.0/16"), "the host does not use it");
    switch.release();
    eventually("the answer", 30, || zebra.has("10.1.0.0/16"));

    // The host's server dies: the host moves here, with what it has.
    first.kill();
    second.until("the host moves", |s| s.clients.iter().any(|c| c.name == "nh-1" && c.active));
    switch.hold();
    zebra.announce("10.2.0.0/16", "192.0.2.1");
    second.until("the change", |s| s.table.ipv4_routes == 3);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!zebra.has("10.2.0.0/16"), "it counts here now, also after the grace time of the other server");
    switch.release();
    eventually("the answer", 30, || zebra.has("10.2.0.0/16"));
}

#[test]
fn a_route_that_the_host_refuses_is_answered_as_failed_until_it_takes_it_and_holds_back_no_other() {
    let folder = Folder::new();
    let [listen, fpm] = free_addresses();
    folder.config("rs", Some(listen), &source(fpm, 1_000));
    let server = Server::start(&folder, "rs");
    let (_agent, switch) = agent("nh-1", &[listen]);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.0.0.0/8", "192.0.2.1");
    eventually("the first answer", 30, || zebra.has("10.0.0.0/8"));

    switch.refuse(&["10.1.0.0/16"]);
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    zebra.announce("10.2.0.0/16", "192.0.2.1");
    eventually("the route behind it", 30, || zebra.has("10.2.0.0/16"));
    eventually("the refused one", 30, || zebra.last("10.1.0.0/16") == Some(FAILED));
    let status = server.until("the refusal is shown", |s| s.clients.iter().any(|c| c.refused == 1));
    let first = &status.clients[0].refused_first[0];
    assert_eq!((first.prefix.to_string(), first.reason.as_str()), ("10.1.0.0/16".into(), "unknown port"));
    assert_eq!(status.acknowledge.unwrap().refused, 1);

    // One that was installed before.
    switch.refuse(&["10.1.0.0/16", "10.0.0.0/8"]);
    eventually("it is told", 30, || zebra.last("10.0.0.0/8") == Some(FAILED));
    // What zebra sends again after a reconnection is answered as it is.
    drop(zebra);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    zebra.announce("10.2.0.0/16", "192.0.2.1");
    eventually("both answers", 30, || zebra.told.lock().unwrap().len() == 2);
    assert_eq!(zebra.last("10.1.0.0/16"), Some(FAILED));
    assert_eq!(zebra.last("10.2.0.0/16"), Some(OFFLOAD));
    switch.refuse(&[]);
    eventually("it is taken now", 30, || zebra.last("10.1.0.0/16") == Some(OFFLOAD));
    server.until("nothing is refused", |s| s.clients.iter().all(|c| c.refused == 0));
}

#[test]
fn a_refusal_of_a_host_at_the_other_server_reaches_the_server_with_the_source() {
    let folder = Folder::new();
    let [a, b, fpm, unused] = free_addresses();
    let peer = |peer: SocketAddr| format!("[[peer]]\naddress = \"{peer}\"\n");
    folder.config("rs-a", Some(a), &(source(unused, 1_000).replace("\"bgp\"", "\"other\"") + &peer(b)));
    folder.config("rs-b", Some(b), &(source(fpm, 1_000) + &peer(a)));
    let first = Server::start(&folder, "rs-a");
    let _second = Server::start(&folder, "rs-b");
    let (_agent, switch) = agent("nh-1", &[a]);
    switch.refuse(&["10.1.0.0/16"]);
    let mut zebra = Zebra::new(fpm);
    zebra.announce("10.0.0.0/8", "192.0.2.1");
    zebra.announce("10.1.0.0/16", "192.0.2.1");
    eventually("the first answer", 60, || zebra.has("10.0.0.0/8"));
    first.until("the host is there", |s| s.clients.iter().any(|c| c.name == "nh-1" && c.active));
    eventually("the refused one", 30, || zebra.last("10.1.0.0/16") == Some(FAILED));
    switch.refuse(&[]);
    eventually("it is taken", 30, || zebra.last("10.1.0.0/16") == Some(OFFLOAD));
}
