//! One trial: the load that was intended, what was offered, and what became of it (RFC 2544 §24, RFC 2285 §3.5).

use serde::Serialize;

use crate::latency::Latency;

/// How far the offered rate may be from the intended one.
pub const PACING_TOLERANCE: f64 = 0.01;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trial {
    /// Packets/s over all ports, as asked for.
    pub intended_pps: f64,
    /// Packets/s that were sent.
    pub offered_pps: f64,
    /// Seconds, as asked for.
    pub intended_s: f64,
    /// Seconds from the first packet until the last one could leave.
    pub offered_s: f64,
    /// Seconds with the wait for the last packets.
    pub total_s: f64,
    /// Packets.
    pub intended: u64,
    pub offered: u64,
    /// Packets that came back by the right way, unchanged, once.
    pub forwarded: u64,
    pub lost: u64,
    /// Of the lost: returned later.
    pub late: u64,
    pub misdelivered: u64,
    pub duplicated: u64,
    /// RFC 4737, within a flow.
    pub reordered: u64,
    pub corrupt: u64,
    /// Packets that the generator's own ports dropped when it received.
    pub generator_dropped: u64,
    /// Changes of routes that were due during it.
    pub changes: u64,
    /// Longest time that a burst was late, µs.
    pub late_max_us: f64,
    pub latency: Option<Latency>,
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

impl Trial {
    /// Of several cores at the same time, but for latency; none if there is none.
    pub fn sum(trials: Vec<Self>) -> Option<Self> {
        trials.into_iter().reduce(|one, other| Self {
            intended_pps: one.intended_pps + other.intended_pps,
            offered_pps: one.offered_pps + other.offered_pps,
            intended_s: one.intended_s.max(other.intended_s),
            offered_s: one.offered_s.max(other.offered_s),
            total_s: one.total_s.max(other.total_s),
            intended: one.intended + other.intended,
            offered: one.offered + other.offered,
            forwarded: one.forwarded + other.forwarded,
            lost: one.lost + other.lost,
            late: one.late + other.late,
            misdelivered: one.misdelivered + other.misdelivered,
            duplicated: one.duplicated + other.duplicated,
            reordered: one.reordered + other.reordered,
            corrupt: one.corrupt + other.corrupt,
            generator_dropped: one.generator_dropped + other.generator_dropped,
            // Each core sees all changes.
            changes: one.changes.max(other.changes),
            late_max_us: one.late_max_us.max(other.late_max_us),
            latency: None,
            curve: Vec::new(),
        })
    }

    /// Packets that were not forwarded, with those that were not even sent, as a part of the intended ones: what a search may rely on
    /// if the machine is too slow.
    pub fn loss_ratio(&self) -> f64 {
        let all = self.offered.max(self.intended);
        let bad = self.offered.saturating_sub(self.forwarded) + self.intended.abs_diff(self.offered);
        if all == 0 { 0.0 } else { bad as f64 / all as f64 }
    }

    /// Of the packets that were sent.
    pub fn loss_of_offered(&self) -> f64 {
        if self.offered == 0 {
            0.0
        } else {
            self.offered.saturating_sub(self.forwarded) as f64 / self.offered as f64
        }
    }

    /// Relative difference between offered and intended rate.
    pub fn pacing_error(&self) -> f64 {
        if self.intended_pps == 0.0 { 0.0 } else { (self.offered_pps / self.intended_pps - 1.0).abs() }
    }

    /// Why the load was not the intended one, if so.
    pub fn not_offered(&self) -> Option<String> {
        (self.pacing_error() > PACING_TOLERANCE).then(|| {
            format!(
                "offered {:.0} packets/s, not the intended {:.0}: {} of {} packets could not be sent in time; this machine or its port is too slow",
                self.offered_pps,
                self.intended_pps,
                self.intended.saturating_sub(self.offered),
                self.intended
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_sent_counts_as_loss_and_is_told() {
        let trial = Trial {
            intended_pps: 1000.0,
            offered_pps: 900.0,
            intended_s: 1.0,
            offered_s: 1.0,
            intended: 1000,
            offered: 900,
            forwarded: 890,
            ..Trial::default()
        };
        assert!((trial.loss_ratio() - 0.11).abs() < 1e-9);
        assert!((trial.loss_of_offered() - 10.0 / 900.0).abs() < 1e-9);
        let words = trial.not_offered().unwrap();
        assert!(words.contains("offered 900 packets/s, not the intended 1000: 100 of 1000"), "{words}");
        assert_eq!(Trial { offered_pps: 995.0, ..trial }.not_offered(), None);
        assert_eq!(Trial::default().loss_ratio(), 0.0);
    }
}
