//! Runs with deliberate faults: how many seeds find each, and by which rule.

use fibcast_sync_proto::mutation::Mutation;

use crate::invariants::Rule;
use crate::script::{Options, run};

/// Every fault must be found within this many seeds.
pub const SEEDS: u64 = 150;

/// How a fault was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The seed, counted from 0.
    pub seed: u64,
    /// The violated rule.
    pub rule: Rule,
    /// What was observed.
    pub text: String,
}

/// Searches for a fault in seeds 0 to `seeds` - 1.
pub fn hunt(mutation: Mutation, steps: u64, seeds: u64) -> Option<Found> {
    (0..seeds).find_map(|seed| {
        let outcome = run(&Options { mutation: Some(mutation), ..Options::new(seed, steps) });
        outcome.violation.map(|(_, v)| Found { seed, rule: v.rule, text: v.text })
    })
}
