//! Route servers as processes of their own, in a folder of their own, ended whatever happens.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Request, RouteRequest};
use fibcast_control::status::Status;
use fibcast_mrt::Writer;
use fibcast_testbed::{Node, config};
use ipnet::IpNet;

/// Longer than anything here takes on a busy machine.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// A folder for one test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file `NAME.toml` of a server NAME with its control socket; returns its path.
    pub fn config(&self, name: &str, listen: Option<SocketAddr>, more: &str) -> PathBuf {
        let listen = listen.map(|l| config::listen(&l.to_string())).unwrap_or_default();
        self.write(&format!("{name}.toml"), config::node(name, self.0.path(), &listen) + more)
    }
}

/// Addresses that were free a moment ago.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    fibcast_testbed::process::free_addresses().unwrap()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_fibcast-route-server");

pub fn command(config: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must come by itself: exit code and standard error.
pub fn run(mut command: Command) -> (i32, String) {
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > WAIT_LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the server does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (status.code().unwrap(), text)
}

/// A server at work.
pub struct Server {
    pub node: Node,
    pub socket: PathBuf,
}

impl Server {
    pub fn start(folder: &Folder, name: &str) -> Self {
        let node = Node::start(PROGRAM.as_ref(), name, folder.0.path(), None).unwrap();
        Self { socket: node.socket().to_owned(), node }
    }

    pub fn ask(&self, request: impl Into<Request>) -> Option<Answer> {
        self.node.ask(request).ok()
    }

    pub fn status(&self) -> Option<Status> {
        self.node.status()
    }

    /// Waits for a status that pleases.
    pub fn until(&self, what: &str, pleases: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|s| pleases(s)) {
                return status.clone();
            }
            assert!(begin.elapsed() < WAIT_LIMIT, "waited in vain: {what}; last status: {status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All its routes: prefix, next hops, origin.
    pub fn routes(&self) -> Vec<String> {
        let request = RouteRequest { limit: 1000, ..RouteRequest::default() };
        let Some(Answer::Routes(list)) = self.ask(Request::Routes(request)) else { panic!("no routes") };
        let show = |r: &fibcast_control::tables::Route| {
            format!("{} via {} of {}", r.prefix, r.via.join(","), r.origin.as_deref().unwrap_or("?"))
        };
        list.routes.iter().map(show).collect()
    }

    pub fn kill(&mut self) {
        self.node.process.kill();
    }

    /// SIGTERM; the exit code.
    pub fn stop(&mut self) -> i32 {
        self.node.process.stop().unwrap().code().unwrap()
    }
}

pub fn mrt_table(routes: &[(&str, &str)]) -> Vec<u8> {
    let mut w = Writer::new(Vec::new());
    w.peer_index(1, "", IpAddr::from([192, 0, 2, 1])).unwrap();
    for (prefix, next_hop) in routes {
        w.rib(1, prefix.parse::<IpNet>().unwrap(), next_hop.parse().unwrap()).unwrap();
    }
    w.into_inner()
}
