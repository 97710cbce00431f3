//! The way out: which packet is next, and its frame.

use super::{Engine, warm_up};
use crate::report::Phase;
use crate::traffic::frames::Target;

/// How long a changed route is preferred: many may change at once.
const CHANGED_NS: u64 = 1_000_000_000;
/// Interval, in flows, of two consecutive packets of one flow, which test the order within the flow.
const TWICE_EVERY: u64 = 16;

/// What decides the next flow beside the order.
#[derive(Debug, Default)]
pub struct Turns {
    position: u64,
    again: Option<u32>,
    /// The next change, tested right when it is due and right after it must have settled.
    changing: usize,
    settling: usize,
}

impl Engine {
    /// Writes the next frame that is due into `out`: its port and length.
    #[inline]
    pub fn poll_transmit(&mut self, now_ns: u64, out: &mut [u8]) -> Option<(usize, usize)> {
        if let Some(answer) = self.poll_outbox(out) {
            return Some(answer);
        }
        match self.phase {
            Phase::Count => {
                let trial = self.trial.as_mut()?;
                trial.allowed = trial.allowed.checked_sub(1)?;
                let seq = self.ledger.send(now_ns)?;
                self.trial.as_mut()?.pacer.sent(1);
                let flow = self.next_flow(now_ns)?;
                self.write(flow, false, seq, out)
            }
            Phase::Probe | Phase::Coverage => {
                let flow = self.next_warm_up()?;
                self.write(flow, true, warm_up::time(now_ns), out)
            }
            Phase::Resolve | Phase::Ready | Phase::Drain | Phase::Done => None,
        }
    }

    fn poll_outbox(&mut self, out: &mut [u8]) -> Option<(usize, usize)> {
        let (number, port) = self.ports.iter_mut().enumerate().find(|(_, port)| !port.outbox.is_empty())?;
        let frame = port.outbox.pop_front()?;
        out.get_mut(..frame.len())?.copy_from_slice(&frame);
        Some((number, frame.len()))
    }

    /// Every other packet belongs to a route that is changing or has just changed, if there are any: errors are most likely there. The
    /// others visit all flows in their order.
    #[inline(always)]
    fn next_flow(&mut self, now_ns: u64) -> Option<u32> {
        if let Some(flow) = self.turns.again.take() {
            return Some(flow);
        }
        let turn = self.turns.position;
        self.turns.position += 1;
        if turn % 2 == 1
            && let Some(flow) = self.changed_flow(now_ns).or_else(|| self.convergence.next(now_ns))
        {
            return Some(flow);
        }
        let flow = self.order.next()?;
        if turn.is_multiple_of(TWICE_EVERY) {
            self.turns.again = Some(flow);
        }
        Some(flow)
    }

    fn changed_flow(&mut self, now_ns: u64) -> Option<u32> {
        let settle_ns = self.plan.settle_ns() + 1;
        let turns = &mut self.turns;
        for (cursor, after_ns) in [(&mut turns.settling, settle_ns), (&mut turns.changing, 0)] {
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

    #[inline(always)]
    pub(super) fn write(
        &mut self,
        flow: u32,
        warm_up: bool,
        seq: u64,
        out: &mut [u8],
    ) -> Option<(usize, usize)> {
        let target = self.target(flow)?;
        let length = self.frames.as_ref()?.write(&target, warm_up, seq, out)?;
        Some((usize::from(target.ingress), length))
    }

    #[inline(always)]
    pub(super) fn target(&self, flow: u32) -> Option<Target> {
        let known = self.plan.flows.get(flow as usize)?;
        Some(Target { to: known.to.into(), ingress: known.ingress, core: self.core, flow })
    }
}
