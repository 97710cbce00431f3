//! MLRsearch (draft-ietf-bmwg-mlrsearch): conditional throughput for several goals at once, such as NDR and PDR.
//!
//! Loads lie on a grid in logarithmic space, so that results of one goal serve the others. Each goal is reached over coarser targets with
//! shorter sums of time. A target is reached when its relevant bounds are no wider than its width, or the largest load is a lower bound, or
//! the smallest an upper one. The next load is a function of all results so far: it is asked again until it is classified.
//!
//! [`bounds`] is the part that decides what a result means; the reference implementation is its oracle. The selection of loads is our own,
//! in the order of the draft: loads of the coarser target first, then outwards with growing steps, then the middle.

pub mod bounds;

use std::collections::BTreeMap;

use super::{Answer, Ask, Search};
use bounds::{Bounds, Sample, Target, relevant};

/// Keys of a goal, by the names of the draft.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    pub loss_ratio: f64,
    pub exceed_ratio: f64,
    pub width: f64,
    pub initial_trial_s: f64,
    pub final_trial_s: f64,
    pub sum_s: f64,
}

/// CSIT's NDR.
impl Default for Goal {
    fn default() -> Self {
        Self {
            loss_ratio: 0.0,
            exceed_ratio: 0.5,
            width: 0.005,
            initial_trial_s: 1.0,
            final_trial_s: 1.0,
            sum_s: 21.0,
        }
    }
}

/// CSIT: two coarser targets before the last one.
const PRECEDING: usize = 2;
/// How much steps outwards grow.
const EXPANSION: i64 = 2;

/// Grid steps below the largest load. So a greater load is a smaller number.
type Step = i64;

#[derive(Debug, Clone, Copy)]
struct Stage {
    target: Target,
    /// In grid steps.
    width: i64,
}

#[derive(Debug)]
struct Chase {
    goal: Goal,
    stages: Vec<Stage>,
    stage: usize,
    /// Bounds of the coarser target, or of the first trials.
    hints: Bounds<Step>,
    /// Step outwards, and the load to which the last one led.
    outwards: (i64, Option<Step>),
}

/// What was found for a goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    pub goal: Goal,
    /// Packets/s.
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    pub conditional_throughput: Option<f64>,
    /// The search ended before the bounds were narrow enough.
    pub unfinished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    WarmUp,
    Largest,
    /// At the rate that was forwarded of the load before; again once.
    Forwarded {
        again: bool,
    },
    Over,
}

#[derive(Debug)]
pub struct MlrSearch {
    min: f64,
    max: f64,
    /// Logarithm of the ratio of neighbouring loads.
    unit: f64,
    warmup_s: f64,
    left_s: f64,
    opening: Opening,
    first: Option<Step>,
    chases: Vec<Chase>,
    results: BTreeMap<std::cmp::Reverse<Step>, Vec<Sample>>,
    asked: usize,
}

impl MlrSearch {
    /// Loads in packets/s. `search_max_s`: seconds of trials after which it gives up.
    pub fn new(goals: &[Goal], min: f64, max: f64, warmup_s: f64, search_max_s: f64) -> Self {
        let finest = goals.iter().map(|goal| goal.width).fold(f64::INFINITY, f64::min);
        // Half a width: an interval of one and a half can be divided.
        let unit = -(1.0 - finest).ln() / 2.0;
        let chases = goals.iter().map(|goal| Chase::new(*goal, unit)).collect();
        let opening = if warmup_s > 0.0 { Opening::WarmUp } else { Opening::Largest };
        Self {
            min,
            max,
            unit,
            warmup_s,
            left_s: search_max_s,
            opening,
            first: None,
            chases,
            results: BTreeMap::new(),
            asked: 0,
        }
    }

    fn load(&self, step: Step) -> f64 {
        (self.max * (-self.unit * step as f64).exp()).max(self.min)
    }

    /// The last step of the grid, which is the smallest load.
    fn last(&self) -> Step {
        ((self.max / self.min).ln() / self.unit).ceil() as Step
    }

    /// The nearest step with a load that is not greater.
    fn step(&self, load: f64) -> Step {
        let step = ((self.max / load.max(self.min)).ln() / self.unit - 1e-9).ceil() as Step;
        step.clamp(0, self.last())
    }

    fn bounds(&self, target: &Target) -> Bounds<Step> {
        relevant(self.results.iter().map(|(step, samples)| (step.0, samples.as_slice())), target)
    }

    pub fn found(&self) -> Vec<Found> {
        let found = |chase: &Chase| {
            let last = chase.stages.last()?;
            let bounds = self.bounds(&last.target);
            let samples = |step| self.results.get(&std::cmp::Reverse(step)).map_or(&[][..], Vec::as_slice);
            let throughput = bounds
                .lower
                .map(|step| self.load(step) * (1.0 - last.target.conditional_loss(samples(step))));
            Some(Found {
                goal: chase.goal,
                lower: bounds.lower.map(|step| self.load(step)),
                upper: bounds.upper.map(|step| self.load(step)),
                conditional_throughput: throughput,
                unfinished: !self.is_reached(&bounds, last.width),
            })
        };
        self.chases.iter().filter_map(found).collect()
    }

    fn is_reached(&self, bounds: &Bounds<Step>, width: i64) -> bool {
        match (bounds.lower, bounds.upper) {
            (Some(lower), Some(upper)) => lower - upper <= width,
            (Some(lower), None) => lower == 0,
            (None, Some(upper)) => upper == self.last(),
            (None, None) => false,
        }
    }

    /// The next load of a goal; none if the goal is reached.
    fn nominate(&mut self, at: usize) -> Option<(Step, f64)> {
        loop {
            let chase = self.chases.get(at)?;
            let stage = *chase.stages.get(chase.stage)?;
            let bounds = self.bounds(&stage.target);
            if self.is_reached(&bounds, stage.width) {
                let chase = self.chases.get_mut(at)?;
                chase.stage += 1;
                chase.hints = bounds;
                let next = chase.stages.get(chase.stage)?.width;
                chase.outwards = (next, None);
                continue;
            }
            let step = self.choose(at, stage, bounds)?;
            return Some((step, stage.target.trial_s));
        }
    }

    fn choose(&mut self, at: usize, stage: Stage, bounds: Bounds<Step>) -> Option<Step> {
        let last = self.last();
        let chase = self.chases.get(at)?;
        let worth = |step: Step| {
            bounds.lower.is_none_or(|lower| step < lower) && bounds.upper.is_none_or(|upper| step > upper)
        };
        // The middle of the coarser bounds, then the lower and the upper one.
        if let (Some(lower), Some(upper)) = (chase.hints.lower, chase.hints.upper)
            && bounds == (Bounds { lower: None, upper: None })
            && lower - upper > stage.width
            && lower - upper <= 2 * stage.width
        {
            return Some(upper + (lower - upper).div_euclid(2));
        }
        for hint in [chase.hints.lower, chase.hints.upper].into_iter().flatten() {
            if worth(hint) && (bounds.lower.is_none() || bounds.upper.is_none()) {
                return Some(hint);
            }
        }
        let (by, towards) = chase.outwards;
        let outwards = |from: Step, sign: i64| (from + sign * by).clamp(0, last);
        let step = match (bounds.lower, bounds.upper) {
            // The greater part above, so that fewer trials lose.
            (Some(lower), Some(upper)) => return Some(upper + (lower - upper + 1).div_euclid(2)),
            (None, None) => return Some(self.first.unwrap_or(0)),
            // A step outwards stays until it is classified.
            _ if towards.is_some_and(worth) => return towards,
            (Some(lower), None) => outwards(lower, -1),
            (None, Some(upper)) => outwards(upper, 1),
        };
        self.chases.get_mut(at)?.outwards = (by.saturating_mul(EXPANSION), Some(step));
        Some(step)
    }

    fn longest_initial(&self) -> f64 {
        let first = |chase: &Chase| chase.stages.first().map_or(1.0, |stage| stage.target.trial_s);
        self.chases.iter().map(first).fold(0.0, f64::max)
    }
}

impl Chase {
    fn new(goal: Goal, unit: f64) -> Self {
        let width = ((-(1.0 - goal.width).ln() / unit) + 1e-9).floor().max(1.0) as i64;
        let factor = (goal.initial_trial_s / goal.sum_s).powf(1.0 / PRECEDING as f64);
        let stage = |coarser: usize| {
            let sum_s = if coarser == PRECEDING {
                goal.initial_trial_s
            } else {
                goal.sum_s * factor.powi(coarser as i32)
            };
            Stage {
                target: Target {
                    loss_ratio: goal.loss_ratio,
                    exceed_ratio: goal.exceed_ratio,
                    trial_s: goal.final_trial_s.min(sum_s),
                    sum_s,
                },
                width: width << coarser,
            }
        };
        let stages: Vec<Stage> = (0..=PRECEDING).rev().map(stage).collect();
        let first = stages.first().map_or(1, |stage| stage.width);
        Self { goal, stages, stage: 0, hints: Bounds { lower: None, upper: None }, outwards: (first, None) }
    }
}

impl Search for MlrSearch {
    fn ask(&mut self) -> Option<Ask> {
        self.asked += 1;
        let initial_s = self.longest_initial();
        let opening = match self.opening {
            Opening::WarmUp => Some((0, self.warmup_s)),
            Opening::Largest => Some((0, initial_s)),
            Opening::Forwarded { .. } => self.first.map(|step| (step, initial_s)),
            Opening::Over => None,
        };
        if let Some((step, seconds)) = opening {
            return Some(Ask::at(self.load(step), seconds));
        }
        if self.left_s <= 0.0 {
            return None;
        }
        // Goals go on together, the one that is behind first.
        let mut nominated: Vec<(usize, Step, f64)> = Vec::new();
        for at in 0..self.chases.len() {
            if let Some((step, seconds)) = self.nominate(at) {
                let stage = self.chases.get(at).map_or(0, |chase| chase.stage);
                nominated.push((stage, step, seconds));
            }
        }
        let (_, step, seconds) = nominated.into_iter().min_by_key(|(stage, ..)| *stage)?;
        Some(Ask::at(self.load(step), seconds))
    }

    fn answer(&mut self, answer: Answer) {
        self.left_s -= answer.seconds;
        let step = self.step(answer.ask.pps);
        if self.opening == Opening::WarmUp {
            self.opening = Opening::Largest;
            return;
        }
        let sample =
            Sample { intended_s: answer.ask.seconds, loss_ratio: answer.loss_ratio, seconds: answer.seconds };
        self.results.entry(std::cmp::Reverse(step)).or_default().push(sample);
        let forwarded = self.step(answer.ask.pps * (1.0 - answer.loss_ratio));
        match self.opening {
            Opening::Largest | Opening::Forwarded { again: true } if forwarded > step => {
                self.first = Some(forwarded);
                self.opening = Opening::Forwarded { again: self.opening == Opening::Largest };
            }
            Opening::WarmUp | Opening::Over => {}
            Opening::Largest | Opening::Forwarded { .. } => {
                self.first = Some(step);
                self.opening = Opening::Over;
            }
        }
    }

    fn left(&self) -> Option<usize> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Device;
    use super::*;

    fn goals() -> [Goal; 2] {
        [Goal::default(), Goal { loss_ratio: 0.005, ..Goal::default() }]
    }

    #[test]
    fn ndr_and_pdr_of_a_known_device_are_within_the_width_in_less_than_five_minutes() {
        for capacity in [12_345.0, 654_321.0, 1.4e6, 9.3e6] {
            let mut device = Device::new(capacity);
            let mut search = MlrSearch::new(&goals(), 9001.0, 1e7, 1.0, 1200.0);
            device.run(&mut search);
            let found = search.found();
            for (found, best) in found.iter().zip([capacity, capacity / 0.995]) {
                let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap());
                assert!(!found.unfinished && lower <= best && best < upper, "{capacity}: {found:?}");
                assert!((upper - lower) / upper <= 0.005 + 1e-9, "{capacity}: {found:?}");
            }
            assert!((found[0].conditional_throughput.unwrap() - found[0].lower.unwrap()).abs() < 1e-6);
            let pdr = found[1].conditional_throughput.unwrap();
            assert!(pdr <= capacity * 1.0001 && pdr >= capacity * 0.989, "{pdr}");
            assert!(device.seconds() < 150.0, "{} s, {} trials", device.seconds(), device.trials.len());
        }
    }

    #[test]
    fn a_single_bad_trial_now_and_then_does_not_spoil_the_result() {
        let mut device = Device { bad_every: Some(7), ..Device::new(1e6) };
        let mut search = MlrSearch::new(&goals(), 9001.0, 1e7, 0.0, 1200.0);
        device.run(&mut search);
        let found = search.found();
        assert!(!found[0].unfinished);
        assert!((0.99e6..=1e6).contains(&found[0].lower.unwrap()), "{found:?}");
    }

    #[test]
    fn device_faster_than_the_line_and_one_that_passes_nothing() {
        let mut search = MlrSearch::new(&goals(), 9001.0, 1e7, 1.0, 1200.0);
        Device::new(1e9).run(&mut search);
        assert!(
            search
                .found()
                .iter()
                .all(|found| found.lower == Some(1e7) && found.upper.is_none() && !found.unfinished)
        );
        let mut search = MlrSearch::new(&goals(), 9001.0, 1e7, 1.0, 1200.0);
        Device { floor: 0.2, ..Device::new(1e9) }.run(&mut search);
        assert!(search.found().iter().all(|found| found.lower.is_none() && found.upper == Some(9001.0)));
        assert!(search.found().iter().all(|found| found.conditional_throughput.is_none()));
    }

    #[test]
    fn search_that_takes_too_long_says_so() {
        let mut search = MlrSearch::new(&goals(), 9001.0, 1e7, 1.0, 5.0);
        let mut device = Device::new(1e6);
        device.run(&mut search);
        assert!(device.seconds() < 7.0);
        assert!(search.found().iter().all(|found| found.unfinished));
    }
}
