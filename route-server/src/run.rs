//! Runs the route server in the event loop of `fibcast-sync-agent`.
//!
//! [`run`] opens everything that can fail, then runs the loop with a node whose role is the engine. Each turn of the loop handles source
//! events for some milliseconds, lets the engine do a slice of its work and answers operators, so that no heartbeat is late. Sources,
//! operators and signals have threads of their own and reach the loop through channels and its waker.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fibcast_control::protocol::{Answer, Request};
use fibcast_daemon::exit::Failure;
use fibcast_daemon::operators::Operators;
use fibcast_daemon::threads::{self, Heartbeat, Monitor, Pulse, Task};
use fibcast_sync_agent::agent::kv::Watchers;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{Host, Shell, ShellState, ShellWaker, session_limits};
use fibcast_sync_proto::node::Node;

use crate::config::Checked;
use crate::engine::{Engine, EngineError};
use crate::operator::{self, Asking, Question};
use crate::source::{self, Acknowledger, Message, Outlet, QUEUE};

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
pub fn run(checked: &Checked, file: &Path) -> Result<(), Failure> {
    let config = &checked.config;
    fibcast_daemon::files::raise_limit();
    let file = file.to_owned();
    let reread = move || crate::config::tls(&file).map_err(|error| error.to_string());
    let security = Security::open(&config.tls, &config.node.name, reread)?;
    let keys = KeyFile::open(&config.node, &config.tls)?;
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
    let _operators = Operators::open(&config.node, {
        let keys = keys.clone();
        move |request| answer(request, &asking, security.as_deref(), &keys)
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

    let (to, from_sources) = bounded(QUEUE);
    let (started, acknowledgers) = start_sources(checked, &to, &wake, &stop)?;
    let (threads, pulses): (Vec<JoinHandle<()>>, _) = started.into_iter().unzip();
    drop(to);
    let monitor = Monitor::start(config.node.stall_exit()).map_err(Failure::work)?;
    // The host drops the channel's end that a source may wait for.
    let inputs = Inputs { from_sources, acknowledgers, pulses, questions, keys, heartbeat };
    let outcome = serve(checked, &mut shell, inputs, &stop);
    drop(monitor);
    stop.store(true, Ordering::Release);
    for thread in threads {
        // A panic of a source was logged already.
        let _ = thread.join();
    }
    outcome.inspect(|()| tracing::info!("stopped"))
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
    let inputs =
        Inputs { from_sources, acknowledgers: Vec::new(), pulses: Vec::new(), questions, keys, heartbeat };
    serve(checked, shell, inputs, stop)
}

/// What reaches the loop besides peers.
struct Inputs {
    from_sources: Receiver<Message>,
    /// Of the sources that tell their routing daemons what is installed.
    acknowledgers: Vec<(usize, Acknowledger)>,
    /// The sources' threads, in the order of the configuration.
    pulses: Vec<Pulse>,
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

/// Answers an operator. Files are read on the operator's thread, not on that of the tables.
fn answer(
    request: Request,
    asking: &Asking,
    security: Option<&Security>,
    keys: &KeyFile,
) -> Result<Answer, String> {
    if matches!(request, Request::Reload) {
        security.map_or(Ok(()), Security::reload)?;
        keys.reload()?;
        return Ok(Answer::Done(
            "reloaded allow lists, certificates and digest keys; other changes need a restart".into(),
        ));
    }
    let mut answer = asking.ask(request)?;
    if let (Answer::Status(status), Some(security)) = (&mut answer, security) {
        status.certificates = security.certificates();
    }
    Ok(answer)
}

fn waking(waker: ShellWaker) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || waker.wake())
}

/// The sources' threads, in the order of the configuration.
type Started = Vec<(JoinHandle<()>, Pulse)>;

fn start_sources(
    checked: &Checked,
    to: &crossbeam_channel::Sender<Message>,
    wake: &Arc<dyn Fn() + Send + Sync>,
    stop: &Arc<AtomicBool>,
) -> Result<(Started, Vec<(usize, Acknowledger)>), Failure> {
    let (mut threads, mut acknowledgers) = (Vec::new(), Vec::new());
    for (at, plan) in checked.sources.iter().enumerate() {
        let failed = |error| Failure::work(format!("source {:?}: {error}", plan.origin));
        let mut outlet = Outlet::new(at, to.clone(), wake.clone(), stop.clone());
        if checked.config.acknowledge.is_some() && plan.kind.acknowledges() {
            let (acknowledger, acknowledgements) = source::acknowledgements().map_err(failed)?;
            acknowledgers.push((at, acknowledger));
            outlet = outlet.with_acknowledgements(acknowledgements);
        }
        threads.push(source::start(&plan.origin, plan.kind.clone(), outlet).map_err(failed)?);
    }
    Ok((threads, acknowledgers))
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
        for (at, pulse) in self.inputs.pulses.iter().enumerate() {
            // One that has ended has said why.
            node.role_mut().source_stalled(at, pulse.is_stalled() && !pulse.has_ended());
        }
        if let Err(error) = self.hear(now, node.role_mut()) {
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
        for (source, to) in &self.inputs.acknowledgers {
            while to.has_room() {
                let Some(acknowledgement) = engine.poll_acknowledged(*source) else { break };
                to.send(acknowledgement);
            }
            if !to.has_room() {
                again = Some(now + OFFER_AGAIN);
            }
        }
        again
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
