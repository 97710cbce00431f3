//! The server's side: many sessions over tables by name.
//!
//! [`Server`] is a machine without sockets or clock. Its owner
//! * commands: [`Server::accept`] when a connection comes, [`Server::close`] when it is gone;
//! * gives input: [`Server::handle_bytes`], and [`Server::handle_timeout`] when [`Server::poll_timeout`] is due;
//! * calls [`Server::pump`] after a table was committed to, and after bytes were sent;
//! * takes output: [`Server::transmit`] and [`Server::sent`], [`Server::poll_event`].
//!
//! `now` is time since any fixed instant, and never goes back. `session` is one connection, `feed` is what it sends of
//! the table, `cache` holds encoded batches that sessions at the same serial share, `views` the parts of tables that clients
//! asked for.

mod cache;
mod copy;
mod feed;
mod session;
mod views;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

pub use crate::frame::Role;
use crate::subset::Subset;
use crate::table::Table;
use crate::wire::ProtocolError;
use cache::Cache;
use session::Session;
pub use views::MAX_VIEWS;
use views::Views;

/// A connection by number.
pub type SessionId = u64;

/// Records that are looked through for answers to sketches before all timers and sessions have had a turn: some 20 ms.
const WORK: u64 = 4 << 20;

/// How much a server holds and does at once for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A session's queue is filled up to this, in bytes.
    pub queue: usize,
    /// Changes up to this number go as one batch that sessions share.
    pub shared: usize,
    /// Records that one call looks at, so that a walk through unchanged ones does not hold up other sessions.
    pub portion: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 192 * 1024, shared: 16 * 1024, portion: 64 * 1024 }
    }
}

/// A table as it is served.
#[derive(Debug, Clone, Copy)]
pub struct Served<'t> {
    /// The table.
    pub table: &'t Table,
    /// It has all that it is made of. Only then do clients use it.
    pub ready: bool,
    /// The nodes that it comes through, nearest last; without this one.
    pub path: &'t [String],
}

/// Tables by name. The owner lends them for each call.
pub trait Tables {
    /// The table of this name.
    fn served(&self, name: &str) -> Option<Served<'_>>;

    /// The part that the table of this name itself is, if it is not a whole one. Clients get no more than that.
    fn subset(&self, _name: &str) -> Option<&Subset> {
        None
    }

    /// Whether nobody capable fills the table of this name at the moment. Clients are told, for their operators.
    fn is_stale(&self, _name: &str) -> bool {
        false
    }

    /// Whether nodes give the table of this name to each other in circles, as route servers do with origins. A client through which it
    /// comes is told "not ready" then; else it is refused.
    fn goes_round(&self, _name: &str) -> bool {
        false
    }
}

/// What the owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// A client registered.
    Registered {
        /// Its session.
        session: SessionId,
        /// Its name.
        name: String,
        /// The table.
        table: String,
        /// What this server is for it.
        role: Role,
    },
    /// A client wants data from now on.
    Activated {
        /// Its session.
        session: SessionId,
        /// How it is brought up to date, in a word.
        how: &'static str,
    },
    /// The session is over: send what [`Server::transmit`] still has, then close the connection.
    Ended {
        /// The session.
        session: SessionId,
        /// Name, once known.
        name: Option<String>,
        /// Why.
        error: ProtocolError,
    },
}

/// A session as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The session.
    pub session: SessionId,
    /// The client's name; empty before it has said it.
    pub name: String,
    /// The table.
    pub table: String,
    /// The part of it.
    pub subset: Subset,
    /// What this server is for it.
    pub role: Role,
    /// State in a word.
    pub state: &'static str,
    /// It gets data.
    pub active: bool,
    /// Last serial sent.
    pub serial: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes that wait for the connection.
    pub queued_bytes: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Server {
    name: String,
    sessions: HashMap<SessionId, Session>,
    next: SessionId,
    cache: Cache,
    views: Views,
    events: VecDeque<ServerEvent>,
    routes_passed_on: u64,
    /// See [`WORK`].
    work: u64,
    /// The session after which deferred ones are next heard.
    heard_last: SessionId,
    limits: Limits,
}

impl Server {
    /// A server by its node's name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sessions: HashMap::new(),
            next: 1,
            cache: Cache::default(),
            views: Views::default(),
            events: VecDeque::new(),
            routes_passed_on: 0,
            work: WORK,
            heard_last: 0,
            limits: Limits::default(),
        }
    }

    /// Same, with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A connection came in.
    pub fn accept(&mut self, now: Duration) -> SessionId {
        let id = self.next;
        self.next += 1;
        self.sessions.insert(id, Session::new(now, &self.name));
        id
    }

    /// The connection is gone. Makes no event.
    pub fn close(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, now: Duration, id: SessionId, bytes: &[u8], tables: &dyn Tables) {
        self.handle(id, tables, |session, context| session.handle_bytes(now, bytes, context));
    }

    fn handle(
        &mut self,
        id: SessionId,
        tables: &dyn Tables,
        input: impl FnOnce(&mut Session, &mut session::Context<'_>) -> Result<(), ProtocolError>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut context = session::Context {
            id,
            server: &self.name,
            tables,
            cache: &mut self.cache,
            views: &mut self.views,
            events: &mut self.events,
            passed_on: &mut self.routes_passed_on,
            work: &mut self.work,
            limits: self.limits,
        };
        let done = input(session, &mut context);
        if let Err(error) = done.and_then(|()| session.pump(&mut context)) {
            session.end(error, id, &mut self.events);
        }
    }

    /// Produces what active sessions can take. Call it after commits, and when a session's queue has shrunk.
    pub fn pump(&mut self, tables: &dyn Tables) {
        self.follow(tables);
        for (&id, session) in &mut self.sessions {
            let pumped = session.pump(&mut session::Context {
                id,
                server: &self.name,
                tables,
                cache: &mut self.cache,
                views: &mut self.views,
                events: &mut self.events,
                passed_on: &mut self.routes_passed_on,
                work: &mut self.work,
                limits: self.limits,
            });
            if let Err(error) = pumped {
                session.end(error, id, &mut self.events);
            }
        }
    }

    /// Sends heartbeats and ends sessions that are silent.
    pub fn handle_timeout(&mut self, now: Duration, tables: &dyn Tables) {
        self.follow(tables);
        for (&id, session) in &mut self.sessions {
            if let Err(error) = session.handle_timeout(now, tables, &self.views, self.limits) {
                session.end(error, id, &mut self.events);
            }
        }
        self.hear_deferred(now, tables);
        let sessions = &self.sessions;
        self.views.expire(now, |wanted| sessions.values().any(|s| s.uses(wanted)));
    }

    /// Goes on with sessions whose questions had to wait, in turn.
    fn hear_deferred(&mut self, now: Duration, tables: &dyn Tables) {
        self.work = WORK;
        let limits = self.limits;
        let mut waiting: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| s.can_work(limits)).map(|(&id, _)| id).collect();
        waiting.sort_unstable();
        let first = waiting.partition_point(|&id| id <= self.heard_last);
        waiting.rotate_left(first);
        for id in waiting {
            if self.work == 0 {
                return;
            }
            self.heard_last = id;
            // As if nothing but the bytes that are here already had come.
            self.handle(id, tables, |session, context| session.work(now, context));
        }
    }

    /// Brings views up to date, and tells their clients at once what has become of them.
    fn follow(&mut self, tables: &dyn Tables) {
        if !self.views.follow(tables, (self.limits.portion / 4).max(1)) {
            return;
        }
        for (&id, session) in &mut self.sessions {
            if self.views.is_broken(session.wanted()) {
                let reason = format!("this part of table {} is made anew", session.wanted().table);
                session.end(ProtocolError::Refused(reason), id, &mut self.events);
            } else if !session.wanted().subset.is_all() {
                session.send_heartbeat(tables, &self.views, self.limits);
            }
        }
    }

    /// Tells all clients the state of their table now, not at the next heartbeat: its readiness or path changed.
    pub fn announce(&mut self, tables: &dyn Tables) {
        let (views, limits) = (&self.views, self.limits);
        self.sessions.values_mut().for_each(|s| s.send_heartbeat(tables, views, limits));
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        // A view that is being filled goes on at once, and so does a client whose questions wait for nothing but their turn.
        let behind = self.views.is_filling() || self.sessions.values().any(|s| s.can_work(self.limits));
        behind.then_some(Duration::ZERO).or_else(|| self.sessions.values().filter_map(Session::due).min())
    }

    /// The next bytes of a session; empty if there is nothing to send.
    pub fn transmit(&self, id: SessionId) -> &[u8] {
        self.sessions.get(&id).map_or(&[], |s| s.out.front())
    }

    /// Whether further bytes of a session are to be read from its connection. Not while questions wait that it has asked already: who reads
    /// no answers, or asks for very many, is held back where it asks.
    pub fn listens(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_none_or(Session::listens)
    }

    /// Bytes that wait for a session's connection.
    pub fn queued(&self, id: SessionId) -> usize {
        self.sessions.get(&id).map_or(0, |s| s.out.len())
    }

    /// What [`Self::transmit`] gives and what follows it, in pieces: for one vectored write.
    pub fn transmit_pieces(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        self.sessions.get(&id).into_iter().flat_map(|s| s.out.pieces())
    }

    /// So many bytes of [`Self::transmit`] were sent.
    pub fn sent(&mut self, id: SessionId, n: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.out.consume(n);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// Routes sent to clients, all together: each route counts once per client.
    pub fn routes_passed_on(&self) -> u64 {
        self.routes_passed_on
    }

    /// The parts of tables that clients have, each with its table's name and the number of its routes.
    pub fn views(&self) -> impl Iterator<Item = (&str, &Subset, u64)> + '_ {
        self.views.list()
    }

    /// All sessions that have registered, in the order in which they came.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let mut all: Vec<_> = self.sessions.iter().filter_map(|(&id, s)| s.status(id)).collect();
        all.sort_unstable_by_key(|s| s.session);
        all
    }
}
