//! The simulator finds what it is there to find: every deliberate fault, within a stated number of seeds.
#![cfg(feature = "mutations")]

use fibcast_sim::mutations::{SEEDS, hunt};
use fibcast_sync_proto::mutation::Mutation;

#[test]
fn every_deliberate_fault_is_found() {
    let missed: Vec<_> =
        Mutation::ALL.iter().filter(|m| hunt(**m, 120, SEEDS).is_none()).map(|m| m.name()).collect();
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
