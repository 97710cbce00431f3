//! `fibcast ping` and `traceroute`: one echo request and the wait for its answer, on the thread of the operator that asks.

use std::time::{Duration, Instant};

use fibcast_control::probe::{MAX_SIZE, MAX_TIMEOUT_MS, ProbeAnswer, ProbeOutcome, ProbeRequest, Probed};

use super::show::{CONTROL_TIMEOUT, View, late};
use crate::control::probes::{Heard, Sent};
use crate::packet::probe::Outcome;

impl View {
    /// Sends a request and waits for its answer.
    pub(super) fn probe(&self, wanted: ProbeRequest) -> Result<Probed, String> {
        if wanted.size > MAX_SIZE {
            return Err(format!("size: expected at most {MAX_SIZE} bytes, found {}", wanted.size));
        }
        if wanted.timeout_ms > MAX_TIMEOUT_MS {
            return Err(format!(
                "timeout: expected at most {MAX_TIMEOUT_MS} ms, found {}",
                wanted.timeout_ms
            ));
        }
        if wanted.ttl == 0 {
            return Err("ttl: expected 1 to 255, found 0".to_owned());
        }
        let (seed, wait) = (self.seed, Duration::from_millis(wanted.timeout_ms.into()));
        let sent = self
            .control
            .ask_mut(CONTROL_TIMEOUT, move |control| control.probe(&wanted, seed, Instant::now()));
        let Sent { source, port, heard } = sent.ok_or_else(late)??;
        Ok(Probed { source, port, answer: heard.recv_timeout(wait).ok().map(shown) })
    }
}

fn shown((answer, time): Heard) -> ProbeAnswer {
    let (outcome, code, mtu) = match answer.outcome {
        Outcome::Reply => (ProbeOutcome::Reply, None, None),
        Outcome::TimeExceeded => (ProbeOutcome::TimeExceeded, None, None),
        Outcome::Unreachable(code) => (ProbeOutcome::Unreachable, Some(code), None),
        Outcome::TooBig(mtu) => (ProbeOutcome::TooBig, None, Some(mtu)),
    };
    ProbeAnswer {
        from: answer.from,
        outcome,
        code,
        mtu,
        ttl: answer.ttl,
        bytes: answer.bytes,
        rtt_us: time.as_micros() as u64,
    }
}
