//! The generator's figures.

use serde::Serialize;

use crate::convergence::Reconvergence;
use crate::outage::Outage;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
    pub latency_max_us: f64,
    /// The first faults as text.
    pub faults: Vec<String>,
}

impl Figures {
    /// Whether nothing was wrong, and something was counted.
    pub fn clean(&self) -> bool {
        self.received > 0
            && self.lost + self.misdelivered + self.duplicated + self.reordered + self.corrupt == 0
            && self.sent == self.received
    }
}
