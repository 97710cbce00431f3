//! Outages: times in which no packet came back though packets were sent, their length, and the losses that belong to them.

use serde::Serialize;

/// Most outages listed; losses of further ones count as losses elsewhere.
const MOST: usize = 1_000;

/// One outage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outage {
    /// Unix time at which the last packet before it came back.
    pub from: f64,
    /// Milliseconds until the next one came back.
    pub ms: f64,
    /// Lost packets that were sent during it, or in flight when it began or ended.
    pub lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    from_ns: u64,
    to_ns: u64,
    lost: u64,
}

impl Gap {
    fn outage(&self) -> Outage {
        let lasted_ns = self.to_ns.saturating_sub(self.from_ns);
        Outage { from: self.from_ns as f64 / 1e9, ms: lasted_ns as f64 / 1e6, lost: self.lost }
    }
}

/// Detects outages. Times are ns and never go back.
#[derive(Debug)]
pub struct Watch {
    /// Silence that counts as an outage; also the longest time in flight when one begins or ends. None: disabled.
    least_ns: Option<u64>,
    gaps: Vec<Gap>,
    /// When the latest packet came back.
    back_ns: Option<u64>,
    turn_ns: u64,
    /// Losses in the current silence.
    lost: u64,
    /// Lost outside of any outage.
    pub elsewhere: u64,
}

impl Watch {
    pub fn new(least_ns: Option<u64>) -> Self {
        Self { least_ns, gaps: Vec::new(), back_ns: None, turn_ns: 0, lost: 0, elsewhere: 0 }
    }

    /// Call it in each turn of the loop: while this process itself is stalled, nothing can come back.
    pub fn turn(&mut self, now_ns: u64) {
        let stood_ns = now_ns.saturating_sub(self.turn_ns);
        if let (Some(back_ns), Some(least_ns)) = (&mut self.back_ns, self.least_ns)
            && stood_ns >= least_ns / 2
        {
            *back_ns = now_ns.min(*back_ns + stood_ns);
        }
        self.turn_ns = now_ns;
    }

    /// A packet came back.
    #[inline]
    pub fn back(&mut self, now_ns: u64) {
        if self.least_ns.is_some()
            && let Some(mut gap) = self.silence(now_ns).filter(|_| self.gaps.len() < MOST)
        {
            gap.lost = std::mem::take(&mut self.lost);
            self.gaps.push(gap);
        }
        self.elsewhere += std::mem::take(&mut self.lost);
        self.back_ns = Some(now_ns);
    }

    /// The packet that was sent at this time is lost.
    pub fn lost(&mut self, sent_ns: u64, now_ns: u64) {
        let least_ns = self.least_ns.unwrap_or(0);
        let within =
            |gap: &Gap| sent_ns + least_ns >= gap.from_ns && sent_ns <= gap.to_ns.saturating_add(least_ns);
        if self.silence(now_ns).as_ref().is_some_and(within) {
            self.lost += 1;
        } else if let Some(gap) = self.gaps.iter_mut().rev().find(|gap| within(gap)) {
            gap.lost += 1;
        } else {
            self.elsewhere += 1;
        }
    }

    /// All outages, the current one last.
    pub fn outages(&self, now_ns: u64) -> Vec<Outage> {
        let lasting = self.silence(now_ns).map(|gap| Gap { lost: self.lost, ..gap });
        self.gaps.iter().chain(&lasting).map(Gap::outage).collect()
    }

    fn silence(&self, now_ns: u64) -> Option<Gap> {
        let (from_ns, least_ns) = (self.back_ns?, self.least_ns?);
        (now_ns.saturating_sub(from_ns) >= least_ns).then_some(Gap { from_ns, to_ns: now_ns, lost: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A packet comes back every millisecond from 1 ms on, but for a silence.
    fn watched(silence: std::ops::Range<u64>, until: u64) -> Watch {
        let mut watch = Watch::new(Some(200 * MS));
        for ms in 1..until {
            watch.turn(ms * MS);
            if !silence.contains(&ms) {
                watch.back(ms * MS);
            }
        }
        watch
    }

    #[test]
    fn silence_is_told_from_the_last_packet_to_the_next() {
        let watch = watched(1000..1750, 3000);
        assert_eq!(watch.outages(3000 * MS), [Outage { from: 0.999, ms: 751.0, lost: 0 }]);
        assert_eq!(watched(1000..1150, 3000).outages(3000 * MS), [], "too short");
    }

    #[test]
    fn silence_that_lasts_is_told_too() {
        let watch = watched(1000..5000, 2000);
        assert_eq!(watch.outages(1999 * MS), [Outage { from: 0.999, ms: 1000.0, lost: 0 }]);
    }

    #[test]
    fn losses_belong_to_the_outage_around_them_or_to_none() {
        let mut watch = watched(1000..1750, 3000);
        for sent in [798, 799, 1300, 1950, 1951] {
            watch.lost(sent * MS, (sent + 2000) * MS);
        }
        let lost = watch.outages(3000 * MS).iter().map(|outage| outage.lost).sum::<u64>();
        assert_eq!((lost, watch.elsewhere), (3, 2));
    }

    #[test]
    fn losses_of_a_silence_that_lasts_stay_with_it_when_it_ends() {
        let mut watch = watched(1000..9000, 4000);
        watch.lost(1500 * MS, 3500 * MS);
        watch.lost(100 * MS, 3500 * MS);
        watch.back(4000 * MS);
        assert_eq!(watch.outages(4000 * MS), [Outage { from: 0.999, ms: 3001.0, lost: 1 }]);
        assert_eq!(watch.elsewhere, 1);
    }

    #[test]
    fn time_in_which_the_generator_stood_still_is_no_outage() {
        let mut watch = watched(9000..9000, 1000);
        watch.turn(2000 * MS);
        watch.back(2000 * MS);
        assert_eq!(watch.outages(2000 * MS), []);
    }

    #[test]
    fn without_a_threshold_every_loss_is_elsewhere() {
        let mut watch = Watch::new(None);
        watch.back(MS);
        watch.back(5000 * MS);
        watch.lost(2000 * MS, 5000 * MS);
        assert_eq!((watch.outages(9000 * MS).len(), watch.elsewhere), (0, 1));
    }
}
