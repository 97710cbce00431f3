//! The generator without its ports: frames in, frames out, figures. It knows no socket, clock or DPDK.
//!
//! In a loop: [`Engine::handle_frame`] for every received frame, [`Engine::handle_time`], [`Engine::poll_transmit`] until it returns nothing
//! (the caller must send all of them). Times are ns since 1970 and never go back.
//!
//! After the warm-up the engine is [ready](Phase::Ready). Then [`Engine::start`] begins a trial, which ends with the engine ready again and
//! its [result](Engine::result). Packets of one trial that come in another are late, not new.
//!
//! `send` has the way out, `receive` the way in, `warm_up` what comes before.
//!
//! A [`Team`] has an engine for each core, each with its own flows, sequence numbers and packets in flight. A packet may come back on the
//! queue of another core: its signature names the engine, which gets it from there. The first one speaks for the ports.

mod receive;
mod send;
mod share;
mod team;
mod warm_up;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use self::share::{FIRST, Routers};
pub use self::team::Team;
use crate::convergence::Watcher;
use crate::frame::{Mac, tagged};
use crate::latency::Recorder;
use crate::ledger::Ledger;
use crate::neighbor::Link;
use crate::outage::Watch;
use crate::pacer::{Load, Pacer};
use crate::plan::Plan;
use crate::report::{Figures, Phase};
use crate::traffic::frames::{Frames, Protocol, Source};
use crate::traffic::order::{Direction, Order};
use crate::traffic::signature::MAX_CORES;
use crate::traffic::template::LinkLayer;
use crate::trial::Trial;

/// A router that asks faster than it accepts answers will ask again.
const OUTBOX: usize = 4096;
/// A change that has not come this long after it must have settled is missing.
const CONVERGES_NS: u64 = 10_000_000_000;

/// What kind of device is tested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dut {
    /// Forwards by the table, to the next hop's MAC address, and decrements TTL and hop limit.
    #[default]
    Router,
    /// Sends what enters by one port of a pair out by the other: a wire, a switch, `testpmd --forward-mode=mac`.
    Bridge,
    /// Sends everything back by the port it came from: a plug, `testpmd --forward-mode=macswap` on one port, `net_ring`.
    Loopback,
}

impl Dut {
    /// How often TTL is decremented.
    fn hops(self) -> u8 {
        u8::from(self == Dut::Router)
    }
}

/// What frames are made of.
#[derive(Debug, Clone)]
pub enum Content {
    Own {
        protocol: Protocol,
        sizes: Vec<u16>,
    },
    /// Captured IP packets, with other destinations, or each one with its own flow as it is.
    Captured {
        packets: Vec<Vec<u8>>,
        replay: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub dut: Dut,
    pub content: Content,
    pub direction: Direction,
    /// Exponent of Zipf's law.
    pub zipf: Option<f64>,
    pub seed: u64,
    /// Closed loop: the most packets in flight.
    pub window: Option<usize>,
    pub coverage: bool,
    /// Silence that counts as an outage; packets in flight for longer do not fill the window.
    pub outage_ns: Option<u64>,
    pub lost_after_ns: u64,
    /// Packets that are remembered.
    pub remembered: usize,
    pub latency_one_in: u32,
    /// Without an answer for so long it gives up before counting.
    pub silence_timeout_ns: Option<u64>,
}

#[derive(Debug)]
struct Port {
    link: Link,
    router: Option<Mac>,
    /// Answers and requests, sent first.
    outbox: VecDeque<Vec<u8>>,
    /// Frames received, of any kind.
    heard: u64,
    warm_up_sent: u64,
}

impl Port {
    fn send(&mut self, frame: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(match self.link.vlan {
                Some(id) => tagged(&frame, id),
                None => frame,
            });
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("no destination is reached from port {0}: expected one that leaves by another port")]
    NoFlow(String),
    #[error(
        "{cores} cores: no destination is left for one of them on port {port}: expected more flows, or fewer cores"
    )]
    NoFlowForCore { cores: usize, port: String },
    #[error("{0} cores: expected 1 to {MAX_CORES}")]
    Cores(usize),
    #[error("frames cannot be built: expected a captured packet for each flow, and sizes of Ethernet")]
    Frames,
}

pub struct Engine {
    plan: Plan,
    settings: Settings,
    /// Its number, of so many.
    core: u8,
    cores: u8,
    routers: Routers,
    ports: Vec<Port>,
    frames: Option<Frames>,
    order: Order,
    covered: Vec<bool>,
    /// The lower half of the last sequence number of (flow, egress port), plus one.
    last: Vec<u32>,
    ledger: Ledger,
    watch: Watch,
    convergence: Watcher,
    /// Changes that are watched by now.
    noticed: usize,
    latency: Recorder,
    figures: Figures,
    phase: Phase,
    started_ns: u64,
    asked_ns: u64,
    progress_ns: u64,
    warm_up: warm_up::WarmUp,
    turns: send::Turns,
    trial: Option<Running>,
    result: Option<Trial>,
    /// All packets that came back right.
    forwarded: u64,
    rate: (u64, u64),
}

/// The trial that runs.
struct Running {
    load: Load,
    pacer: Pacer,
    from_ns: u64,
    /// When sending ended.
    to_ns: u64,
    /// May leave in this turn.
    allowed: u64,
    before: (Figures, u64, u64),
}

impl Engine {
    /// One engine for all flows.
    #[cfg(test)]
    pub fn new(plan: Plan, links: Vec<Link>, settings: Settings, now_ns: u64) -> Result<Self, EngineError> {
        let routers = Routers::new(links.len());
        Self::of_team(plan, links, settings, (FIRST, 1, routers), now_ns)
    }

    fn of_team(
        plan: Plan,
        links: Vec<Link>,
        settings: Settings,
        (core, cores, routers): (u8, u8, Routers),
        now_ns: u64,
    ) -> Result<Self, EngineError> {
        let figures = Figures {
            flows: plan.flows.len() as u64,
            skipped: plan.skipped as u64,
            gateways: plan.gateways.len() as u64,
            ..Figures::default()
        };
        let order =
            Order::new(&plan.lanes, &settings.direction, settings.zipf, settings.seed).map_err(|port| {
                let port = links.get(port).map(|link| link.name.clone()).unwrap_or_default();
                match cores {
                    1 => EngineError::NoFlow(port),
                    _ => EngineError::NoFlowForCore { cores: usize::from(cores), port },
                }
            })?;
        let ports: Vec<_> = links
            .into_iter()
            .map(|link| Port {
                router: link.peer_mac,
                link,
                outbox: VecDeque::new(),
                heard: 0,
                warm_up_sent: 0,
            })
            .collect();
        // The routers' MAC addresses come later.
        let frames = build_frames(&ports, &settings, &plan).ok_or(EngineError::Frames)?;
        let overdue_ns = settings.outage_ns.unwrap_or(settings.lost_after_ns);
        let window = settings.window.map(|window| (window, overdue_ns));
        Ok(Self {
            covered: vec![false; plan.flows.len()],
            last: vec![0; plan.flows.len() * ports.len()],
            ledger: Ledger::new(window, settings.lost_after_ns, settings.remembered, now_ns),
            watch: Watch::new(settings.outage_ns),
            convergence: Watcher::new(plan.settle_ns().saturating_add(CONVERGES_NS))?,
            noticed: 0,
            latency: Recorder::new(settings.latency_one_in)?,
            plan,
            settings,
            core,
            cores,
            routers,
            ports,
            frames: Some(frames),
            order,
            figures,
            phase: Phase::Resolve,
            started_ns: now_ns,
            asked_ns: 0,
            progress_ns: now_ns,
            warm_up: warm_up::WarmUp::default(),
            turns: send::Turns::default(),
            trial: None,
            result: None,
            forwarded: 0,
            rate: (now_ns, 0),
        })
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Begins a trial. False, without effect, unless the engine is ready.
    pub fn start(&mut self, load: Load, now_ns: u64) -> bool {
        if self.phase != Phase::Ready {
            return false;
        }
        self.latency.clear();
        let before = (self.figures.clone(), self.ledger.sent(), self.ledger.lost);
        self.trial = Some(Running {
            load,
            pacer: Pacer::new(load, now_ns),
            from_ns: now_ns,
            to_ns: 0,
            allowed: 0,
            before,
        });
        self.forwarded = 0;
        self.rate = (now_ns, self.figures.received);
        self.phase = Phase::Count;
        true
    }

    /// The result of the last trial, once.
    pub fn result(&mut self) -> Option<Trial> {
        self.result.take()
    }

    /// Stops sending, and waits for packets in flight. Before the first trial: ends at once.
    pub fn stop(&mut self, now_ns: u64) {
        match self.phase {
            Phase::Count => {
                if let Some(trial) = &mut self.trial {
                    trial.pacer.stop(now_ns);
                }
                self.drain(now_ns);
            }
            Phase::Drain | Phase::Done => {}
            Phase::Resolve | Phase::Probe | Phase::Coverage | Phase::Ready => self.phase = Phase::Done,
        }
    }

    /// No further trial will come.
    pub fn finish(&mut self) {
        self.phase = Phase::Done;
    }

    fn drain(&mut self, now_ns: u64) {
        if let Some(trial) = &mut self.trial {
            (trial.to_ns, trial.allowed) = (now_ns, 0);
        }
        self.phase = Phase::Drain;
    }

    pub fn handle_time(&mut self, now_ns: u64) {
        let watched_ns = self.watched_until(now_ns);
        self.watch.turn(watched_ns);
        self.ledger.expire(now_ns, |sent_ns| self.watch.lost(sent_ns, watched_ns));
        if self.core != FIRST {
            for (number, port) in self.ports.iter_mut().enumerate() {
                port.router = self.routers.get(number).or(port.router);
            }
        }
        match self.phase {
            Phase::Resolve => self.resolve(now_ns),
            Phase::Probe | Phase::Coverage => self.warm(now_ns),
            Phase::Count => {
                self.notice_changes(now_ns);
                if let Some(trial) = &mut self.trial {
                    trial.allowed = trial.pacer.due(now_ns);
                    if trial.pacer.is_over() {
                        self.drain(now_ns);
                    }
                }
            }
            Phase::Drain if self.ledger.in_flight() == 0 => {
                self.result = self.trial.take().map(|trial| self.conclude(&trial, now_ns));
                self.phase = Phase::Ready;
            }
            Phase::Ready | Phase::Drain | Phase::Done => {}
        }
    }

    /// Changes of routes that are due by now. Those from before packets counted are long past.
    fn notice_changes(&mut self, now_ns: u64) {
        while let Some((due_ns, flow)) =
            self.plan.change(self.noticed).filter(|(due_ns, _)| *due_ns <= now_ns)
        {
            self.noticed += 1;
            let counts = self.trial.as_ref().is_some_and(|trial| due_ns >= trial.from_ns);
            if let Some(flow) = flow.filter(|_| counts) {
                self.convergence.changed(flow, due_ns);
            }
        }
    }

    /// Packets/s of a trial, up to now or to its end.
    fn note_rates(&mut self, running: &Running, now_ns: u64) {
        let end_ns = if running.to_ns > 0 { running.to_ns } else { now_ns };
        let took_ns = end_ns.saturating_sub(running.from_ns);
        let (before, sent, _) = &running.before;
        self.figures.mean_pps = per_second(self.figures.received - before.received, took_ns);
        self.figures.offered_pps = per_second(self.ledger.sent() - sent, took_ns);
        self.figures.intended_pps = running.load.pps;
    }

    fn conclude(&mut self, running: &Running, now_ns: u64) -> Trial {
        self.note_rates(running, now_ns);
        let (before, sent, lost) = &running.before;
        let now = &self.figures;
        let seconds = |ns: u64| ns as f64 / 1e9;
        let offered = self.ledger.sent() - sent;
        let intended = running.pacer.intended(running.to_ns);
        let intended_s = running.load.duration_ns.map_or(intended as f64 / running.load.pps, seconds);
        let took = seconds(running.to_ns.saturating_sub(running.from_ns));
        // The last packets are due at the end; a turn of the loop more is no slower rate.
        let offered_s = if offered == intended && took < intended_s + 0.006 {
            intended_s.max(1e-9)
        } else {
            took.max(1e-9)
        };
        Trial {
            intended_pps: running.load.pps,
            offered_pps: offered as f64 / offered_s,
            intended_s,
            offered_s,
            total_s: seconds(now_ns.saturating_sub(running.from_ns)),
            intended,
            offered,
            forwarded: self.forwarded,
            lost: self.ledger.lost - lost,
            late: now.late - before.late,
            misdelivered: now.misdelivered - before.misdelivered,
            duplicated: now.duplicated - before.duplicated,
            reordered: now.reordered - before.reordered,
            corrupt: now.corrupt - before.corrupt,
            generator_dropped: 0,
            changes: (self.plan.changes_due(running.to_ns) - self.plan.changes_due(running.from_ns)) as u64,
            late_max_us: running.pacer.late_max_ns() as f64 / 1e3,
            latency: self.latency.summary(),
            curve: self.latency.curve(),
        }
    }

    /// Outages are detected as long as packets are sent.
    fn watched_until(&self, now_ns: u64) -> u64 {
        self.trial.as_ref().map(|trial| trial.to_ns).filter(|&to_ns| to_ns > 0).unwrap_or(now_ns)
    }

    /// Changes the next hops of a named set, as of now; returns the number of its routes, or none if there is no such set.
    pub fn change(&mut self, name: &str, now_ns: u64) -> Option<usize> {
        self.plan.change_set(name, now_ns)
    }

    /// How many frames [`Engine::poll_transmit`] may have at once.
    #[inline]
    pub fn due(&self) -> usize {
        let answers = self.ports.iter().map(|port| port.outbox.len()).sum::<usize>();
        let packets = match self.phase {
            Phase::Count => self.trial.as_ref().map_or(0, |trial| trial.allowed as usize),
            Phase::Probe | Phase::Coverage => usize::MAX / 2,
            _ => 0,
        };
        answers + packets
    }

    /// Seconds of the trial that are left.
    pub fn left_s(&self, now_ns: u64) -> Option<f64> {
        let trial = self.trial.as_ref()?;
        let end_ns = trial.from_ns + trial.load.duration_ns?;
        Some(end_ns.saturating_sub(now_ns) as f64 / 1e9)
    }

    /// Nothing is to be sent before this time, except answers.
    pub fn idle_until(&self) -> Option<u64> {
        let trial = self.trial.as_ref().filter(|_| self.phase == Phase::Count)?;
        Some(trial.pacer.next_ns())
    }

    /// Mean size with FCS of the frames, over the families of the flows.
    pub fn mean_size(&self) -> f64 {
        let v6 = self.plan.flows.iter().filter(|flow| flow.to.is_ipv6()).count() as f64
            / self.plan.flows.len().max(1) as f64;
        let mean = |family| self.frames.as_ref().and_then(|frames| frames.mean_size(family)).unwrap_or(64.0);
        mean(false) * (1.0 - v6) + mean(true) * v6
    }

    /// The smallest IPv6 frame with FCS, if there are any.
    pub fn smallest_ipv6(&self) -> Option<usize> {
        self.plan
            .flows
            .iter()
            .any(|flow| flow.to.is_ipv6())
            .then(|| self.frames.as_ref()?.smallest(true))
            .flatten()
    }

    /// The current figures. Call it a few times per second at most.
    pub fn figures(&mut self, now_ns: u64) -> Figures {
        let (then, received) = self.rate;
        if now_ns >= then + 150_000_000 {
            self.figures.pps = per_second(self.figures.received - received, now_ns - then);
            self.rate = (now_ns, self.figures.received);
        }
        let end = self.watched_until(now_ns);
        if let Some(trial) = self.trial.take() {
            self.note_rates(&trial, now_ns);
            self.trial = Some(trial);
        }
        let mut figures = Figures {
            phase: self.phase,
            warming_up: matches!(self.phase, Phase::Resolve | Phase::Probe | Phase::Coverage),
            sent: self.ledger.sent(),
            in_flight: self.ledger.in_flight() as u64,
            lost: self.ledger.lost,
            lost_elsewhere: self.watch.elsewhere,
            outages: self.watch.outages(end),
            reconvergence: Watcher::summary([&self.convergence]),
            changes_due: self.plan.changes_due(now_ns) as u64,
            ..self.figures.clone()
        };
        figures.set_latency(self.latency.summary());
        figures
    }

    fn fault(&mut self, words: impl FnOnce(&Self) -> String) {
        if self.figures.faults.len() < crate::report::FAULTS_SHOWN {
            let words = words(self);
            self.figures.faults.push(words);
        }
    }
}

/// The frames of all ports, whose routers are known.
fn build_frames(ports: &[Port], settings: &Settings, plan: &Plan) -> Option<Frames> {
    let sources: Vec<Source> = ports
        .iter()
        .enumerate()
        .map(|(number, port)| {
            // A device that looks no route up needs no subnets: benchmarking addresses (RFC 2544, RFC 5180).
            let number = number as u8 + 1;
            let bare = settings.dut != Dut::Router;
            let host4 = || bare.then_some(Ipv4Addr::new(198, 18, 0, number));
            let host6 = || bare.then_some(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, u16::from(number)));
            Source {
                link: LinkLayer {
                    from: port.link.mac,
                    to: port.router.unwrap_or_default(),
                    vlan: port.link.vlan,
                },
                from4: port.link.host4().or_else(host4),
                from6: port.link.host6().or_else(host6),
            }
        })
        .collect();
    match &settings.content {
        Content::Own { protocol, sizes } => Frames::new(&sources, *protocol, sizes),
        Content::Captured { packets, replay } => {
            let in_order: Vec<Vec<u8>> = if *replay {
                let packet = |&origin: &u32| packets.get(origin as usize).cloned();
                plan.origins.iter().map(packet).collect::<Option<_>>()?
            } else {
                packets.clone()
            };
            Frames::captured(&sources, &in_order, *replay)
        }
    }
}

fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}
