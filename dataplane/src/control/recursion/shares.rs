//! Shares of next hops as the weights of a group.

use fibcast_fib::{Group, MAX_MEMBERS, Member, NextHop};

/// Largest weight if shares are not small integer ratios.
const FINEST: f64 = 4_096.0;

/// Turns shares into weights, each next hop once: a gateway on two ports is two next hops. None without a next hop.
pub fn weigh(found: Vec<(NextHop, f64)>) -> Option<Group> {
    let mut merged: Vec<(NextHop, f64)> = Vec::new();
    for (next_hop, share) in found {
        match merged.iter_mut().find(|(known, _)| *known == next_hop) {
            Some((_, sum)) => *sum += share,
            None => merged.push((next_hop, share)),
        }
    }
    merged.truncate(MAX_MEMBERS);
    let least = merged.iter().map(|(_, share)| *share).fold(f64::INFINITY, f64::min);
    let most = merged.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let whole = |scale: &f64| {
        most * scale <= f64::from(u16::MAX)
            && merged.iter().all(|(_, share)| (share * scale - (share * scale).round()).abs() < 1e-6)
    };
    let scale = (1..=64u32).map(|count| f64::from(count) / least).find(whole).unwrap_or(FINEST / most);
    let member = |(next_hop, share): (NextHop, f64)| Member {
        next_hop,
        weight: (share * scale).round().clamp(1.0, f64::from(u16::MAX)) as u16,
    };
    Group::hops(merged.into_iter().map(member).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_fib::PortId;

    fn hop(last: u8) -> NextHop {
        NextHop::via([10, 0, 0, last].into())
    }

    fn weights(found: Vec<(NextHop, f64)>) -> Vec<u16> {
        weigh(found).unwrap().members().iter().map(|member| member.weight).collect()
    }

    #[test]
    fn shares_become_the_smallest_whole_weights() {
        assert_eq!(weights(vec![(hop(1), 0.5), (hop(2), 0.5)]), [1, 1]);
        assert_eq!(weights(vec![(hop(1), 1.0 / 3.0), (hop(2), 1.0), (hop(1), 1.0 / 3.0)]), [2, 3]);
        assert_eq!(weights(vec![(hop(1), 0.001), (hop(2), 900.0)]), [1, 4_096]);
        assert!(weigh(Vec::new()).is_none());
    }

    #[test]
    fn one_gateway_on_two_ports_is_two_next_hops() {
        let on = |port| NextHop { port: Some(PortId(port)), ..hop(3) };
        assert_eq!(weights(vec![(on(0), 0.5), (on(1), 0.25), (on(0), 0.25)]), [3, 1]);
    }
}
