//! The control socket among operators that are silent, slow, wrong or many, and handlers that hang.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, DataplaneRequest, MAX_REQUEST, Request};
use fibcast_control::tables::DropList;
use fibcast_control::{ClientError, ask};
use fibcast_daemon::control::{ControlServer, ServerError};
use fibcast_daemon::process::resident_bytes;

/// Generous, for a loaded machine.
const SOON: Duration = Duration::from_secs(5);

struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    server: Option<ControlServer>,
    hangs: Arc<AtomicBool>,
    hanging: Arc<AtomicUsize>,
}

impl Bench {
    /// Drops are answered; the status hangs until it is let go; routes are a large answer; groups panic.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let hangs = Arc::new(AtomicBool::new(true));
        let hanging = Arc::new(AtomicUsize::new(0));
        let server = ControlServer::start(&path, {
            let (hangs, hanging) = (hangs.clone(), hanging.clone());
            move |request| match request {
                Request::Dataplane(DataplaneRequest::Drops) => {
                    Ok(Answer::Drops(DropList { received: 7, ..DropList::default() }))
                }
                Request::Status => {
                    hanging.fetch_add(1, Ordering::Relaxed);
                    while hangs.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err("it hung".into())
                }
                Request::Routes(_) => Ok(Answer::Done("x".repeat(2 << 20))),
                Request::Resync => Ok(Answer::Done("x".repeat(65 << 20))),
                Request::Groups => panic!("a bug in the daemon"),
                _ => Err("no".into()),
            }
        })
        .unwrap();
        Bench { _folder: folder, path, server: Some(server), hangs, hanging }
    }

    fn open(&self, text: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// An operator whose request hangs.
    fn hang(&self) -> UnixStream {
        let before = self.hanging.load(Ordering::Relaxed);
        let stream = self.open("\"status\"\n");
        let end = Instant::now() + SOON;
        while self.hanging.load(Ordering::Relaxed) == before {
            assert!(Instant::now() < end, "the request is not handled");
            std::thread::sleep(Duration::from_millis(1));
        }
        stream
    }

    fn served(&self) {
        let answer = ask(&self.path, &DataplaneRequest::Drops.into(), SOON).unwrap();
        assert!(matches!(answer, Answer::Drops(drops) if drops.received == 7));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.hangs.store(false, Ordering::Relaxed);
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn silent_operators_give_way_to_one_who_asks() {
    let bench = Bench::new();
    let before = (resident_bytes(), threads());
    let mut silent = Vec::new();
    for count in [16, 17, 64, 65, 300] {
        while silent.len() < count {
            silent.push(bench.open(if count % 2 == 0 { "" } else { "{\"dataplane\":" }));
        }
        bench.served();
    }
    // One that was served and idles gives way after those that never asked, and learns it by the end of its connection.
    let mut first = silent.swap_remove(0);
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0);
    let end = Instant::now() + SOON;
    while threads() > before.1 + 70 {
        assert!(Instant::now() < end, "{} threads", threads());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(resident_bytes().saturating_sub(before.0) < 32 << 20);
}

#[test]
fn a_handler_that_hangs_costs_its_own_connection() {
    let bench = Bench::new();
    let hanging: Vec<_> = (0..63).map(|_| bench.hang()).collect();
    for _ in 0..20 {
        bench.served();
    }
    // When all places wait for an answer, the next one is told so at once.
    let last = bench.hang();
    let refused = ask(&bench.path, &DataplaneRequest::Drops.into(), SOON).unwrap_err();
    let ClientError::Refused(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains("64 operators wait for an answer already"), "{reason}");
    bench.hangs.store(false, Ordering::Relaxed);
    for stream in hanging.into_iter().chain([last]) {
        assert!(BufReader::new(stream).lines().next().unwrap().unwrap().contains("it hung"));
    }
    bench.served();
}

#[test]
fn operators_that_take_no_answer_give_way_to_one_who_does() {
    let bench = Bench::new();
    let deaf: Vec<_> = (0..200).map(|_| bench.open("{\"routes\":{}}\n")).collect();
    // All of them are answered, as far as there are places.
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    for _ in 0..20 {
        bench.served();
    }
    // Waiting for them would take ten seconds each.
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(deaf);
}

#[test]
fn a_server_stops_while_a_handler_hangs_and_operators_neither_ask_nor_read() {
    let mut bench = Bench::new();
    let _hanging: Vec<_> = (0..5).map(|_| bench.open("\"status\"\n")).collect();
    let _silent: Vec<_> = (0..5).map(|_| bench.open("\"sta")).collect();
    let _deaf: Vec<_> = (0..5).map(|_| bench.open("{\"routes\":{}}\n")).collect();
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    drop(bench.server.take());
    let took = start.elapsed();
    println!("stopped in {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(!bench.path.exists());
}

#[test]
fn a_request_without_an_end_is_refused_at_its_bound() {
    let bench = Bench::new();
    let before = resident_bytes();
    let mut streams: Vec<_> = (0..30).map(|_| bench.open("")).collect();
    for stream in &mut streams {
        for _ in 0..64 {
            if stream.write_all(&[b'x'; 64 << 10]).is_err() {
                break;
            }
        }
    }
    bench.served();
    for stream in streams {
        let answer = BufReader::new(stream).lines().next().unwrap().unwrap();
        assert!(answer.contains(&format!("at most {MAX_REQUEST} bytes")), "{answer}");
    }
    assert!(resident_bytes().saturating_sub(before) < 32 << 20);
}

#[test]
fn an_operator_that_trickles_or_does_not_read_is_late_in_the_end() {
    let bench = Bench::new();
    let deaf = bench.open("{\"routes\":{}}\n");
    let start = Instant::now();
    let mut trickle = bench.open("\"");
    while trickle.write_all(b" ").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "it still takes bytes");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(start.elapsed() > Duration::from_secs(8), "{:?}", start.elapsed());
    // Timeouts of sockets may be a little late.
    std::thread::sleep(Duration::from_secs(2));
    let mut rest = Vec::new();
    let read = (&deaf).read_to_end(&mut rest);
    assert!(rest.len() < 2 << 20, "the whole answer was kept for it: {read:?}");
    bench.served();
}

#[test]
fn many_requests_at_once_are_answered_in_order_and_the_last_one_without_its_end() {
    let bench = Bench::new();
    let one = "{\"dataplane\":\"drops\"}";
    let stream = bench.open(&format!("{}{one}", format!("{one}\n").repeat(500)));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    assert_eq!(answers.len(), 501);
    assert!(answers.iter().all(|answer| answer.contains("\"received\":7")));
}

#[test]
fn a_panic_and_an_answer_that_is_too_large_are_told() {
    let bench = Bench::new();
    let lines = BufReader::new(bench.open("\"groups\"\n\"resync\"\n{\"dataplane\":\"drops\"}\n")).lines();
    let answers: Vec<String> = lines.take(3).map(Result::unwrap).collect();
    assert!(answers[0].contains("made a thread panic"), "{}", answers[0]);
    assert!(answers[1].contains("ask for less"), "{:.200}", answers[1]);
    assert!(answers[2].contains("\"received\":7"), "{:.200}", answers[2]);
}

/// A daemon that hangs, with so many operators before its door that the system refuses the next one.
fn full(path: &Path) -> (std::os::unix::net::UnixListener, Vec<socket2::Socket>) {
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&socket2::SockAddr::unix(path).unwrap()).is_err() {
            return (listener, waiting);
        }
        waiting.push(socket);
    }
}

#[test]
fn a_socket_of_a_daemon_that_hangs_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let (listener, waiting) = full(&path);
    let refused = ControlServer::start(&path, |_| Err(String::new()));
    assert!(matches!(refused, Err(ServerError::InUse(_))), "{refused:?}");
    drop((listener, waiting));
}
