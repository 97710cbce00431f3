//! Before packets count: the routers' MAC addresses, one packet by each next hop and, if wanted, by each flow.

use super::share::FIRST;
use super::{Dut, Engine, build_frames};
use crate::report::Phase;

const ASK_EVERY_NS: u64 = 200_000_000;
/// Packets that have not returned after this time are sent again.
const PROBE_EVERY_NS: u64 = 200_000_000;
/// Most packets in flight, in open loop too: a device that has just started needs time to resolve neighbors.
const IN_FLIGHT: usize = 256;

/// Flows that must be forwarded once before counting starts.
#[derive(Debug, Default)]
pub struct WarmUp {
    wanted: Vec<u32>,
    next: usize,
    round_ns: u64,
    /// Sent but not returned in this round: limits the packets in flight.
    in_flight: usize,
}

impl WarmUp {
    pub fn returned(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// Warm-up packets carry their time instead of a number: µs, its lower 40 bits.
pub fn time(now_ns: u64) -> u64 {
    (now_ns / 1000) & crate::traffic::signature::SEQ_MASK
}

/// When the packet with this time was sent, which is not long ago.
pub fn sent_ns(time: u64, now_ns: u64) -> u64 {
    let ago_us = self::time(now_ns).wrapping_sub(time) & crate::traffic::signature::SEQ_MASK;
    now_ns.saturating_sub(ago_us * 1000)
}

impl Engine {
    /// Why no packet is counted, if the device has been silent for too long.
    pub fn silence(&self, now_ns: u64) -> Option<String> {
        let silence_timeout_ns = self.settings.silence_timeout_ns?;
        if now_ns < self.progress_ns.saturating_add(silence_timeout_ns) {
            return None;
        }
        // The first engine asks for routers, for all.
        if self.phase == Phase::Resolve && self.core != FIRST {
            return None;
        }
        let seconds = silence_timeout_ns / 1_000_000_000;
        let silent = |unresolved: bool| {
            let ports = self.ports.iter().filter(|port| !unresolved || port.router.is_none());
            ports
                .map(|port| {
                    let (name, heard, sent) = (&port.link.name, port.heard, port.warm_up_sent);
                    let asked =
                        [port.link.peer4.map(|_| "ARP"), port.link.peer6.map(|_| "neighbor discovery")];
                    let asked: Vec<_> = asked.into_iter().flatten().collect();
                    if unresolved {
                        format!(
                            "{} unanswered on {name} ({heard} frames received there)",
                            asked.join(" and ")
                        )
                    } else {
                        format!("{sent} packets sent on {name}, {heard} frames received there")
                    }
                })
                .collect::<Vec<_>>()
                .join("; ")
        };
        match self.phase {
            Phase::Resolve => Some(format!("the device is silent for {seconds} s: {}", silent(true))),
            Phase::Probe | Phase::Coverage => Some(format!(
                "no progress for {seconds} s: {} of {} destinations of the warm-up did not come back: {}",
                self.warm_up.wanted.len(),
                self.warm_up.wanted.len() + self.figures.covered as usize,
                silent(false)
            )),
            _ => None,
        }
    }

    pub(super) fn resolve(&mut self, now_ns: u64) {
        if self.settings.dut != Dut::Router {
            self.assume_neighbors();
        }
        let asking = self.ports.iter().any(|port| port.router.is_none());
        if !asking {
            self.frames = build_frames(&self.ports, &self.settings, &self.plan);
            let wanted = self.first_flows();
            self.progress_ns = now_ns;
            self.begin_warm_up(Phase::Probe, wanted);
        } else if self.core == FIRST && now_ns >= self.asked_ns + ASK_EVERY_NS {
            self.asked_ns = now_ns;
            for port in self.ports.iter_mut().filter(|port| port.router.is_none()) {
                for frame in port.link.ask_for_router() {
                    port.send(frame);
                }
            }
        }
    }

    /// A device that does not route answers no ARP: frames go to the port where they come out.
    fn assume_neighbors(&mut self) {
        let macs: Vec<_> = self.ports.iter().map(|port| port.link.mac).collect();
        for (number, port) in self.ports.iter_mut().enumerate() {
            let other = if self.settings.dut == Dut::Bridge { number ^ 1 } else { number };
            port.router = port.router.or(macs.get(other).copied()).or(Some(port.link.mac));
        }
    }

    /// One flow for each next hop that the table begins with; without next hops, one for each port that sends.
    fn first_flows(&self) -> Vec<u32> {
        let mut seen = vec![false; self.plan.gateways.len().max(self.ports.len())];
        let mut wanted = Vec::new();
        for (number, flow) in self.plan.flows.iter().enumerate() {
            let kind =
                self.plan.first_gateway(flow).map_or(usize::from(flow.ingress), |gateway| gateway as usize);
            if let Some(seen) = seen.get_mut(kind).filter(|seen| !**seen) {
                *seen = true;
                wanted.push(number as u32);
            }
        }
        wanted
    }

    fn begin_warm_up(&mut self, phase: Phase, wanted: Vec<u32>) {
        self.phase = phase;
        self.warm_up = WarmUp { next: wanted.len(), wanted, round_ns: 0, in_flight: 0 };
    }

    /// Starts another round over the missing flows, or the next phase.
    pub(super) fn warm(&mut self, now_ns: u64) {
        let WarmUp { wanted, next, round_ns, in_flight } = &mut self.warm_up;
        // Lost warm-up packets do not count, but must not delay the others.
        if *in_flight > 0 && now_ns >= *round_ns + PROBE_EVERY_NS {
            *in_flight = 0;
            *round_ns = now_ns;
        }
        let over = *next >= wanted.len();
        if over && (*in_flight == 0 || now_ns >= *round_ns + PROBE_EVERY_NS) {
            let covered = &self.covered;
            wanted.retain(|&flow| covered.get(flow as usize) == Some(&false));
            self.figures.gateways_missing = if self.phase == Phase::Probe { wanted.len() as u64 } else { 0 };
            if !wanted.is_empty() {
                if now_ns >= *round_ns + PROBE_EVERY_NS || self.phase == Phase::Coverage {
                    (*next, *round_ns, *in_flight) = (0, now_ns, 0);
                }
            } else if self.phase == Phase::Probe && self.settings.coverage {
                self.begin_warm_up(Phase::Coverage, (0..self.plan.flows.len() as u32).collect());
            } else {
                self.warm_up = WarmUp::default();
                self.phase = Phase::Ready;
            }
        }
    }

    pub(super) fn next_warm_up(&mut self) -> Option<u32> {
        if self.warm_up.in_flight >= self.settings.window.unwrap_or(IN_FLIGHT) {
            return None;
        }
        let flow = loop {
            let flow = *self.warm_up.wanted.get(self.warm_up.next)?;
            self.warm_up.next += 1;
            if self.covered.get(flow as usize) == Some(&false) {
                break flow;
            }
        };
        self.warm_up.in_flight += 1;
        if let Some(port) =
            self.plan.flows.get(flow as usize).and_then(|flow| self.ports.get_mut(usize::from(flow.ingress)))
        {
            port.warm_up_sent += 1;
        }
        Some(flow)
    }
}
