//! The agent's thread panics or stalls: the worker continues to forward, another agent takes its place, and routes come again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_control::status::Role;
use fibcast_dataplane::agent_guard::{AgentGuard, FencingToken};
use fibcast_dataplane::config::Config;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::control::thread::ControlThread;
use fibcast_dataplane::control::{Control, PortSetup, Setup};
use fibcast_dataplane::counters::{Snapshot, WorkerCounters};
use fibcast_dataplane::io::memory::{Memory, MemoryPool, MemoryQueue};
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::pipeline::output::Rings;
use fibcast_dataplane::pipeline::port::{Link, ReversePath};
use fibcast_dataplane::worker::idle::Policy;
use fibcast_dataplane::worker::{Parts, RxSlot, Worker, thread};
use fibcast_fib::{Limits, VrfId};
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, Sink, SinkError};
use fibcast_sync_agent::shell::{Shell, ShellError, ShellWaker};
use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::node::{self, ClientId, News, Node};
use fibcast_sync_proto::server::{Served, Tables};
use fibcast_sync_proto::{Batch, Change, GroupValue, Key, Label, Table, Value};

const PORT: Mac = Mac([2, 0, 0, 0, 1, 0]);
const NEXT: Mac = Mac([2, 0, 0, 0, 2, 9]);
const FINE: u8 = 0;
const PANIC: u8 = 1;
const HANG: u8 = 2;

/// A route server over the real shell.
struct Server {
    table: Table,
    spare: Table,
    orders: Receiver<Vec<Change>>,
}

impl Tables for Server {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: &self.table, ready: true, path: &[] })
    }
}

impl node::NodeRole for Server {
    fn client_table(&mut self, _: ClientId) -> &mut Table {
        &mut self.spare
    }

    fn handle_client_event(&mut self, _: Duration, _: ClientId, _: &ClientEvent) {}

    fn advance(&mut self, _: Duration, _: &[Client]) -> News {
        let mut news = News::default();
        while let Ok(changes) = self.orders.try_recv() {
            self.table.commit(changes).unwrap();
            news.changed = true;
        }
        news
    }
}

/// The dataplane's sink, with a fault on demand.
struct Injected {
    inner: ControlSink,
    fault: Arc<AtomicU8>,
    release: Arc<AtomicBool>,
}

impl Sink for Injected {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        match self.fault.swap(FINE, Ordering::AcqRel) {
            PANIC => panic!("a panic requested by the test"),
            HANG => {
                while !self.release.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            _ => {}
        }
        self.inner.apply(batch)
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

/// A server, an agent that is looked after, a control thread and a worker that is fed by the test.
struct Host1 {
    orders: Sender<Vec<Change>>,
    waker: ShellWaker,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    worker: Option<JoinHandle<Result<(), String>>>,
    guard: Option<AgentGuard>,
    _control: ControlThread,
    fault: Arc<AtomicU8>,
    release: Arc<AtomicBool>,
    counters: Arc<WorkerCounters>,
    rx: MemoryQueue,
    relay: SocketAddr,
}

fn gateway() -> Key {
    Key::Group(Label(7))
}

fn put_gateway() -> Change {
    Change::Put(gateway(), Value::Group(GroupValue::via("192.0.2.9".parse().unwrap())))
}

fn put_route(number: u8) -> Change {
    let prefix = format!("10.{number}.0.0/16").parse().unwrap();
    Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(Label(7)))
}

/// UDP to 10.N.0.1.
fn packet(number: u8) -> Vec<u8> {
    let mut frame = [PORT.0, [2, 0, 0, 0, 2, 7]].concat();
    frame.extend([8, 0]);
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 10, number, 0, 1];
    let field = checksum::checksum(&header);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    frame.extend(header);
    frame.extend([0; 26]);
    frame
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Host1 {
    fn start() -> Host1 {
        let stop = Arc::new(AtomicBool::new(false));
        let (orders, inlet) = channel();
        let mut shell = Shell::new("rs").unwrap();
        let server = shell.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let waker = shell.waker();
        let serving = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let role = Server { table: Table::new(5), spare: Table::new(6), orders: inlet };
                let mut node = Node::new("rs", shell.now(), role, []);
                shell.run(&mut node, &mut (), &stop).unwrap();
            }
        });

        let port = PortSetup {
            name: "p0".to_owned(),
            mac: PORT,
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            loopback: Vec::new(),
            mtu: 1_500,
            vrf: VrfId::DEFAULT,
            link: Link { device: 0, vlan: None },
            reverse_path: ReversePath::Off,
            exception_path: false,
        };
        let facts = vec![port.facts()];
        let (rings, counters) = (Rings::default(), Arc::new(WorkerCounters::new(1)));
        let setup = Setup {
            ports: vec![port],
            routes: Vec::new(),
            neighbors: vec![(0, "192.0.2.9".parse().unwrap(), NEXT)],
            limits: Limits::default(),
            icmp: fibcast_dataplane::pipeline::icmp_error::Limits::default(),
            allow_class_e: false,
            rings: vec![rings.clone()],
            counters: vec![counters.clone()],
        };
        let mut control = Control::new(setup, Instant::now()).unwrap();
        let (rx, tx) = (MemoryQueue::default(), MemoryQueue::default());
        let parts = Parts::<Memory> {
            rx: vec![RxSlot { port: 0, queue: rx.clone() }],
            tx: vec![Some(tx)],
            pool: MemoryPool::default(),
            ports: facts,
            seed: 1,
            backlog: 100,
            icmp: fibcast_dataplane::pipeline::icmp_error::Limits::default(),
            capture: Arc::default(),
            reader: control.reader("worker 0"),
            counters: counters.clone(),
            rings,
        };
        let control = ControlThread::spawn(control).unwrap();
        let (worker, _) =
            thread::spawn(0, 0, Policy::Sleep, stop.clone(), move || Ok((Worker::new(parts), ()))).unwrap();

        let (fault, release) = (Arc::new(AtomicU8::new(FINE)), Arc::new(AtomicBool::new(false)));
        let sync = Sync {
            servers: vec![SyncServer { address: server.to_string(), role: Role::Primary }],
            ..toml_sync()
        };
        let config = AgentConfig {
            budgets: Default::default(),
            name: "nh".into(),
            // A relay on a port of its own, which the next agent has to open again while the old one's thread hangs.
            listen: vec![free_port()],
            sync,
            security: None,
            digest_keys: Default::default(),
            scrub: None,
            limits: Default::default(),
            acknowledge: None,
        };
        let relay = config.listen[0];
        let make = {
            let (fault, release, handle) = (fault.clone(), release.clone(), control.handle.clone());
            let mut token = FencingToken::default();
            move || {
                token = token.next();
                let inner = ControlSink::fenced(handle.clone(), vec!["p0".into()], token.clone());
                let sink = Injected { inner, fault: fault.clone(), release: release.clone() };
                Agent::spawn(config.clone(), Box::new(sink))
            }
        };
        let guard = AgentGuard::start(make, Duration::from_millis(1_500))
            .map_err(|e: ShellError| e.to_string())
            .unwrap();
        Host1 {
            orders,
            waker,
            stop,
            threads: vec![serving],
            worker: Some(worker),
            guard: Some(guard),
            _control: control,
            fault,
            release,
            counters,
            rx,
            relay,
        }
    }

    fn commit(&self, changes: Vec<Change>) {
        self.orders.send(changes).unwrap();
        self.waker.wake();
    }

    /// Sends a packet to a route and says whether it was forwarded.
    fn forwards(&self, number: u8) -> bool {
        let before = self.snapshot();
        self.rx.put(packet(number));
        wait_until("the worker", || self.snapshot().received > before.received);
        self.snapshot().sent > before.sent
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = self.counters.snapshot();
        assert!(snapshot.adds_up(), "{snapshot:?}");
        snapshot
    }

    fn restarts(&self) -> u64 {
        self.guard.as_ref().unwrap().restarts()
    }

    /// A fault with the next batch; without an agent the worker keeps forwarding.
    fn break_down(&self, fault: u8, number: u8) {
        self.fault.store(fault, Ordering::Release);
        self.commit(vec![put_route(number)]);
        wait_until("the fault", || self.fault.load(Ordering::Acquire) == FINE);
        let restarts = self.restarts();
        let mut sent = 0;
        wait_until("another agent", || {
            assert!(self.forwards(1), "the worker keeps forwarding");
            sent += 1;
            self.restarts() > restarts || fault == PANIC
        });
        assert!(sent > 0);
        wait_until("the route that was on its way", || self.forwards(number));
        assert!(self.forwards(1));
    }
}

impl Drop for Host1 {
    fn drop(&mut self) {
        self.release.store(true, Ordering::Release);
        self.guard = None;
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap().unwrap();
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// `[sync]` with its defaults and short heartbeats.
fn toml_sync() -> Sync {
    let text = "[node]\nname = \"x\"\n[sync]\nservers = [{ address = \"127.0.0.1:1\", role = \"primary\" }]\nheartbeat_ms = 100\n\
                [workers]\ncores = [0]\n[[port]]\nname = \"p0\"\ndevice = \"net_null0\"\n";
    fibcast_daemon::config::parse::<Config>("x.toml".as_ref(), text.to_owned()).unwrap().value.sync.unwrap()
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn started() -> Host1 {
    let host = Host1::start();
    host.commit(vec![put_gateway(), put_route(1)]);
    wait_until("the first route", || host.forwards(1));
    host
}

#[test]
fn an_agent_that_panics_is_restarted_and_resumes() {
    let host = started();
    host.break_down(PANIC, 2);
    assert_eq!(host.restarts(), 1);
    host.break_down(PANIC, 3);
    assert_eq!(host.restarts(), 2);
}

#[test]
fn a_stalled_agent_is_replaced_and_what_it_does_later_changes_nothing() {
    let host = started();
    host.break_down(HANG, 2);
    assert_eq!(host.restarts(), 1);
    // The tier below finds the new agent where the old one was.
    wait_until("the relay's port", || std::net::TcpStream::connect(host.relay).is_ok());
    host.commit(vec![Change::Delete(Key::Route { vrf: 0, prefix: "10.2.0.0/16".parse().unwrap() })]);
    wait_until("the withdrawal", || !host.forwards(2));
    // The old thread continues with its batch, in which that route is still there.
    host.release.store(true, Ordering::Release);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!host.forwards(2) && host.forwards(1));
    host.commit(vec![put_route(4)]);
    wait_until("a new route", || host.forwards(4));
}
