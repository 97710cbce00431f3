//! Runs the route server in the event loop of `fibcast-sync-agent`.
//!
//! [`run`] opens everything that can fail, then runs the loop with a node whose role is the engine. Each turn of the loop handles source
//! events for some milliseconds, lets the engine do a slice of its work and answers operators, so that no heartbeat is late. Sources,
//! operators and signals have threads of their own and reach the loop through channels and its waker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::SourceStatus;
use fibcast_daemon::about::About;
use fibcast_daemon::exit::Failure;
use fibcast_daemon::operators::Operators;
use fibcast_daemon::reload::Reload;
use fibcast_daemon::threads::{self, Heartbeat, Monitor, Task};
use fibcast_sync_agent::agent::kv::Watchers;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::protection::Protection;
use fibcast_sync_agent::shell::{Host, Shell, ShellState, ShellWaker, session_limits};
use fibcast_sync_proto::node::Node;

use crate::config::{self, Checked, File};
use crate::engine::{Engine, EngineError};
use crate::operator::{self, Asking, Question};
use crate::source::{Message, QUEUE};
use crate::sources::{Attached, Handover, Inlets, Sources, Wake};

/// Name of the thread that owns the tables.
const OWNER: &str = "engine";
/// Time for sources in one turn.
const SOURCES: Duration = Duration::from_millis(5);
/// Pause before an acknowledgement is offered to a busy source again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// Runs until it is asked to stop.
///
/// # Errors
/// [`Failure`] with file, line and key of what is wrong, or the error that stopped the server.
pub fn run(file: File) -> Result<(), Failure> {
    let File { loaded, checked, contents } = file;
    let config = &checked.config;
    fibcast_daemon::files::raise_limit();
    let protection = Protection::open(&config.node, &config.tls)?;
    let (security, keys) = (protection.security.clone(), protection.keys.clone());
    let mut shell =
        Shell::secure(&config.node.name, config.limits, security.clone()).map_err(Failure::work)?;
    for address in &config.node.listen {
        let bound = shell.listen(*address).map_err(Failure::work)?;
        tracing::info!("{}: serving on {bound}", config.node.name);
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let wake = waking(shell.waker());
    let heartbeat = threads::register(Task::essential(OWNER));
    let (asking, questions) = Asking::new(wake.clone(), heartbeat.pulse());
    let (to, from_sources) = bounded(QUEUE);
    let (sources, inlets) = Sources::new(to, wake.clone(), config.acknowledge.is_some());
    let sources = Arc::new(Mutex::new(sources));
    let reload = {
        let (checked, sources, asking) = (checked.clone(), sources.clone(), asking.clone());
        reloading(Reloading { in_force: checked, sources, protection, asking }, loaded)
    };
    reload.on_hangup()?;
    let about = About::new("fibcast-route-server", &config.node.name, Vec::new(), reload);
    let _operators = Operators::open(&config.node, move |request| {
        if let Some(answer) = about.answer(&request) {
            return answer;
        }
        let mut answer = asking.ask(request)?;
        if let (Answer::Status(status), Some(security)) = (&mut answer, &security) {
            status.certificates = security.certificates();
        }
        Ok(answer)
    })
    .map_err(|(_, error)| Failure::work(error))?;
    fibcast_daemon::signals::on_stop({
        let (stop, wake) = (stop.clone(), wake.clone());
        move || {
            stop.store(true, Ordering::Release);
            wake();
        }
    })
    .map_err(|error| Failure::work(format!("signals: {error}")))?;

    let locked = || sources.lock().unwrap_or_else(PoisonError::into_inner);
    locked().start(&checked, contents)?;
    let monitor = Monitor::start(config.node.stall_exit()).map_err(Failure::work)?;
    // The host drops the channels' ends that a source or a reload may wait for.
    let inputs = Inputs { from_sources, inlets, attached: Vec::new(), questions, keys, heartbeat };
    let outcome = serve(&checked, &mut shell, inputs, &stop);
    drop(monitor);
    stop.store(true, Ordering::Release);
    locked().end();
    outcome.inspect(|()| tracing::info!("stopped"))
}

/// What a reload changes.
struct Reloading {
    /// What the file in force means.
    in_force: Checked,
    sources: Arc<Mutex<Sources>>,
    protection: Protection,
    asking: Asking,
}

/// The reload of this server: what can fail first, then all at once.
fn reloading(mut of: Reloading, loaded: config::LoadedConfig) -> Reload {
    Reload::new(loaded, move |new, before| {
        let checked = config::check(new).map_err(|error| error.to_string())?;
        let mut sources = of.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = sources.prepare((new, &checked), (before, &of.in_force), &states(&of.asking)?)?;
        let protection = of.protection.read(new, &new.value.tls)?;
        let mut done = sources.commit(prepared)?;
        done.extend(of.protection.replace(protection));
        of.in_force = checked;
        done.extend(fibcast_daemon::log::take_over(&new.value.log));
        Ok(done)
    })
}

/// How the sources are: one that has stopped is started again.
fn states(asking: &Asking) -> Result<Vec<SourceStatus>, String> {
    match asking.ask(Request::Status)? {
        Answer::Status(status) => Ok(status.sources),
        _ => Ok(Vec::new()),
    }
}

/// Runs on the caller's loop, with the caller's source instead of configured ones, without signals and operator sockets: a route server
/// inside another program, for benchmarks.
///
/// # Errors
/// The error that stopped the engine or the loop.
pub fn embed(
    checked: &Checked,
    shell: &mut Shell,
    from_sources: Receiver<Message>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let heartbeat = threads::register(Task::essential(OWNER));
    let (_asking, questions) = Asking::new(Arc::new(|| ()), heartbeat.pulse());
    let keys = KeyFile::load(checked.config.node.digest_key.as_deref()).map_err(Failure::work)?;
    let inlets = Inlets::none();
    let inputs = Inputs { from_sources, inlets, attached: Vec::new(), questions, keys, heartbeat };
    serve(checked, shell, inputs, stop)
}

/// What reaches the loop besides peers.
struct Inputs {
    from_sources: Receiver<Message>,
    /// Of reloads.
    inlets: Inlets,
    /// The sources' threads.
    attached: Vec<Attached>,
    questions: Receiver<Question>,
    keys: KeyFile,
    heartbeat: Heartbeat,
}

/// Runs the loop until it is asked to stop, or the engine fails.
fn serve(
    checked: &Checked,
    shell: &mut Shell,
    inputs: Inputs,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let keys = inputs.keys.keys();
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let now = shell.now();
    let engine = Engine::new(checked, epoch, now).map_err(Failure::work)?.with_digest_key(keys.own());
    let upstream = engine.upstream();
    let budgets = checked.config.node.limits;
    let mut node = Node::new(&checked.config.node.name, now, engine, upstream)
        .with_limits(session_limits(&budgets))
        .with_pending(budgets.pending_bytes)
        .with_digest_keys(keys);
    shell.set_servers(checked.config.peer.iter().map(|peer| peer.address.clone()).collect());
    let mut host = RouteServer {
        inputs,
        seen_keys: 0,
        watchers: Watchers::default(),
        waker: shell.waker(),
        stop: stop.clone(),
        failure: None,
    };
    shell.run(&mut node, &mut host, stop).map_err(Failure::work)?;
    host.failure.map_or(Ok(()), |failure| Err(Failure::work(failure)))
}

fn waking(waker: ShellWaker) -> Wake {
    Arc::new(move || waker.wake())
}

/// The part of the event loop besides the node.
struct RouteServer {
    inputs: Inputs,
    /// The last version of the digest keys that was noticed.
    seen_keys: u64,
    watchers: Watchers,
    waker: ShellWaker,
    stop: Arc<AtomicBool>,
    failure: Option<EngineError>,
}

impl Host<Engine> for RouteServer {
    fn input(&mut self, now: Duration, node: &mut Node<Engine>, state: &ShellState) {
        self.inputs.heartbeat.beat();
        self.inputs.attached.extend(self.inputs.inlets.attached.try_iter());
        for Attached { thread, pulse, .. } in &self.inputs.attached {
            // One that has ended has said why.
            node.role_mut().source_stalled(*thread, pulse.is_stalled() && !pulse.has_ended());
        }
        if let Err(error) =
            self.take_rules(now, node.role_mut()).and_then(|()| self.hear(now, node.role_mut()))
        {
            self.fail(error);
        }
        while let Ok(question) = self.inputs.questions.try_recv() {
            operator::answer(question, now, node, state, &mut self.watchers);
        }
        if let Some(keys) = self.inputs.keys.replaced(&mut self.seen_keys) {
            node.role_mut().rekey(keys.own());
            node.set_digest_keys(keys);
        }
    }

    fn output(&mut self, now: Duration, node: &mut Node<Engine>) -> Option<Duration> {
        if let Some(error) = node.role_mut().take_failure() {
            self.fail(error);
        }
        let more = self.acknowledge(now, node.role_mut());
        more.into_iter().chain(self.watchers.turn(now, node.role().fib())).min()
    }
}

impl RouteServer {
    /// Records an error, and stops the loop.
    fn fail(&mut self, error: EngineError) {
        self.failure.get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }

    /// Tells sources what is installed. None of them is waited for: what there is no room for is offered again at the returned time.
    fn acknowledge(&self, now: Duration, engine: &mut Engine) -> Option<Duration> {
        let mut again = None;
        for Attached { thread, acknowledger, .. } in &self.inputs.attached {
            let Some(to) = acknowledger else { continue };
            while to.has_room() {
                let Some(acknowledgement) = engine.poll_acknowledged(*thread) else { break };
                to.send(acknowledgement);
            }
            if !to.has_room() {
                again = Some(now + OFFER_AGAIN);
            }
        }
        again
    }

    /// Puts the rules of a reload in force.
    fn take_rules(&mut self, now: Duration, engine: &mut Engine) -> Result<(), EngineError> {
        while let Ok(Handover { rules, gone, done }) = self.inputs.inlets.handovers.try_recv() {
            engine.reload(now, rules, &gone)?;
            self.inputs.attached.retain(|attached| engine.follows(attached.thread));
            let _ = done.send(());
        }
        Ok(())
    }

    /// Handles source events for a while.
    fn hear(&mut self, now: Duration, engine: &mut Engine) -> Result<(), EngineError> {
        let begin = Instant::now();
        while let Ok(message) = self.inputs.from_sources.try_recv() {
            engine.handle_source(now, message)?;
            if begin.elapsed() >= SOURCES {
                // There may be more: peers have their turn, then the sources again.
                self.waker.wake();
                break;
            }
        }
        Ok(())
    }
}
