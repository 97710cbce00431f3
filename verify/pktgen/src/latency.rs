//! Latency and its variation, over one in so many packets.
//!
//! Delay is measured from the turn of the loop in which a packet was given to the driver to the one in which it was received. Variation is
//! reported in both forms of RFC 5481: PDV, against the smallest delay (§4.2), and IPDV, between consecutive packets (§4.1).

use hdrhistogram::Histogram;
use serde::Serialize;

const LARGEST_NS: u64 = 60_000_000_000;

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    pub samples: u64,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// The 99.9th percentile of PDV.
    pub pdv_p999: f64,
    /// IPDV without its sign: mean and 99th percentile.
    pub ipdv_mean: f64,
    pub ipdv_p99: f64,
}

#[derive(Debug, Clone)]
pub struct Recorder {
    delays: Histogram<u64>,
    differences: Histogram<u64>,
    previous_ns: Option<u64>,
    one_in: u32,
    countdown: u32,
}

impl Recorder {
    pub fn new(one_in: u32) -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LARGEST_NS, 3);
        let one_in = one_in.max(1);
        Ok(Self { delays: histogram()?, differences: histogram()?, previous_ns: None, one_in, countdown: 0 })
    }

    /// A packet came back.
    #[inline(always)]
    pub fn record(&mut self, delay_ns: u64) {
        if self.countdown > 0 {
            self.countdown -= 1;
            return;
        }
        self.countdown = self.one_in - 1;
        self.delays.saturating_record(delay_ns);
        if let Some(previous_ns) = self.previous_ns.replace(delay_ns) {
            self.differences.saturating_record(delay_ns.abs_diff(previous_ns));
        }
    }

    pub fn clear(&mut self) {
        // `clear` of a histogram would keep its smallest and largest value.
        self.delays.reset();
        self.differences.reset();
        (self.previous_ns, self.countdown) = (None, 0);
    }

    /// What all of them have recorded; none without one.
    pub fn merged<'a>(recorders: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut recorders = recorders.into_iter();
        let mut all = recorders.next()?.clone();
        for other in recorders {
            all.delays.add(&other.delays).ok()?;
            all.differences.add(&other.differences).ok()?;
        }
        Some(all)
    }

    /// What was recorded; none if that is nothing.
    pub fn summary(&self) -> Option<Latency> {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(self.delays.value_at_quantile(quantile));
        let min = us(self.delays.min());
        (!self.delays.is_empty()).then(|| Latency {
            samples: self.delays.len(),
            min,
            mean: self.delays.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.delays.max()),
            pdv_p999: at(0.999) - min,
            ipdv_mean: self.differences.mean() / 1e3,
            ipdv_p99: us(self.differences.value_at_quantile(0.99)),
        })
    }

    /// Points of the distribution, for a plot: quantile and microseconds.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const QUANTILES: [f64; 14] =
            [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0];
        if self.delays.is_empty() {
            return Vec::new();
        }
        QUANTILES
            .iter()
            .map(|&quantile| (quantile, self.delays.value_at_quantile(quantile) as f64 / 1e3))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected * 0.002, "{found}, expected {expected}");
    }

    #[test]
    fn percentiles_and_variation_of_known_delays() {
        let mut recorder = Recorder::new(1).unwrap();
        assert_eq!(recorder.summary(), None);
        (1..=1000_u64).for_each(|n| recorder.record(n * 1000));
        let latency = recorder.summary().unwrap();
        assert_eq!(latency.samples, 1000);
        for (found, expected) in [
            (latency.min, 1.0),
            (latency.mean, 500.5),
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
            (latency.max, 1000.0),
            (latency.pdv_p999, 998.0),
            (latency.ipdv_mean, 1.0),
        ] {
            close(found, expected);
        }
    }

    #[test]
    fn one_in_n_is_recorded_and_clearing_forgets() {
        let mut recorder = Recorder::new(10).unwrap();
        (0..95).for_each(|_| recorder.record(5));
        assert_eq!(recorder.summary().unwrap().samples, 10);
        let mut other = Recorder::new(1).unwrap();
        other.record(9_000);
        let both = Recorder::merged([&recorder, &other]).unwrap().summary().unwrap();
        assert_eq!(both.samples, 11);
        close(both.max, 9.0);
        recorder.clear();
        assert_eq!((recorder.summary(), recorder.curve()), (None, Vec::new()));
        recorder.record(2_000);
        let fresh = recorder.summary().unwrap();
        close(fresh.min, 2.0);
        close(fresh.max, 2.0);
    }
}
