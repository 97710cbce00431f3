//! Peers: of every listener of every daemon, and of a dataplane's ports; and servers that do not behave.

use std::any::Any;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use fibcast_sync_proto::frame::Frame;
use fibcast_sync_proto::{DigestKey, RootDigest};
use fibcast_testbed::Failure;

use crate::attack::{Attack, How, Target};
use crate::health::metric;
use crate::ports::Flood;
use crate::server::{Hostile, Says};
use crate::subject::{Running, Subject};
use crate::trial::{Expected, Harm, Trial, greeting};
use crate::{ports, zebra};

/// What `/healthz` says without a server that brings changes.
const KEPT: &str = "the table is kept as it was";
/// Bytes of a flood's connection.
const BYTES: usize = 256 << 10;

/// All trials.
pub fn all() -> Vec<Trial> {
    use Subject::{Agent, Dataplane, RouteServer, Router};
    let mut trials = Vec::new();
    for subject in [RouteServer, Agent, Dataplane] {
        for (listener, hows) in [("sync", sync()), ("http", http()), ("control", control())] {
            for how in hows {
                let harm = Box::new(Strangers { listener, how });
                trials.push(Trial { subject, harm, expected: Expected::Served, lost: "nothing" });
            }
        }
    }
    for how in fpm() {
        let harm = Box::new(Strangers { listener: "fpm", how });
        trials.push(Trial { subject: RouteServer, harm, expected: Expected::Served, lost: "nothing" });
    }
    let harm = Box::new(Unauthorized);
    trials.push(Trial { subject: RouteServer, harm, expected: Expected::Served, lost: "nothing" });
    for subject in [Agent, Dataplane] {
        trials.push(Trial {
            subject,
            harm: Box::new(ServerPauses),
            expected: Expected::Says(KEPT),
            lost: "route changes; the table stays in use",
        });
        for says in [Says::Nothing, Says::RecordsWithoutEnd, Says::OneByteAtATime] {
            let (harm, expected) = (Box::new(Hostile::new(says)), Expected::Says(KEPT));
            trials.push(Trial { subject, harm, expected, lost: "route changes; the table stays in use" });
        }
    }
    for flood in Flood::ALL {
        let harm = Box::new(OnPort { flood, verdict: Arc::default() });
        trials.push(Trial { subject: Router, harm, expected: Expected::Served, lost: "" });
    }
    trials
}

fn sync() -> Vec<How> {
    let greeting = greeting("greedy", DigestKey::PUBLIC);
    let mut copy = Vec::new();
    let digest = RootDigest { hash: 1, count: 1 };
    Frame::Activate { epoch: 0, serial: 0, digest, copy: true }.encode(&mut copy);
    let flood = [&greeting[..], &[13, 0, 0, 0].repeat(BYTES / 4)].concat();
    vec![
        How::Silent { connections: 800 },
        How::Slow { connections: 400, text: greeting.clone() },
        How::Greedy { connections: 64, first: greeting, again: copy },
        How::Flood { text: flood, of: "heartbeats" },
    ]
}

fn http() -> Vec<How> {
    let head = "GET /metrics HTTP/1.1\r\nHost: a\r\n";
    vec![
        How::Silent { connections: 800 },
        How::Slow { connections: 400, text: format!("{head}X-A: {}", "a".repeat(2_000)).into_bytes() },
        How::Greedy { connections: 64, first: Vec::new(), again: format!("{head}\r\n").into_bytes() },
        How::Flood { text: format!("GET /{}", "a".repeat(BYTES)).into_bytes(), of: "endless requests" },
    ]
}

fn control() -> Vec<How> {
    vec![
        How::Silent { connections: 100 },
        How::Slow { connections: 100, text: format!("{{\"routes\":{}", " ".repeat(2_000)).into_bytes() },
        How::Greedy { connections: 100, first: Vec::new(), again: b"\"status\"\n".to_vec() },
        How::Flood { text: vec![b' '; BYTES], of: "endless requests" },
    ]
}

fn fpm() -> Vec<How> {
    vec![
        How::Silent { connections: 100 },
        How::Slow { connections: 100, text: zebra::a_frame() },
        How::Flood { text: zebra::a_frame().repeat(100), of: "valid routes" },
        How::Flood { text: vec![7; BYTES], of: "rubbish" },
    ]
}

/// Peers of a listener that do not behave.
#[derive(Debug)]
struct Strangers {
    listener: &'static str,
    how: How,
}

impl Harm for Strangers {
    fn name(&self) -> String {
        let port = match self.listener {
            "control" => "control socket",
            "fpm" => "FPM",
            "http" => "HTTP",
            other => other,
        };
        format!("{port}: {}", self.how)
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let target = match self.listener {
            "sync" => Target::Tcp(running.sync),
            "http" => Target::Tcp(running.http),
            "fpm" => Target::Tcp(running.fpm),
            _ => Target::Unix(running.control()),
        };
        Ok(Box::new(Attack::start(target, self.how.clone())))
    }

    fn is_felt(&self, running: &Running) -> bool {
        // Those who are served, of each listener, are a few a second.
        let label = format!("listener=\"{}\"", self.listener);
        let of = |name: &str| metric(running.http, name, &label);
        of("listener_connections") + of("listener_gave_way_total") + of("listener_turned_away_total") >= 50.0
            || of("listener_accepted_total") >= 400.0
            // Who is gone before it is known who it was has no place there.
            || self.listener == "fpm" && metric(running.http, "source", "name=\"connections_refused\"") >= 50.0
    }
}

/// A user of the host who may not speak for zebra, and does.
#[derive(Debug)]
struct Unauthorized;

/// A process, until this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Harm for Unauthorized {
    fn name(&self) -> String {
        "FPM: another user's connections with valid routes".into()
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let failed = |error| Failure::io("an attack as nobody", error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--pdeathsig", "KILL", "--"]);
        command.arg(program).args(["attack", "--address", &running.fpm.to_string()]);
        let child = command.stdin(Stdio::null()).spawn().map_err(failed)?;
        Ok(Box::new(Killed(child)))
    }

    fn is_felt(&self, running: &Running) -> bool {
        metric(running.http, "source", "name=\"refused_unauthorized\"") >= 50.0
    }
}

/// What the process of [`Unauthorized`] does: the flood of routes, until it is killed.
pub fn attack_fpm(address: SocketAddr) -> ! {
    let _attack = Attack::start(Target::Tcp(address), How::Flood { text: zebra::a_frame(), of: "routes" });
    loop {
        std::thread::park();
    }
}

/// Its only server is stopped, and its connections stay open.
#[derive(Debug)]
struct ServerPauses;

/// It continues.
struct Paused(rustix::process::Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

impl Harm for ServerPauses {
    fn name(&self) -> String {
        "its server is silent".into()
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        pause_server(running)
    }

    fn is_felt(&self, running: &Running) -> bool {
        crate::health::check(running.http).is_err()
    }
}

/// Stops the real server until the result is dropped.
///
/// # Errors
/// There is none.
pub fn pause_server(running: &Running) -> Result<Box<dyn Any>, Failure> {
    let server = running.server.as_ref().ok_or_else(|| Failure::Missing("server".into()))?;
    server.pause();
    let pid = i32::try_from(server.pid()).ok().and_then(rustix::process::Pid::from_raw);
    Ok(Box::new(Paused(pid.ok_or_else(|| Failure::Missing("server's id".into()))?)))
}

/// Packets of a port that its router has to look at itself.
#[derive(Debug)]
struct OnPort {
    flood: Flood,
    verdict: Arc<Mutex<Option<Result<String, String>>>>,
}

impl Harm for OnPort {
    fn name(&self) -> String {
        format!("port: {}", self.flood)
    }

    fn strike(&self, _running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        Ok(Box::new(ports::Traffic::start(self.flood, self.verdict.clone())?))
    }

    fn is_felt(&self, running: &Running) -> bool {
        metric(running.http, "port_received_packets_total", "port=\"p0\"") >= 20_000.0
    }

    fn verdict(&self) -> Result<String, String> {
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
        verdict.unwrap_or_else(|| Err("no packets of other ports were counted".into()))
    }
}
