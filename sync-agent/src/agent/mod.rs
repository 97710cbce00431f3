//! The agent: a client of route servers that keeps one copy of the table, serves it to the tier below, and feeds a sink.
//!
//! Its rules are those of [`AgentCore`]. [`Agent::spawn`] runs it on a thread of its own, which is restarted if it panics. The table is kept if
//! it is sound; if not, it begins empty and the sink is reset ([`Sink::reset`]). [`AgentHandle`] asks it from other threads. `config` is
//! `[sync]`, `subset` its part, `host` what the event loop does beside the core, `show` and `kv` how operators see it, `scrub` the comparison of the sink with the table.

pub mod config;
mod host;
pub mod kv;
mod scrub;
pub mod show;
mod subset;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fibcast_control::protocol::{Answer, KvRequest, Request, RouteRequest};
use fibcast_control::routes::RoutePlace;
use fibcast_control::status::Status;
use fibcast_control::tables::RouteList;
use fibcast_daemon::budgets::Budgets;
use fibcast_daemon::threads::{self, Heartbeat, Pulse, Task};
use fibcast_sync_proto::acknowledge::Policy;
use fibcast_sync_proto::agent::AgentCore;
use fibcast_sync_proto::client::ClientConfig;
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::node::Node;
use fibcast_sync_proto::{DigestKeys, Table};

use crate::digest_key::KeyFile;
use crate::shell::tls::Security;
use crate::shell::{Limits, Shell, ShellError, ShellWaker, session_limits};
pub use crate::sink::{NoSink, Sink, SinkError, TablePart};
use config::Sync;
use host::{AgentHost, Command};

/// Name of the table that agents keep and serve.
const TABLE: &str = "fib";
/// How long other threads wait for an answer of the agent.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the end of an agent waits for its thread.
const ENDING: Duration = Duration::from_secs(10);

/// Parameters of an agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Node name.
    pub name: String,
    /// Listen addresses for the tier below; may be empty.
    pub listen: Vec<SocketAddr>,
    /// Servers and timers.
    pub sync: Sync,
    /// Certificates and allow lists; none for plain TCP.
    pub security: Option<Arc<Security>>,
    /// Keys of the table's digest.
    pub digest_keys: KeyFile,
    /// Time for comparing the sink with the whole table once; none: never.
    pub scrub: Option<Duration>,
    /// Limits on connections.
    pub limits: Limits,
    /// The clients downstream that must have installed what it reports upstream; none: its sink alone decides.
    pub acknowledge: Option<Policy>,
    /// Limits on memory.
    pub budgets: Budgets,
}

/// Constructor of agents.
#[derive(Debug)]
pub struct Agent;

/// A running agent. Dropping it stops it.
#[derive(Debug)]
pub struct AgentHandle {
    name: String,
    started: Instant,
    shared: Arc<Shared>,
    security: Option<Arc<Security>>,
    pulse: Pulse,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Ends the current event loop.
    halt: AtomicBool,
    /// The agent was abandoned: nobody waits for its thread any more.
    abandoned: AtomicBool,
    panics: AtomicU64,
    /// Duplicate handles to the listeners, to close them while the loop is stalled.
    listeners: Mutex<Vec<OwnedFd>>,
    /// Handle to the current event loop.
    door: Mutex<Option<Door>>,
    bound: Mutex<Vec<SocketAddr>>,
}

#[derive(Debug, Clone)]
struct Door {
    commands: Sender<Command>,
    waker: ShellWaker,
}

impl Shared {
    fn listeners(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self) -> MutexGuard<'_, Option<Door>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn epoch() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Different for each start, and never 0, which means "none" on the wire.
    RandomState::new().hash_one(std::process::id()).max(1)
}

impl Agent {
    /// Opens the listeners and starts the agent's thread.
    ///
    /// # Errors
    /// [`ShellError`] if a listen address cannot be used, or a thread or event loop cannot be created.
    pub fn spawn(config: AgentConfig, sink: Box<dyn Sink>) -> Result<AgentHandle, ShellError> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            halt: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            listeners: Mutex::new(Vec::new()),
            door: Mutex::new(None),
            bound: Mutex::new(Vec::new()),
        });
        let (shell, commands) = open(&config, &shared)?;
        let (name, security) = (config.name.clone(), config.security.clone());
        let (thread, pulse) = threads::spawn(Task::essential("agent"), {
            let shared = Arc::clone(&shared);
            move |heartbeat| supervise(config, sink, shell, commands, &shared, heartbeat)
        })
        .map_err(ShellError::Poll)?;
        Ok(AgentHandle { name, started: Instant::now(), shared, security, pulse, thread: Some(thread) })
    }
}

/// An event loop with its listeners, ready to run.
fn open(config: &AgentConfig, shared: &Shared) -> Result<(Shell, Receiver<Command>), ShellError> {
    shared.listeners().clear();
    let mut shell = Shell::secure(&config.name, config.limits, config.security.clone())?;
    let bound = config.listen.iter().map(|&a| shell.listen(a)).collect::<Result<Vec<_>, _>>()?;
    *shared.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
    shared.listeners().extend(shell.listeners());
    let servers = config.sync.ordered();
    shell.set_servers(servers.into_iter().map(|s| s.address).collect());
    let (sender, commands) = bounded(64);
    *shared.door() = Some(Door { commands: sender, waker: shell.waker() });
    Ok((shell, commands))
}

/// Parameters of the core from the configuration.
fn core_config(config: &AgentConfig, keys: &DigestKeys) -> fibcast_sync_proto::agent::AgentConfig {
    let servers = config.sync.ordered();
    let roles = servers.iter().map(|s| match s.role {
        fibcast_control::status::Role::Primary => Role::Primary,
        fibcast_control::status::Role::Secondary => Role::Secondary,
    });
    let mut client = ClientConfig::new(&config.name, TABLE, roles.collect());
    client.heartbeat = Duration::from_millis(config.sync.heartbeat_ms);
    client.progress = Duration::from_millis(config.sync.progress_ms);
    client.pending = config.budgets.pending_bytes;
    client.failback = config.sync.failback();
    client.subset = config.sync.subset.clone();
    client.digest_key = keys.own().id();
    let (serves, expire) = (!config.listen.is_empty(), config.sync.expire());
    fibcast_sync_proto::agent::AgentConfig { client, serves, expire, acknowledge: config.acknowledge.clone() }
}

/// Runs the loop, and restarts it after a panic: packet forwarding must not notice.
fn supervise(
    config: AgentConfig,
    mut sink: Box<dyn Sink>,
    shell: Shell,
    commands: Receiver<Command>,
    shared: &Shared,
    heartbeat: &Heartbeat,
) {
    let mut next = Some((shell, commands));
    let mut checkpoint = config.sync.checkpoint(TABLE);
    let mut seen = 0;
    let _ = config.digest_keys.replaced(&mut seen);
    let keys = config.digest_keys.keys();
    let loaded = checkpoint.as_mut().and_then(|c| c.load(epoch(), &keys));
    let table = loaded.unwrap_or_else(|| Table::new(epoch()).with_digest_key(keys.own()));
    let mut core = AgentCore::new(core_config(&config, &keys), table);
    while !shared.stop.load(Ordering::Acquire) {
        heartbeat.beat();
        let (mut shell, commands) = match next.take().map_or_else(|| open(&config, shared), Ok) {
            Ok(opened) => opened,
            Err(e) => {
                tracing::error!("cannot restart the agent: {e}; retrying");
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        shared.halt.store(false, Ordering::Release);
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        let upstream = core.config().upstream();
        let mut node = Node::new(&config.name, shell.now(), core, [upstream])
            .with_limits(session_limits(&config.budgets))
            .with_pending(config.budgets.pending_bytes)
            .with_digest_keys(config.digest_keys.keys());
        let waker = shell.waker();
        sink.on_installed(Arc::new(move || waker.wake()));
        let keys = (&config.digest_keys, &mut seen);
        let mut host = AgentHost::new(sink.as_mut(), &mut checkpoint, commands, keys, heartbeat);
        host.scrub_every(config.scrub);
        match heartbeat.guard(|| shell.run(&mut node, &mut host, &shared.halt)) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::error!("agent: {e}; restarting"),
            Err(_) => {
                shared.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!("agent: restarting");
            }
        }
        drop(host);
        *shared.door() = None;
        core = node.into_role();
        if !shared.stop.load(Ordering::Acquire) {
            let torn;
            (core, torn) = core.restart(epoch());
            if torn {
                tracing::error!(
                    "the agent's table was left in the middle of a batch; starting with an empty table"
                );
            }
            if let Some(checkpoint) = &mut checkpoint {
                checkpoint.abandon();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // An abandoned agent has a successor with a newer checkpoint.
    if let Some(checkpoint) = checkpoint.as_mut().filter(|_| !shared.abandoned.load(Ordering::Acquire)) {
        checkpoint.finish(core.table());
    }
}

impl AgentHandle {
    /// Listen addresses in use; needed if the configuration has port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of panics and restarts of the agent's thread.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Heartbeat of the agent's thread.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Abandons an agent whose thread is stalled: closes its listeners without waiting for the thread. If the thread ever resumes, it ends;
    /// until then its sink may still be called.
    pub fn abandon(&self) {
        self.shared.abandoned.store(true, Ordering::Release);
        self.pulse.retire();
        self.ask_to_end();
        for listener in self.shared.listeners().drain(..) {
            // Closing this handle alone would leave the address in use.
            let _ = socket2::Socket::from(listener).shutdown(std::net::Shutdown::Both);
        }
    }

    /// Compares the table with the servers' over new connections, and passes the whole table to the sink.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn resync(&self) -> Result<(), String> {
        self.ask(Command::Resync)
    }

    /// A status of kind `agent`; a dataplane adds its own part.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn status(&self) -> Result<Status, String> {
        let status = self.ask(Command::Status)?;
        let uptime_ms = self.started.elapsed().as_millis() as u64;
        let certificates = self.security.as_ref().map(|security| security.certificates()).unwrap_or_default();
        Ok(Status { name: self.name.clone(), uptime_ms, certificates, ..status })
    }

    /// A page of forwarding routes.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn routes(&self, request: RouteRequest) -> Result<RouteList, String> {
        self.ask(|answer| Command::Routes(request, answer))
    }

    /// Times since these routes last changed, in milliseconds, and the server that they are from.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn ages(&self, places: Vec<RoutePlace>) -> Result<(Vec<Option<u64>>, Option<String>), String> {
        self.ask(|answer| Command::Ages(places, answer))
    }

    /// Answers an operator.
    ///
    /// # Errors
    ///
    /// The agent has ended, does not answer in time, or has nothing of what was asked for.
    pub fn answer(&self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Status => self.status().map(|s| Answer::Status(Box::new(s))),
            Request::Routes(request) => {
                refuse_unknown(&request)?;
                self.routes(request).map(Answer::Routes)
            }
            Request::Groups => self.ask(Command::Groups).map(Answer::Groups),
            Request::Resync => {
                self.resync().map(|()| Answer::Done("the table is compared with the servers' again".into()))
            }
            // Its daemon has the file, and answers these.
            Request::Reload | Request::Version | Request::Config => {
                Err("this agent has no configuration file".to_owned())
            }
            Request::Kv(request) => self.records(request),
            Request::Dataplane(_) => {
                Err("an agent has no ports, workers, neighbors or counters of packets: ask a dataplane"
                    .into())
            }
        }
    }

    /// Answers what an operator asks about opaque records.
    ///
    /// # Errors
    ///
    /// The agent has ended, or does not answer in time.
    pub fn records(&self, request: KvRequest) -> Result<Answer, String> {
        match request {
            KvRequest::Get { key } => self.ask(|answer| Command::KvGet(key, answer)).map(Answer::Kv),
            KvRequest::List { prefix, limit } => {
                self.ask(|answer| Command::KvList(prefix, limit, answer)).map(Answer::Kv)
            }
            KvRequest::Watch { prefix, epoch, serial } => {
                self.ask(|answer| Command::KvWatch(prefix, epoch, serial, answer))?
            }
            KvRequest::Put { .. } | KvRequest::Delete { .. } => {
                Err("records are written at a route server, and read here".into())
            }
        }
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, String> {
        let gone = || "the agent is restarting".to_owned();
        let door = self.shared.door().clone().ok_or_else(gone)?;
        let (sender, receiver) = bounded(1);
        door.commands.try_send(command(sender)).map_err(|error| match error {
            TrySendError::Full(_) => "the agent has too many questions to answer; try again".to_owned(),
            TrySendError::Disconnected(_) => gone(),
        })?;
        door.waker.wake();
        self.pulse.answer(ANSWER, &receiver)
    }

    /// Stops the agent and waits for its thread.
    pub fn stop(mut self) {
        self.end();
    }

    fn ask_to_end(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.halt.store(true, Ordering::Release);
        if let Some(door) = self.shared.door().clone() {
            door.waker.wake();
        }
    }

    fn end(&mut self) {
        self.ask_to_end();
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + ENDING;
        while !thread.is_finished() {
            if self.shared.abandoned.load(Ordering::Acquire) {
                return;
            }
            if Instant::now() >= until {
                tracing::error!("the agent's thread is stalled; not waiting for it");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = thread.join();
    }
}

/// Refuses what a host cannot tell: its records are for forwarding, and hold no origin.
///
/// # Errors
/// The text for the operator.
pub fn refuse_unknown(request: &RouteRequest) -> Result<(), String> {
    match &request.filter.origin {
        _ if request.all => Err("only a route server knows every origin's routes".to_owned()),
        Some(origin) if origin != "own" && !origin.starts_with("server ") => Err(format!(
            "a host does not know which routes are from {origin:?}: ask a route server; here it is \"own\" or \"server NAME\""
        )),
        _ => Ok(()),
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.end();
    }
}
