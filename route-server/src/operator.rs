//! Questions of operators, carried to the thread that owns the tables and back.
//!
//! The control socket and HTTP answer on threads of their own. They put the question into a bounded channel, wake the owner, and wait
//! a while for its answer; the owner never waits for them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fibcast_control::kv::KvValue;
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::{ClientStatus, Kind, PeerStatus, Refused, Status, resident_bytes};
use fibcast_sync_agent::agent::kv;

use crate::engine::Engine;

/// Questions that may wait.
const WAITING: usize = 64;
/// How long an operator waits for the owner.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most routes in one answer: an answer is made between two heartbeats.
const MAX_ROUTES: usize = 100_000;

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Has room for the one answer.
    pub reply: Sender<Result<Answer, String>>,
}

/// The asking end: cloned into each handler.
#[derive(Clone)]
pub struct Asking {
    to: Sender<Question>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Asking {
    /// Both ends; `wake` makes the owner look into the channel.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> (Self, Receiver<Question>) {
        let (to, from) = bounded(WAITING);
        (Self { to, wake }, from)
    }

    /// Asks and waits.
    pub fn ask(&self, request: Request) -> Result<Answer, String> {
        let (reply, answer) = bounded(1);
        match self.to.try_send(Question { request, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err("too many operators ask at once; try again".to_owned()),
            Err(TrySendError::Disconnected(_)) => return Err("the route server is stopping".to_owned()),
        }
        (self.wake)();
        answer
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| Err("the route server did not answer in time".to_owned()))
    }
}

/// What the owner knows beside the engine.
pub struct Surroundings<'a> {
    /// Registered clients.
    pub clients: Vec<ClientStatus>,
    /// Connections that were not let in.
    pub refused: Refused,
    /// Adds what the sessions with peers say.
    pub peers: &'a dyn Fn(&mut [PeerStatus]),
    /// Time since the server started.
    pub now: Duration,
}

/// Writes an opaque record as an operator asks. None: the question is another one.
pub fn write(request: &Request, engine: &mut Engine) -> Option<Result<Answer, String>> {
    let (key, value) = match request {
        Request::KvPut { key, value } => (key, Some(value)),
        Request::KvDelete { key } => (key, None),
        _ => return None,
    };
    let bytes = match value.map(KvValue::bytes).transpose() {
        Ok(bytes) => bytes,
        Err(reason) => return Some(Err(reason)),
    };
    Some(match engine.kv_put(key, bytes.as_deref()) {
        Ok(true) => Ok(Answer::Kv(kv::get(engine.fib(), key))),
        Ok(false) => Err(format!("there is no record {key}")),
        Err(error) => Err(error.to_string()),
    })
}

/// Answers a question.
pub fn answer(request: &Request, engine: &Engine, around: Surroundings<'_>) -> Result<Answer, String> {
    Ok(match request {
        Request::Status {} => {
            let mut peers = engine.peer_status();
            (around.peers)(&mut peers);
            Answer::Status(Box::new(Status {
                name: engine.name().to_owned(),
                kind: Kind::RouteServer,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_ms: around.now.as_millis() as u64,
                resident_bytes: resident_bytes(),
                ready: engine.ready(),
                stale: false,
                table: engine.table_status(),
                sync: None,
                clients: around.clients,
                sources: engine.source_status(),
                peers,
                origins: engine.origin_status(around.now),
                refused: around.refused,
                kernel: None,
                forwarding: None,
            }))
        }
        Request::Routes { query, limit, all: false } => {
            Answer::Routes(engine.routes(query, (*limit).min(MAX_ROUTES)))
        }
        Request::Routes { query, limit, all: true } => {
            Answer::Routes(engine.candidates(query, (*limit).min(MAX_ROUTES)))
        }
        Request::Groups {} => Answer::Groups(engine.groups()),
        Request::KvGet { key } => Answer::Kv(kv::get(engine.fib(), key)),
        Request::KvList { prefix, limit } => Answer::Kv(kv::list(engine.fib(), prefix, *limit)),
        Request::KvPut { .. } | Request::KvDelete { .. } | Request::KvWatch { .. } => {
            return Err("is answered by the owner of the tables".to_owned());
        }
        Request::Neighbors {}
        | Request::Ports {}
        | Request::Workers {}
        | Request::Drops {}
        | Request::CaptureStart { .. }
        | Request::CaptureRead { .. }
        | Request::CaptureStop { .. }
        | Request::Trace { .. }
        | Request::NeighborAdd { .. }
        | Request::NeighborDelete { .. }
        | Request::RouteAdd(_)
        | Request::RouteDelete { .. } => {
            return Err("a route server forwards no packets; ask a dataplane".to_owned());
        }
        Request::Resync {} => {
            return Err("a route server has no servers; ask an agent or dataplane".to_owned());
        }
        Request::Reload {} => {
            return Err("a route server reads its certificates again at SIGHUP, and nothing else".to_owned());
        }
    })
}
