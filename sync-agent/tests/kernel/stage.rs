//! A kernel sink without an agent, on a host with one interface.

use std::time::{Duration, Instant};

use fibcast_control::status::KernelStatus;
use fibcast_sync_agent::kernel::{Kernel, KernelSink};
use fibcast_sync_agent::sink::{Sink, SinkError};
use fibcast_sync_proto::{Change, GroupValue, HopValue, Key, Label, Table, Value};
use fibcast_testbed::{Namespace, Namespaces};
use ipnet::IpNet;

pub struct Stage {
    pub host: Namespace,
    pub sink: KernelSink,
    pub table: Table,
    sent: u64,
    _namespaces: Namespaces,
}

/// A group of these gateways; none: what drops.
pub fn group(gateways: &[&str]) -> GroupValue {
    let hop = |gateway: &&str| HopValue { gateway: Some(gateway.parse().unwrap()), port: None, weight: 1 };
    match gateways {
        [] => GroupValue::Blackhole,
        some => GroupValue::Hops(some.iter().map(hop).collect()),
    }
}

/// A route to a group, with the group; none: without the route.
pub fn route(prefix: IpNet, group: Option<&GroupValue>) -> Vec<Change> {
    let key = Key::Route { vrf: 0, prefix };
    let Some(group) = group else { return vec![Change::Delete(key)] };
    let label = Label::of(group);
    vec![Change::Put(Key::Group(label), Value::Group(group.clone())), Change::Put(key, Value::Route(label))]
}

impl Stage {
    /// Kernel table 200 and further lines of `[kernel]`, compared every `pass`. None, with a line that says why, where this machine cannot.
    pub fn new(more: &str, pass: Duration) -> Option<Stage> {
        Stage::beside(more, pass, |_| ())
    }

    /// The same with something done before the sink begins.
    pub fn beside(more: &str, pass: Duration, before: impl FnOnce(&Namespace)) -> Option<Stage> {
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
        before(&host);
        host.enter().unwrap();
        let config: Kernel = toml::from_str(&format!("table = 200\n{more}")).unwrap();
        let sink = KernelSink::start(&config, Some(pass)).unwrap();
        Some(Stage { host, sink, table: Table::new(1), sent: 0, _namespaces: namespaces })
    }

    pub fn status(&self) -> KernelStatus {
        self.sink.view().status()
    }

    /// `ip` on the host.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.host.ip(arguments).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// A commit, until the sink has accepted it.
    pub fn commit(&mut self, changes: Vec<Change>) {
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

    /// Waits until the status is so.
    #[track_caller]
    pub fn eventually(&self, what: &str, is_so: impl Fn(&KernelStatus) -> bool) -> KernelStatus {
        let end = Instant::now() + Duration::from_secs(600);
        loop {
            let status = self.status();
            if !status.busy && is_so(&status) {
                return status;
            }
            assert!(Instant::now() < end, "{what}: {status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
