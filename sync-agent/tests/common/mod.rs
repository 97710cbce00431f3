//! A small route server over the real shell: a table that tests write, on a real TCP port of loopback.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod log;
pub mod pki;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_control::status::Role;
use fibcast_daemon::budgets::Budgets;
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, Sink};
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{Limits, Shell, ShellWaker};
use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::node::{ClientId, News, Node, NodeRole};
use fibcast_sync_proto::server::{self, Served, Tables};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, RootDigest, Table, Value};

pub enum Order {
    Commit(Vec<Change>),
    Ready(bool),
    Digest(Sender<RootDigest>),
}

struct TestHost {
    table: Table,
    spare: Table,
    ready: bool,
    orders: Receiver<Order>,
}

impl Tables for TestHost {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        ["fib", "rib"].contains(&name).then_some(Served { table: &self.table, ready: self.ready, path: &[] })
    }
}

impl NodeRole for TestHost {
    fn client_table(&mut self, _: ClientId) -> &mut Table {
        &mut self.spare
    }

    fn handle_client_event(&mut self, _: Duration, _: ClientId, _: &ClientEvent) {}

    fn advance(&mut self, _: Duration, _: &[Client]) -> News {
        let mut news = News::default();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Commit(changes) => {
                    self.table.commit(changes).unwrap();
                    news.changed = true;
                }
                Order::Ready(ready) => {
                    self.ready = ready;
                    news.announce = true;
                }
                Order::Digest(answer) => answer.send(self.table.digest()).unwrap(),
            }
        }
        news
    }
}

pub struct TestServer {
    pub address: SocketAddr,
    orders: Sender<Order>,
    waker: ShellWaker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub fn start(name: &str, address: &str, table: Table) -> Self {
        Self::with(Shell::new(name).unwrap(), name, address, table)
    }

    pub fn secure(name: &str, table: Table, limits: Limits, security: Option<Arc<Security>>) -> Self {
        Self::with(Shell::secure(name, limits, security).unwrap(), name, "127.0.0.1:0", table)
    }

    pub fn with(shell: Shell, name: &str, address: &str, table: Table) -> Self {
        Self::limited(shell, name, address, table, server::Limits::default())
    }

    /// One that sends heartbeats and no data.
    pub fn gray(shell: Shell, name: &str, table: Table) -> Self {
        let limits = server::Limits { queue: 0, ..server::Limits::default() };
        Self::limited(shell, name, "127.0.0.1:0", table, limits)
    }

    fn limited(mut shell: Shell, name: &str, address: &str, table: Table, limits: server::Limits) -> Self {
        let address = shell.listen(address.parse().unwrap()).unwrap();
        let (orders, receiver) = channel();
        let waker = shell.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stop, name) = (Arc::clone(&stop), name.to_owned());
            move || {
                let role = TestHost { table, spare: Table::new(1), ready: true, orders: receiver };
                let mut node = Node::new(&name, shell.now(), role, []).with_limits(limits);
                shell.run(&mut node, &mut (), &stop).unwrap();
            }
        });
        Self { address, orders, waker, stop, thread: Some(thread) }
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.waker.wake();
    }

    pub fn commit(&self, changes: impl IntoIterator<Item = Change>) {
        self.order(Order::Commit(changes.into_iter().collect()));
    }

    pub fn digest(&self) -> String {
        let (sender, receiver) = channel();
        self.order(Order::Digest(sender));
        format!("{:032x}", receiver.recv().unwrap().hash)
    }
}

impl Drop for TestServer {
    /// All its connections are reset or closed, as at the death of a process.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn label(n: u8) -> Label {
    Label::of(&GroupValue::via([192, 0, 2, n].into()))
}

pub fn group(n: u8) -> Change {
    Change::Put(Key::Group(label(n)), Value::Group(GroupValue::via([192, 0, 2, n].into())))
}

pub fn key(i: u32) -> Key {
    Key::Route { vrf: 0, prefix: ipnet::Ipv4Net::new((i << 8).into(), 24).unwrap().into() }
}

pub fn put(i: u32, n: u8) -> Change {
    Change::Put(key(i), Value::Route(label(n)))
}

pub fn table(epoch: u64, n: u32) -> Table {
    let mut t = Table::new(epoch);
    t.commit((0..4).map(group).chain((0..n).map(|i| put(i, (i % 4) as u8)))).unwrap();
    t
}

pub fn agent(name: &str, relay: bool, servers: &[SocketAddr], sink: Box<dyn Sink>) -> AgentHandle {
    secure_agent(name, relay, servers, sink, None)
}

pub fn secure_agent(
    name: &str,
    relay: bool,
    servers: &[SocketAddr],
    sink: Box<dyn Sink>,
    security: Option<Arc<Security>>,
) -> AgentHandle {
    spawn(name, relay, sync(servers), sink, security)
}

/// The first server is the primary; impatient, so that tests are short.
pub fn sync(servers: &[SocketAddr]) -> Sync {
    let servers = servers.iter().enumerate().map(|(i, a)| SyncServer {
        address: a.to_string(),
        role: if i == 0 { Role::Primary } else { Role::Secondary },
    });
    Sync {
        servers: servers.collect(),
        heartbeat_ms: 100,
        progress_ms: 2_000,
        failback_s: 1,
        checkpoint_interval_s: 1,
        ..Sync::default()
    }
}

pub fn spawn(
    name: &str,
    relay: bool,
    sync: Sync,
    sink: Box<dyn Sink>,
    security: Option<Arc<Security>>,
) -> AgentHandle {
    let listen = if relay { vec!["127.0.0.1:0".parse().unwrap()] } else { Vec::new() };
    let limits = Limits::default();
    Agent::spawn(
        AgentConfig {
            name: name.into(),
            listen,
            sync,
            security,
            digest_keys: Default::default(),
            scrub: None,
            limits,
            acknowledge: None,
            budgets: Budgets::default(),
        },
        sink,
    )
    .unwrap()
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
