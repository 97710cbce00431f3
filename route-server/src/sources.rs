//! The threads of the sources: those of the configuration at the start, and those that a reload starts or replaces.
//!
//! A reload goes in three steps. What can fail comes first: it compares the files, reads those of routes and opens sockets. Then the owner of the
//! tables takes the new rules of all sources in one turn ([`Handover`]). At last the new threads start, and live sources get their orders: no
//! event of theirs can come before the rules that it falls under.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded, unbounded};
use fibcast_control::status::SourceStatus;
use fibcast_daemon::config::Loaded;
use fibcast_daemon::exit::Failure;
use fibcast_daemon::threads::Pulse;

use crate::config::{Changes, Checked, Config, SourceChange, SourcePlan, changes, read_content};
use crate::engine::{SourceRules, Until};
use crate::source::{self, Acknowledger, Content, Kind, Message, Opened, Order, Outlet};

/// How long a reload waits for the owner of the tables.
const HANDOVER: Duration = Duration::from_secs(5);
/// Time after which it wakes the owner again: it may just have looked.
const WAKE_AGAIN: Duration = Duration::from_millis(50);

/// Wakes the owner of the tables.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the owner of the tables knows of a source's thread.
#[derive(Debug)]
pub struct Attached {
    /// Its number.
    pub thread: usize,
    /// Its heartbeat.
    pub pulse: Pulse,
    /// Tells its routing daemon what is installed.
    pub acknowledger: Option<Acknowledger>,
}

/// New rules of all sources, for the owner of the tables.
#[derive(Debug)]
pub struct Handover {
    /// The rules.
    pub rules: Vec<SourceRules>,
    /// Origins of sources that are removed.
    pub gone: Vec<String>,
    /// Told when they are in force.
    pub done: Sender<()>,
}

/// The ends of the channels that the owner of the tables has.
#[derive(Debug)]
pub struct Inlets {
    /// New rules. The channel has no capacity: a send succeeds only while the owner receives.
    pub handovers: Receiver<Handover>,
    /// Threads that were started.
    pub attached: Receiver<Attached>,
}

impl Inlets {
    /// Of a server without reloads.
    pub fn none() -> Self {
        Self { handovers: crossbeam_channel::never(), attached: crossbeam_channel::never() }
    }
}

#[derive(Debug)]
struct Running {
    origin: String,
    thread: usize,
    stop: Arc<AtomicBool>,
    orders: Sender<Order>,
    pulse: Pulse,
    join: JoinHandle<()>,
    /// Of what was read from its file.
    fingerprint: Option<u64>,
}

/// The threads of all sources.
pub struct Sources {
    events: Sender<Message>,
    wake: Wake,
    acknowledges: bool,
    handovers: Sender<Handover>,
    attached: Sender<Attached>,
    next: usize,
    running: Vec<Running>,
}

impl Sources {
    /// Without a thread. Their events go to `events`.
    pub fn new(events: Sender<Message>, wake: Wake, acknowledges: bool) -> (Self, Inlets) {
        let (handing, handovers) = bounded(0);
        let (attaching, attached) = unbounded();
        let sources = Self {
            events,
            wake,
            acknowledges,
            handovers: handing,
            attached: attaching,
            next: 0,
            running: Vec::new(),
        };
        (sources, Inlets { handovers, attached })
    }

    /// Starts the sources of a configuration, whose threads have the numbers of their places in it.
    ///
    /// # Errors
    /// The source whose sockets or thread cannot be had.
    pub fn start(&mut self, checked: &Checked, contents: Vec<Option<Content>>) -> Result<(), Failure> {
        let contents = contents.into_iter().chain(std::iter::repeat_with(|| None));
        for (plan, content) in checked.sources.iter().zip(contents) {
            let failed = |error| Failure::work(format!("source {:?}: {error}", plan.origin));
            let fingerprint = content.as_ref().and_then(Content::fingerprint);
            let opened = source::open(plan.kind.clone(), content).map_err(failed)?;
            let thread = self.number();
            self.spawn(plan, thread, opened, fingerprint, false).map_err(failed)?;
        }
        Ok(())
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn spawn(
        &mut self,
        plan: &SourcePlan,
        thread: usize,
        opened: Opened,
        fingerprint: Option<u64>,
        again: bool,
    ) -> io::Result<()> {
        let stop: Arc<AtomicBool> = Arc::default();
        let (orders, from) = unbounded();
        let mut outlet =
            Outlet::new(thread, self.events.clone(), self.wake.clone(), stop.clone()).with_orders(from);
        let mut acknowledger = None;
        if self.acknowledges && plan.kind.acknowledges() {
            let (telling, told) = source::acknowledgements()?;
            acknowledger = Some(telling);
            outlet = outlet.with_acknowledgements(told);
        }
        let (join, pulse) = source::spawn(&plan.origin, opened, outlet, again)?;
        // Without the owner of the tables nobody needs it.
        let _ = self.attached.send(Attached { thread, pulse: pulse.clone(), acknowledger });
        let origin = plan.origin.clone();
        self.running.push(Running { origin, thread, stop, orders, pulse, join, fingerprint });
        Ok(())
    }

    /// Takes over what a new version of the file says of sources. `states`: those of the sources at work.
    ///
    /// # Errors
    /// Why nothing has changed: keys that need a restart, or files and sockets that cannot be used.
    pub fn prepare(
        &mut self,
        new: (&Loaded<Config>, &Checked),
        before: (&Loaded<Config>, &Checked),
        states: &[SourceStatus],
    ) -> Result<Prepared, String> {
        let Changes { sources, gone } = changes(new, before)?;
        let mut steps = Vec::new();
        for (at, (change, plan)) in sources.into_iter().zip(&new.1.sources).enumerate() {
            let state = states.iter().find(|status| status.origin == plan.origin);
            let down = state.is_some_and(|s| matches!(s.state.as_str(), "stopped" | "failed"));
            let step = self.step(at, change, plan, down, new.0)?;
            let (thread, again) = match (&step.how, self.running(&plan.origin)) {
                (How::Thread(..), _) => (self.number(), Some(Until::EndOfTable)),
                (How::Orders { again: true, .. }, Some(running)) => (running.thread, Some(Until::Refreshed)),
                (_, Some(running)) => (running.thread, None),
                (_, None) => continue,
            };
            let rules = SourceRules {
                origin: plan.origin.clone(),
                kind: plan.kind.name(),
                distance: plan.distance,
                filter: new.1.filter(at),
                thread,
                again,
            };
            steps.push((plan.clone(), rules, step));
        }
        Ok(Prepared { steps, gone })
    }

    fn running(&self, origin: &str) -> Option<&Running> {
        self.running.iter().find(|running| running.origin == origin)
    }

    /// What has to be done for a source, with everything that can fail.
    fn step(
        &self,
        at: usize,
        change: SourceChange,
        plan: &SourcePlan,
        down: bool,
        loaded: &Loaded<Config>,
    ) -> Result<Step, String> {
        let SourceChange { before, again, policy } = change;
        let running = self.running(&plan.origin).filter(|_| before.is_some());
        let ended = running.is_none_or(|running| running.pulse.has_ended());
        let open = |content| {
            source::open(plan.kind.clone(), content).map_err(|e| format!("source {:?}: {e}", plan.origin))
        };
        let read = || read_content(loaded, at, &plan.kind).map_err(|error| error.to_string());
        match &plan.kind {
            Kind::Static(_) => {
                let content = read()?;
                let fingerprint = content.as_ref().and_then(Content::fingerprint);
                let same = running.is_some_and(|running| running.fingerprint == fingerprint);
                if same && !again && !down {
                    return Ok(Step::nothing());
                }
                let what = content.as_ref().map(|content| plan.kind.describe(content)).unwrap_or_default();
                Ok(Step { what, how: How::Thread(open(content)?, fingerprint) })
            }
            Kind::Mrt(_) if again || down => {
                let content = read()?;
                let what = content.as_ref().map(|content| plan.kind.describe(content)).unwrap_or_default();
                Ok(Step { what, how: How::Thread(open(content)?, None) })
            }
            Kind::Mrt(_) => Ok(Step::nothing()),
            Kind::Fpm(_) | Kind::Netlink(_) if ended => {
                Ok(Step { what: "started".to_owned(), how: How::Thread(open(None)?, None) })
            }
            Kind::Fpm(_) | Kind::Netlink(_) => {
                let again = again || down;
                let what = match (again, &policy) {
                    (false, None) => return Ok(Step::nothing()),
                    (true, None) => "its routes are taken by the new rules",
                    (_, Some(_)) => "its routing daemon's table is read again by the new rules",
                };
                Ok(Step { what: what.to_owned(), how: How::Orders { again, policy } })
            }
        }
    }

    /// Puts in force what was prepared; says what, a line for each source.
    ///
    /// # Errors
    /// Why nothing has changed: the owner of the tables does not take it.
    pub fn commit(&mut self, Prepared { steps, gone }: Prepared) -> Result<Vec<String>, String> {
        let (mut rules, mut rest) = (Vec::new(), Vec::new());
        for (plan, rule, step) in steps {
            if !matches!(step.how, How::Nothing) {
                rest.push((plan, rule.thread, step));
                rules.push(rule);
            }
        }
        if rules.is_empty() && gone.is_empty() {
            return Ok(Vec::new());
        }
        self.hand_over(rules, gone.clone())?;
        let mut lines = Vec::new();
        for origin in gone {
            self.retire(&origin);
            lines.push(format!("source {origin:?}: removed, its routes are withdrawn"));
        }
        for (plan, thread, step) in rest {
            let line = format!("source {:?}: {}", plan.origin, step.what);
            match step.how {
                How::Nothing => {}
                How::Orders { again, policy } => {
                    let orders = again.then_some(Order::Refresh).into_iter().chain(policy.map(Order::Policy));
                    let running = self.running.iter().find(|running| running.thread == thread);
                    // One that ends now is started by the next reload.
                    orders.for_each(|order| _ = running.map(|running| running.orders.send(order)));
                }
                How::Thread(opened, fingerprint) => {
                    let again = self.retire(&plan.origin);
                    if let Err(error) = self.spawn(&plan, thread, opened, fingerprint, again) {
                        let reason = format!("no thread: {error}");
                        let event = source::Event::Failed(reason.clone());
                        let _ = self.events.send(Message { source: thread, event });
                        lines.push(format!("source {:?}: {reason}", plan.origin));
                        continue;
                    }
                }
            }
            lines.extend(line.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// Gives the rules to the owner of the tables, or not at all.
    fn hand_over(&self, rules: Vec<SourceRules>, gone: Vec<String>) -> Result<(), String> {
        let (done, in_force) = bounded(1);
        let mut handover = Handover { rules, gone, done };
        let until = Instant::now() + HANDOVER;
        loop {
            (self.wake)();
            match self.handovers.send_timeout(handover, WAKE_AGAIN) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(back)) if Instant::now() < until => handover = back,
                Err(SendTimeoutError::Timeout(_)) => {
                    return Err(format!("the tables are busy for {} s", HANDOVER.as_secs()));
                }
                Err(SendTimeoutError::Disconnected(_)) => {
                    return Err("the route server is stopping".to_owned());
                }
            }
        }
        in_force.recv().map_err(|_| "the route server is stopping".to_owned())
    }

    /// Ends the thread of a source that has a successor. False: there was none.
    fn retire(&mut self, origin: &str) -> bool {
        let Some(at) = self.running.iter().position(|running| running.origin == origin) else { return false };
        let running = self.running.swap_remove(at);
        running.stop.store(true, Ordering::Relaxed);
        running.pulse.retire();
        true
    }

    /// Ends all threads, and waits for them. The owner of the tables must be gone, or they might wait for it.
    pub fn end(&mut self) {
        self.running.iter().for_each(|running| running.stop.store(true, Ordering::Relaxed));
        for running in self.running.drain(..) {
            // A panic of a source was logged already.
            let _ = running.join.join();
        }
    }
}

/// A reload of the sources in which nothing can fail any more.
pub struct Prepared {
    steps: Vec<(SourcePlan, SourceRules, Step)>,
    gone: Vec<String>,
}

struct Step {
    /// What it is, for the operator.
    what: String,
    how: How,
}

impl Step {
    fn nothing() -> Self {
        Self { what: String::new(), how: How::Nothing }
    }
}

enum How {
    Nothing,
    /// A new thread, with the fingerprint of its file.
    Thread(Opened, Option<u64>),
    /// Orders for the thread.
    Orders {
        again: bool,
        policy: Option<source::mirror::Policy>,
    },
}
