//! Accepted connections: moves bytes between sockets and the server state machine.
//!
//! A connection starts in *shaking* (TLS handshake); then it belongs to the server state machine, which expects Hello and Register in time.
//! Each turn serves every socket with a bounded number of bytes, and all together with a bounded number, starting where the previous turn
//! was cut short: so no peer, however slow or greedy, delays the others or the timers.

use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fibcast_daemon::listener::{Admission, Bounds, Counters, ROOM};
use fibcast_daemon::log::LimitedLog;
use fibcast_daemon::sections::Limits;
use fibcast_sync_proto::frame::Frame;
use fibcast_sync_proto::node::{Node, NodeRole};
use fibcast_sync_proto::server::{Permit, ServerEvent, SessionId};
use fibcast_sync_proto::wire::ProtocolError;
use mio::Token;
use mio::net::TcpStream;

use super::context::{Clock, Context};
use super::state::{Peer, ShellState};
use super::stream::{Flow, PIECES, Stream, WRITE_BUDGET};
use super::tls::{End, Named, Security};

/// Bytes read from one client before the next one has its turn. Clients send little.
const READ_BUDGET: usize = 32 * 1024;
/// Bytes read from all clients in one turn.
const READ_TURN: usize = 1024 * 1024;
/// Bytes written to all clients in one turn: some milliseconds of the system's work.
const WRITE_TURN: usize = 8 * 1024 * 1024;
/// Sessions that are judged by new rules in one turn: some milliseconds of verifying signatures.
const JUDGED: usize = 32;
/// How long an ended session may take to receive its last frame.
const LAST_WORD: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Stage {
    /// TLS handshake, until this deadline.
    Shaking { until: Duration },
    /// The server state machine owns it.
    Session(SessionId),
    /// The session ended: the remaining bytes are sent, then the connection is closed.
    Ending { id: SessionId, until: Duration },
    /// Refused by the allow list: these bytes are sent, then the connection is closed.
    Refused { last: Vec<u8>, until: Duration },
}

#[derive(Debug)]
struct SessionConnection {
    stream: Stream,
    address: SocketAddr,
    stage: Stage,
    readable: bool,
    writable: bool,
    closed: Option<String>,
    /// The rules by which it was admitted or judged last.
    judged: u64,
}

impl SessionConnection {
    fn id(&self) -> Option<SessionId> {
        match self.stage {
            Stage::Session(id) | Stage::Ending { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// All accepted connections.
#[derive(Debug)]
pub(super) struct Sessions {
    all: BTreeMap<Token, SessionConnection>,
    tokens: HashMap<SessionId, Token>,
    buffer: Vec<u8>,
    admission: Admission<Token>,
    handshake: Duration,
    log: LimitedLog,
    security: Option<Arc<Security>>,
    /// The rules by which all sessions were judged.
    generation: u64,
    /// Name of this node.
    name: String,
    /// Where the next turn starts reading and writing.
    read_from: Token,
    write_from: Token,
}

impl Sessions {
    pub fn new(name: &str, limits: Limits, security: Option<Arc<Security>>, counters: Arc<Counters>) -> Self {
        let Limits { connections, per_address, half_open, .. } = limits;
        let bounds = Bounds { connections, per_address, half_open };
        Self {
            all: BTreeMap::new(),
            tokens: HashMap::new(),
            buffer: vec![0; 64 * 1024],
            admission: Admission::new(bounds, counters),
            handshake: Duration::from_millis(limits.handshake_ms),
            log: LimitedLog::default(),
            generation: security.as_ref().map_or(0, |security| security.generation()),
            security,
            name: name.to_owned(),
            read_from: Token(0),
            write_from: Token(0),
        }
    }

    pub fn add<R: NodeRole, H>(
        &mut self,
        context: &mut Context<'_, R, H>,
        tcp: TcpStream,
        address: SocketAddr,
    ) {
        let (now, token) = (context.clock.now(), context.token());
        let Context { registry, state, node, .. } = context;
        match self.admission.enter(token, address.ip()) {
            Ok(victim) => self.give_way(victim),
            Err(full) => {
                state.refusals.turned_away += 1;
                let reason = format!("refused: {full} (limits.{})", full.key());
                return self.log.warn(now, &address.to_string(), &reason);
            }
        }
        let _ = tcp.set_nodelay(true);
        let tls = self.security.as_ref().map(|security| security.accept()).transpose();
        let opened = tls.and_then(|tls| {
            let mut stream = Stream::new(tcp, tls);
            stream.register(registry, token).map_err(|e| e.to_string())?;
            Ok(stream)
        });
        let stream = match opened {
            Ok(stream) => stream,
            Err(reason) => {
                self.admission.leave(token);
                return self.log.warn(now, &address.to_string(), &reason);
            }
        };
        let until = now + self.handshake;
        let mut connection = SessionConnection {
            stage: Stage::Shaking { until },
            stream,
            address,
            readable: true,
            writable: true,
            closed: None,
            judged: self.security.as_ref().map_or(0, |security| security.generation()),
        };
        if self.security.is_none() {
            begin(now, token, &mut connection, &mut self.tokens, state, node, Vec::new(), None);
        }
        self.all.insert(token, connection);
    }

    /// Closes half-open connections, because the system has no file descriptor left for other ones. False if there is none.
    pub fn make_room(&mut self) -> bool {
        for made in 0..ROOM {
            let victim = self.admission.evict();
            self.give_way(victim);
            if victim.is_none() {
                return made > 0;
            }
        }
        true
    }

    fn give_way(&mut self, victim: Option<Token>) {
        if let Some(c) = victim.and_then(|token| self.all.get_mut(&token)) {
            c.closed = Some("has not registered yet, and gave way to another connection".into());
        }
    }

    /// Records the system's events of a socket. False if the token is not a session's.
    pub fn mark(&mut self, token: Token, readable: bool, writable: bool) -> bool {
        let Some(c) = self.all.get_mut(&token) else { return false };
        c.readable |= readable;
        c.writable |= writable;
        true
    }

    pub fn has_work<R: NodeRole>(&self, node: &Node<R>) -> bool {
        let unjudged =
            |c: &SessionConnection| c.judged != self.security.as_ref().map_or(0, |s| s.generation());
        (self.has_unjudged() && self.all.values().any(|c| unjudged(c) && !c.stream.is_shaking()))
            || self.all.values().any(|c| wants_reading(c, node))
    }

    pub fn read<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Context { clock, state, node, .. } = context;
        let mut left = READ_TURN;
        for token in turn_from(&self.all, &mut self.read_from, |c| wants_reading(c, node)) {
            let Some(c) = self.all.get_mut(&token) else { continue };
            if left == 0 {
                self.read_from = token;
                break;
            }
            if let Stage::Shaking { .. } = c.stage {
                let now = clock.now();
                match shaken(c, self.security.as_deref()) {
                    Ok(None) => continue,
                    Ok(Some(names)) => {
                        begin(now, token, c, &mut self.tokens, state, node, names, self.security.as_ref());
                    }
                    Err((allowed, reason)) => {
                        let counter = if allowed {
                            &mut state.refusals.handshake
                        } else {
                            &mut state.refusals.not_allowed
                        };
                        *counter += 1;
                        let peer = format!("client at {}", c.address);
                        self.log.warn(now, &peer, &reason);
                        refuse(now, c, (!allowed).then_some(&self.name), &reason);
                        continue;
                    }
                }
            }
            let Some(id) = c.id() else {
                // Refused: further input is discarded.
                c.readable = false;
                continue;
            };
            let (n, flow) = c.stream.read(&mut self.buffer, READ_BUDGET, |bytes| {
                node.handle_session_bytes(clock.now(), id, bytes);
            });
            left = left.saturating_sub(n.max(64));
            match flow {
                Flow::More => {}
                Flow::Blocked => c.readable = false,
                Flow::Closed(reason) => {
                    c.readable = false;
                    c.closed = Some(reason);
                }
            }
        }
        self.events(*clock, state, node);
    }

    fn events<R: NodeRole>(&mut self, clock: Clock, state: &mut ShellState, node: &mut Node<R>) {
        let now = clock.now();
        while let Some(event) = node.poll_session_event() {
            match event {
                ServerEvent::Registered { session, name, table, part, role } => {
                    let Some(token) = self.tokens.get(&session).copied() else { continue };
                    let Some(c) = self.all.get_mut(&token) else { continue };
                    self.admission.establish(token);
                    let last = state.ended.get(&name).cloned();
                    if let Some(peer) = state.peers.get_mut(&session) {
                        (peer.name, peer.table, peer.part) = (name.clone(), table.clone(), part);
                        peer.last_error = last;
                    }
                    tracing::info!("client {name} ({}) registered for {table} as its {role:?}", c.address);
                }
                ServerEvent::Activated { session, how } => {
                    let name = state.peers.get(&session).map_or("?", |p| p.name.as_str());
                    if self.log.line(now).is_some() {
                        tracing::info!("client {name} activated: {how}");
                    }
                }
                ServerEvent::Ended { session, name, error } => {
                    let Some(c) = self.tokens.get(&session).and_then(|token| self.all.get_mut(token)) else {
                        continue;
                    };
                    match &error {
                        ProtocolError::NotAllowed(_) => state.refusals.not_allowed += 1,
                        ProtocolError::Budget(_) => state.over_budget += 1,
                        _ => {}
                    }
                    let peer = name.map_or_else(|| "client".into(), |name| format!("client {name}"));
                    self.log.warn(now, &format!("{peer} ({})", c.address), &error.to_string());
                    state.note_end(session, &error.to_string());
                    c.stage = Stage::Ending { id: session, until: now + LAST_WORD };
                }
            }
        }
    }

    /// Whether sessions are to be judged by new rules.
    fn has_unjudged(&self) -> bool {
        self.security.as_ref().is_some_and(|security| security.generation() != self.generation)
    }

    /// Ends sessions whose clients the rules of the last reload do not permit, some in each turn.
    pub fn judge<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Some(security) = self.security.clone().filter(|_| self.has_unjudged()) else { return };
        let generation = security.generation();
        let mut others = self.all.values_mut().filter(|c| c.judged != generation && !c.stream.is_shaking());
        for c in others.by_ref().take(JUDGED) {
            c.judged = generation;
            let Some(id) = c.id() else { continue };
            let Some(peer) = context.state.peers.get(&id) else { continue };
            let allowed = security
                .still_trusts(c.stream.chain(), End::Client)
                .and_then(|()| security.may_register(&peer.names))
                .and_then(|()| match peer.name.as_str() {
                    // It has not registered, and will be asked then.
                    "" => Ok(()),
                    name => security.may_have(&peer.names, name, &peer.table, peer.part),
                });
            if let Err(reason) = allowed {
                context.node.end_session(id, ProtocolError::NotAllowed(reason));
            }
        }
        if others.next().is_none() && !self.all.values().any(|c| c.stream.is_shaking()) {
            self.generation = generation;
        }
    }

    pub fn write<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Context { clock, state, node, .. } = context;
        self.events(*clock, state, node);
        let (mut left, mut drained) = (WRITE_TURN, false);
        let wants = |c: &SessionConnection| c.writable && c.closed.is_none() && has_output(c, node);
        for token in turn_from(&self.all, &mut self.write_from, wants) {
            let Some(c) = self.all.get_mut(&token) else { continue };
            if left == 0 {
                self.write_from = token;
                break;
            }
            let n = write_some(c, node);
            drained |= n > 0;
            left = left.saturating_sub(n);
        }
        if drained {
            // Room in the queues: they are refilled, and the loop comes back at once.
            node.fill_sessions();
        }
    }

    /// Whether any writable socket has bytes to send.
    pub fn wants_write<R: NodeRole>(&self, node: &Node<R>) -> bool {
        self.all.values().any(|c| c.writable && c.closed.is_none() && has_output(c, node))
    }

    /// Earliest deadline of a connection.
    pub fn due(&self) -> Option<Duration> {
        let until = |c: &SessionConnection| match c.stage {
            Stage::Shaking { until } | Stage::Ending { until, .. } | Stage::Refused { until, .. } => {
                Some(until)
            }
            Stage::Session(_) => None,
        };
        self.all.values().filter_map(until).min()
    }

    /// Closes what has ended.
    pub fn reap<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Context { clock, state, node, .. } = context;
        let now = clock.now();
        let Self { all, admission, tokens, log, handshake, .. } = self;
        all.retain(|token, c| {
            if let Some(id) = c.id()
                && let Some(peer) = state.peers.get_mut(&id)
            {
                (peer.received, peer.sent) = (c.stream.received, c.stream.sent);
            }
            let over = match &c.stage {
                Stage::Shaking { until } if now >= *until => {
                    state.refusals.handshake += 1;
                    let waited = handshake.as_millis();
                    let reason = format!("no TLS handshake within {waited} ms");
                    log.warn(now, &format!("client at {}", c.address), &reason);
                    true
                }
                Stage::Ending { until, .. } | Stage::Refused { until, .. } => {
                    now >= *until || !has_output(c, node)
                }
                _ => false,
            };
            if c.closed.is_none() && !over {
                return true;
            }
            if let Some(reason) = c.closed.as_deref() {
                match &c.stage {
                    Stage::Session(id) => match state.peers.get(id).filter(|p| !p.name.is_empty()) {
                        Some(p) => {
                            tracing::info!("client {} ({}) left: {reason}", p.name, c.address);
                            state.note_end(*id, reason);
                        }
                        None => log.warn(now, &format!("client at {}", c.address), reason),
                    },
                    Stage::Shaking { .. } => {
                        log.warn(now, &format!("client at {}", c.address), reason);
                    }
                    _ => {}
                }
            }
            if let Some(id) = c.id() {
                tokens.remove(&id);
                node.handle_session_closed(id);
                state.peers.remove(&id);
            }
            c.stream.close();
            admission.leave(*token);
            false
        });
    }
}

/// The server state machine owns the connection from now on.
#[allow(clippy::too_many_arguments)]
fn begin<R: NodeRole>(
    now: Duration,
    token: Token,
    c: &mut SessionConnection,
    tokens: &mut HashMap<SessionId, Token>,
    state: &mut ShellState,
    node: &mut Node<R>,
    names: Vec<String>,
    security: Option<&Arc<Security>>,
) {
    let permit = security.map(|security| -> Box<dyn Permit> {
        Box::new(Named { security: Arc::clone(security), names: names.clone() })
    });
    let id = node.handle_accepted_with(now, permit);
    tokens.insert(id, token);
    state.peers.insert(id, Peer { address: c.address, names, ..Peer::default() });
    c.stage = Stage::Session(id);
}

/// Continues a handshake. Returns the names once it is complete; an error tells whether only the handshake failed.
fn shaken(
    c: &mut SessionConnection,
    security: Option<&Security>,
) -> Result<Option<Vec<String>>, (bool, String)> {
    match c.stream.shake() {
        Flow::Blocked => {
            c.readable = false;
            return Ok(None);
        }
        Flow::Closed(reason) => return Err((true, reason)),
        Flow::More => {}
    }
    let names = c.stream.names().unwrap_or_else(|| Ok(Vec::new())).map_err(|reason| (true, reason))?;
    if let Some(security) = security {
        security.may_register(&names).map_err(|reason| (false, reason))?;
    }
    Ok(Some(names))
}

/// Refuses a connection that has not reached the state machine; a peer that can read it gets the reason, in the name of this node.
fn refuse(now: Duration, c: &mut SessionConnection, node: Option<&String>, reason: &str) {
    let mut last = Vec::new();
    if let Some(node) = node {
        Frame::Hello { name: node.clone() }.encode(&mut last);
        Frame::Error { text: format!("refused: {reason}") }.encode(&mut last);
    }
    c.readable = false;
    c.stage = Stage::Refused { last, until: now + LAST_WORD };
}

/// Whether bytes may be available that are to be read.
fn wants_reading<R: NodeRole>(c: &SessionConnection, node: &Node<R>) -> bool {
    c.readable && c.closed.is_none() && c.id().is_none_or(|id| node.server().listens(id))
}

fn has_output<R: NodeRole>(c: &SessionConnection, node: &Node<R>) -> bool {
    c.stream.has_output()
        || match &c.stage {
            Stage::Shaking { .. } => false,
            Stage::Session(id) | Stage::Ending { id, .. } => !node.server().transmit(*id).is_empty(),
            Stage::Refused { last, .. } => !last.is_empty(),
        }
}

/// Writes up to a socket's share of a turn; returns the number of bytes.
fn write_some<R: NodeRole>(c: &mut SessionConnection, node: &mut Node<R>) -> usize {
    let mut total = 0;
    while total < WRITE_BUDGET {
        let outcome = match &mut c.stage {
            Stage::Session(id) | Stage::Ending { id, .. } => {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let mut n = 0;
                for (slot, piece) in pieces.iter_mut().zip(node.server().transmit_pieces(*id)) {
                    *slot = IoSlice::new(piece);
                    n += 1;
                }
                let pieces = pieces.get(..n).unwrap_or_default();
                let wrote = if pieces.is_empty() { flushed(&mut c.stream) } else { c.stream.write(pieces) };
                if let Ok(n) = wrote {
                    node.sent_to_session(*id, n);
                }
                wrote
            }
            Stage::Refused { last, .. } => {
                let wrote = if last.is_empty() {
                    flushed(&mut c.stream)
                } else {
                    c.stream.write(&[IoSlice::new(last)])
                };
                if let Ok(n) = wrote {
                    last.drain(..n.min(last.len()));
                }
                wrote
            }
            Stage::Shaking { .. } => flushed(&mut c.stream),
        };
        match outcome {
            Ok(0) => return total,
            Ok(n) => total += n,
            Err(Flow::Closed(reason)) => {
                c.closed = Some(reason);
                return total;
            }
            Err(_) => {
                c.writable = false;
                return total;
            }
        }
    }
    total
}

fn flushed(stream: &mut Stream) -> Result<usize, Flow> {
    match stream.flush() {
        Flow::More => Ok(0),
        other => Err(other),
    }
}

/// The connections with work, starting where the previous turn was cut short.
fn turn_from(
    all: &BTreeMap<Token, SessionConnection>,
    from: &mut Token,
    wants: impl Fn(&SessionConnection) -> bool,
) -> Vec<Token> {
    let from = std::mem::replace(from, Token(0));
    let order = all.range(from..).chain(all.range(..from));
    order.filter(|(_, c)| wants(c)).map(|(token, _)| *token).collect()
}
