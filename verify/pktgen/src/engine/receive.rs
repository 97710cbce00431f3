//! The way in: every packet that comes back is compared with what the router had to make of it.

use super::{Dut, Engine};
use crate::frame::{Mac, network_header, untagged};
use crate::ledger::Outcome;
use crate::neighbor::Heard;
use crate::plan::{Flow, Verdict};
use crate::traffic::frames::{Arrived, Frames, Header, Judged, Target};

impl Engine {
    /// Handles a frame received on a port.
    #[inline]
    pub fn handle_frame(&mut self, port: usize, frame: &[u8], now_ns: u64) {
        let Some(from) = self.ports.get_mut(port) else { return };
        from.heard += 1;
        let vlan = from.link.vlan;
        let Some(arrived) = Frames::recognise(frame, vlan) else {
            return self.handle_foreign(port, frame, now_ns);
        };
        let signature = arrived.signature;
        let target = self.target(signature.flow).filter(|target| target.to == arrived.to);
        let (Some(target), Some(frames)) = (target, self.frames.as_mut()) else {
            return self.handle_foreign(port, frame, now_ns);
        };
        match frames.judge(frame, vlan, &target, signature, self.settings.dut.hops()) {
            Judged::Right => self.handle_ours(port, &arrived, &target, None, now_ns),
            Judged::WrongHeader(header) => self.handle_ours(port, &arrived, &target, Some(header), now_ns),
            Judged::Corrupt(what) => {
                self.figures.corrupt += 1;
                self.fault(|_| format!("corrupt packet on port {port}: {what}"));
            }
        }
    }

    #[cold]
    fn handle_foreign(&mut self, port: usize, frame: &[u8], now_ns: u64) {
        let Some(port) = self.ports.get_mut(port) else { return };
        if network_header(frame, port.link.vlan).is_none() && port.link.vlan.is_some() {
            self.figures.foreign += 1;
            return;
        }
        let heard = match port.link.vlan {
            Some(_) => port.link.hear(&untagged(frame)),
            None => port.link.hear(frame),
        };
        match heard {
            Heard::Question { answer, router } => {
                port.send(answer);
                port.router = router.or(port.router);
                self.figures.neighbors_answered += 1;
                self.progress_ns = now_ns;
            }
            Heard::Router(mac) => {
                port.router = Some(mac);
                self.progress_ns = now_ns;
            }
            Heard::Nothing => self.figures.foreign += 1,
        }
    }

    #[inline]
    fn handle_ours(
        &mut self,
        port: usize,
        arrived: &Arrived,
        target: &Target,
        header: Option<Header>,
        now_ns: u64,
    ) {
        let signature = arrived.signature;
        let Some(flow) = self.plan.flows.get(signature.flow as usize).copied() else { return };
        if signature.warm_up {
            let sent_ns = super::warm_up::sent_ns(signature.seq, now_ns);
            self.warm_up.returned();
            if self.verdict(port, arrived, &flow, sent_ns, now_ns) != Verdict::Wrong {
                self.progress_ns = now_ns;
                self.cover(signature.flow, now_ns);
            }
            return;
        }
        let outcome = self.ledger.receive(signature.seq);
        let sent_ns = match outcome {
            Outcome::First { sent_ns } => sent_ns,
            _ => self.ledger.whole(signature.seq).map_or(now_ns, |seq| self.ledger.sent_ns(seq)),
        };
        match outcome {
            Outcome::First { .. } => {
                self.figures.received += 1;
                let watched_ns = self.watched_until(now_ns);
                self.watch.back(watched_ns);
                self.latency.record(now_ns.saturating_sub(sent_ns));
                self.check_order(port, signature.flow, signature.seq);
            }
            Outcome::Late => {
                self.figures.late += 1;
                let watched_ns = self.watched_until(now_ns);
                self.watch.back(watched_ns);
            }
            Outcome::Duplicate => {
                self.figures.duplicated += 1;
                self.fault(|_| format!("packet {} to {} came twice", signature.seq, flow.to));
            }
            Outcome::Unknown => {
                self.figures.corrupt += 1;
                self.fault(|_| format!("packet {} to {} was never sent", signature.seq, flow.to));
                return;
            }
        }
        let verdict = self.verdict(port, arrived, &flow, sent_ns, now_ns);
        match verdict {
            Verdict::Wrong => self.misdelivered(port, arrived, &flow, now_ns),
            Verdict::Previous => self.figures.by_previous_hop += 1,
            // By the newest next hop of those that are due.
            Verdict::Current if !self.convergence.is_idle() => {
                self.convergence.arrived(signature.flow, now_ns)
            }
            Verdict::Current => {}
        }
        if verdict != Verdict::Wrong {
            if matches!(outcome, Outcome::First { .. }) && header.is_none() {
                self.forwarded += 1;
            }
            self.cover(signature.flow, now_ns);
        }
        if let Some(header) = header {
            self.wrong_header(header, target);
        }
    }

    /// Whether the packet came by the right way.
    #[inline]
    fn verdict(&self, port: usize, arrived: &Arrived, flow: &Flow, sent_ns: u64, now_ns: u64) -> Verdict {
        let right = match self.settings.dut {
            Dut::Router => {
                if self.ports.get(port).and_then(|port| port.router) != Some(arrived.from_mac) {
                    return Verdict::Wrong;
                }
                return self.plan.judge(flow, port, arrived.to_mac, sent_ns, now_ns);
            }
            Dut::Bridge => port == usize::from(flow.ingress) ^ 1,
            Dut::Loopback => port == usize::from(flow.ingress),
        };
        if right { Verdict::Current } else { Verdict::Wrong }
    }

    #[cold]
    fn wrong_header(&mut self, header: Header, target: &Target) {
        let Header { ttl, expected_ttl, checksum_right } = header;
        self.figures.bad_ttl += u64::from(ttl != expected_ttl);
        self.figures.bad_checksum += u64::from(!checksum_right);
        self.figures.corrupt += 1;
        let to = target.to;
        self.fault(|_| {
            format!("packet to {to}: TTL {ttl}, expected {expected_ttl}; check sum right: {checksum_right}")
        });
    }

    /// Order is checked among the packets of a flow that left by the same port (RFC 4737 §3.3).
    #[inline]
    fn check_order(&mut self, port: usize, flow: u32, seq: u64) {
        let index = flow as usize * self.ports.len() + port;
        let Some(last) = self.last.get_mut(index) else { return };
        let this = (seq as u32).wrapping_add(1);
        if *last != 0 && (this.wrapping_sub(*last) as i32) < 0 {
            let after = last.wrapping_sub(1);
            self.figures.reordered += 1;
            self.fault(|_| format!("packet {seq} of flow {flow} came after packet {after}"));
        } else {
            *last = this;
        }
    }

    #[cold]
    fn misdelivered(&mut self, port: usize, arrived: &Arrived, flow: &Flow, now_ns: u64) {
        self.figures.misdelivered += 1;
        let (flow, from, to) = (*flow, arrived.from_mac, arrived.to_mac);
        self.fault(|engine| {
            let name = |port: usize| engine.ports.get(port).map_or("?", |port| port.link.name.as_str());
            match engine.settings.dut {
                Dut::Router => {
                    let expected = engine.plan.expected(&flow, now_ns).map(|gateway| gateway.address);
                    let prefix = engine.plan.prefix(&flow);
                    format!(
                        "packet to {}: from MAC {} to {} on port {}, expected next hop {expected:?} of {prefix:?}",
                        flow.to,
                        shown(from),
                        shown(to),
                        name(port)
                    )
                }
                _ => format!(
                    "packet to {}, sent by port {}: came back by {}",
                    flow.to,
                    name(usize::from(flow.ingress)),
                    name(port)
                ),
            }
        });
    }

    #[inline]
    fn cover(&mut self, flow: u32, now_ns: u64) {
        if self.figures.covered == self.figures.flows {
            return;
        }
        let Some(covered) = self.covered.get_mut(flow as usize) else { return };
        if *covered {
            return;
        }
        *covered = true;
        self.figures.covered += 1;
        if self.figures.covered == self.figures.flows {
            self.figures.covered_at = Some(now_ns as f64 / 1e9);
            self.figures.covered_after_s = Some(now_ns.saturating_sub(self.started_ns) as f64 / 1e9);
        }
    }
}

fn shown([a, b, c, d, e, f]: Mac) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
