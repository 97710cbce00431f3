//! The daemons that harm is done to, each with what it needs to be healthy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fibcast_testbed::process::{command, free_addresses};
use fibcast_testbed::wait::until;
use fibcast_testbed::{Failure, Process, config};

use crate::health;

/// How long a daemon may take to be healthy on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    RouteServer,
    /// With a kernel table and a checkpoint.
    Agent,
    /// Of one port that brings nothing, with a TAP interface.
    Dataplane,
}

impl Subject {
    pub fn program(self) -> &'static str {
        match self {
            Subject::RouteServer => "fibcast-route-server",
            Subject::Agent => "fibcast-agent",
            Subject::Dataplane => "fibcast-dataplane",
        }
    }
}

/// A daemon that runs, in a folder that goes away with it.
#[derive(Debug)]
pub struct Running {
    pub process: Process,
    pub http: SocketAddr,
    _server: Option<Process>,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts a daemon, with further keys of its `[node]`, and waits until it is healthy.
    ///
    /// # Errors
    /// It ends, or is not healthy in time; with what it says.
    pub fn start(subject: Subject, programs: &Path, keys: &str) -> Result<Running, Failure> {
        let folder = tempfile::tempdir().map_err(|error| Failure::io("a temporary folder", error))?;
        let [http, server, fpm] = free_addresses()?;
        let path = folder.path();
        let server_keys = format!("listen = [\"{server}\"]");
        let http_key = format!("http = \"{http}\"\n{keys}");
        let (text, needs_server) = match subject {
            Subject::RouteServer => (route_server(path, &format!("{server_keys}\n{http_key}"), fpm), false),
            Subject::Agent => (agent(path, &http_key, server), true),
            Subject::Dataplane => (dataplane(path, &http_key, server), true),
        };
        write(&path.join("routes.txt"), "10.0.0.0/8 via 192.0.2.9\n10.1.0.0/16 blackhole\n")?;
        let start = |name: &str, program: &str, text: &str| {
            let file = path.join(format!("{name}.toml"));
            write(&file, text)?;
            let mut command = command(&programs.join(program), None)?;
            command.arg("--config").arg(file).env("FIBCAST_PANIC", panic_file(path, name));
            Process::start(name, command, path)
        };
        let _server = match needs_server {
            true => {
                let text = route_server(path, &server_keys, fpm).replace("\"subject\"", "\"server\"");
                let text = text.replace("subject.sock", "server.sock");
                Some(start("server", Subject::RouteServer.program(), &text)?)
            }
            false => None,
        };
        let process = start("subject", subject.program(), &text)?;
        let mut running = Running { process, http, _server, folder };
        running.healthy(START)?;
        Ok(running)
    }

    /// Waits until it is healthy; says how long that took.
    ///
    /// # Errors
    /// It has ended, or is not healthy in time.
    pub fn healthy(&mut self, within: Duration) -> Result<Duration, Failure> {
        let mut said = String::new();
        let outcome = until("healthy", within, || {
            self.process.check()?;
            let state = health::check(self.http);
            said = state.clone().err().unwrap_or_default();
            Ok::<_, Failure>(state.is_ok())
        });
        outcome.map_err(|failure| match failure {
            Failure::Late { within, .. } => {
                Failure::Late { what: format!("/healthz is ready, it says {said:?}"), within }
            }
            other => other,
        })
    }

    /// The file in which a debug build finds the name of the thread that is to panic.
    pub fn panic_file(&self) -> PathBuf {
        panic_file(self.folder.path(), "subject")
    }
}

fn panic_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.panic"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::io(path.display(), error))
}

fn route_server(folder: &Path, keys: &str, fpm: SocketAddr) -> String {
    let routes = folder.join("routes.txt");
    config::node("subject", folder, keys)
        + "[rib]\nready_timeout_ms = 500\n"
        + &format!(
            "[[source]]\norigin = \"file\"\nkind = \"static\"\npath = \"{}\"\ndistance = 10\n",
            routes.display()
        )
        + &format!("[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{fpm}\"\ndistance = 20\n")
}

fn agent(folder: &Path, keys: &str, server: SocketAddr) -> String {
    let checkpoint = format!("checkpoint = \"{}\"", folder.join("table.ckpt").display());
    // 192.0.2.9 is on no subnet here: that route is refused.
    config::node("subject", folder, keys)
        + &config::sync([server.to_string()], &checkpoint)
        + "[kernel]\ntable = 200\naccept_refused = true\n"
}

fn dataplane(folder: &Path, keys: &str, server: SocketAddr) -> String {
    let prefix = format!("fc-chaos-{}", std::process::id());
    config::node("subject", folder, keys)
        + &config::sync([server.to_string()], "")
        + &config::workers(&prefix, 128, "0", "")
        + &config::port("p0", "net_null0,no-rx=1", &["192.0.2.1/24"], "exception_path = true")
}
