//! The server side: many sessions over named tables.
//!
//! [`Server`] is a state machine without sockets or clock. Its owner
//! * opens and closes sessions: [`Server::accept`], [`Server::close`];
//! * passes input: [`Server::handle_bytes`], and [`Server::handle_timeout`] when [`Server::poll_timeout`] is due;
//! * calls [`Server::pump`] after commits to a table, and after bytes were sent;
//! * takes output: [`Server::transmit`] and [`Server::sent`], [`Server::poll_event`].
//!
//! `now` is the time since a fixed instant, and never goes back. `types` is what it exchanges with its owner, `session` one connection,
//! `feed` its output, `room` the limits. `cache` holds what sessions share: `encoded` batches, and each `copy` of a table; `views` the requested subsets of tables.

mod cache;
mod copy;
mod encoded;
mod feed;
mod room;
mod session;
mod types;
mod views;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::account::Account;
use crate::digest::DigestKeys;
pub use crate::frame::Role;
use crate::subset::Subset;
use crate::wire::ProtocolError;
use cache::Cache;
use room::Room;
use session::Session;
pub use types::{
    Limits, Permit, Served, ServerEvent, SessionChange, SessionId, SessionReport, SessionStatus, Tables,
};
use views::Views;
pub use views::{MAX_VIEWS, VIEWS_PER_CLIENT};

/// Records examined for answers to sketches before all timers and sessions have had a turn: some 20 ms.
const WORK: u64 = 4 << 20;

/// The server state machine; see the module's documentation.
#[derive(Debug)]
pub struct Server {
    name: String,
    sessions: HashMap<SessionId, Session>,
    next: SessionId,
    cache: Cache,
    views: Views,
    events: VecDeque<ServerEvent>,
    reports: VecDeque<SessionReport>,
    /// Time of the last input.
    now: Duration,
    routes_passed_on: u64,
    /// See [`WORK`].
    work: u64,
    /// The session after which deferred ones are handled next.
    heard_last: SessionId,
    limits: Limits,
    /// Bytes that are held for all sessions.
    account: Account,
    digest_keys: DigestKeys,
}

impl Server {
    /// A server of the node `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            sessions: HashMap::new(),
            next: 1,
            cache: Cache::default(),
            views: Views::default(),
            events: VecDeque::new(),
            reports: VecDeque::new(),
            now: Duration::ZERO,
            routes_passed_on: 0,
            work: WORK,
            heard_last: 0,
            limits: Limits::default(),
            account: Account::default(),
            digest_keys: DigestKeys::default(),
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes that are held for all sessions, those that several send counted once; without views.
    pub fn held_bytes(&self) -> usize {
        self.account.total()
    }

    /// Bytes of memory of all views.
    pub fn view_bytes(&self) -> usize {
        self.views.memory_bytes()
    }

    /// Sets the digest keys that clients may use, and ends all sessions: clients register again.
    pub fn set_digest_keys(&mut self, keys: DigestKeys) {
        self.digest_keys = keys;
        for (&id, session) in &mut self.sessions {
            let reason = ProtocolError::Refused("the digest key was replaced: register again".into());
            self.reports.extend(session.over(id));
            session.end(reason, id, &mut self.events);
        }
        self.views = Views::default();
    }

    /// A connection was accepted whose client may have everything.
    pub fn accept(&mut self, now: Duration) -> SessionId {
        self.accept_with(now, None)
    }

    /// A connection was accepted. `permit` says what its client may have; none: everything.
    pub fn accept_with(&mut self, now: Duration, permit: Option<Box<dyn Permit>>) -> SessionId {
        let id = self.next;
        self.next += 1;
        self.sessions.insert(id, Session::new(now, &self.name, permit, &self.account));
        id
    }

    fn room(&self) -> Room {
        Room { limits: self.limits, account: self.account.clone(), sessions: self.sessions.len() }
    }

    /// Ends a session, with a last frame to its client, and an event.
    pub fn end(&mut self, id: SessionId, error: ProtocolError) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.reports.extend(session.over(id));
            session.end(error, id, &mut self.events);
        }
    }

    /// The connection was closed. Causes no event.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.reports.extend(session.over(id));
        }
    }

    /// Handles received bytes.
    pub fn handle_bytes(&mut self, now: Duration, id: SessionId, bytes: &[u8], tables: &dyn Tables) {
        self.now = now;
        self.handle(id, tables, |session, context| session.handle_bytes(now, bytes, context));
    }

    fn handle(
        &mut self,
        id: SessionId,
        tables: &dyn Tables,
        input: impl FnOnce(&mut Session, &mut session::SessionContext<'_>) -> Result<(), ProtocolError>,
    ) {
        let room = self.room();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut context = session::SessionContext {
            id,
            server: &self.name,
            tables,
            cache: &mut self.cache,
            views: &mut self.views,
            events: &mut self.events,
            reports: &mut self.reports,
            now: self.now,
            passed_on: &mut self.routes_passed_on,
            work: &mut self.work,
            room: &room,
            digest_keys: &self.digest_keys,
        };
        let done = input(session, &mut context);
        if let Err(error) = done.and_then(|()| session.pump(&mut context)) {
            self.reports.extend(session.over(id));
            session.end(error, id, &mut self.events);
        }
    }

    /// Produces output for active sessions. Call it after commits, and when a session's queue has shrunk.
    pub fn pump(&mut self, tables: &dyn Tables) {
        self.follow(tables);
        let room = self.room();
        for (&id, session) in &mut self.sessions {
            let pumped = session.pump(&mut session::SessionContext {
                id,
                server: &self.name,
                tables,
                cache: &mut self.cache,
                views: &mut self.views,
                events: &mut self.events,
                reports: &mut self.reports,
                now: self.now,
                passed_on: &mut self.routes_passed_on,
                work: &mut self.work,
                room: &room,
                digest_keys: &self.digest_keys,
            });
            if let Err(error) = pumped {
                self.reports.extend(session.over(id));
                session.end(error, id, &mut self.events);
            }
        }
    }

    /// Sends heartbeats and ends silent sessions.
    pub fn handle_timeout(&mut self, now: Duration, tables: &dyn Tables) {
        self.now = now;
        self.follow(tables);
        for (&id, session) in &mut self.sessions {
            if let Err(error) = session.handle_timeout(now, tables, &self.views, self.limits) {
                self.reports.extend(session.over(id));
                session.end(error, id, &mut self.events);
            }
        }
        self.hear_deferred(now, tables);
        let sessions = &self.sessions;
        self.views.expire(now, |wanted| sessions.values().any(|s| s.uses(wanted)));
    }

    /// Continues with sessions whose requests were deferred, in turn.
    fn hear_deferred(&mut self, now: Duration, tables: &dyn Tables) {
        self.work = WORK;
        let room = self.room();
        let mut waiting: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| s.can_work(&room)).map(|(&id, _)| id).collect();
        waiting.sort_unstable();
        let first = waiting.partition_point(|&id| id <= self.heard_last);
        waiting.rotate_left(first);
        for id in waiting {
            if self.work == 0 {
                return;
            }
            self.heard_last = id;
            // As if only the bytes that are already here had arrived.
            self.handle(id, tables, |session, context| session.work(now, context));
        }
    }

    /// Updates views, and tells their clients at once about their state.
    fn follow(&mut self, tables: &dyn Tables) {
        if !self.views.follow(tables, (self.limits.portion / 4).max(1), self.limits.views) {
            return;
        }
        for (&id, session) in &mut self.sessions {
            if let Some(why) = self.views.broken(session.wanted()) {
                let reason = format!("this part of table {} {why}", session.wanted().table);
                self.reports.extend(session.over(id));
                session.end(ProtocolError::Refused(reason), id, &mut self.events);
            } else if self.views.is_view(session.wanted()) {
                session.send_heartbeat(tables, &self.views, self.limits);
            }
        }
    }

    /// Tells all clients the state of their table now instead of at the next heartbeat: its readiness or path changed.
    pub fn announce(&mut self, tables: &dyn Tables) {
        let (views, limits) = (&self.views, self.limits);
        self.sessions.values_mut().for_each(|s| s.send_heartbeat(tables, views, limits));
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        // A view that is being filled continues at once, and so does a client whose requests only wait for their turn.
        let room = self.room();
        let behind = self.views.is_filling() || self.sessions.values().any(|s| s.can_work(&room));
        behind.then_some(Duration::ZERO).or_else(|| self.sessions.values().filter_map(Session::due).min())
    }

    /// The next bytes of a session; empty if there is nothing to send.
    pub fn transmit(&self, id: SessionId) -> &[u8] {
        self.sessions.get(&id).map_or(&[], |s| s.out.front())
    }

    /// Whether to read further bytes from a session's connection. Not while requests of it are deferred: a client that does not read
    /// answers, or sends very many requests, is slowed down by TCP.
    pub fn listens(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_none_or(|session| session.listens(&self.room()))
    }

    /// Bytes in a session's send queue.
    pub fn queued(&self, id: SessionId) -> usize {
        self.sessions.get(&id).map_or(0, |s| s.out.len())
    }

    /// The bytes of [`Self::transmit`] and the following pieces: for one vectored write.
    pub fn transmit_pieces(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        self.sessions.get(&id).into_iter().flat_map(|s| s.out.pieces())
    }

    /// Confirms that `n` bytes of [`Self::transmit`] were sent.
    pub fn sent(&mut self, id: SessionId, n: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.out.consume(n);
        }
    }

    /// The next report about a client. Take them all before each use of their sum.
    pub fn poll_report(&mut self) -> Option<SessionReport> {
        self.reports.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// Routes sent to clients in total: each route counts once per client.
    pub fn routes_passed_on(&self) -> u64 {
        self.routes_passed_on
    }

    /// The subsets in use, with table name and number of routes.
    pub fn views(&self) -> impl Iterator<Item = (&str, &Subset, u64)> + '_ {
        self.views.list()
    }

    /// All registered sessions, in the order of their ids.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let mut all: Vec<_> = self.sessions.iter().filter_map(|(&id, s)| s.status(id)).collect();
        all.sort_unstable_by_key(|s| s.session);
        all
    }
}
