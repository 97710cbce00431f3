//! One trial: a daemon at work, a harm from outside, and those who are served meanwhile.
//!
//! While the harm lasts, monitoring asks `/healthz`, an operator asks over the control socket, zebra announces routes that have to arrive, and
//! new clients register. The slowest of these answers, the most memory, and what `/healthz` says go into the table.

use std::any::Any;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_control::{Answer, Request};
use fibcast_sync_proto::frame::{Frame, Role};
use fibcast_sync_proto::{DigestKey, Subset};
use fibcast_testbed::Failure;
use fibcast_testbed::wait::until;
use ipnet::IpNet;

use crate::health;
use crate::report::Row;
use crate::subject::{Running, Setup, Subject};
use crate::zebra::Zebra;

/// Routes that a daemon has before.
const ROUTES: u32 = 20_000;
/// How long a daemon is looked at before, for its normal memory.
const BEFORE: Duration = Duration::from_secs(1);
/// Within this time `/healthz` is to report a fault.
const REPORTED: Duration = Duration::from_secs(3);
/// Within this time anybody who behaves is served.
const SERVED: Duration = Duration::from_secs(2);
/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_secs(2);
/// Memory that a harm may cost.
const MEMORY: u64 = 64 << 20;
/// Within this time all is as before.
const BACK: Duration = Duration::from_secs(40);
/// Between two rounds of those who are served.
const ROUND: Duration = Duration::from_millis(200);

/// What is done to a daemon.
pub trait Harm: fmt::Debug {
    /// What it is, for the table.
    fn name(&self) -> String;

    /// How the daemon has to be started for it.
    fn setup(&self) -> Setup<'_> {
        Setup::default()
    }

    /// Does it, until the returned value is dropped.
    ///
    /// # Errors
    /// It cannot be done here.
    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure>;

    /// Where the daemon shows that it was harmed: what a trial without effect does not have.
    fn is_felt(&self, running: &Running) -> bool;

    /// Whether all is as before, after its end.
    fn is_over(&self, _running: &Running) -> bool {
        true
    }

    /// What it found out by itself, after its end.
    ///
    /// # Errors
    /// The same, if that is not as it should be.
    fn verdict(&self) -> Result<String, String> {
        Ok(String::new())
    }
}

/// What is expected.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// `/healthz` is ready all the time, and all are served.
    Served,
    /// `/healthz` says this; routes do not arrive meanwhile.
    Says(&'static str),
}

/// A trial.
#[derive(Debug)]
pub struct Trial {
    pub subject: Subject,
    pub harm: Box<dyn Harm>,
    pub expected: Expected,
    /// What is lost meanwhile.
    pub lost: &'static str,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.subject.program(), self.harm.name())
    }
}

/// Head of the table.
pub const HEAD: &[&str] = &[
    "daemon",
    "fault",
    "/healthz within 3 s",
    "lost meanwhile",
    "as before after",
    "memory",
    "slowest answer",
];

/// The slowest that was served, and who it was.
#[derive(Debug, Default)]
struct Slowest(Duration, &'static str);

impl Slowest {
    fn note(&mut self, since: Instant, who: &'static str) {
        if since.elapsed() > self.0 {
            *self = Slowest(since.elapsed(), who);
        }
    }
}

impl Trial {
    /// Runs it; the harm lasts so long.
    ///
    /// # Errors
    /// The daemon does not start or ends, or the harm cannot be done.
    pub fn run(&self, programs: &Path, lasting: Duration) -> Result<Row, Failure> {
        let mut running = Running::start(self.subject, programs, self.harm.setup())?;
        let mut zebra = until_connected(running.fpm)?;
        let mut slowest = Slowest::default();
        // All routes are there before.
        let last = zebra.announce()?;
        until("the routes arrive", BACK, || arrived(&mut running, last))?;
        let normal = most_memory(&running, BEFORE);
        let harm = self.harm.strike(&mut running)?;
        let begin = Instant::now();
        let (mut memory, mut reported, mut felt, mut problem) = (normal, None, false, None);
        while begin.elapsed() < lasting || !felt && begin.elapsed() < lasting + REPORTED {
            running.process.check()?;
            let asked = Instant::now();
            match health::check(running.http) {
                Ok(()) => slowest.note(asked, "monitoring"),
                Err(text) => _ = reported.get_or_insert_with(|| (text, begin.elapsed())),
            }
            if matches!(self.expected, Expected::Served)
                && let Err(failure) = serve(&mut running, &mut zebra, &mut slowest)
            {
                problem.get_or_insert(failure.to_string());
            }
            memory = memory.max(running.process.resident());
            felt = felt || self.harm.is_felt(&running);
            std::thread::sleep(ROUND);
        }
        memory = memory.max(most_memory(&running, ROUND));
        drop(harm);
        let let_go = Instant::now();
        running.healthy(BACK)?;
        let mut serve_again = || {
            serve(&mut running, &mut zebra, &mut Slowest::default())?;
            Ok::<_, Failure>(self.harm.is_over(&running))
        };
        // Those who hung up on zebra by then are called again.
        until("all is as before", BACK, || Ok::<_, Failure>(serve_again().unwrap_or(false)))?;
        let back = let_go.elapsed();
        let more = memory.saturating_sub(normal);
        let noticed = match (self.expected, &reported) {
            (Expected::Served, None) => true,
            (Expected::Says(text), Some((found, after))) => {
                found.contains(text) && *after <= REPORTED + SLACK
            }
            _ => false,
        };
        let (is_fine, found) = match self.harm.verdict() {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        let well = problem.is_none() && more <= MEMORY && slowest.0 <= SERVED + SLACK;
        let as_expected = noticed && felt && well && is_fine;
        let mut reported = reported.map_or_else(
            || "ready".to_owned(),
            |(text, after)| format!("{text} (after {:.1} s)", after.as_secs_f64()),
        );
        if let Some(problem) = problem {
            reported += &format!("; {problem}");
        }
        if !felt {
            reported += "; the harm had no effect";
        }
        let answer = match self.expected {
            Expected::Served => format!("{:.2} s ({})", slowest.0.as_secs_f64(), slowest.1),
            Expected::Says(_) => "-".to_owned(),
        };
        let memory = format!("{} MiB + {}", normal >> 20, more >> 20);
        let program = self.subject.program().to_owned();
        let back = format!("{:.1} s", back.as_secs_f64());
        let lost = if found.is_empty() { self.lost.to_owned() } else { found };
        let cells = vec![program, self.harm.name(), reported, lost, back, memory, answer];
        Ok(Row { cells, as_expected })
    }
}

/// A daemon that has just started may not listen yet.
fn until_connected(fpm: SocketAddr) -> Result<Zebra, Failure> {
    let mut zebra = None;
    until("zebra is connected", BACK, || {
        zebra = Zebra::connect(fpm, ROUTES).ok();
        Ok::<_, Failure>(zebra.is_some())
    })?;
    zebra.ok_or_else(|| Failure::Missing("FPM".into()))
}

/// A new client registers; a route goes from zebra to the daemon.
fn serve(running: &mut Running, zebra: &mut Zebra, slowest: &mut Slowest) -> Result<(), Failure> {
    let asked = Instant::now();
    // This one has no certificate.
    if !running.tls {
        register(running.sync, running.digest_key)?;
        slowest.note(asked, "new client");
    }
    let asked = Instant::now();
    let prefix = zebra.announce()?;
    until("a route arrives", SERVED + SLACK, || arrived(running, prefix))?;
    slowest.note(asked, "route, and operator");
    Ok(())
}

fn arrived(running: &mut Running, prefix: IpNet) -> Result<bool, Failure> {
    running.process.check()?;
    let request = Request::Routes(RouteRequest {
        query: RouteQuery::Prefix(prefix),
        limit: 1,
        ..RouteRequest::default()
    });
    Ok(matches!(running.ask(request), Ok(Answer::Routes(list)) if !list.routes.is_empty()))
}

/// The beginning of a session of a client: Hello and Register.
pub fn greeting(name: &str, digest_key: DigestKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Hello { name: name.to_owned() }.encode(&mut bytes);
    let register = Frame::Register {
        table: "fib".to_owned(),
        role: Role::Primary,
        heartbeat_ms: 60_000,
        digest_key: digest_key.id(),
        path: Vec::new(),
        subset: Subset::default(),
    };
    register.encode(&mut bytes);
    bytes
}

/// The server says Hello, and then Welcome or why not.
fn register(sync: SocketAddr, digest_key: DigestKey) -> Result<(), Failure> {
    let failed = |error| Failure::io("registration of a new client", error);
    let mut stream = TcpStream::connect_timeout(&sync, SERVED + SLACK).map_err(failed)?;
    stream.set_read_timeout(Some(SERVED + SLACK)).map_err(failed)?;
    stream.write_all(&greeting("legitimate", digest_key)).map_err(failed)?;
    for _ in 0..2 {
        let mut header = [0; 4];
        stream.read_exact(&mut header).map_err(failed)?;
        let [_, lengths @ ..] = header;
        let length = lengths.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).map_err(failed)?;
    }
    Ok(())
}

/// The most resident memory while one looks.
fn most_memory(running: &Running, time: Duration) -> u64 {
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < time {
        most = most.max(running.process.resident());
        std::thread::sleep(Duration::from_millis(20));
    }
    most
}
