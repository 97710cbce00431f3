//! Faults in the network. Each run draws its own weights, so some runs only have resets and others only crashes.

use std::time::Duration;

use crate::connection::Way;
use fibcast_sync_proto::Key;
use fibcast_sync_proto::agent::SinkError;
use fibcast_sync_proto::server::Limits;

use crate::invariants::{Rule, Violation};
use crate::network::{Event, Network, Undo};
use crate::node::{Kind, Running};
use crate::rng::Rng;

/// A kind of external event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A protocol changes some routes.
    Churn,
    /// A protocol moves all routes of a next hop to another.
    Move,
    /// A protocol loses all routes and learns others.
    Flap,
    /// A source is no longer live, or is again.
    Source,
    /// A TCP reset that both ends detect.
    Reset,
    /// A connection is lost and one end does not detect it.
    HalfOpen,
    /// All bytes between two nodes are lost, in one direction or both.
    Cut,
    /// A slow reader: it takes a few bytes at a time.
    Slow,
    /// A process dies; its system resets its connections.
    Crash,
    /// A host loses power: nothing answers.
    PowerLoss,
    /// A route server reports that it is not ready.
    Drain,
    /// A node sends heartbeats and no data.
    Gray,
    /// A process is paused for a while.
    Pause,
    /// A clock jumps ahead.
    Jump,
    /// An agent writes its table to disk.
    Checkpoint,
    /// An agent's sink is busy or fails for a while.
    Sink,
    /// An agent's sink refuses some of the routes that it is given, or takes all that it has refused.
    Refuse,
    /// An agent's sink is damaged, and an operator requests a resync.
    Resync,
    /// An agent's thread panics and is restarted, with the table that it had.
    Panic,
    /// Nothing happens for a long time.
    Calm,
}

/// Kinds with their highest frequency.
const ALL: [(Fault, u64); 20] = [
    (Fault::Churn, 30),
    (Fault::Move, 4),
    (Fault::Flap, 3),
    (Fault::Source, 4),
    (Fault::Reset, 8),
    (Fault::HalfOpen, 5),
    (Fault::Cut, 8),
    (Fault::Slow, 6),
    (Fault::Crash, 5),
    (Fault::PowerLoss, 3),
    (Fault::Drain, 5),
    (Fault::Gray, 8),
    (Fault::Pause, 4),
    (Fault::Jump, 3),
    (Fault::Checkpoint, 5),
    (Fault::Sink, 6),
    (Fault::Refuse, 6),
    (Fault::Resync, 3),
    (Fault::Panic, 3),
    (Fault::Calm, 6),
];

/// The weights of one run.
#[derive(Debug, Clone)]
pub struct Weather(Vec<(Fault, u64)>);

impl Weather {
    /// Draws the weights: about half of the kinds do not happen at all, churn always does.
    pub fn draw(rng: &mut Rng) -> Self {
        let weigh = |(fault, most): (Fault, u64)| {
            let never = fault != Fault::Churn && fault != Fault::Calm && rng.percent(45);
            (fault, if never { 0 } else { rng.range(1, most) })
        };
        Self(ALL.into_iter().map(weigh).collect())
    }

    /// The next fault.
    pub fn pick(&self, rng: &mut Rng) -> Fault {
        let mut at = rng.below(self.0.iter().map(|(_, w)| w).sum());
        for (fault, weight) in &self.0 {
            if at < *weight {
                return *fault;
            }
            at -= weight;
        }
        Fault::Calm
    }
}

impl Network {
    /// Executes a fault. Returns the time until the next one.
    ///
    /// # Errors
    /// The violated rule.
    pub fn befall(&mut self, fault: Fault) -> Result<Duration, Violation> {
        let wait = Duration::from_micros(self.rng.skewed(500, 1_500_000));
        match fault {
            Fault::Churn | Fault::Move | Fault::Flap => self.churn(fault),
            Fault::Source => self.lose_source(),
            Fault::Reset | Fault::HalfOpen => self.break_connection(fault)?,
            Fault::Cut => self.cut(),
            Fault::Slow => self.slow(),
            Fault::Crash | Fault::PowerLoss => self.crash_any(fault == Fault::PowerLoss),
            Fault::Drain => self.drain()?,
            Fault::Gray => self.turn_gray(),
            Fault::Pause | Fault::Jump => self.clock(fault == Fault::Pause),
            Fault::Checkpoint => {
                let n = self.any_node();
                self.checkpoint(n);
            }
            Fault::Sink => self.trouble_sink()?,
            Fault::Refuse => self.refuse()?,
            Fault::Resync => self.resync()?,
            Fault::Panic => self.panic()?,
            Fault::Calm => return Ok(Duration::from_millis(self.rng.range(1_000, 20_000))),
        }
        Ok(wait)
    }

    /// A source is lost, or comes back.
    fn lose_source(&mut self) {
        let protocol = self.rng.index(self.model.protocols.len());
        let Some(stale) = self.model.protocols.get(protocol).map(|p| p.stale) else { return };
        self.note(
            self.now,
            format_args!("the source of protocol {protocol} is {}", if stale { "live" } else { "lost" }),
        );
        self.source_lives(protocol, stale);
    }

    fn any_node(&mut self) -> usize {
        self.rng.index(self.nodes.len())
    }

    fn any_path(&mut self) -> Option<(usize, usize)> {
        let all: Vec<(usize, usize)> = self.paths.keys().copied().collect();
        self.rng.pick(&all).copied()
    }

    /// Routes of a protocol change.
    pub fn churn(&mut self, fault: Fault) {
        let protocol = self.rng.index(self.model.protocols.len());
        let size = self.model.size() as u64;
        let mut batch = Vec::new();
        let mut rng = self.rng.clone();
        match fault {
            Fault::Move => {
                let (from, to) = (rng.index(self.model.groups()), rng.index(self.model.groups()));
                batch = self.model.move_group(protocol, from, to);
            }
            Fault::Flap => {
                batch = self.model.withdraw_all(protocol);
                if rng.percent(70) {
                    self.say(protocol, std::mem::take(&mut batch));
                    batch = self.model.churn(protocol, size as usize, 20, &mut rng);
                }
            }
            _ => {
                let n = rng.skewed(1, size) as usize;
                let withdrawn = rng.below(70);
                batch.extend(self.model.churn(protocol, n, withdrawn, &mut rng));
            }
        }
        self.rng = rng;
        let name = self.model.protocols.get(protocol).map(|p| p.name.clone()).unwrap_or_default();
        self.note(self.now, format_args!("{name} changes {} routes", batch.len()));
        if !batch.is_empty() {
            self.say(protocol, batch);
        }
    }

    fn break_connection(&mut self, fault: Fault) -> Result<(), Violation> {
        let all: Vec<u64> = self.connections.iter().filter(|(_, c)| !c.void).map(|(&id, _)| id).collect();
        let Some(&id) = self.rng.pick(&all) else { return Ok(()) };
        let Some((client, server)) = self.connections.get(&id).map(|c| (c.client, c.server)) else {
            return Ok(());
        };
        let (client_notified, server_notified) = match fault {
            Fault::Reset => (true, true),
            _ => {
                let first = self.rng.percent(50);
                (first, !first)
            }
        };
        self.note(
            self.now,
            format_args!(
                "reset between {} (notified: {client_notified}) and {} (notified: {server_notified})",
                self.name(client),
                self.name(server)
            ),
        );
        self.reset(id, client_notified, server_notified)
    }

    fn cut(&mut self) {
        let Some((client, server)) = self.any_path() else { return };
        let (up, down) = match self.rng.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let now = self.now;
        let until = now + Duration::from_millis(self.rng.skewed(100, 12_000));
        let Some(path) = self.paths.get_mut(&(client, server)).filter(|p| p.is_whole()) else { return };
        path.cut_up = up.then_some(now);
        path.cut_down = down.then_some(now);
        self.note(
            now,
            format_args!(
                "silence between {} and {}: up {up}, down {down}, until {until:?}",
                self.name(client),
                self.name(server)
            ),
        );
        self.at(until, Event::Undo(Undo::Path(client, server)));
    }

    fn slow(&mut self) {
        let Some((client, server)) = self.any_path() else { return };
        let rate = self.rng.skewed(3, 4_000) as usize;
        let until = self.now + Duration::from_millis(self.rng.skewed(500, 15_000));
        let Some(path) = self.paths.get_mut(&(client, server)).filter(|p| p.is_whole()) else { return };
        path.slow = Some(rate);
        self.note(
            self.now,
            format_args!(
                "{} and {}: {rate} bytes per 10 ms until {until:?}",
                self.name(client),
                self.name(server)
            ),
        );
        self.at(until, Event::Undo(Undo::Path(client, server)));
    }

    fn crash_any(&mut self, power: bool) {
        let n = self.any_node();
        if self.nodes.get(n).is_none_or(|node| node.running.is_none()) {
            return;
        }
        let again = self.now + Duration::from_millis(self.rng.skewed(50, 20_000));
        let with_checkpoint = self.rng.percent(60);
        if with_checkpoint && self.rng.percent(30) {
            self.checkpoint(n);
        }
        self.crash(n, power);
        let life = self.nodes.get(n).map_or(0, |node| node.incarnation);
        self.at(again, Event::Undo(Undo::Start(n, life, with_checkpoint)));
    }

    /// A node is lost.
    pub fn crash(&mut self, n: usize, power: bool) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return };
        node.running = None;
        node.up = false;
        node.incarnation += 1;
        node.host_off = power;
        node.ready_since = None;
        node.alone_since = None;
        node.gray_since = None;
        node.trouble = now;
        self.note(now, format_args!("{} {}", self.name(n), if power { "loses power" } else { "is killed" }));
        self.drop_connections(n, !power);
    }

    fn drain(&mut self) -> Result<(), Violation> {
        let all: Vec<usize> = (0..self.nodes.len()).filter(|&n| self.is_route_server(n)).collect();
        let Some(&n) = self.rng.pick(&all) else { return Ok(()) };
        let until = self.now + Duration::from_millis(self.rng.skewed(200, 15_000));
        self.note(self.now, format_args!("{} is out of service until {until:?}", self.name(n)));
        self.set_drained(n, true);
        self.at(until, Event::Undo(Undo::Drain(n)));
        self.turn(n)
    }

    /// Nothing has room in a queue, except heartbeats.
    fn turn_gray(&mut self) {
        let n = self.any_node();
        let now = self.now;
        let limits = Limits { queue: 0, ..self.settings.limits };
        let until = now + Duration::from_millis(self.rng.range(5_000, 20_000));
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.gray_since.is_none()) else { return };
        let Some(running) = &mut node.running else { return };
        running.set_limits(limits);
        node.gray_since = Some(now);
        let life = node.incarnation;
        self.note(now, format_args!("{} sends heartbeats and no data until {until:?}", self.name(n)));
        self.at(until, Event::Undo(Undo::Gray(n, life)));
    }

    fn end_gray(&mut self, n: usize) {
        let (now, limits) = (self.now, self.settings.limits);
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.gray_since.is_some()) else { return };
        (node.gray_since, node.trouble) = (None, now);
        if let Some(running) = &mut node.running {
            running.set_limits(limits);
        }
        self.note(now, format_args!("{} sends data again", self.name(n)));
    }

    fn set_drained(&mut self, n: usize, drained: bool) {
        if let Some(rs) = self.route_server(n) {
            rs.drained = drained;
        }
    }

    fn clock(&mut self, pause: bool) {
        let n = self.any_node();
        let by = Duration::from_millis(self.rng.skewed(20, 8_000));
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n).filter(|node| node.running.is_some()) else { return };
        node.trouble = now;
        if pause {
            node.paused_until = node.paused_until.max(now + by);
        } else {
            node.offset += by;
            // The queued wake-up is for the clock before the jump.
            node.wake_at = None;
        }
        let (life, what) = (node.incarnation, if pause { "is paused for" } else { "has its clock jump by" });
        self.note(now, format_args!("{} {what} {by:?}", self.name(n)));
        if !pause {
            self.at(now, Event::Wake(n, life));
        }
    }

    /// An agent writes its table to disk.
    pub fn checkpoint(&mut self, n: usize) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return };
        let Some(agent) = node.running.as_ref().and_then(|running| running.role().agent()) else { return };
        node.checkpoint = agent.core.table().iter().collect();
        let count = node.checkpoint.len();
        self.note(now, format_args!("{} writes {count} records to disk", self.name(n)));
    }

    fn any_agent(&mut self) -> Option<usize> {
        let all: Vec<usize> = (0..self.nodes.len()).filter(|&n| self.agent(n).is_some()).collect();
        self.rng.pick(&all).copied()
    }

    fn trouble_sink(&mut self) -> Result<(), Violation> {
        let Some(n) = self.any_agent() else { return Ok(()) };
        let until = self.now + Duration::from_millis(self.rng.skewed(20, 20_000));
        let error =
            if self.rng.percent(50) { SinkError::Busy } else { SinkError::Failed("no memory".into()) };
        self.note(
            self.now,
            format_args!("the sink of {} refuses batches until {until:?}: {error}", self.name(n)),
        );
        if let Some(agent) = self.agent(n) {
            agent.sink.trouble = Some((until, error));
        }
        Ok(())
    }

    fn refuse(&mut self) -> Result<(), Violation> {
        let Some(n) = self.any_agent() else { return Ok(()) };
        // Never more than fit into a list.
        let (percent, salt) = (self.rng.range(1, 50), self.rng.below(u64::MAX));
        let Some(local) = self.nodes.get(n).map(|node| node.local(self.now)) else { return Ok(()) };
        let Some(agent) = self.agent(n) else { return Ok(()) };
        let now = if agent.sink.refuses.is_none() {
            agent.sink.refuses = Some((percent, salt));
            format!("refuses {percent} % of new routes")
        } else {
            agent.sink.take_refused(local);
            "takes what it has refused".to_owned()
        };
        self.note(self.now, format_args!("the sink of {} {now}", self.name(n)));
        self.turn(n)
    }

    fn resync(&mut self) -> Result<(), Violation> {
        let Some(n) = self.any_agent() else { return Ok(()) };
        self.note(self.now, format_args!("the sink of {} loses a route; it is to resync", self.name(n)));
        let at = self.rng.index(1_000);
        let now = self.now;
        let Some(agent) = self.agent(n) else { return Ok(()) };
        let routes: Vec<Key> =
            agent.sink.records.keys().filter(|key| !matches!(key, Key::Group(_))).cloned().collect();
        if let Some(lost) = routes.get(at.checked_rem(routes.len()).unwrap_or(0)) {
            agent.sink.records.remove(lost);
            agent.sink.damaged = true;
        }
        agent.core.handle_resync();
        // Its connections end and are opened again.
        if let Some(node) = self.nodes.get_mut(n) {
            node.trouble = now;
        }
        self.turn(n)
    }

    fn panic(&mut self) -> Result<(), Violation> {
        let Some(n) = self.any_agent() else { return Ok(()) };
        self.note(self.now, format_args!("{} panics and is restarted", self.name(n)));
        self.drop_connections(n, true);
        let (now, limits) = (self.now, self.settings.limits);
        let epoch = self.rng.below(u64::MAX).max(1);
        let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
        let Some(Kind::Agent(mut agent)) = node.running.take().map(Running::into_role) else { return Ok(()) };
        let torn;
        (agent.core, torn) = agent.core.restart(epoch);
        if torn {
            return Err(Violation::new(Rule::Sound, format!("the table of {} is not consistent", node.name)));
        }
        let upstream = [agent.core.config().upstream()];
        node.forget_clients();
        (node.trouble, node.ready_since, node.alone_since) = (now, None, None);
        node.acknowledged = 0;
        node.gray_since = None;
        // The time without a capable server restarts, unless it was over.
        node.stale_since = node.stale_since.filter(|_| agent.core.is_expired());
        let local = node.local(now);
        node.running =
            Some(Running::new(&node.name, local, Kind::Agent(agent), upstream).with_limits(limits));
        self.turn(n)
    }

    /// The end of a fault.
    pub(crate) fn undo(&mut self, undo: Undo) -> Result<(), Violation> {
        match undo {
            Undo::Path(client, server) => {
                let now = self.now;
                let Some(path) = self.paths.get_mut(&(client, server)) else { return Ok(()) };
                if path.is_whole() {
                    return Ok(());
                }
                (path.cut_up, path.cut_down, path.slow) = (None, None, None);
                path.trouble = now;
                self.note(now, format_args!("{} and {} are healthy", self.name(client), self.name(server)));
                let ids: Vec<u64> = self
                    .connections
                    .iter()
                    .filter(|(_, c)| (c.client, c.server) == (client, server))
                    .map(|(&id, _)| id)
                    .collect();
                for id in ids {
                    self.look(id, Way::Up);
                    self.look(id, Way::Down);
                }
                Ok(())
            }
            Undo::Start(n, life, checkpoint) => {
                let same = self.nodes.get(n).is_some_and(|node| node.incarnation == life);
                if same { self.start(n, checkpoint) } else { Ok(()) }
            }
            Undo::Gray(n, life) => {
                if self.nodes.get(n).is_some_and(|node| node.incarnation == life) {
                    self.end_gray(n);
                    return self.turn(n);
                }
                Ok(())
            }
            Undo::Drain(n) => {
                self.set_drained(n, false);
                self.turn(n)
            }
        }
    }

    /// Ends all faults, except that the nodes in `down` stay down.
    ///
    /// # Errors
    /// The violated rule.
    pub fn heal(&mut self, down: &[usize]) -> Result<(), Violation> {
        let paths: Vec<(usize, usize)> = self.paths.keys().copied().collect();
        for (client, server) in paths {
            self.undo(Undo::Path(client, server))?;
        }
        for n in (0..self.nodes.len()).filter(|n| !down.contains(n)) {
            self.set_drained(n, false);
            self.end_gray(n);
            let from_disk = self.rng.percent(50);
            self.start(n, from_disk)?;
            self.turn(n)?;
        }
        Ok(())
    }
}
