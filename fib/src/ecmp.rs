//! How a flow hash picks a member: buckets filled by weighted rendezvous hashing, so that few flows move.
//!
//! Each bucket computes a score for every member and takes the highest. With scores `-ln(h) / weight`, a member wins a share of buckets in
//! proportion to its weight (Schindelhauer, Schomaker, "Weighted Distributed Hash Tables", SPAA 2005). When a member is removed, only its
//! buckets move; a new member takes its share from all others.

use std::net::IpAddr;

use crate::types::{Member, NextHop};

/// Number of buckets of a group as a power of two. It depends only on the number of members.
fn bucket_bits(members: usize) -> u32 {
    match members {
        0..=16 => 9,
        17..=64 => 11,
        _ => 13,
    }
}

/// One bucket for each share of the flow hash, holding the index of its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    bits: u32,
    members: Box<[u8]>,
}

impl Buckets {
    pub(crate) fn fill(members: &[Member]) -> Self {
        let bits = bucket_bits(members.len());
        let seeds: Vec<u64> = members.iter().map(|member| identity(&member.next_hop)).collect();
        let pick = |bucket: u64| {
            let scores = members.iter().zip(&seeds).map(|(member, seed)| {
                let unit = ((mix(seed ^ mix(bucket)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                -unit.ln() / f64::from(member.weight)
            });
            let best = scores.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
            best.map_or(0, |(position, _)| position as u8)
        };
        Buckets { bits, members: (0..1u64 << bits).map(pick).collect() }
    }

    /// Index of the member that the flow belongs to.
    pub(crate) fn pick(&self, flow_hash: u32) -> u8 {
        // The top bits after a multiplication: a weak hash must not leave buckets without flows.
        let bucket = flow_hash.wrapping_mul(0x9E37_79B1) >> (32 - self.bits);
        self.members.get(bucket as usize).copied().unwrap_or_default()
    }
}

/// Identifies a next hop independently of its index among the members.
fn identity(next_hop: &NextHop) -> u64 {
    let port = next_hop.port.map_or(0, |port| u64::from(port.0) + 1);
    let gateway = match next_hop.gateway {
        None => 0,
        Some(IpAddr::V4(address)) => mix(u64::from(address.to_bits()) + 1),
        Some(IpAddr::V6(address)) => {
            let bits = address.to_bits();
            mix(bits as u64 ^ mix((bits >> 64) as u64 + 2))
        }
    };
    mix(gateway ^ port.wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u16]) -> Vec<Member> {
        let next_hop = |n: usize| NextHop::via(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]));
        weights.iter().enumerate().map(|(n, &weight)| Member { next_hop: next_hop(n), weight }).collect()
    }

    #[test]
    fn flows_are_shared_by_weight() {
        let buckets = Buckets::fill(&members(&[1, 1, 2, 4]));
        let mut seen = [0u32; 4];
        (0..80_000).for_each(|flow| seen[usize::from(buckets.pick(flow))] += 1);
        for (count, expected) in seen.iter().zip([10_000u32, 10_000, 20_000, 40_000]) {
            assert!(count.abs_diff(expected) < expected / 4, "{seen:?}");
        }
    }

    #[test]
    fn a_member_that_goes_moves_its_own_flows_only() {
        let all = members(&[1; 8]);
        let mut fewer = all.clone();
        fewer.remove(3);
        let (before, after) = (Buckets::fill(&all), Buckets::fill(&fewer));
        let mut moved = 0;
        for flow in 0..100_000 {
            let was = all[usize::from(before.pick(flow))].next_hop;
            let is = fewer[usize::from(after.pick(flow))].next_hop;
            if was == all[3].next_hop {
                moved += 1;
            } else {
                assert_eq!(was, is);
            }
        }
        assert!((8_000..18_000).contains(&moved), "{moved}");
    }

    #[test]
    fn every_one_of_256_members_gets_flows() {
        let buckets = Buckets::fill(&members(&[1; 256]));
        let mut seen = [false; 256];
        (0..1_000_000).for_each(|flow| seen[usize::from(buckets.pick(flow))] = true);
        assert!(seen.iter().all(|&seen| seen));
    }
}
