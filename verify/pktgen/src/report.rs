//! The generator's figures: what it prints, serves and is judged by.

use serde::Serialize;

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
    /// Sending packets that count.
    Count,
    /// Waiting for the last ones.
    Drain,
    Done,
}

/// Names are an interface: the demo and the tests of the containers read them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub phase: Phase,
    /// Packets do not count yet.
    pub warming_up: bool,
    pub sent: u64,
    pub received: u64,
    pub in_flight: u64,
    /// Not back within 2 s.
    pub lost: u64,
    /// Of the lost: sent outside of any outage.
    pub lost_elsewhere: u64,
    /// Times in which nothing came back, with `--outage-ms`.
    pub outages: Vec<Outage>,
    /// Wrong port or next hop, or wrong source MAC.
    pub misdelivered: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// All packets with a wrong TTL, check sum or content.
    pub corrupt: u64,
    /// Of the corrupt: TTL or hop limit not decremented by exactly one.
    pub bad_ttl: u64,
    /// Of the corrupt: IPv4 header check sum wrong.
    pub bad_checksum: u64,
    /// Of the lost: came back later.
    pub late: u64,
    /// Went to the next hop before a change, within the settling time.
    pub by_previous_hop: u64,
    /// Frames that are neither ours nor ARP nor ND, such as ICMP errors.
    pub foreign: u64,
    /// Changes of next hops that are due by the timetable.
    pub changes_due: u64,
    pub flows: u64,
    /// Prefixes without a usable destination.
    pub skipped: u64,
    /// Flows of which a packet came back by the right next hop.
    pub covered: u64,
    /// Unix time at which the last flow was covered.
    pub covered_at: Option<f64>,
    /// Seconds from the generator's start until then.
    pub covered_after_s: Option<f64>,
    pub gateways: u64,
    /// Next hops not yet forwarded to.
    pub gateways_missing: u64,
    pub neighbours_answered: u64,
    /// Packets/s that came back lately.
    pub pps: f64,
    /// Packets/s that came back over the whole counted time.
    pub mean_pps: f64,
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
    pub latency_max_us: f64,
    /// The first faults, in words.
    pub faults: Vec<String>,
}

impl Figures {
    /// Nothing was found wrong, and there was something to find.
    pub fn clean(&self) -> bool {
        self.received > 0
            && self.lost + self.misdelivered + self.duplicated + self.reordered + self.corrupt == 0
            && self.sent == self.received
    }
}
