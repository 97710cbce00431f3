//! The generator's figures.

use serde::Serialize;

use crate::convergence::Reconvergence;
use crate::latency::Latency;
use crate::outage::Outage;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Asking for the router's MAC addresses.
    #[default]
    Resolve,
    /// Waiting until every next hop is forwarded to.
    Probe,
    /// Waiting until every flow has been forwarded once.
    Coverage,
    /// Between trials.
    Ready,
    /// Sending packets that count.
    Count,
    /// Waiting for the last ones.
    Drain,
    Done,
}

/// One queue of a port, in both directions. Bytes are without FCS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QueueFigures {
    pub port: String,
    pub queue: usize,
    /// The core that serves it, where one was chosen.
    pub core: Option<usize>,
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// Of the received: sent by another core, to which they were enqueued.
    pub of_other_cores: u64,
    /// Of those: dropped because that core was too slow.
    pub dropped: u64,
}

/// The names are an interface: the demo and the container tests read them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub phase: Phase,
    /// Warm-up: packets do not count yet.
    pub warming_up: bool,
    pub sent: u64,
    pub received: u64,
    pub in_flight: u64,
    /// Not returned within 2 s.
    pub lost: u64,
    /// Of the lost: sent outside of any outage.
    pub lost_elsewhere: u64,
    /// Times without returning packets, with `--outage-ms`.
    pub outages: Vec<Outage>,
    /// Wrong port or next hop, or wrong source MAC.
    pub misdelivered: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// All packets with a wrong TTL, checksum or content.
    pub corrupt: u64,
    /// Of the corrupt: TTL or hop limit not decremented by exactly one.
    pub bad_ttl: u64,
    /// Of the corrupt: IPv4 header check sum wrong.
    pub bad_checksum: u64,
    /// Of the lost: returned later.
    pub late: u64,
    /// Went to the previous next hop, within the settling time.
    pub by_previous_hop: u64,
    /// Frames that are neither ours nor ARP nor ND, such as ICMP errors.
    pub foreign: u64,
    /// How soon changed routes had their new next hop.
    pub reconvergence: Reconvergence,
    /// Next-hop changes due by the timetable.
    pub changes_due: u64,
    pub flows: u64,
    /// Prefixes without a usable destination.
    pub skipped: u64,
    /// Flows of which a packet returned by the right next hop.
    pub covered: u64,
    /// Unix time at which the last flow was covered.
    pub covered_at: Option<f64>,
    /// Seconds from the generator's start until then.
    pub covered_after_s: Option<f64>,
    pub gateways: u64,
    /// Next hops not yet forwarded to.
    pub gateways_missing: u64,
    pub neighbors_answered: u64,
    /// Packets/s that came back lately.
    pub pps: f64,
    /// Packets/s that came back over the whole counted time.
    pub mean_pps: f64,
    /// Packets/s that are to be sent, and that were sent over the whole counted time.
    pub intended_pps: f64,
    pub offered_pps: f64,
    /// With several cores and while it runs: those of the slowest core.
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
    pub latency_max_us: f64,
    /// By port and queue, all frames since the start.
    pub queues: Vec<QueueFigures>,
    /// The first faults as text.
    pub faults: Vec<String>,
}

/// More would say no more.
pub const FAULTS_SHOWN: usize = 10;

impl Figures {
    /// Those of all cores as one.
    pub fn sum(all: &[Self]) -> Self {
        let Some((first, rest)) = all.split_first() else { return Self::default() };
        rest.iter().fold(first.clone(), |one, other| {
            let latest = |one: Option<f64>, other: Option<f64>| Some(one?.max(other?));
            Self {
                phase: match (one.phase, other.phase) {
                    // One has ended before the other.
                    (Phase::Ready, later @ (Phase::Count | Phase::Drain))
                    | (later @ (Phase::Count | Phase::Drain), Phase::Ready) => later,
                    (one, other) => one.min(other),
                },
                warming_up: one.warming_up || other.warming_up,
                sent: one.sent + other.sent,
                received: one.received + other.received,
                in_flight: one.in_flight + other.in_flight,
                lost: one.lost + other.lost,
                lost_elsewhere: one.lost_elsewhere + other.lost_elsewhere,
                outages: [one.outages, other.outages.clone()].concat(),
                misdelivered: one.misdelivered + other.misdelivered,
                duplicated: one.duplicated + other.duplicated,
                reordered: one.reordered + other.reordered,
                corrupt: one.corrupt + other.corrupt,
                bad_ttl: one.bad_ttl + other.bad_ttl,
                bad_checksum: one.bad_checksum + other.bad_checksum,
                late: one.late + other.late,
                by_previous_hop: one.by_previous_hop + other.by_previous_hop,
                foreign: one.foreign + other.foreign,
                reconvergence: one.reconvergence.slower(&other.reconvergence),
                // Each core has all changes and all next hops.
                changes_due: one.changes_due.max(other.changes_due),
                flows: one.flows + other.flows,
                skipped: one.skipped + other.skipped,
                covered: one.covered + other.covered,
                covered_at: latest(one.covered_at, other.covered_at),
                covered_after_s: latest(one.covered_after_s, other.covered_after_s),
                gateways: one.gateways.max(other.gateways),
                gateways_missing: one.gateways_missing.max(other.gateways_missing),
                neighbors_answered: one.neighbors_answered + other.neighbors_answered,
                pps: one.pps + other.pps,
                mean_pps: one.mean_pps + other.mean_pps,
                intended_pps: one.intended_pps + other.intended_pps,
                offered_pps: one.offered_pps + other.offered_pps,
                latency_p50_us: one.latency_p50_us.max(other.latency_p50_us),
                latency_p99_us: one.latency_p99_us.max(other.latency_p99_us),
                latency_max_us: one.latency_max_us.max(other.latency_max_us),
                queues: [one.queues, other.queues.clone()].concat(),
                faults: one.faults.iter().chain(&other.faults).take(FAULTS_SHOWN).cloned().collect(),
            }
        })
    }

    pub fn set_latency(&mut self, latency: Option<Latency>) {
        let latency = latency.unwrap_or_default();
        (self.latency_p50_us, self.latency_p99_us) = (latency.p50, latency.p99);
        self.latency_max_us = latency.max;
    }

    /// Whether nothing was wrong, and something was counted.
    pub fn clean(&self) -> bool {
        self.received > 0
            && self.lost + self.misdelivered + self.duplicated + self.reordered + self.corrupt == 0
            && self.sent == self.received
    }
}
