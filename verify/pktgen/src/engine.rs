//! The generator without its ports: frames in, frames out, figures. It knows no socket, clock or DPDK.
//!
//! In a loop: [`Engine::handle_frame`] for every received frame, [`Engine::poll_transmit`] until it returns nothing (the caller must send
//! all of them), [`Engine::handle_time`]. Times are ns since 1970 and never go back.

use std::collections::VecDeque;
use std::net::IpAddr;

use hdrhistogram::Histogram;

use crate::frame::{Arrived, Envelope, Kind, Mac, Parsed, Probe, build, parse};
use crate::ledger::{LOST_AFTER_NS, Ledger, Outcome};
use crate::neighbor::{Heard, Link};
use crate::outage::Watch;
use crate::plan::{Flow, Plan, Verdict};
use crate::report::{Figures, Phase};

const ASK_EVERY_NS: u64 = 200_000_000;
/// Warm-up packets that have not returned after this time are sent again.
const PROBE_EVERY_NS: u64 = 200_000_000;
/// Longest pause of the machine for which sending catches up.
const CATCH_UP_NS: u64 = 20_000_000;
/// How long a changed route is preferred: many may change at once.
const CHANGED_NS: u64 = 1_000_000_000;
/// Interval, in flows, of two consecutive packets of one flow, which test the order within the flow.
const TWICE_EVERY: u64 = 16;
/// A router that asks faster than it accepts answers will ask again.
const OUTBOX: usize = 4096;
const FAULTS_SHOWN: usize = 10;
/// Enough for the packets of 2 s at 1 Mpps.
const REMEMBERED: usize = 1 << 21;

#[derive(Debug, Clone)]
pub struct Settings {
    pub pps: u64,
    pub window: usize,
    pub coverage: bool,
    /// Silence that counts as an outage; packets in flight for longer do not fill the window.
    pub outage_ns: Option<u64>,
    /// How long to send counted packets; `None` until stopped.
    pub duration_ns: Option<u64>,
}

struct Port {
    link: Link,
    router: Option<Mac>,
    /// Answers and requests, sent first.
    outbox: VecDeque<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct FlowState {
    next: u32,
    covered: bool,
}

pub struct Engine {
    plan: Plan,
    settings: Settings,
    ports: Vec<Port>,
    flows: Vec<FlowState>,
    /// Next expected sequence of (flow, egress port).
    expected: Vec<u32>,
    ledger: Ledger,
    watch: Watch,
    latency: Histogram<u64>,
    figures: Figures,
    phase: Phase,
    started_ns: u64,
    asked_ns: u64,
    warm_up: WarmUp,
    position: u64,
    visited: u64,
    again: Option<u32>,
    /// The next change, tested right when it is due and right after it must have settled.
    changing: usize,
    settling: usize,
    next_due_ns: u64,
    count_from_ns: u64,
    count_to_ns: u64,
    rate: (u64, u64),
}

/// Flows that must be forwarded once before counting starts.
#[derive(Debug, Default)]
struct WarmUp {
    wanted: Vec<u32>,
    next: usize,
    round_ns: u64,
    /// Sent but not returned in this round: limits the packets in flight.
    in_flight: usize,
}

impl Engine {
    pub fn new(
        plan: Plan,
        links: Vec<Link>,
        settings: Settings,
        now_ns: u64,
    ) -> Result<Self, hdrhistogram::CreationError> {
        let latency = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
        let figures = Figures {
            flows: plan.flows.len() as u64,
            skipped: plan.skipped as u64,
            gateways: plan.gateways.len() as u64,
            ..Figures::default()
        };
        let ports: Vec<_> =
            links.into_iter().map(|link| Port { link, router: None, outbox: VecDeque::new() }).collect();
        Ok(Self {
            flows: vec![FlowState::default(); plan.flows.len()],
            expected: vec![0; plan.flows.len() * ports.len()],
            ledger: Ledger::new(settings.window, settings.outage_ns.unwrap_or(LOST_AFTER_NS), REMEMBERED),
            watch: Watch::new(settings.outage_ns),
            latency,
            plan,
            settings,
            ports,
            figures,
            phase: Phase::Resolve,
            started_ns: now_ns,
            asked_ns: 0,
            warm_up: WarmUp::default(),
            position: 0,
            visited: 0,
            again: None,
            changing: 0,
            settling: 0,
            next_due_ns: 0,
            count_from_ns: 0,
            count_to_ns: 0,
            rate: (now_ns, 0),
        })
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Stops sending, and waits for packets in flight.
    pub fn stop(&mut self, now_ns: u64) {
        match self.phase {
            Phase::Count => {
                self.count_to_ns = now_ns;
                self.phase = Phase::Drain;
            }
            Phase::Drain | Phase::Done => {}
            Phase::Resolve | Phase::Probe | Phase::Coverage => self.phase = Phase::Done,
        }
    }

    pub fn handle_time(&mut self, now_ns: u64) {
        let watched_ns = self.watched_until(now_ns);
        self.watch.turn(watched_ns);
        self.ledger.expire(now_ns, |sent_ns| self.watch.lost(sent_ns, watched_ns));
        match self.phase {
            Phase::Resolve => self.resolve(now_ns),
            Phase::Probe | Phase::Coverage => self.warm(now_ns),
            Phase::Count => {
                let over =
                    self.settings.duration_ns.is_some_and(|lasts| now_ns >= self.count_from_ns + lasts);
                if over {
                    self.stop(now_ns);
                }
            }
            Phase::Drain if self.ledger.in_flight() == 0 => self.phase = Phase::Done,
            Phase::Drain | Phase::Done => {}
        }
    }

    /// Outages are detected as long as packets are sent.
    fn watched_until(&self, now_ns: u64) -> u64 {
        if self.count_to_ns > 0 { self.count_to_ns } else { now_ns }
    }

    /// Changes the next hops of a named set, as of now; returns the number of its routes, or none if there is no such set.
    pub fn change(&mut self, name: &str, now_ns: u64) -> Option<usize> {
        self.plan.change_set(name, now_ns)
    }

    /// Handles a frame received on a port.
    pub fn handle_frame(&mut self, port: usize, frame: &[u8], now_ns: u64) {
        match parse(frame) {
            Parsed::Ours(arrived) => self.handle_probe(port, &arrived, now_ns),
            Parsed::Corrupt(what) => {
                self.figures.corrupt += 1;
                self.fault(|_| format!("corrupt packet on port {port}: {what}"));
            }
            Parsed::Foreign => self.handle_foreign(port, frame),
        }
    }

    fn handle_foreign(&mut self, port: usize, frame: &[u8]) {
        let Some(port) = self.ports.get_mut(port) else { return };
        match port.link.hear(frame) {
            Heard::Question { answer, router } => {
                if port.outbox.len() < OUTBOX {
                    port.outbox.push_back(answer);
                }
                port.router = router.or(port.router);
                self.figures.neighbors_answered += 1;
            }
            Heard::Router(mac) => port.router = Some(mac),
            Heard::Nothing => self.figures.foreign += 1,
        }
    }

    fn handle_probe(&mut self, port: usize, arrived: &Arrived, now_ns: u64) {
        let probe = arrived.probe;
        let Some(flow) =
            self.plan.flows.get(probe.flow as usize).copied().filter(|flow| flow.to == arrived.envelope.to)
        else {
            self.figures.corrupt += 1;
            self.fault(|_| format!("packet of flow {} has a destination that was never sent", probe.flow));
            return;
        };
        let to = arrived.envelope.to_mac;
        let verdict = self.plan.judge(&flow, port, to, probe.sent_ns, now_ns);
        let from_router =
            self.ports.get(port).and_then(|port| port.router) == Some(arrived.envelope.from_mac);
        if probe.kind == Kind::WarmUp {
            self.warm_up.in_flight = self.warm_up.in_flight.saturating_sub(1);
            if verdict != Verdict::Wrong && from_router {
                self.cover(probe.flow, now_ns);
            }
            return;
        }
        match self.ledger.receive(probe.seq, now_ns) {
            Outcome::First { after_ns } => {
                self.figures.received += 1;
                self.watch.back(self.watched_until(now_ns));
                self.latency.saturating_record(after_ns);
                self.check_order(port, &probe);
            }
            Outcome::Late => {
                self.figures.late += 1;
                self.watch.back(self.watched_until(now_ns));
            }
            Outcome::Duplicate => {
                self.figures.duplicated += 1;
                self.fault(|_| format!("packet {} to {} came twice", probe.seq, flow.to));
            }
            Outcome::Unknown => {
                self.figures.corrupt += 1;
                self.fault(|_| format!("packet {} to {} was never sent", probe.seq, flow.to));
            }
        }
        match verdict {
            Verdict::Wrong => self.misdelivered(port, to, &flow, now_ns),
            _ if !from_router => self.misdelivered(port, arrived.envelope.from_mac, &flow, now_ns),
            Verdict::Previous => self.figures.by_previous_hop += 1,
            Verdict::Current => {}
        }
        if verdict != Verdict::Wrong {
            self.cover(probe.flow, now_ns);
        }
        self.check_header(arrived, &flow);
    }

    fn check_header(&mut self, arrived: &Arrived, flow: &Flow) {
        let expected = arrived.probe.ttl.wrapping_sub(1);
        let ttl_wrong = arrived.ttl != expected;
        self.figures.bad_ttl += u64::from(ttl_wrong);
        self.figures.bad_checksum += u64::from(!arrived.checksum_right);
        if ttl_wrong || !arrived.checksum_right {
            self.figures.corrupt += 1;
            let (to, ttl, right) = (flow.to, arrived.ttl, arrived.checksum_right);
            self.fault(|_| {
                format!("packet to {to}: TTL {ttl}, expected {expected}; check sum right: {right}")
            });
        }
    }

    /// Order is checked among the packets of a flow that left by the same port.
    fn check_order(&mut self, port: usize, probe: &Probe) {
        let index = probe.flow as usize * self.ports.len() + port;
        let Some(expected) = self.expected.get_mut(index) else { return };
        if probe.flow_seq < *expected {
            let (flow, found, after) = (probe.flow, probe.flow_seq, *expected - 1);
            self.figures.reordered += 1;
            self.fault(|_| format!("packet {found} of flow {flow} came after packet {after}"));
        } else {
            *expected = probe.flow_seq + 1;
        }
    }

    fn misdelivered(&mut self, port: usize, mac: Mac, flow: &Flow, now_ns: u64) {
        self.figures.misdelivered += 1;
        let flow = *flow;
        self.fault(|engine| {
            let name = engine.ports.get(port).map_or("?", |port| port.link.name.as_str());
            let [a, b, c, d, e, f] = mac;
            let expected = engine.plan.expected(&flow, now_ns).map(|gateway| gateway.address);
            let prefix = engine.plan.prefix(&flow);
            format!(
                "packet to {}: MAC {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} on port {name}, \
                 expected next hop {expected:?} of {prefix:?}",
                flow.to
            )
        });
    }

    fn fault(&mut self, words: impl FnOnce(&Self) -> String) {
        if self.figures.faults.len() < FAULTS_SHOWN {
            let words = words(self);
            self.figures.faults.push(words);
        }
    }

    fn cover(&mut self, flow: u32, now_ns: u64) {
        let Some(state) = self.flows.get_mut(flow as usize) else { return };
        if state.covered {
            return;
        }
        state.covered = true;
        self.figures.covered += 1;
        if self.figures.covered == self.figures.flows {
            self.figures.covered_at = Some(now_ns as f64 / 1e9);
            self.figures.covered_after_s = Some(now_ns.saturating_sub(self.started_ns) as f64 / 1e9);
        }
    }

    fn resolve(&mut self, now_ns: u64) {
        let asking = self.ports.iter().any(|port| port.router.is_none());
        if !asking {
            // One flow for each next hop that the table begins with.
            let mut seen = vec![false; self.plan.gateways.len()];
            let mut wanted = Vec::new();
            for (number, flow) in self.plan.flows.iter().enumerate() {
                let gateway = self.plan.first_gateway(flow).map(|gateway| gateway as usize);
                if let Some(seen) = gateway.and_then(|gateway| seen.get_mut(gateway)).filter(|seen| !**seen) {
                    *seen = true;
                    wanted.push(number as u32);
                }
            }
            self.begin_warm_up(Phase::Probe, wanted);
        } else if now_ns >= self.asked_ns + ASK_EVERY_NS {
            self.asked_ns = now_ns;
            for port in self.ports.iter_mut().filter(|port| port.router.is_none()) {
                port.outbox.extend(port.link.ask_for_router());
            }
        }
    }

    fn begin_warm_up(&mut self, phase: Phase, wanted: Vec<u32>) {
        self.phase = phase;
        self.warm_up = WarmUp { next: wanted.len(), wanted, round_ns: 0, in_flight: 0 };
    }

    /// Starts another round over the missing flows, or the next phase.
    fn warm(&mut self, now_ns: u64) {
        let WarmUp { wanted, next, round_ns, in_flight } = &mut self.warm_up;
        // Lost warm-up packets do not count, but must not delay the others.
        if *in_flight > 0 && now_ns >= *round_ns + PROBE_EVERY_NS {
            *in_flight = 0;
            *round_ns = now_ns;
        }
        let over = *next >= wanted.len();
        if over && (*in_flight == 0 || now_ns >= *round_ns + PROBE_EVERY_NS) {
            let flows = &self.flows;
            wanted.retain(|&flow| flows.get(flow as usize).is_some_and(|state| !state.covered));
            self.figures.gateways_missing = if self.phase == Phase::Probe { wanted.len() as u64 } else { 0 };
            if !wanted.is_empty() {
                if now_ns >= *round_ns + PROBE_EVERY_NS || self.phase == Phase::Coverage {
                    (*next, *round_ns, *in_flight) = (0, now_ns, 0);
                }
            } else if self.phase == Phase::Probe && self.settings.coverage {
                let order = self.plan.order.clone();
                self.begin_warm_up(Phase::Coverage, order);
            } else {
                self.warm_up = WarmUp::default();
                self.phase = Phase::Count;
                (self.count_from_ns, self.next_due_ns, self.rate) = (now_ns, now_ns, (now_ns, 0));
            }
        }
    }

    /// Writes the next frame that is due into `out`: its port and length.
    pub fn poll_transmit(&mut self, now_ns: u64, out: &mut [u8]) -> Option<(usize, usize)> {
        for (number, port) in self.ports.iter_mut().enumerate() {
            if let Some(frame) = port.outbox.pop_front() {
                out.get_mut(..frame.len())?.copy_from_slice(&frame);
                return Some((number, frame.len()));
            }
        }
        match self.phase {
            Phase::Probe | Phase::Coverage => {
                if self.warm_up.in_flight >= self.settings.window {
                    return None;
                }
                let flow = loop {
                    let flow = *self.warm_up.wanted.get(self.warm_up.next)?;
                    self.warm_up.next += 1;
                    if self.flows.get(flow as usize).is_some_and(|state| !state.covered) {
                        break flow;
                    }
                };
                self.warm_up.in_flight += 1;
                self.write(flow, Kind::WarmUp, 0, now_ns, out)
            }
            Phase::Count => {
                if now_ns < self.next_due_ns {
                    return None;
                }
                let seq = self.ledger.send(now_ns)?;
                let gap = 1_000_000_000 / self.settings.pps.max(1);
                self.next_due_ns = self.next_due_ns.max(now_ns.saturating_sub(CATCH_UP_NS)) + gap;
                let flow = self.next_flow(now_ns)?;
                self.write(flow, Kind::Counted, seq, now_ns, out)
            }
            Phase::Resolve | Phase::Drain | Phase::Done => None,
        }
    }

    /// Every other packet belongs to a route that is changing or has just changed, if there are any: errors are most likely there. The
    /// others visit all flows in turn.
    fn next_flow(&mut self, now_ns: u64) -> Option<u32> {
        if let Some(flow) = self.again.take() {
            return Some(flow);
        }
        let turn = self.position;
        self.position += 1;
        if turn % 2 == 1
            && let Some(flow) = self.changed_flow(now_ns)
        {
            return Some(flow);
        }
        let index = self.visited % self.plan.order.len() as u64;
        let flow = *self.plan.order.get(index as usize)?;
        if self.visited.is_multiple_of(TWICE_EVERY) {
            self.again = Some(flow);
        }
        self.visited += 1;
        Some(flow)
    }

    fn changed_flow(&mut self, now_ns: u64) -> Option<u32> {
        let settle_ns = self.plan.settle_ns() + 1;
        for (cursor, after_ns) in [(&mut self.settling, settle_ns), (&mut self.changing, 0)] {
            while let Some((due_ns, flow)) =
                self.plan.change(*cursor).filter(|(due, _)| due + after_ns <= now_ns)
            {
                *cursor += 1;
                // After a pause, changes long past are skipped.
                if flow.is_some() && due_ns + after_ns + CHANGED_NS >= now_ns {
                    return flow;
                }
            }
        }
        None
    }

    fn write(
        &mut self,
        number: u32,
        kind: Kind,
        seq: u64,
        now_ns: u64,
        out: &mut [u8],
    ) -> Option<(usize, usize)> {
        let flow = self.plan.flows.get(number as usize)?;
        let state = self.flows.get_mut(number as usize)?;
        // A flow always enters by the same port, or its order could not be kept.
        let ingress = number as usize % self.ports.len();
        let port = self.ports.get(ingress)?;
        let from = match flow.to {
            IpAddr::V4(_) => port.link.host4().map(IpAddr::V4),
            IpAddr::V6(_) => port.link.host6().map(IpAddr::V6),
        };
        let envelope = Envelope { from_mac: port.link.mac, to_mac: port.router?, from: from?, to: flow.to };
        let probe = Probe {
            kind,
            ttl: 40 + (number % 200) as u8,
            flow: number,
            flow_seq: state.next,
            seq,
            sent_ns: now_ns,
        };
        if kind == Kind::Counted {
            state.next += 1;
        }
        build(out, &envelope, &probe).map(|length| (ingress, length))
    }

    /// The current figures. Call it a few times per second at most.
    pub fn figures(&mut self, now_ns: u64) -> Figures {
        let (then, received) = self.rate;
        if now_ns >= then + 150_000_000 {
            self.figures.pps = per_second(self.figures.received - received, now_ns - then);
            self.rate = (now_ns, self.figures.received);
        }
        let end = self.watched_until(now_ns);
        let us = |ns: u64| ns as f64 / 1e3;
        Figures {
            phase: self.phase,
            warming_up: matches!(self.phase, Phase::Resolve | Phase::Probe | Phase::Coverage),
            sent: self.ledger.sent(),
            in_flight: self.ledger.in_flight() as u64,
            lost: self.ledger.lost,
            lost_elsewhere: self.watch.elsewhere,
            outages: self.watch.outages(end),
            changes_due: self.plan.changes_due(now_ns) as u64,
            mean_pps: if self.count_from_ns == 0 {
                0.0
            } else {
                per_second(self.figures.received, end.saturating_sub(self.count_from_ns))
            },
            latency_p50_us: us(self.latency.value_at_quantile(0.5)),
            latency_p99_us: us(self.latency.value_at_quantile(0.99)),
            latency_max_us: us(self.latency.max()),
            ..self.figures.clone()
        }
    }
}

fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}
