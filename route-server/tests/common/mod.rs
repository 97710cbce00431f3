//! Route servers as processes of their own, in a folder of their own, ended whatever happens.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Request, RouteQuery};
use fibcast_control::status::Status;
use fibcast_mrt::Writer;
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
        let listen = listen.map(|l| format!("listen = [\"{l}\"]\n")).unwrap_or_default();
        let control = self.path(&format!("{name}.sock"));
        let text = format!("[node]\nname = \"{name}\"\ncontrol = {control:?}\n{listen}{more}");
        self.write(&format!("{name}.toml"), text)
    }
}

/// Addresses that were free a moment ago.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    std::array::from_fn(|i| listeners[i].local_addr().unwrap())
}

pub fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast-route-server"));
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, which must come by itself: exit code and standard error.
pub fn run(mut command: Command) -> (i32, String) {
    let mut child = command.spawn().unwrap();
    let status = wait(&mut child);
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (status.code().unwrap(), text)
}

fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > WAIT_LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the server does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server at work.
pub struct Server {
    child: Option<Child>,
    pub socket: PathBuf,
}

impl Server {
    pub fn start(folder: &Folder, name: &str) -> Self {
        let log = std::fs::File::create(folder.path(&format!("{name}.log"))).unwrap();
        let child = command(&folder.path(&format!("{name}.toml"))).stderr(log).spawn().unwrap();
        Self { child: Some(child), socket: folder.path(&format!("{name}.sock")) }
    }

    pub fn ask(&self, request: Request) -> Option<Answer> {
        fibcast_control::ask(&self.socket, &request, Duration::from_secs(5)).ok()
    }

    pub fn status(&self) -> Option<Status> {
        match self.ask(Request::Status {})? {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
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
        let request = Request::Routes { query: RouteQuery::All, limit: 1000, all: false };
        let Some(Answer::Routes(list)) = self.ask(request) else { panic!("no routes") };
        let show = |r: &fibcast_control::tables::Route| {
            format!("{} via {} of {}", r.prefix, r.via.join(","), r.origin.as_deref().unwrap_or("?"))
        };
        list.routes.iter().map(show).collect()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; the exit code.
    pub fn stop(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait(&mut child).code().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
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
