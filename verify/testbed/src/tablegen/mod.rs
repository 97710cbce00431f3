//! Gives the real table's prefixes next hops by a rule that a reader can follow, and makes updates that flap some of them.
//!
//! The prefixes are real (`verify/data/README.md`), their next hops are not known. The rule, in [`Rule`]: each covering /14 (IPv4) or /29
//! (IPv6) has a home gateway, 80 % of its prefixes use it, the others any gateway. All draws are hashes of a seed and the prefix, so
//! the answer for a prefix depends neither on the order of the file nor on the other prefixes. [`churn`] draws prefixes and lets
//! each go to and fro between its own gateway and one behind the next port, at exact times.

pub mod churn;
mod prefixes;
mod rule;
pub mod text;

pub use prefixes::{PrefixesError, read_prefixes};
pub use rule::{Gateways, GatewaysError, Rule};

/// SplitMix64's output function (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): the same on every
/// machine and in every version, unlike the generators of a library.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
