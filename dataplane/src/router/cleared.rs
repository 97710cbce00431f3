//! `fibcast clear counters`: where the counters stood when an operator cleared them.
//!
//! Counters of workers and drivers are never written by anyone else, and metrics must not go backwards. So what the command shows is the
//! difference to the values that are remembered here.

use std::time::Instant;

use super::state::{DeviceState, DeviceStates};
use crate::counters::Snapshot;
use crate::packet::icmp_kind::Kind;

/// Values of counters at an instant. The default is that of the start, when all were zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Cleared {
    /// When; none: never.
    at: Option<Instant>,
    workers: Vec<Snapshot>,
    /// By port index: packets that the device missed, errors of sending.
    devices: Vec<(u64, u64)>,
    /// ICMP messages that the control side did not send, by number of their kind.
    icmp_limited: [u64; Kind::COUNT],
}

impl Cleared {
    /// The values of now.
    pub fn now(workers: Vec<Snapshot>, devices: &DeviceStates, icmp_limited: [u64; Kind::COUNT]) -> Self {
        let of = |device: &DeviceState| (device.missed(), device.tx_errors());
        Self { at: Some(Instant::now()), workers, devices: devices.iter().map(of).collect(), icmp_limited }
    }

    /// Milliseconds since then; none: never.
    pub fn age_ms(&self) -> Option<u64> {
        self.at.map(|at| at.elapsed().as_millis() as u64)
    }

    /// What the workers counted since then.
    pub fn workers(&self, now: Vec<Snapshot>) -> Vec<Snapshot> {
        let before = |worker: usize| self.workers.get(worker);
        let since = |(worker, now): (usize, Snapshot)| match before(worker) {
            Some(before) => now.since(before),
            None => now,
        };
        now.into_iter().enumerate().map(since).collect()
    }

    /// What a port's device counted since then: packets missed, errors of sending. A device that was replaced begins at zero.
    pub fn device(&self, port_index: usize, state: &DeviceState) -> (u64, u64) {
        let (missed, errors) = self.devices.get(port_index).copied().unwrap_or_default();
        (state.missed().saturating_sub(missed), state.tx_errors().saturating_sub(errors))
    }

    /// What the control side did not send since then.
    pub fn icmp_limited(&self, mut now: [u64; Kind::COUNT]) -> [u64; Kind::COUNT] {
        for (now, before) in now.iter_mut().zip(self.icmp_limited) {
            *now = now.saturating_sub(before);
        }
        now
    }
}
