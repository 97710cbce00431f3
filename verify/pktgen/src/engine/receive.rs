//! The way in: every packet that comes back is compared with what the router had to make of it.

use super::share::FIRST;
use super::{Dut, Engine};
use crate::frame::{Mac, network_header, read, untagged};
use crate::ledger::Outcome;
use crate::neighbor::Heard;
use crate::plan::Verdict;
use crate::traffic::frames::{Arrived, Frames, Header, Judged, Target};

impl Engine {
    /// Handles a frame received on a port, or returns the number of the engine that it is for.
    #[inline]
    pub fn handle_frame(&mut self, port: usize, frame: &[u8], now_ns: u64) -> Option<usize> {
        let vlan = self.ports.get(port)?.link.vlan;
        let Some(arrived) = Frames::recognise(frame, vlan) else {
            return self.foreign(port, frame, now_ns);
        };
        let signature = arrived.signature;
        if signature.core != self.core {
            // What no engine has sent is for the first one, which speaks for the ports.
            let known = signature.core < self.cores;
            return if known { Some(usize::from(signature.core)) } else { self.foreign(port, frame, now_ns) };
        }
        let Some(target) = self.target(signature.flow) else { return self.foreign(port, frame, now_ns) };
        if target.to != arrived.to {
            return self.foreign(port, frame, now_ns);
        }
        if let Some(from) = self.ports.get_mut(port) {
            from.heard += 1;
        }
        self.handle_ours(port, frame, &arrived, &target, now_ns);
        None
    }

    #[cold]
    fn foreign(&mut self, port: usize, frame: &[u8], now_ns: u64) -> Option<usize> {
        if self.core != FIRST {
            return Some(usize::from(FIRST));
        }
        if let Some(from) = self.ports.get_mut(port) {
            from.heard += 1;
        }
        self.handle_foreign(port, frame, now_ns);
        None
    }

    fn handle_foreign(&mut self, port: usize, frame: &[u8], now_ns: u64) {
        let number = port;
        let Some(port) = self.ports.get_mut(number) else { return };
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
                self.routers.put(number, port.router);
                self.figures.neighbors_answered += 1;
                self.progress_ns = now_ns;
            }
            Heard::Router(mac) => {
                port.router = Some(mac);
                self.routers.put(number, port.router);
                self.progress_ns = now_ns;
            }
            Heard::Nothing => self.figures.foreign += 1,
        }
    }

    #[inline(always)]
    fn handle_ours(&mut self, port: usize, frame: &[u8], arrived: &Arrived, target: &Target, now_ns: u64) {
        let Some(frames) = self.frames.as_mut() else { return };
        let header = match frames.judge(frame, arrived, target, self.settings.dut.hops()) {
            Judged::Right => None,
            Judged::WrongHeader(header) => Some(header),
            Judged::Corrupt(what) => {
                self.figures.corrupt += 1;
                return self.fault(|_| format!("corrupt packet on port {port}: {what}"));
            }
        };
        let signature = arrived.signature;
        if signature.warm_up {
            let sent_ns = super::warm_up::sent_ns(signature.seq, now_ns);
            self.warm_up.returned();
            if self.verdict(port, frame, signature.flow, sent_ns, now_ns) != Verdict::Wrong {
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
                self.fault(|_| format!("packet {} to {} came twice", signature.seq, target.to));
            }
            Outcome::Unknown => {
                self.figures.corrupt += 1;
                self.fault(|_| format!("packet {} to {} was never sent", signature.seq, target.to));
                return;
            }
        }
        let verdict = self.verdict(port, frame, signature.flow, sent_ns, now_ns);
        match verdict {
            Verdict::Wrong => self.misdelivered(port, frame, signature.flow, now_ns),
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
    #[inline(always)]
    fn verdict(&self, port: usize, frame: &[u8], flow: u32, sent_ns: u64, now_ns: u64) -> Verdict {
        let Some(flow) = self.plan.flows.get(flow as usize) else { return Verdict::Wrong };
        let right = match self.settings.dut {
            Dut::Router => {
                let (Some(to), Some(from)) = (read::<6>(frame, 0), read::<6>(frame, 6)) else {
                    return Verdict::Wrong;
                };
                if self.ports.get(port).and_then(|port| port.router) != Some(from) {
                    return Verdict::Wrong;
                }
                return self.plan.judge(flow, port, to, sent_ns, now_ns);
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
    #[inline(always)]
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
    fn misdelivered(&mut self, port: usize, frame: &[u8], flow: u32, now_ns: u64) {
        self.figures.misdelivered += 1;
        let Some(flow) = self.plan.flows.get(flow as usize).copied() else { return };
        let (to, from) = (read::<6>(frame, 0).unwrap_or_default(), read::<6>(frame, 6).unwrap_or_default());
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

    #[inline(always)]
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
