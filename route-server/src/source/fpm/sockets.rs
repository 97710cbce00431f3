//! Real connections to the source's thread: strangers, floods, zebras that restart.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver as Channel;

use super::tests::{frame, rules};
use super::*;
use crate::source::outlet::{Event, Message, QUEUE, Report};
use fibcast_netlink::testing as wire;

/// Longer than anything takes here on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A source on an address that was free a moment ago.
struct Source {
    address: SocketAddr,
    events: Channel<Message>,
    stop: Arc<AtomicBool>,
    orders: crossbeam_channel::Sender<Order>,
    /// Events of other kinds than routes and reports.
    ends: Vec<Event>,
    thread: Option<std::thread::JoinHandle<()>>,
    routes: Vec<String>,
    report: Report,
}

impl Source {
    fn new(host: &str, users: Vec<u32>) -> Option<Self> {
        let address = TcpListener::bind((host, 0)).ok()?.local_addr().unwrap();
        let admission = Admission { users, allow: Vec::new() };
        let options = FpmOptions { origin: "bgp".into(), listen: address, admission, rules: rules() };
        let (to, events) = crossbeam_channel::bounded(QUEUE);
        let stop: Arc<AtomicBool> = Arc::default();
        let (orders, from) = crossbeam_channel::unbounded();
        let outlet = Outlet::new(0, to, Arc::new(|| ()), stop.clone()).with_orders(from);
        let listener = listen(&options).ok()?;
        let thread = std::thread::spawn(move || drop(run(&options, listener, false, &outlet)));
        let source = Source {
            address,
            events,
            stop,
            orders,
            ends: Vec::new(),
            thread: Some(thread),
            routes: Vec::new(),
            report: Report::default(),
        };
        Some(source)
    }

    /// On loopback, for the user of this process.
    fn ours() -> Self {
        Self::new("127.0.0.1", vec![rustix::process::geteuid().as_raw()]).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let begin = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    return stream;
                }
                Err(error) => assert!(begin.elapsed() < LIMIT, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads events until this holds.
    #[track_caller]
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < LIMIT, "{what}: {:?} {:?}", self.report, self.routes);
            match self.events.recv_timeout(Duration::from_millis(50)).map(|message| message.event) {
                Ok(Event::Batch(batch)) => {
                    for change in batch {
                        let prefix = change.prefix.to_string();
                        self.routes.retain(|known| *known != prefix);
                        self.routes.extend(change.path.map(|_| prefix));
                    }
                }
                Ok(Event::Report(report)) => self.report = report,
                Ok(event) => self.ends.push(event),
                Err(_) => {}
            }
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.report.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// A connection that has become the session, with one route.
    fn session(&mut self, prefix: &str) -> TcpStream {
        let sessions = self.counter("sessions");
        let mut zebra = self.connect();
        zebra.write_all(&route(prefix)).unwrap();
        self.until("a session", |source| source.counter("sessions") > sessions);
        self.until("its route", |source| source.routes.iter().any(|known| known == prefix));
        zebra
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.events.try_recv().is_ok() {}
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn route(prefix: &str) -> Vec<u8> {
    // By no interface: this host's decide nothing here.
    frame(&[wire::route_of(24, prefix, 254, 1, &[wire::gateway("192.0.2.1")])])
}

/// Whether the other end has closed the connection.
fn is_closed(mut stream: &TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 16]), Ok(n) if n > 0)
}

/// A child of the user `nobody` that connects and sends these bytes from a file; with `stay` it keeps the connection open.
fn stranger(source: &Source, bytes: &[u8], stay: bool) -> Option<(Child, tempfile::NamedTempFile)> {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become nobody");
        return None;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let wait = if stay { "read -r -t 20 <&3" } else { "true" };
    let script = format!(
        "exec 3<>/dev/tcp/{}/{}; cat {} >&3; {wait}",
        source.address.ip(),
        source.address.port(),
        file.path().display()
    );
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "bash", "-c", &script];
    let child = Command::new("setpriv").args(nobody).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    Some((child.unwrap(), file))
}

#[test]
fn valid_frames_of_a_user_that_is_not_allowed_change_nothing() {
    for host in ["127.0.0.1", "::1"] {
        let Some(mut source) = Source::new(host, vec![0]) else { continue };
        let everything =
            [route("0.0.0.0/0"), frame(&[wire::route_of(24, super::tests::SENTINEL, 254, 6, &[])])];
        // One that waits for an answer, and one that is gone before it is looked at: the kernel calls its socket root's.
        for stay in [true, false] {
            let Some((mut child, _file)) = stranger(&source, &everything.concat(), stay) else { return };
            let before = source.counter("refused_unauthorized");
            source.until("refused", |source| source.counter("refused_unauthorized") > before);
            child.wait().unwrap();
            let error = source.report.last_error.clone().unwrap_or_default();
            assert!(error.contains(if stay { "user id 65534" } else { "connection refused" }), "{error}");
        }
        assert_eq!((source.routes.len(), source.counter("sessions")), (0, 0));
        source.session("10.0.0.0/8");
    }
}

#[test]
fn a_stranger_does_not_end_the_session() {
    let mut source = Source::ours();
    let mut zebra = source.session("10.0.0.0/8");
    let Some((mut child, _file)) = stranger(&source, &route("0.0.0.0/0"), true) else { return };
    source.until("refused", |source| source.counter("refused_unauthorized") == 1);
    zebra.write_all(&route("10.1.0.0/16")).unwrap();
    source.until("the session continues", |source| source.routes.len() == 2);
    assert_eq!(source.counter("sessions"), 1);
    child.wait().unwrap();
}

#[test]
fn a_mapped_ipv4_address_is_a_user_of_this_host_too() {
    let Some(mut source) = Source::new("::", vec![rustix::process::geteuid().as_raw()]) else { return };
    source.address = ([127, 0, 0, 1], source.address.port()).into();
    source.session("10.0.0.0/8");
    let Some((mut child, _file)) = stranger(&source, &route("0.0.0.0/0"), true) else { return };
    source.until("refused", |source| source.counter("refused_unauthorized") == 1);
    child.wait().unwrap();
}

#[test]
fn a_flood_of_connections_neither_delays_the_session_nor_ends_it() {
    let mut source = Source::ours();
    let mut zebra = source.session("10.0.0.0/8");
    let flood: Vec<TcpStream> = (0..300).map(|_| source.connect()).collect();
    zebra.write_all(&route("10.1.0.0/16")).unwrap();
    let begin = Instant::now();
    source.until("the session continues", |source| source.routes.len() == 2);
    let took = begin.elapsed();
    source.until("refused", |source| source.counter("refused_waiting_limit") >= 299);
    assert!(flood.iter().filter(|stream| is_closed_now(stream)).count() >= 299, "one of them may wait");
    assert_eq!(source.counter("sessions"), 1);
    assert!(took < LIMIT / 2, "{took:?}");
}

fn is_closed_now(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = !matches!(stream.peek(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    closed
}

#[test]
fn rubbish_and_half_a_frame_leave_the_session_alone() {
    let mut source = Source::ours();
    let mut zebra = source.session("10.0.0.0/8");
    let mut rubbish = source.connect();
    rubbish.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    source.until("refused", |source| source.counter("refused_invalid") == 1);
    assert!(is_closed(&rubbish));
    let mut half = source.connect();
    half.write_all(&route("10.9.0.0/16")[..20]).unwrap();
    zebra.write_all(&route("10.1.0.0/16")).unwrap();
    source.until("the session continues", |source| source.routes.len() == 2);
    // The next one does not wait for it for ever.
    source.until("its time is over", |source| source.counter("refused_waiting_limit") == 1);
    assert!(is_closed(&half));
    assert_eq!(source.counter("sessions"), 1);
}

#[test]
fn a_second_zebra_is_refused_while_the_first_lives_and_follows_it_at_once() {
    let mut source = Source::ours();
    let first = source.session("10.0.0.0/8");
    let mut second = source.connect();
    second.write_all(&route("10.1.0.0/16")).unwrap();
    source.until("refused", |source| source.counter("refused_session_alive") == 1);
    assert!(is_closed(&second));
    assert_eq!((source.routes.clone(), source.counter("sessions")), (vec!["10.0.0.0/8".to_owned()], 1));
    // A restart within 100 ms: the new connection is there before the old one is closed.
    let mut third = source.connect();
    third.write_all(&route("10.2.0.0/16")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(first);
    source.until("the third follows", |source| source.routes.len() == 2);
    source.until("the second session", |source| source.counter("sessions") == 2);
    source.until("the first one's route is stale", |source| source.counter("routes_stale") == 1);
}

#[test]
fn by_order_the_whole_table_is_told_again_and_the_session_goes_on() {
    let mut source = Source::ours();
    let mut zebra = source.session("10.0.0.0/8");
    zebra.write_all(&route("10.1.0.0/16")).unwrap();
    source.until("both routes", |source| source.routes.len() == 2);
    source.routes.clear();
    source.orders.send(Order::Refresh).unwrap();
    source.until("both again", |source| source.routes.len() == 2);
    source.until("the end", |source| source.ends.iter().any(|end| matches!(end, Event::Refreshed { .. })));
    zebra.write_all(&route("10.2.0.0/16")).unwrap();
    source.until("the session continues", |source| source.routes.len() == 3);
    assert_eq!(source.counter("sessions"), 1);
}

#[test]
fn another_policy_counts_after_the_next_connection_of_zebra_and_routes_stay_until_then() {
    let mut source = Source::ours();
    let zebra = source.session("10.0.0.0/8");
    let mut policy = rules().policy;
    policy.vrfs = [(254, 7)].into();
    source.orders.send(Order::Policy(policy)).unwrap();
    assert!(is_closed(&zebra), "so that it sends its table again");
    source.until("told", |source| source.report.last_error.as_ref().is_some_and(|e| e.contains("reload")));
    assert_eq!(source.routes, ["10.0.0.0/8"]);
    let _again = source.session("10.3.0.0/16");
    assert_eq!(source.counter("routes_stale"), 1);
}

#[test]
fn one_that_breaks_when_it_becomes_the_session_is_closed() {
    let mut source = Source::ours();
    let first = source.session("10.0.0.0/8");
    // It waits with a route and a frame that is none.
    let mut second = source.connect();
    second.write_all(&[route("10.1.0.0/16"), vec![9; 16]].concat()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(first);
    source.until("its route", |source| source.routes.contains(&"10.1.0.0/16".to_owned()));
    assert!(is_closed(&second));
    source.session("10.2.0.0/16");
}
