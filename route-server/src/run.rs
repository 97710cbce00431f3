//! The route server at work: what the event loop of `fibcast-sync-agent` hosts here.
//!
//! [`run`] opens everything that can fail, then gives the loop a host that owns the engine and the peers' copies. Each turn of the loop
//! hears the sources for some milliseconds, lets the engine take a slice of its work and answers operators, so that no client's
//! heartbeat is late. Sources, operators and signals live on threads of their own and reach the loop by channels and its waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fibcast_control::ControlServer;
use fibcast_control::http::HttpServer;
use fibcast_control::protocol::Request;
use fibcast_control::status::PeerStatus;
use fibcast_daemon::exit::Failure;
use fibcast_sync_agent::agent::kv::Watchers;
use fibcast_sync_agent::agent::show;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{ClientId, ClientRequest, Host, Shell, ShellState, ShellWaker, Turn};
use fibcast_sync_proto::Table;
use fibcast_sync_proto::client::{ClientConfig, ClientEvent};
use fibcast_sync_proto::origins::CATALOG;
use fibcast_sync_proto::server::{Role, Served, Tables};

use crate::config::Checked;
use crate::engine::{self, Engine, EngineError};
use crate::operator::{self, Asking, Question, Surroundings};
use crate::source::{self, Message, Outlet, QUEUE};

/// Time that sources may take of one turn.
const SOURCES: Duration = Duration::from_millis(5);

/// Works until it is asked to stop.
pub fn run(checked: &Checked) -> Result<(), Failure> {
    let config = &checked.config;
    fibcast_daemon::files::raise_limit();
    let security = Security::open(&config.tls, &config.node.name)?;
    let mut shell = Shell::secure(&config.node.name, config.limits, security).map_err(Failure::work)?;
    for address in &config.node.listen {
        let bound = shell.listen(*address).map_err(Failure::work)?;
        tracing::info!("{}: serving on {bound}", config.node.name);
    }
    for peer in &config.peer {
        let mut client = ClientConfig::new(&config.node.name, CATALOG, vec![Role::Primary]);
        client.heartbeat = Duration::from_millis(config.sync.heartbeat_ms);
        shell.add_client(client, vec![peer.address.clone()]);
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let wake = waking(shell.waker());
    let (asking, questions) = Asking::new(wake.clone());
    let control = config.node.control.as_deref().map(|path| {
        let asking = asking.clone();
        ControlServer::start(path, move |request| asking.ask(request)).map_err(Failure::work)
    });
    let _control = control.transpose()?;
    let http = config
        .node
        .http
        .map(|address| HttpServer::start(address, move |request| asking.ask(request)).map_err(Failure::work));
    let _http = http.transpose()?;
    fibcast_daemon::signals::on_stop({
        let (stop, wake) = (stop.clone(), wake.clone());
        move || {
            stop.store(true, Ordering::Release);
            wake();
        }
    })
    .map_err(|error| Failure::work(format!("signals: {error}")))?;

    let (to, from_sources) = bounded(QUEUE);
    let threads = start_sources(checked, &to, &wake, &stop)?;
    drop(to);
    let mut host = RouteServer::new(checked, from_sources, questions, shell.waker(), stop.clone())?;
    let outcome = shell.run(&mut host, &stop).map_err(Failure::work);
    stop.store(true, Ordering::Release);
    let failure = host.failure.take();
    // With the host goes the channel's end that a source may wait for.
    drop(host);
    for thread in threads {
        // A source that panicked has said so already.
        let _ = thread.join();
    }
    match failure {
        Some(failure) => Err(Failure::work(failure)),
        None => outcome.inspect(|()| tracing::info!("stopped")),
    }
}

/// Works on the caller's loop, with a source of the caller's own in place of the configuration's threads, signals and sockets for
/// operators: a route server within another program, for measurements.
pub fn embed(
    checked: &Checked,
    shell: &mut Shell,
    from_sources: Receiver<Message>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let (_asking, questions) = Asking::new(Arc::new(|| ()));
    let mut host = RouteServer::new(checked, from_sources, questions, shell.waker(), stop.clone())?;
    shell.run(&mut host, stop).map_err(Failure::work)?;
    host.failure.take().map_or(Ok(()), |failure| Err(Failure::work(failure)))
}

fn waking(waker: ShellWaker) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || waker.wake())
}

fn start_sources(
    checked: &Checked,
    to: &crossbeam_channel::Sender<Message>,
    wake: &Arc<dyn Fn() + Send + Sync>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let start = |(at, plan): (usize, &crate::config::SourcePlan)| {
        let outlet = Outlet::new(at, to.clone(), wake.clone(), stop.clone());
        source::start(plan.kind.clone(), outlet)
            .map_err(|error| Failure::work(format!("source {:?}: {error}", plan.origin)))
    };
    checked.sources.iter().enumerate().map(start).collect()
}

/// What the event loop hosts.
struct RouteServer {
    engine: Engine,
    /// How clients for the routes of origins are made, and where the peers are.
    client: ClientConfig,
    addresses: Vec<String>,
    from_sources: Receiver<Message>,
    questions: Receiver<Question>,
    watchers: Watchers,
    waker: ShellWaker,
    stop: Arc<AtomicBool>,
    started: Instant,
    /// Readiness of `fib` that clients were told.
    told: bool,
    /// Serials of all tables at the last turn, in a sum.
    served: u64,
    failure: Option<EngineError>,
}

impl Tables for RouteServer {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        self.engine.served(name)
    }

    fn goes_round(&self, name: &str) -> bool {
        self.engine.goes_round(name)
    }
}

impl Host for RouteServer {
    fn client_table(&mut self, client: ClientId) -> &mut Table {
        self.engine.client_table(client)
    }

    fn client_event(&mut self, _: Duration, client: ClientId, event: &ClientEvent, _: &ShellState) {
        // The loop logs what happens to connections.
        let done = self.engine.client_event(Instant::now(), client, event);
        self.note(done);
    }

    fn turn(&mut self, now: Duration, state: &ShellState) -> Turn {
        let instant = Instant::now();
        for (at, slot) in state.clients.iter().enumerate() {
            self.engine.watch(instant, at, &slot.machine);
        }
        let more = self.work(instant);
        if let Some(more) = self.note(more)
            && more
        {
            self.waker.wake();
        }
        self.answer(state);
        let watched = self.watchers.turn(self.engine.fib());
        let (ready, served) = (self.engine.ready(), self.engine.served_serials());
        let announce = self.engine.take_announcement() | (std::mem::replace(&mut self.told, ready) != ready);
        Turn {
            announce,
            changed: announce | (std::mem::replace(&mut self.served, served) != served),
            wake_at: self
                .engine
                .deadline()
                .into_iter()
                .chain(watched)
                .min()
                .map(|at| now + at.saturating_duration_since(instant)),
        }
    }

    fn client_request(&mut self) -> Option<ClientRequest> {
        Some(match self.engine.poll_request()? {
            engine::Request::Close(client) => ClientRequest::Close(client),
            engine::Request::Open { place, table, peers, prefers_first } => {
                let (config, peers) = engine::client_for(&self.client, table, &peers, prefers_first);
                let address = |at: usize| self.addresses.get(at).cloned();
                ClientRequest::Open {
                    client: place,
                    config,
                    addresses: peers.into_iter().filter_map(address).collect(),
                }
            }
        })
    }
}

impl RouteServer {
    fn new(
        checked: &Checked,
        from_sources: Receiver<Message>,
        questions: Receiver<Question>,
        waker: ShellWaker,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
        let config = &checked.config;
        let mut client = ClientConfig::new(&config.node.name, "", Vec::new());
        client.heartbeat = Duration::from_millis(config.sync.heartbeat_ms);
        Ok(Self {
            engine: Engine::new(checked, epoch, started).map_err(Failure::work)?,
            client,
            addresses: config.peer.iter().map(|peer| peer.address.clone()).collect(),
            from_sources,
            questions,
            watchers: Watchers::default(),
            waker,
            stop,
            started,
            told: false,
            served: 0,
            failure: None,
        })
    }

    /// Takes note of an error, and stops the loop for it.
    fn note<T>(&mut self, outcome: Result<T, EngineError>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.get_or_insert(error);
                self.stop.store(true, Ordering::Release);
                None
            }
        }
    }

    /// Hears the sources and lets the engine work. True: there is more to do at once.
    fn work(&mut self, begin: Instant) -> Result<bool, EngineError> {
        let mut more = true;
        while more && begin.elapsed() < SOURCES {
            match self.from_sources.try_recv() {
                Ok(message) => self.engine.source_said(begin, message)?,
                Err(_) => more = false,
            }
        }
        Ok(self.engine.turn(begin)? || more)
    }

    fn answer(&mut self, state: &ShellState) {
        while let Ok(question) = self.questions.try_recv() {
            if let Request::KvWatch { prefix, epoch, serial } = question.request {
                self.watchers.add(prefix, epoch, serial, question.reply);
                continue;
            }
            if let Some(answer) = operator::write(&question.request, &mut self.engine) {
                let _ = question.reply.try_send(answer);
                continue;
            }
            let peers = |shown: &mut [PeerStatus]| {
                for (shown, slot) in shown.iter_mut().zip(&state.clients) {
                    let Some(link) = slot.machine.links().pop() else { continue };
                    shown.name = link.name.or(shown.name.take());
                    shown.last_error = link.last_error;
                    // Before the first copy the session tells more than the routes.
                    if shown.state == "waiting" {
                        shown.state = link.state.to_owned();
                    }
                }
            };
            let around = Surroundings {
                clients: show::clients(state, self),
                refused: show::refused(state),
                peers: &peers,
                started: self.started,
            };
            let answer = operator::answer(&question.request, &self.engine, around);
            // The operator may have lost patience.
            let _ = question.reply.try_send(answer);
        }
    }
}
