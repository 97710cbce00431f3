//! The HTTP port among clients that are slow, silent, wrong or many: monitoring is served all the same.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::{ClientStatus, Kind, Role, Status};
use fibcast_daemon::http::HttpServer;
use fibcast_daemon::process::resident_bytes;
use fibcast_daemon::threads::{self, Task};

/// Bounds of time and memory are of the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// What a daemon may need more under any flood.
const MORE: u64 = 64 << 20;

fn ready() -> Status {
    // A daemon without a known thread is not well.
    static THREAD: Once = Once::new();
    THREAD.call_once(|| std::mem::forget(threads::register(Task::auxiliary("test"))));
    Status { ready: true, ..fibcast_daemon::process::status("nh-1", Kind::Agent, Duration::ZERO) }
}

fn start(handler: impl Fn() -> Result<Status, String> + Send + Sync + 'static) -> HttpServer {
    fibcast_daemon::files::raise_limit();
    let answer = move |request| match request {
        Request::Status => handler().map(|status| Answer::Status(Box::new(status))),
        _ => Err("not here".into()),
    };
    HttpServer::start("127.0.0.1:0".parse().unwrap(), answer).unwrap()
}

fn connect(server: &HttpServer, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// The code of an answer, all of it, and the time until then.
fn get(server: &HttpServer, path: &str) -> (u16, String, Duration) {
    let start = Instant::now();
    let mut stream = connect(server, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text, start.elapsed())
}

/// Asks for `/healthz` many times, and returns the median time. Its bound is generous for a loaded machine.
fn healthy(server: &HttpServer, what: &str) -> Duration {
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let (code, text, time) = get(server, "/healthz");
            assert_eq!(code, 200, "{what}: {text}");
            time
        })
        .collect();
    times.sort();
    let (median, worst) = (times[25], times[49]);
    println!("{what}: /healthz in {median:?} (median), {worst:?} (worst of 50)");
    assert!(worst < Duration::from_secs(5), "{what}: /healthz took {worst:?}");
    median
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn slow_connections_delay_nobody_and_cost_no_threads() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| Ok(ready()));
    let (before, idle_threads) = (resident_bytes(), threads());
    let mut slow = Vec::new();
    for count in [300, 1000] {
        while slow.len() < count {
            let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ";
            slow.push(connect(&server, &head[..slow.len() % head.len()]));
        }
        healthy(&server, &format!("{count} slow connections"));
        assert_eq!(threads(), idle_threads);
    }
    let grown = resident_bytes().saturating_sub(before);
    println!("1000 slow connections: {grown} bytes");
    assert!(grown < MORE, "{grown} bytes");
    // Their own time ends too.
    let end = Instant::now() + Duration::from_secs(20);
    while !slow.iter_mut().all(is_closed) {
        assert!(Instant::now() < end, "slow connections are still open");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_request_line_without_an_end_costs_its_own_connection() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| Ok(ready()));
    let before = resident_bytes();
    let mut endless: Vec<TcpStream> = (0..50).map(|_| connect(&server, b"GET /")).collect();
    for stream in &mut endless {
        // Far more than the bound; the server may have hung up meanwhile.
        for _ in 0..64 {
            if stream.write_all(&[b'a'; 64 * 1024]).is_err() {
                break;
            }
        }
    }
    healthy(&server, "50 endless request lines");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < MORE / 4, "{grown} bytes");
    assert!(endless.iter_mut().all(|stream| {
        let end = Instant::now() + Duration::from_secs(10);
        while !is_closed(stream) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        is_closed(stream)
    }));
}

#[test]
fn a_body_that_never_comes_is_not_awaited() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| Ok(ready()));
    let mut answers = Vec::new();
    for request in [
        "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let mut stream = connect(&server, request.as_bytes());
        healthy(&server, "a body that never comes");
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        answers.push(text.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(answers, ["405", "413", "413"]);
}

#[test]
fn a_flood_of_connections_gives_way_to_who_asks() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| Ok(ready()));
    let before = resident_bytes();
    // More than the server keeps, all from one address, which is that of monitoring as well.
    let flood: Vec<TcpStream> = (0..3000)
        .map(|n| {
            if n % 500 == 0 {
                healthy(&server, &format!("{n} connections, each replaced by the next"));
            }
            connect(&server, if n % 2 == 0 { b"" } else { b"GET / HTTP/1.1\r\n" })
        })
        .collect();
    healthy(&server, "3000 connections, each replaced by the next");
    let http = fibcast_daemon::listener::all().into_iter().find(|l| l.name == "http").unwrap();
    assert!(http.open <= 1024 && http.gave_way > 1000 && http.turned_away == 0, "{http:?}");
    assert!(resident_bytes().saturating_sub(before) < MORE);
    drop(flood);
}

#[test]
fn readers_that_do_not_read_cost_bounded_memory() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // A page of some megabytes, another one each time.
    let calls = AtomicUsize::new(0);
    let server = start(move || {
        let name = calls.fetch_add(1, Ordering::Relaxed).to_string().repeat(1000);
        let clients = (0..1000).map(|_| client(&name)).collect();
        Ok(Status { clients, ..ready() })
    });
    let before = resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..60 {
        slow.push(connect(&server, b"GET /status.json HTTP/1.1\r\nHost: a\r\n\r\n"));
        // The first byte: each has its own page.
        let _ = slow.last_mut().unwrap().read(&mut [0; 1]);
    }
    let (code, text, _) = get(&server, "/status.json");
    assert!(code == 200 && text.len() > 1_000_000, "{code}, {} bytes", text.len());
    healthy(&server, "60 readers of large pages");
    let grown = resident_bytes().saturating_sub(before);
    println!("60 readers that do not read: {grown} bytes more, pages of {} bytes", text.len());
    assert!(grown < MORE, "{grown} bytes");
    // A reader that is only slow gets all of it.
    let mut patient = connect(&server, b"GET /status.json HTTP/1.0\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    let mut all = String::new();
    patient.read_to_string(&mut all).unwrap();
    assert!(all.ends_with('}') && all.len() > 1_000_000);
}

fn client(name: &str) -> ClientStatus {
    ClientStatus {
        refused: 0,
        refused_first: Vec::new(),
        installed: None,
        installed_age_ms: None,
        name: name.to_owned(),
        address: String::new(),
        table: "fib".into(),
        role: Role::Primary,
        state: String::new(),
        active: true,
        serial: 0,
        lag: 0,
        sent_bytes: 0,
        received_bytes: 0,
        queued_bytes: 0,
        certificate: Vec::new(),
        last_error: None,
    }
}

#[test]
fn a_daemon_that_hangs_is_told_in_time_and_asked_once() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (hangs, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let server = start({
        let (hangs, asked) = (hangs.clone(), asked.clone());
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            while hangs.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(ready())
        }
    });
    let answers: Vec<_> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..30).map(|_| scope.spawn(|| get(&server, "/healthz"))).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    for (code, text, time) in answers {
        assert_eq!(code, 503, "{text}");
        assert!(text.contains("the daemon has not reported its status for 2."), "{text}");
        assert!(time < Duration::from_secs(6), "{time:?}");
    }
    // Pages without a status have no reason to wait, and who comes late hears so at once.
    assert_eq!(get(&server, "/").0, 200);
    let (code, _, time) = get(&server, "/metrics");
    println!("the daemon hangs: 503 in {time:?}");
    assert!(code == 503 && time < Duration::from_millis(1900), "{code} in {time:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    hangs.store(false, Ordering::Relaxed);
    let end = Instant::now() + Duration::from_secs(10);
    while get(&server, "/healthz").0 != 200 {
        assert!(Instant::now() < end, "it answers again");
    }
}

#[test]
fn a_server_stops_while_its_daemon_hangs_and_its_clients_do_not_read() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| {
        loop {
            std::thread::park();
        }
    });
    let _clients: Vec<_> = (0..20).map(|_| connect(&server, b"GET /healthz HTTP/1.0\r\n\r\n")).collect();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_status_that_panics_is_an_answer_and_not_the_last_one() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let calls = AtomicUsize::new(0);
    let server = start(move || {
        assert_ne!(calls.fetch_add(1, Ordering::Relaxed), 0, "the first time");
        Ok(ready())
    });
    let (code, text, _) = get(&server, "/healthz");
    assert!(code == 503 && text.contains("panicked"), "{text}");
    assert_eq!(get(&server, "/healthz").0, 200);
}

#[test]
fn pipelined_requests_and_kept_connections_are_served() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = start(|| Ok(ready()));
    let one = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut stream = connect(&server, format!("{}{last}", one.repeat(100)).as_bytes());
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("\r\n\r\nready\n").count(), 100);
    assert!(text.ends_with("fibcast: /metrics /healthz /status.json\n"));
}

#[test]
fn ipv6_is_served_as_well() {
    let address: SocketAddr = "[::1]:0".parse().unwrap();
    let server = HttpServer::start(address, |_| Ok(Answer::Status(Box::new(ready())))).unwrap();
    assert_eq!(get(&server, "/healthz").0, 200);
}
