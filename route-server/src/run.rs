//! Runs the route server in the event loop of `fibcast-sync-agent`.
//!
//! [`run`] opens everything that can fail, then runs the loop with a node whose role is the engine. Each turn of the loop handles source
//! events for some milliseconds, lets the engine do a slice of its work and answers operators, so that no heartbeat is late. Sources,
//! operators and signals have threads of their own and reach the loop through channels and its waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};
use fibcast_daemon::exit::Failure;
use fibcast_daemon::operators::Operators;
use fibcast_sync_agent::agent::kv::Watchers;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{Host, Shell, ShellState, ShellWaker};
use fibcast_sync_proto::node::Node;

use crate::config::Checked;
use crate::engine::{Engine, EngineError};
use crate::operator::{self, Asking, Question};
use crate::source::{self, Acknowledger, Message, Outlet, QUEUE};

/// Time for sources in one turn.
const SOURCES: Duration = Duration::from_millis(5);
/// Pause before an acknowledgement is offered to a busy source again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// Runs until it is asked to stop.
///
/// # Errors
/// [`Failure`] with file, line and key of what is wrong, or the error that stopped the server.
pub fn run(checked: &Checked) -> Result<(), Failure> {
    let config = &checked.config;
    fibcast_daemon::files::raise_limit();
    let security = Security::open(&config.tls, &config.node.name)?;
    let mut shell = Shell::secure(&config.node.name, config.limits, security).map_err(Failure::work)?;
    for address in &config.node.listen {
        let bound = shell.listen(*address).map_err(Failure::work)?;
        tracing::info!("{}: serving on {bound}", config.node.name);
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let wake = waking(shell.waker());
    let (asking, questions) = Asking::new(wake.clone());
    let _operators = Operators::open(&config.node, move |request| asking.ask(request))
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
    let (threads, acknowledgers) = start_sources(checked, &to, &wake, &stop)?;
    drop(to);
    // The host drops the channel's end that a source may wait for.
    let outcome = serve(checked, &mut shell, from_sources, acknowledgers, questions, &stop);
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
    let (_asking, questions) = Asking::new(Arc::new(|| ()));
    serve(checked, shell, from_sources, Vec::new(), questions, stop)
}

/// Runs the loop until it is asked to stop, or the engine fails.
fn serve(
    checked: &Checked,
    shell: &mut Shell,
    from_sources: Receiver<Message>,
    acknowledgers: Vec<(usize, Acknowledger)>,
    questions: Receiver<Question>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let now = shell.now();
    let engine = Engine::new(checked, epoch, now).map_err(Failure::work)?;
    let upstream = engine.upstream();
    let mut node = Node::new(&checked.config.node.name, now, engine, upstream);
    shell.set_servers(checked.config.peer.iter().map(|peer| peer.address.clone()).collect());
    let mut host = RouteServer {
        from_sources,
        acknowledgers,
        questions,
        watchers: Watchers::default(),
        waker: shell.waker(),
        stop: stop.clone(),
        failure: None,
    };
    shell.run(&mut node, &mut host, stop).map_err(Failure::work)?;
    host.failure.map_or(Ok(()), |failure| Err(Failure::work(failure)))
}

fn waking(waker: ShellWaker) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || waker.wake())
}

fn start_sources(
    checked: &Checked,
    to: &crossbeam_channel::Sender<Message>,
    wake: &Arc<dyn Fn() + Send + Sync>,
    stop: &Arc<AtomicBool>,
) -> Result<(Vec<JoinHandle<()>>, Vec<(usize, Acknowledger)>), Failure> {
    let (mut threads, mut acknowledgers) = (Vec::new(), Vec::new());
    for (at, plan) in checked.sources.iter().enumerate() {
        let failed = |error| Failure::work(format!("source {:?}: {error}", plan.origin));
        let mut outlet = Outlet::new(at, to.clone(), wake.clone(), stop.clone());
        if checked.config.acknowledge.is_some() && plan.kind.acknowledges() {
            let (acknowledger, acknowledgements) = source::acknowledgements().map_err(failed)?;
            acknowledgers.push((at, acknowledger));
            outlet = outlet.with_acknowledgements(acknowledgements);
        }
        threads.push(source::start(plan.kind.clone(), outlet).map_err(failed)?);
    }
    Ok((threads, acknowledgers))
}

/// The part of the event loop besides the node.
struct RouteServer {
    from_sources: Receiver<Message>,
    /// Of the sources that tell their routing daemons what is installed.
    acknowledgers: Vec<(usize, Acknowledger)>,
    questions: Receiver<Question>,
    watchers: Watchers,
    waker: ShellWaker,
    stop: Arc<AtomicBool>,
    failure: Option<EngineError>,
}

impl Host<Engine> for RouteServer {
    fn input(&mut self, now: Duration, node: &mut Node<Engine>, state: &ShellState) {
        if let Err(error) = self.hear(now, node.role_mut()) {
            self.fail(error);
        }
        while let Ok(question) = self.questions.try_recv() {
            operator::answer(question, now, node, state, &mut self.watchers);
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
        for (source, to) in &self.acknowledgers {
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
        while let Ok(message) = self.from_sources.try_recv() {
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
