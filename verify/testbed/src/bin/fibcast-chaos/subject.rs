//! The daemons that harm is done to, each with what it needs to be healthy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fibcast_control::{Answer, ClientError, Request, ask};
use fibcast_sync_proto::DigestKey;
use fibcast_testbed::pki::Authority;
use fibcast_testbed::process::{command, free_addresses, run};
use fibcast_testbed::wait::until;
use fibcast_testbed::{Failure, Process, config};

use crate::health;
use crate::ports;

/// How long a daemon may take to be healthy on a busy machine.
const START: Duration = Duration::from_secs(90);
/// How long an operator waits.
const ANSWER: Duration = Duration::from_secs(10);
/// Size of a small disk.
const DISK: &str = "size=8m";
/// Bytes that a pipe without reader takes, the least there is.
const PIPE: usize = 4096;

/// A kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    RouteServer,
    /// With a kernel table, a checkpoint and clients.
    Agent,
    /// Of one port that brings nothing, with a TAP interface, a checkpoint and clients.
    Dataplane,
    /// A dataplane of three ports on interfaces of this host ([`ports`]).
    Router,
}

impl Subject {
    pub fn program(self) -> &'static str {
        match self {
            Subject::RouteServer => "fibcast-route-server",
            Subject::Agent => "fibcast-agent",
            Subject::Dataplane | Subject::Router => "fibcast-dataplane",
        }
    }
}

/// How a daemon is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Further keys of `[node]`.
    pub keys: &'a str,
    /// All its files are on a disk of a few megabytes.
    pub small_disk: bool,
    /// Its log goes into a pipe that nobody reads.
    pub unread_log: bool,
    /// It has a file of digest keys.
    pub digest_key: bool,
    /// Connections between nodes use certificates.
    pub tls: bool,
    /// This file of the folder hangs: a pipe without another end.
    pub hangs: Option<&'static str>,
    /// A second server, after the real one.
    pub second: Option<SocketAddr>,
}

/// A daemon that runs, in a folder that goes away with it.
#[derive(Debug)]
pub struct Running {
    pub process: Process,
    /// Its server; none for a route server.
    pub server: Option<Process>,
    pub http: SocketAddr,
    /// Where it has clients.
    pub sync: SocketAddr,
    /// The key of its digests.
    pub digest_key: DigestKey,
    /// Connections between nodes use certificates.
    pub tls: bool,
    /// Where zebra connects, to it or to its server.
    pub fpm: SocketAddr,
    /// The other end of its log, if that is a pipe.
    pub log: Option<std::io::PipeReader>,
    _disk: Option<Disk>,
    folder: tempfile::TempDir,
}

/// A file system in memory.
#[derive(Debug)]
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &self.0.display().to_string()]);
    }
}

impl Running {
    /// Starts a daemon, and waits until it is healthy.
    ///
    /// # Errors
    /// It ends, or is not healthy in time; with what it says.
    pub fn start(subject: Subject, programs: &Path, setup: Setup<'_>) -> Result<Running, Failure> {
        let mut running = Running::begin(subject, programs, setup)?;
        running.healthy(START)?;
        Ok(running)
    }

    /// Starts a daemon.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(subject: Subject, programs: &Path, setup: Setup<'_>) -> Result<Running, Failure> {
        let folder = tempfile::tempdir().map_err(|error| Failure::io("a temporary folder", error))?;
        let path = folder.path();
        let disk = match setup.small_disk {
            true => {
                run("mount", &["-t", "tmpfs", "-o", DISK, "chaos", &path.display().to_string()])?;
                Some(Disk(path.to_owned()))
            }
            false => None,
        };
        let [http, sync, server, fpm] = free_addresses()?;
        let of_server = subject == Subject::RouteServer;
        let mut keys = format!("listen = [\"{sync}\"]\nhttp = \"{http}\"\n{}\n", setup.keys);
        let (mut tls, mut server_tls) = Default::default();
        if setup.tls {
            let authority = Authority::new(path, 100)?;
            (tls, server_tls) = (authority.issue("subject", 100)?, authority.issue("server", 100)?);
        }
        let mut server_keys = format!("listen = [\"{server}\"]\n");
        let digest_key = if setup.digest_key { DigestKey::new([0x77; 32]) } else { DigestKey::PUBLIC };
        if setup.digest_key {
            for (name, keys) in [("digest.key", &mut keys), ("server-digest.key", &mut server_keys)] {
                let file = path.join(name);
                write(&file, &"7".repeat(64))?;
                run("chmod", &["600", &file.display().to_string()])?;
                *keys += &format!("digest_key = {:?}\n", file.display().to_string());
            }
        }
        write(&path.join("routes.txt"), "10.0.0.0/8 via 192.0.2.9\n10.1.0.0/16 blackhole\n")?;
        let servers = std::iter::once(server).chain(setup.second);
        let servers: Vec<String> = servers.map(|address| address.to_string()).collect();
        let text = match subject {
            Subject::RouteServer => route_server("subject", path, &keys, fpm),
            Subject::Agent => agent(path, &keys, &servers),
            Subject::Dataplane => dataplane(path, &keys, &servers),
            Subject::Router => ports::router(path, &keys, &servers)?,
        } + &tls;
        if let Some(name) = setup.hangs {
            pipe(&path.join(name))?;
        }
        let command = |name: &str, program: &str, text: &str| {
            let file = path.join(format!("{name}.toml"));
            write(&file, text)?;
            let mut command = command(&programs.join(program), None)?;
            command.arg("--config").arg(file).env("FIBCAST_PANIC", panic_file(path, name));
            Ok::<_, Failure>(command)
        };
        let server = match of_server {
            true => None,
            false => {
                let program = Subject::RouteServer.program();
                let text = route_server("server", path, &server_keys, fpm) + &server_tls;
                Some(Process::start("server", command("server", program, &text)?, path)?)
            }
        };
        let command = command("subject", subject.program(), &text)?;
        let (process, log) = match setup.unread_log {
            true => {
                let failed = |error| Failure::io("a pipe", error);
                let (log, stderr) = std::io::pipe().map_err(failed)?;
                rustix::pipe::fcntl_setpipe_size(&log, PIPE).map_err(|error| failed(error.into()))?;
                (Process::start_with_log("subject", command, path, stderr.into())?, Some(log))
            }
            false => (Process::start("subject", command, path)?, None),
        };
        Ok(Running { process, server, http, sync, digest_key, tls: setup.tls, fpm, log, _disk: disk, folder })
    }

    /// Waits until it is healthy; says how long that took.
    ///
    /// # Errors
    /// It has ended, or is not healthy in time.
    pub fn healthy(&mut self, within: Duration) -> Result<Duration, Failure> {
        let mut reported = String::new();
        let outcome = until("healthy", within, || {
            self.process.check()?;
            let state = health::check(self.http);
            reported = state.clone().err().unwrap_or_default();
            Ok::<_, Failure>(state.is_ok())
        });
        outcome.map_err(|failure| match failure {
            Failure::Late { within, .. } => {
                Failure::Late { what: format!("/healthz is ready, it says {reported:?}"), within }
            }
            other => other,
        })
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        self.file("subject.sock")
    }

    /// Asks as an operator does.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn ask(&self, request: impl Into<Request>) -> Result<Answer, ClientError> {
        ask(&self.control(), &request.into(), ANSWER)
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

/// Makes a file that hangs whoever opens it: a pipe, until somebody opens its other end. It takes the place of what is there.
pub fn pipe(path: &Path) -> Result<(), Failure> {
    let _ = std::fs::remove_file(path);
    run("mkfifo", &["-m", "600", &path.display().to_string()]).map(drop)
}

fn route_server(name: &str, folder: &Path, keys: &str, fpm: SocketAddr) -> String {
    let routes = folder.join("routes.txt");
    config::node(name, folder, keys)
        + "[rib]\nready_timeout_ms = 500\n"
        + &format!(
            "[[source]]\norigin = \"file\"\nkind = \"static\"\npath = \"{}\"\ndistance = 10\n",
            routes.display()
        )
        + &format!(
            "[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{fpm}\"\ndistance = 20\nusers = [0]\n"
        )
}

/// `[sync]` with a checkpoint that is written often.
pub fn sync(folder: &Path, servers: &[String]) -> String {
    let checkpoint = folder.join("table.ckpt");
    let keys = format!("checkpoint = \"{}\"\ncheckpoint_interval_s = 1\n", checkpoint.display());
    config::sync(servers, &keys)
}

fn agent(folder: &Path, keys: &str, servers: &[String]) -> String {
    // 192.0.2.9 is on no subnet here: that route is refused.
    config::node("subject", folder, keys)
        + &sync(folder, servers)
        + "[kernel]\ntable = 200\naccept_refused = true\n"
}

fn dataplane(folder: &Path, keys: &str, servers: &[String]) -> String {
    let prefix = format!("fc-chaos-{}", std::process::id());
    config::node("subject", folder, keys)
        + &sync(folder, servers)
        + &config::workers(&prefix, 128, "0", "")
        + &config::port("p0", "net_null0,no-rx=1", &["192.0.2.1/24"], "exception_path = true")
}
