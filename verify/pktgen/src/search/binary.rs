//! Throughput: the highest rate at which no more than the allowed part is lost (RFC 2544 §26.1), by bisection.

use super::{Answer, Ask, Search};

#[derive(Debug, Clone, Copy)]
pub struct Goal {
    pub min: f64,
    pub max: f64,
    /// 0 is RFC 2544.
    pub loss_ratio: f64,
    /// Ends when the interval is no wider, as a part of its upper end.
    pub width: f64,
    pub trial_s: f64,
}

#[derive(Debug)]
pub struct Binary {
    goal: Goal,
    /// The highest load that passed, and the lowest that did not.
    passed: Option<f64>,
    failed: Option<f64>,
}

impl Binary {
    pub fn new(goal: Goal) -> Self {
        Self { goal, passed: None, failed: None }
    }

    /// Packets/s; none if the smallest rate failed.
    pub fn throughput(&self) -> Option<f64> {
        self.passed
    }
}

impl Search for Binary {
    fn ask(&mut self) -> Option<Ask> {
        let Goal { min, max, width, trial_s, .. } = self.goal;
        let load = match (self.passed, self.failed) {
            // The largest first: a device that passes it needs no search.
            (None, None) => max,
            (Some(passed), _) if passed >= max => return None,
            (None, Some(failed)) if failed <= min => return None,
            (None, Some(failed)) if (failed - min) / failed <= width => min,
            (passed, failed) => {
                let (low, high) = (passed.unwrap_or(min), failed.unwrap_or(max));
                if (high - low) / high <= width {
                    return None;
                }
                (low + high) / 2.0
            }
        };
        Some(Ask::at(load, trial_s))
    }

    fn answer(&mut self, answer: Answer) {
        let load = answer.ask.pps;
        if answer.loss_ratio <= self.goal.loss_ratio {
            self.passed = Some(self.passed.map_or(load, |passed| passed.max(load)));
        } else {
            self.failed = Some(self.failed.map_or(load, |failed| failed.min(load)));
        }
    }

    fn left(&self) -> Option<usize> {
        let (low, high) = (self.passed.unwrap_or(self.goal.min), self.failed.unwrap_or(self.goal.max));
        let relative = ((high - low) / high / self.goal.width).max(1.0);
        Some(relative.log2().ceil() as usize + usize::from(self.failed.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Device;
    use super::*;

    fn goal() -> Goal {
        Goal { min: 1e3, max: 1e7, loss_ratio: 0.0, width: 0.005, trial_s: 1.0 }
    }

    #[test]
    fn finds_the_capacity_within_the_width() {
        for capacity in [1.5e3, 77_777.0, 1_234_567.0, 9_999_999.0] {
            let mut device = Device::new(capacity);
            let mut search = Binary::new(goal());
            device.run(&mut search);
            let found = search.throughput().unwrap();
            assert!(found <= capacity && found >= capacity * 0.99, "{capacity}: {found}");
            assert!(device.trials.len() < 25);
        }
    }

    #[test]
    fn device_that_passes_all_needs_one_trial_and_one_that_passes_none_has_no_throughput() {
        let mut fast = Device::new(1e9);
        let mut search = Binary::new(goal());
        fast.run(&mut search);
        assert_eq!((search.throughput(), fast.trials.len()), (Some(1e7), 1));
        let mut search = Binary::new(goal());
        Device { floor: 0.1, ..Device::new(1e9) }.run(&mut search);
        assert_eq!(search.throughput(), None);
        let mut search = Binary::new(Goal { loss_ratio: 0.1, ..goal() });
        Device { floor: 0.1, ..Device::new(1e6) }.run(&mut search);
        let found = search.throughput().unwrap();
        assert!((1e6..1.12e6).contains(&found), "{found}");
    }
}
