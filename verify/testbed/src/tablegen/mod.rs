//! Assigns next hops to the real table's prefixes by a documented rule, and creates updates that flap some of them.
//!
//! The prefixes are real (`verify/data/README.md`), their next hops are not known. The rule, in [`Rule`]: each covering /14 (IPv4) or /29 (IPv6)
//! has a home gateway that 80 % of its prefixes use, the others use any gateway. All draws are hashes of a seed and the prefix, so the
//! result for a prefix depends neither on the order of the file nor on the other prefixes. [`churn`] draws prefixes and lets each alternate
//! between its own gateway and one behind the next port, at exact times.

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
