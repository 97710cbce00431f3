//! Operators and monitoring when the process has no file descriptor left. The limit is the process's, so this is a file of its own.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use fibcast_control::ask;
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::{Kind, ListenerStatus, Status};
use fibcast_daemon::control::ControlServer;
use fibcast_daemon::http::HttpServer;
use fibcast_daemon::threads::{self, Task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FILES: u64 = 400;

fn listener(name: &str) -> ListenerStatus {
    fibcast_daemon::listener::all().into_iter().find(|l| l.name == name).unwrap()
}

/// A descriptor that is there before the shortage, for the client's end.
fn client() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

fn healthy(socket: socket2::Socket, server: &HttpServer) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(&server.address().into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

fn answer(_: Request) -> Result<Answer, String> {
    // A daemon without a known thread is not well.
    let _thread = threads::register(Task::auxiliary("test"));
    let status = fibcast_daemon::process::status("nh-1", Kind::Agent, Duration::ZERO);
    Ok(Answer::Status(Box::new(Status { ready: true, ..status })))
}

/// Processor time so far, from an open file.
fn cpu_time(stat: &File) -> Duration {
    let mut bytes = [0; 1024];
    let n = stat.read_at(&mut bytes, 0).unwrap();
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
}

#[test]
fn descriptors_that_end_are_survived_without_spinning_and_monitoring_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: most }).unwrap();
    let http = HttpServer::start("127.0.0.1:0".parse().unwrap(), answer).unwrap();
    let _control = ControlServer::start(&path, answer).unwrap();
    assert!(healthy(client(), &http).starts_with("HTTP/1.1 200"));

    // The ends of clients, which need no more descriptors later; and then nothing is left.
    let (asking, silent): (Vec<_>, Vec<_>) = (0..40).map(|n| (n, client())).partition(|(n, _)| *n < 10);
    let (crowd, late): (Vec<_>, _) = ((0..150).map(|_| client()).collect(), client());
    let operator = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let stat = File::open("/proc/self/stat").unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }

    // Each is served by the reserve or by what silent clients gave back.
    for (n, socket) in asking {
        silent[n].1.connect(&http.address().into()).unwrap();
        let text = healthy(socket, &http);
        assert!(text.starts_with("HTTP/1.1 200"), "{text:?}, {:?}", listener("http"));
    }
    operator.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    operator.connect(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    (&operator).write_all(b"\"status\"\n").unwrap();
    let mut bytes = [0; 64];
    let n = (&operator).read(&mut bytes).unwrap();
    assert!(bytes[..n].starts_with(b"{\"ok\":{\"status\""), "{:?}", String::from_utf8_lossy(&bytes[..n]));
    assert!(listener("http").exhausted > 0, "{:?}", listener("http"));

    // One who comes behind a crowd that says nothing does not wait a tenth of a second for each of them.
    for socket in &crowd {
        socket.connect(&http.address().into()).unwrap();
    }
    let text = healthy(late, &http);
    assert!(text.starts_with("HTTP/1.1 200"), "{text:?}, {:?}", listener("http"));

    // Connections wait that have no descriptor: nobody spins.
    for (_, socket) in silent.iter().skip(10) {
        socket.connect(&http.address().into()).unwrap();
    }
    let (before, start) = (cpu_time(&stat), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(&stat) - before;
    println!("{used:?} of processor time in 2 s, {:?}", listener("http"));
    assert!(used < start.elapsed() / 4, "{used:?}");

    // All is as before.
    drop((files, silent, crowd, operator));
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(error) = ask(&path, &Request::Status, Duration::from_secs(5)) {
        assert!(Instant::now() < end, "{error}");
    }
    assert!(healthy(client(), &http).starts_with("HTTP/1.1 200"));
}
