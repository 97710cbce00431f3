//! Carries operators' requests to the thread that owns the tables, and the answers back.
//!
//! The control socket and HTTP run on threads of their own. They send a request through a bounded channel, wake the owner, and wait a
//! limited time for the answer; the owner never waits for them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fibcast_control::protocol::{Answer, KvRequest, Request};
use fibcast_control::status::{Kind, Status};
use fibcast_daemon::process;
use fibcast_daemon::threads::Pulse;
use fibcast_sync_agent::agent::kv::{self, Watchers};
use fibcast_sync_agent::agent::show;
use fibcast_sync_agent::shell::ShellState;
use fibcast_sync_proto::node::Node;

use crate::engine::Engine;

/// Most requests in the channel.
const WAITING: usize = 64;
/// How long an operator waits for the owner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
    owner: Pulse,
}

impl Asking {
    /// Both ends of the channel; `wake` wakes the owner.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>, owner: Pulse) -> (Self, Receiver<Question>) {
        let (to, from) = bounded(WAITING);
        (Self { to, wake, owner }, from)
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
        self.owner.answer(ANSWER_TIMEOUT, &answer).and_then(|answer| answer)
    }
}

/// Answers a question. Who waits for opaque records to change is answered by `watchers`, later.
pub fn answer(
    question: Question,
    now: Duration,
    node: &mut Node<Engine>,
    state: &ShellState,
    watchers: &mut Watchers,
) {
    let engine = node.role();
    let answer = match question.request {
        Request::Status => Ok(Answer::Status(Box::new(status(now, node, state)))),
        Request::Routes(request) => Ok(Answer::Routes(engine.routes(now, &request))),
        Request::Groups => Ok(Answer::Groups(engine.groups())),
        Request::Resync => Err("a route server has no servers; ask an agent or dataplane".to_owned()),
        // Answered where files may be read.
        Request::Reload | Request::Version | Request::Config => {
            Err("this route server has no configuration file".to_owned())
        }
        Request::Kv(request) => match request {
            KvRequest::Put { key, value } => {
                value.bytes().and_then(|bytes| write(node.role_mut(), &key, Some(&bytes)))
            }
            KvRequest::Delete { key } => write(node.role_mut(), &key, None),
            KvRequest::Get { key } => Ok(Answer::Kv(kv::get(engine.fib(), &key))),
            KvRequest::List { prefix, limit } => Ok(Answer::Kv(kv::list(engine.fib(), &prefix, limit))),
            KvRequest::Watch { prefix, epoch, serial } => {
                watchers.add(now, prefix, epoch, serial, question.reply);
                return;
            }
        },
        Request::Dataplane(_) => Err("a route server forwards no packets; ask a dataplane".to_owned()),
    };
    // The operator may have stopped waiting.
    let _ = question.reply.try_send(answer);
}

/// Writes an opaque record, or deletes it.
fn write(engine: &mut Engine, key: &str, value: Option<&[u8]>) -> Result<Answer, String> {
    match engine.kv_put(key, value) {
        Ok(true) => Ok(Answer::Kv(kv::get(engine.fib(), key))),
        Ok(false) => Err(format!("there is no record {key}")),
        Err(error) => Err(error.to_string()),
    }
}

fn status(now: Duration, node: &Node<Engine>, state: &ShellState) -> Status {
    let engine = node.role();
    let mut peers = engine.peer_status();
    for (shown, client) in peers.iter_mut().zip(node.clients()) {
        let Some(link) = client.links().pop() else { continue };
        shown.name = link.name.or(shown.name.take());
        shown.last_error = link.last_error;
        // Before the first copy the session tells more than the routes.
        if shown.state == "waiting" {
            shown.state = link.state.to_owned();
        }
    }
    Status {
        ready: engine.ready(),
        table: engine.table_status(),
        clients: show::clients(now, node, state, Some(engine.hosts())),
        sources: engine.source_status(),
        peers,
        origins: engine.origin_status(now),
        acknowledge: engine.acknowledge_status(now),
        refused: show::refused(state),
        ..process::status(engine.name(), Kind::RouteServer, now)
    }
}
