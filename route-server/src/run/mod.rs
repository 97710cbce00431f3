//! The route server at work: one thread that owns tables, machines and sockets, and everything that speaks to it.
//!
//! [`run`] opens what can fail, then [`Daemon::turn`] goes round: sockets are read and written as far as they go within a budget, what
//! came is given to the machines ([`Server`] for clients, one [`Client`] for each peer), sources are heard, the engine takes a
//! slice of its work, operators are answered. No step takes more than some milliseconds, so heartbeats are never late.

mod sockets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fibcast_control::ControlServer;
use fibcast_control::http::HttpServer;
use fibcast_control::status::{ClientStatus, PeerStatus, Role as ShownRole};
use fibcast_daemon::exit::Failure;
use fibcast_sync_proto::Table;
use fibcast_sync_proto::client::{Action, Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::server::{Role, Served, Server, ServerEvent, Tables};

use crate::config::Checked;
use crate::engine::{Engine, EngineError};
use crate::operator::{self, Asking, Question, Surroundings};
use crate::source::{self, Message, Outlet, QUEUE};
use sockets::{Connection, Sockets};

/// Name of the table that agents register for.
pub const FIB: &str = "fib";
/// Name of the table that other route servers register for: this server's own origins. Origins of third servers are not passed on.
pub const RIB: &str = "rib";

/// Time that sources may take of one turn.
const SOURCES: Duration = Duration::from_millis(5);
/// Bytes read from one connection in one turn.
const READ: usize = 256 << 10;

/// Works until it is asked to stop.
pub fn run(checked: &Checked) -> Result<(), Failure> {
    checked.config.tls.warn();
    let mut daemon = Daemon::start(checked)?;
    let stop = daemon.stop.clone();
    let wake = daemon.sockets.waker();
    fibcast_daemon::signals::on_stop(move || {
        stop.store(true, Ordering::Relaxed);
        wake();
    })
    .map_err(|error| Failure::work(format!("signals: {error}")))?;
    let outcome = daemon.work();
    daemon.stop.store(true, Ordering::Relaxed);
    outcome
}

/// A peer: its machine, the copy of its table, its socket.
struct Peer {
    address: SocketAddr,
    client: Client,
    copy: Table,
    /// Serial of the copy up to which the engine knows it.
    known: u64,
    connection: Option<Connection>,
}

/// A client's socket.
struct Session {
    id: u64,
    address: SocketAddr,
    connection: Connection,
    /// It is over; closed when the last bytes are out.
    ended: bool,
}

struct Daemon {
    engine: Engine,
    server: Server,
    peers: Vec<Peer>,
    sessions: Vec<Session>,
    sockets: Sockets,
    from_sources: Receiver<Message>,
    questions: Receiver<Question>,
    stop: Arc<AtomicBool>,
    started: Instant,
    /// Readiness of `rib` and `fib` that clients were told.
    told: (bool, bool),
    buffer: Vec<u8>,
    // Last, so that they end when the channels' receivers are gone.
    _control: Option<ControlServer>,
    _http: Option<HttpServer>,
    _sources: Threads,
}

/// Threads of sources; ended by the stop flag and by their channel.
struct Threads(Vec<JoinHandle<()>>);

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // A source that panicked said so already.
            let _ = thread.join();
        }
    }
}

/// The engine's tables, as the server machine asks for them.
struct Lent<'e>(&'e Engine);

impl Tables for Lent<'_> {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        match name {
            FIB => Some(Served { table: self.0.fib(), ready: self.0.ready(), path: &[] }),
            RIB => Some(Served { table: self.0.own(), ready: self.0.rib_ready(), path: &[] }),
            _ => None,
        }
    }
}

impl Daemon {
    fn start(checked: &Checked) -> Result<Self, Failure> {
        let config = &checked.config;
        let started = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
        let engine = Engine::new(checked, epoch, started).map_err(Failure::work)?;
        let sockets = Sockets::new(&config.node.listen).map_err(Failure::work)?;
        let (asking, questions) = Asking::new(sockets.waker());
        let control = match &config.node.control {
            Some(path) => {
                let asking = asking.clone();
                Some(ControlServer::start(path, move |request| asking.ask(request)).map_err(Failure::work)?)
            }
            None => None,
        };
        let http = match config.node.http {
            Some(address) => {
                let handler = move |request| asking.ask(request);
                Some(HttpServer::start(address, handler).map_err(Failure::work)?)
            }
            None => None,
        };
        let heartbeat = Duration::from_millis(config.sync.heartbeat_ms);
        let peer = |peer: &crate::config::Peer| {
            let mut client = ClientConfig::new(&config.node.name, RIB, vec![Role::Primary]);
            client.heartbeat = heartbeat;
            let client = Client::new(client, Duration::ZERO);
            Peer { address: peer.address, client, copy: Table::new(0), known: 0, connection: None }
        };
        let stop: Arc<AtomicBool> = Arc::default();
        let (to, from_sources) = bounded(QUEUE);
        let mut threads = Threads(Vec::new());
        for (at, plan) in checked.sources.iter().enumerate() {
            let outlet = Outlet::new(at, to.clone(), sockets.waker(), stop.clone());
            let thread = source::start(plan.kind.clone(), outlet)
                .map_err(|error| Failure::work(format!("source {:?}: {error}", plan.origin)))?;
            threads.0.push(thread);
        }
        for address in &config.node.listen {
            tracing::info!("{}: serving on {address}", config.node.name);
        }
        Ok(Self {
            engine,
            server: Server::new(&config.node.name),
            peers: config.peer.iter().map(peer).collect(),
            sessions: Vec::new(),
            sockets,
            from_sources,
            questions,
            stop,
            started,
            told: (false, false),
            buffer: vec![0; 64 << 10],
            _control: control,
            _http: http,
            _sources: threads,
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut more = true;
        while !self.stop.load(Ordering::Relaxed) {
            let timeout = if more { Duration::ZERO } else { self.until_due() };
            self.sockets.wait(timeout).map_err(|error| Failure::work(format!("poll: {error}")))?;
            more = self.turn().map_err(Failure::work)?;
        }
        tracing::info!("stopping");
        Ok(())
    }

    /// Until a machine or the engine has to be called, if nothing comes in.
    fn until_due(&self) -> Duration {
        let now = self.now();
        let machines =
            self.peers.iter().filter_map(|p| p.client.poll_timeout()).chain(self.server.poll_timeout());
        let engine = self.engine.deadline().map(|at| at.saturating_duration_since(self.started));
        let due = machines.chain(engine).min().unwrap_or(now + Duration::from_secs(1));
        due.saturating_sub(now)
    }

    /// Once round. True: there is more to do at once.
    fn turn(&mut self) -> Result<bool, EngineError> {
        let mut more = self.accept();
        more |= self.read_sessions();
        more |= self.read_peers();
        for at in 0..self.peers.len() {
            self.peer_timeout(at);
            self.peer_events(at)?;
        }
        more |= self.hear_sources()?;
        let copies: Vec<&Table> = self.peers.iter().map(|p| &p.copy).collect();
        more |= self.engine.turn(&copies, Instant::now())?;

        let lent = Lent(&self.engine);
        let now = self.started.elapsed();
        if self.server.poll_timeout().is_some_and(|due| due <= now) {
            self.server.handle_timeout(now, &lent);
        }
        let readiness = (self.engine.rib_ready(), self.engine.ready());
        if readiness != self.told {
            self.told = readiness;
            self.server.announce(&lent);
        }
        self.server.pump(&lent);
        self.server_events();
        more |= self.write();
        self.answer();
        Ok(more)
    }

    fn accept(&mut self) -> bool {
        let now = self.now();
        for accepted in self.sockets.accept() {
            let id = self.server.accept(now);
            match self.sockets.adopt_session(accepted, id) {
                Ok((connection, address)) => {
                    self.sessions.push(Session { id, address, connection, ended: false });
                }
                Err(error) => {
                    tracing::warn!("a client's connection: {error}");
                    self.server.close(id);
                }
            }
        }
        false
    }

    fn read_sessions(&mut self) -> bool {
        let now = self.now();
        let mut more = false;
        let mut gone = Vec::new();
        for session in &mut self.sessions {
            session.connection.note(&mut self.sockets);
            let mut read = 0;
            while read < READ && !session.ended {
                match session.connection.read(&mut self.buffer) {
                    Ok(Some(bytes)) => {
                        read += bytes.len();
                        self.server.handle_bytes(now, session.id, bytes, &Lent(&self.engine));
                    }
                    Ok(None) => break,
                    Err(reason) => {
                        gone.push((session.id, reason));
                        break;
                    }
                }
            }
            more |= read >= READ;
        }
        for (id, reason) in gone {
            self.close_session(id, &reason);
        }
        more
    }

    fn close_session(&mut self, id: u64, reason: &str) {
        self.server.close(id);
        if let Some(at) = self.sessions.iter().position(|s| s.id == id) {
            let mut session = self.sessions.swap_remove(at);
            tracing::info!("client {}: {reason}", session.address);
            self.sockets.drop_connection(&mut session.connection);
        }
    }

    fn read_peers(&mut self) -> bool {
        let now = self.started.elapsed();
        let mut more = false;
        for peer in &mut self.peers {
            let Some(connection) = &mut peer.connection else { continue };
            connection.note(&mut self.sockets);
            match connection.opened() {
                Ok(true) => peer.client.handle_connected(now, 0),
                Ok(false) => {}
                Err(reason) => {
                    self.sockets.drop_connection(connection);
                    peer.connection = None;
                    peer.client.handle_disconnected(now, 0, &reason, &mut peer.copy);
                    continue;
                }
            }
            let mut read = 0;
            while read < READ {
                let Some(connection) = &mut peer.connection else { break };
                match connection.read(&mut self.buffer) {
                    Ok(Some(bytes)) => {
                        read += bytes.len();
                        peer.client.handle_bytes(now, 0, bytes, &mut peer.copy);
                    }
                    Ok(None) => break,
                    Err(reason) => {
                        self.sockets.drop_connection(connection);
                        peer.connection = None;
                        peer.client.handle_disconnected(now, 0, &reason, &mut peer.copy);
                    }
                }
            }
            more |= read >= READ;
        }
        more
    }

    fn peer_timeout(&mut self, at: usize) {
        let now = self.started.elapsed();
        let Some(peer) = self.peers.get_mut(at) else { return };
        if peer.client.poll_timeout().is_some_and(|due| due <= now) {
            peer.client.handle_timeout(now, &mut peer.copy);
        }
        while let Some(action) = peer.client.poll_action() {
            if let Some(mut old) = peer.connection.take() {
                self.sockets.drop_connection(&mut old);
            }
            if let Action::Connect(_) = action {
                match self.sockets.connect(peer.address, at) {
                    Ok(connection) => peer.connection = Some(connection),
                    Err(error) => peer.client.handle_disconnected(now, 0, &error.to_string(), &mut peer.copy),
                }
            }
        }
    }

    /// Tells the engine what became of a peer's copy.
    fn peer_events(&mut self, at: usize) -> Result<(), EngineError> {
        let now = Instant::now();
        let mut lost = false;
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        while let Some(event) = peer.client.poll_event() {
            match event {
                ClientEvent::Lost { error, active, .. } => {
                    tracing::warn!("peer {}: {error}", peer.address);
                    lost |= active;
                }
                ClientEvent::Activated { how, took, differing, .. } => {
                    tracing::info!("peer {}: {how:?} in {took:?}, {differing} routes differed", peer.address);
                }
                ClientEvent::Registered { name, .. } => {
                    tracing::info!("peer {}: registered with {name}", peer.address);
                }
                ClientEvent::Mismatch { reason, .. } => tracing::warn!("peer {}: {reason}", peer.address),
                ClientEvent::Committed(_) => {}
            }
        }
        let (synced, known) = (peer.client.is_synced(), peer.known);
        peer.known = peer.copy.serial();
        let copies: Vec<&Table> = self.peers.iter().map(|p| &p.copy).collect();
        let Some(copy) = copies.get(at) else { return Ok(()) };
        if lost {
            self.engine.peer_lost(at, now, &copies)?;
        }
        if let Some(batch) = copy.changes_since(known).filter(|_| copy.serial() != known) {
            let changes = batch.changes();
            self.engine.peer_changed(at, changes, &copies)?;
        }
        if synced {
            self.engine.peer_in_sync(at, now);
        }
        if let Some(peer) = self.peers.get_mut(at) {
            // Deletions that the engine does not know yet are not forgotten.
            peer.copy.pin(peer.known);
        }
        Ok(())
    }

    fn hear_sources(&mut self) -> Result<bool, EngineError> {
        let begin = Instant::now();
        let copies: Vec<&Table> = self.peers.iter().map(|p| &p.copy).collect();
        while begin.elapsed() < SOURCES {
            match self.from_sources.try_recv() {
                Ok(message) => self.engine.source_said(message, &copies)?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn server_events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Registered { name, table, role, .. } => {
                    tracing::info!("client {name}: registered for {table}, as its {role:?}");
                }
                ServerEvent::Activated { session, how } => {
                    tracing::info!("session {session}: activated, {how}")
                }
                ServerEvent::Ended { session, name, error } => {
                    let of = self.sessions.iter_mut().find(|s| s.id == session);
                    if let Some(of) = of {
                        tracing::warn!("client {} ({}): {error}", name.as_deref().unwrap_or("?"), of.address);
                        of.ended = true;
                    }
                }
            }
        }
    }

    /// Writes what the machines have, as far as the sockets take it. True: a socket took all that its budget allowed.
    fn write(&mut self) -> bool {
        let mut more = false;
        let mut gone = Vec::new();
        let server = &mut self.server;
        for session in &mut self.sessions {
            let id = session.id;
            let written = session.connection.write(server, |s| s.transmit(id), |s, n| s.sent(id, n));
            match written {
                Ok(full) => more |= full,
                Err(reason) => gone.push((id, reason)),
            }
            if session.ended && server.transmit(id).is_empty() {
                gone.push((id, "closed".to_owned()));
            }
        }
        for (id, reason) in gone {
            self.close_session(id, &reason);
        }
        let now = self.started.elapsed();
        for peer in &mut self.peers {
            let Some(connection) = &mut peer.connection else { continue };
            match connection.write(&mut peer.client, |c| c.transmit(0), |c, n| c.sent(0, n)) {
                Ok(full) => more |= full,
                Err(reason) => {
                    self.sockets.drop_connection(connection);
                    peer.connection = None;
                    peer.client.handle_disconnected(now, 0, &reason, &mut peer.copy);
                    more = true;
                }
            }
        }
        more
    }

    fn answer(&mut self) {
        while let Ok(question) = self.questions.try_recv() {
            let copies: Vec<&Table> = self.peers.iter().map(|p| &p.copy).collect();
            let peers = |shown: &mut [PeerStatus]| {
                for (shown, peer) in shown.iter_mut().zip(&self.peers) {
                    let Some(link) = peer.client.links().pop() else { continue };
                    shown.name = link.name.or(shown.name.take());
                    shown.last_error = link.last_error;
                    if shown.state == "waiting" {
                        shown.state = link.state.to_owned();
                    }
                }
            };
            let around = Surroundings {
                copies: &copies,
                clients: self.clients(),
                peers: &peers,
                started: self.started,
            };
            let answer = operator::answer(&question.request, &self.engine, around);
            // The operator may have lost patience.
            let _ = question.reply.try_send(answer);
        }
    }

    fn clients(&self) -> Vec<ClientStatus> {
        let shown = |s: fibcast_sync_proto::server::SessionStatus| ClientStatus {
            address: self
                .sessions
                .iter()
                .find(|session| session.id == s.session)
                .map(|session| session.address.to_string())
                .unwrap_or_default(),
            name: s.name,
            table: s.table,
            role: if s.role == Role::Primary { ShownRole::Primary } else { ShownRole::Secondary },
            active: s.active,
            serial: s.serial,
            sent_bytes: s.sent_bytes,
        };
        self.server.sessions().into_iter().map(shown).collect()
    }
}
