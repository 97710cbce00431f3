//! Carries operators' requests to the thread that owns the tables, and the answers back.
//!
//! The control socket and HTTP run on threads of their own. They send a request through a bounded channel, wake the owner, and wait a
//! limited time for the answer; the owner never waits for them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fibcast_control::kv::KvValue;
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::{ClientStatus, Kind, PeerStatus, Refused, Status, resident_bytes};
use fibcast_sync_agent::agent::kv;

use crate::engine::Engine;

/// Most requests in the channel.
const WAITING: usize = 64;
/// How long an operator waits for the owner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most routes in one answer: an answer must be computed between two heartbeats.
const MAX_ROUTES: usize = 100_000;

/// A request with the channel for its answer.
#[derive(Debug)]
pub struct Question {
    /// The request.
    pub request: Request,
    /// Has room for one answer.
    pub reply: Sender<Result<Answer, String>>,
}

/// The requesting end, cloned into each handler.
#[derive(Clone)]
pub struct Asking {
    to: Sender<Question>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Asking {
    /// Both ends of the channel; `wake` wakes the owner.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> (Self, Receiver<Question>) {
        let (to, from) = bounded(WAITING);
        (Self { to, wake }, from)
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// The text for the operator: the server is overloaded, stopping or too slow, or the request's own error.
    pub fn ask(&self, request: Request) -> Result<Answer, String> {
        let (reply, answer) = bounded(1);
        match self.to.try_send(Question { request, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err("too many operators ask at once; try again".to_owned()),
            Err(TrySendError::Disconnected(_)) => return Err("the route server is stopping".to_owned()),
        }
        (self.wake)();
        answer
            .recv_timeout(ANSWER_TIMEOUT)
            .unwrap_or_else(|_| Err("the route server did not answer in time".to_owned()))
    }
}

/// The owner's information beyond the engine.
pub struct Surroundings<'a> {
    /// Registered clients.
    pub clients: Vec<ClientStatus>,
    /// Refused connections.
    pub refused: Refused,
    /// Adds the state of sessions to peers.
    pub peers: &'a dyn Fn(&mut [PeerStatus]),
    /// Time since the server started.
    pub now: Duration,
}

/// Executes a request that writes an opaque record. None: another request.
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

/// Answers a request.
///
/// # Errors
/// The text for the operator if the request is not for a route server.
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
            return Err("not a request for the tables".to_owned());
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
            return Err("a route server only reloads its certificates, at SIGHUP".to_owned());
        }
    })
}
