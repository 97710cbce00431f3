//! Classification of loads: lower bound, upper bound, or not yet known (draft-ietf-bmwg-mlrsearch, "Load Classification"), and the
//! conditional throughput at a lower bound.

/// What a load is classified for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// A trial with more loss is bad.
    pub loss_ratio: f64,
    /// Part of the time that may be bad.
    pub exceed_ratio: f64,
    /// Trials of at least this length count in full.
    pub trial_s: f64,
    /// Time that classifies a load.
    pub sum_s: f64,
}

/// A trial at some load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub intended_s: f64,
    pub loss_ratio: f64,
    /// Seconds that it counts for.
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Lower,
    Upper,
    /// More trials can make it either.
    Unknown,
}

impl Target {
    pub fn classify(&self, samples: &[Sample]) -> Class {
        let (mut good_long, mut bad_long, mut good_short, mut bad_short) = (0.0, 0.0, 0.0, 0.0);
        for sample in samples {
            let bad = sample.loss_ratio > self.loss_ratio;
            let sum = match (sample.intended_s >= self.trial_s, bad) {
                (true, false) => &mut good_long,
                (true, true) => &mut bad_long,
                (false, false) => &mut good_short,
                (false, true) => &mut bad_short,
            };
            *sum += sample.seconds;
        }
        // Short bad trials count as far as they exceed what short good ones allow.
        let allowed = good_short * self.exceed_ratio / (1.0 - self.exceed_ratio);
        let excess = bad_long + f64::max(0.0, bad_short - allowed);
        let all = f64::max(good_long + excess, self.sum_s);
        let limit = all * self.exceed_ratio;
        // If all that is missing were good, and if all of it were bad.
        match (excess <= limit, all - good_long <= limit) {
            (true, true) => Class::Lower,
            (false, false) => Class::Upper,
            _ => Class::Unknown,
        }
    }

    /// The loss ratio that no more than the allowed part of the time exceeds. Missing time counts as lost.
    pub fn conditional_loss(&self, samples: &[Sample]) -> f64 {
        let mut long: Vec<&Sample> =
            samples.iter().filter(|sample| sample.intended_s >= self.trial_s).collect();
        long.sort_by(|one, other| one.loss_ratio.total_cmp(&other.loss_ratio));
        let measured: f64 = long.iter().map(|sample| sample.seconds).sum();
        let mut remaining = f64::max(self.sum_s, measured) * (1.0 - self.exceed_ratio);
        let mut loss = None;
        let mut rest = long.chunk_by(|one, other| one.loss_ratio == other.loss_ratio);
        for equal in &mut rest {
            if loss.is_some() && remaining <= 0.0 {
                return loss.unwrap_or(1.0);
            }
            loss = equal.first().map(|sample| sample.loss_ratio);
            remaining -= equal.iter().map(|sample| sample.seconds).sum::<f64>();
        }
        if remaining > 0.0 { 1.0 } else { loss.unwrap_or(1.0) }
    }
}

/// The relevant bounds: the smallest upper bound, and the largest lower bound below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds<L> {
    pub lower: Option<L>,
    pub upper: Option<L>,
}

/// From loads in ascending order.
pub fn relevant<'a, L: Copy>(
    loads: impl IntoIterator<Item = (L, &'a [Sample])>,
    target: &Target,
) -> Bounds<L> {
    let mut bounds = Bounds { lower: None, upper: None };
    for (load, samples) in loads {
        match target.classify(samples) {
            Class::Lower => bounds.lower = Some(load),
            Class::Upper => {
                bounds.upper = Some(load);
                break;
            }
            Class::Unknown => {}
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        trials: Vec<(f64, f64, f64, f64)>,
        goals: Vec<Goal>,
    }

    #[derive(Deserialize)]
    struct Goal {
        loss_ratio: f64,
        exceed_ratio: f64,
        trial_s: f64,
        sum_s: f64,
        lower: Option<f64>,
        upper: Option<f64>,
        conditional_throughput: Option<f64>,
    }

    /// The reference implementation is the oracle; `fixtures/mlrsearch.py` makes the file.
    #[test]
    fn same_bounds_and_conditional_throughput_as_the_reference_from_the_same_trials() {
        let text = include_str!("../../../fixtures/mlrsearch.json");
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        let (mut throughputs, mut lossy, mut missing) = (0, 0, 0);
        for (number, case) in fixture.cases.iter().enumerate() {
            let mut loads: Vec<(f64, Vec<Sample>)> = Vec::new();
            for &(load, intended_s, loss_ratio, seconds) in &case.trials {
                let sample = Sample { intended_s, loss_ratio, seconds };
                match loads.iter_mut().find(|(known, _)| *known == load) {
                    Some((_, samples)) => samples.push(sample),
                    None => loads.push((load, vec![sample])),
                }
            }
            loads.sort_by(|one, other| one.0.total_cmp(&other.0));
            for goal in &case.goals {
                let target = Target {
                    loss_ratio: goal.loss_ratio,
                    exceed_ratio: goal.exceed_ratio,
                    trial_s: goal.trial_s,
                    sum_s: goal.sum_s,
                };
                let bounds =
                    relevant(loads.iter().map(|(load, samples)| (*load, samples.as_slice())), &target);
                assert_eq!((bounds.lower, bounds.upper), (goal.lower, goal.upper), "case {number}");
                let throughput = bounds.lower.map(|lower| {
                    let samples = &loads.iter().find(|(load, _)| *load == lower).unwrap().1;
                    lower * (1.0 - target.conditional_loss(samples))
                });
                match (throughput, goal.conditional_throughput) {
                    (Some(ours), Some(theirs)) => {
                        assert!(
                            (ours - theirs).abs() <= theirs * 1e-9,
                            "case {number}: {ours}, expected {theirs}"
                        );
                        throughputs += 1;
                        lossy += usize::from(Some(theirs) != goal.lower);
                    }
                    (None, None) => missing += 1,
                    other => panic!("case {number}: {other:?}"),
                }
            }
        }
        assert!(throughputs > 50 && lossy > 10 && missing > 2, "{throughputs} {lossy} {missing}");
    }

    #[test]
    fn one_bad_trial_in_three_does_not_make_an_upper_bound_at_half() {
        let target = Target { loss_ratio: 0.0, exceed_ratio: 0.5, trial_s: 1.0, sum_s: 3.0 };
        let sample = |loss_ratio| Sample { intended_s: 1.0, loss_ratio, seconds: 1.0 };
        assert_eq!(target.classify(&[sample(0.1)]), Class::Unknown);
        assert_eq!(target.classify(&[sample(0.1), sample(0.0)]), Class::Unknown);
        assert_eq!(target.classify(&[sample(0.1), sample(0.0), sample(0.0)]), Class::Lower);
        assert_eq!(target.classify(&[sample(0.1), sample(0.2)]), Class::Upper);
        assert_eq!(target.classify(&[]), Class::Unknown);
    }
}
