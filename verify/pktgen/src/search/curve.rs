//! Frame-loss rate over load (RFC 2544 §26.3): from the largest rate down in steps of at most 10 %, until two trials in a row lose nothing.

use super::{Answer, Ask, Search};

#[derive(Debug)]
pub struct Curve {
    max: f64,
    step: f64,
    trial_s: f64,
    next: usize,
    clean: usize,
    /// Load in percent of the largest, and loss ratio.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// `step` in percent of `max`.
    pub fn new(max: f64, step: f64, trial_s: f64) -> Self {
        Self { max, step, trial_s, next: 0, clean: 0, points: Vec::new() }
    }

    fn percent(&self, number: usize) -> f64 {
        100.0 - self.step * number as f64
    }
}

impl Search for Curve {
    fn ask(&mut self) -> Option<Ask> {
        let percent = self.percent(self.next);
        (self.clean < 2 && percent > 0.0).then(|| Ask::at(self.max * percent / 100.0, self.trial_s))
    }

    fn answer(&mut self, answer: Answer) {
        self.points.push((self.percent(self.next), answer.loss_ratio));
        self.next += 1;
        self.clean = if answer.loss_ratio == 0.0 { self.clean + 1 } else { 0 };
    }

    fn left(&self) -> Option<usize> {
        Some((self.percent(self.next) / self.step).ceil().max(0.0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Device;
    use super::*;

    #[test]
    fn steps_down_until_two_trials_lose_nothing() {
        let mut curve = Curve::new(1e6, 10.0, 1.0);
        Device::new(0.75e6).run(&mut curve);
        let loads: Vec<f64> = curve.points.iter().map(|(percent, _)| *percent).collect();
        assert_eq!(loads, [100.0, 90.0, 80.0, 70.0, 60.0]);
        assert!((curve.points[0].1 - 0.25).abs() < 1e-9 && curve.points[3].1 == 0.0);
    }

    #[test]
    fn device_that_always_loses_ends_at_the_smallest_step() {
        let mut curve = Curve::new(1e6, 10.0, 1.0);
        Device { floor: 0.01, ..Device::new(1e9) }.run(&mut curve);
        assert_eq!(curve.points.len(), 10);
    }
}
