//! `fibcast-agent` while everything outside hangs: it works, says what it can, and ends when it is asked to.
#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.

use std::io::{PipeReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Request};

/// Generous, for a loaded machine.
const SOON: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running agent, killed if the test fails.
struct Agent {
    child: Child,
    _log: PipeReader,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent whose standard error is a full pipe.
fn start(dir: &Path, http: u16, more: &str) -> Agent {
    let path = dir.join("agent.toml");
    let text = format!(
        "[node]\nname = \"n\"\nlisten = [\"127.0.0.1:{}\"]\nhttp = \"127.0.0.1:{http}\"\ncontrol = \"{}\"\n\
         [sync]\nservers = [{{ address = \"127.0.0.1:1\", role = \"primary\" }}]\n{more}",
        free_port(),
        dir.join("x.sock").display()
    );
    std::fs::write(&path, text).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast-agent"));
    command.arg("--config").arg(path).env("FIBCAST_LOG", "trace").stderr(writer);
    Agent { child: command.spawn().unwrap(), _log: reader }
}

fn healthz(http: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", http)).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends SIGTERM, and returns the time until the end.
fn stop(agent: &mut Agent) -> Duration {
    let begin = Instant::now();
    assert!(Command::new("kill").arg(agent.child.id().to_string()).status().unwrap().success());
    let status = until("it does not stop", || agent.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    begin.elapsed()
}

#[test]
fn a_full_pipe_deaf_clients_and_hanging_operators_delay_neither_work_nor_end() {
    let dir = tempfile::tempdir().unwrap();
    let http = free_port();
    let mut agent = start(dir.path(), http, "");
    let socket = dir.path().join("x.sock");
    let text = until("no answer", || healthz(http));
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("no capable server"), "{text}");
    // Operators that wait for a change that never comes, that say half a word, and nothing; clients that do not read.
    let mut open: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for (n, operator) in open.iter_mut().enumerate() {
        let words: [&[u8]; 3] = [b"{\"kv\":{\"watch\":{\"epoch\":1,\"serial\":1}}}\n", b"\"sta", b""];
        operator.write_all(words[n % 3]).unwrap();
    }
    let deaf: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", http)).unwrap();
            stream.write_all(&b"GET /status.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100)).unwrap();
            stream
        })
        .collect();
    let begin = Instant::now();
    let Answer::Status(status) = fibcast_control::ask(&socket, &Request::Status, SOON).unwrap() else {
        panic!("another answer")
    };
    assert!(healthz(http).unwrap().contains("no capable server"));
    println!("status and health in {:?}; {} lines lost", begin.elapsed(), status.log_lines_dropped);
    assert!(status.listeners.iter().any(|l| l.name == "control" && l.open > 40), "{:?}", status.listeners);
    let took = stop(&mut agent);
    println!("stopped in {took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop((open, deaf));
}

#[test]
fn a_checkpoint_on_a_disk_that_hangs_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let http = free_port();
    // Opening a FIFO waits for a writer, as a file on a dead network disk waits.
    let checkpoint = dir.path().join("table");
    assert!(Command::new("mkfifo").arg(&checkpoint).status().unwrap().success());
    let mut agent = start(dir.path(), http, &format!("checkpoint = \"{}\"\n", checkpoint.display()));
    let text = until("no word of the disk", || {
        let ask = fibcast_control::ask(&dir.path().join("x.sock"), &Request::Status, SOON);
        let Ok(Answer::Status(status)) = ask else { return None };
        status.sync?.checkpoint?.last_error
    });
    assert!(text.contains("the disk does not answer"), "{text}");
    assert!(healthz(http).unwrap().contains("no capable server"));
    let took = stop(&mut agent);
    assert!(took < Duration::from_secs(15), "{took:?}");
}
