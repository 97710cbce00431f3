//! Which addresses get packets: one inside each prefix, or those that the scenario asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::oracle::Oracle;
use super::{Flow, PlanError};
use crate::neighbor::Link;
use crate::traffic::order::Direction;
use crate::traffic::signature::MAX_FLOWS;

/// Which destinations.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Neither: both.
    pub ipv4: bool,
    pub ipv6: bool,
    /// Inside these prefixes. None: a destination for each prefix of the table.
    pub within: Vec<IpNet>,
    /// So many of them.
    pub flows: Option<usize>,
    /// These and no others, in this order.
    pub exactly: Option<Vec<IpAddr>>,
    pub direction: Direction,
    pub seed: u64,
}

impl Wanted {
    fn family(&self, prefix: IpNet) -> bool {
        match (self.ipv4, self.ipv6) {
            (false, false) => true,
            (v4, v6) => {
                if prefix.addr().is_ipv4() {
                    v4
                } else {
                    v6
                }
            }
        }
    }
}

/// Addresses with their routes, shuffled, and how many prefixes have none.
pub(super) fn destinations(
    prefixes: &[IpNet],
    oracle: &Oracle,
    links: &[Link],
    wanted: &Wanted,
) -> Result<(Vec<(IpAddr, u32)>, usize), PlanError> {
    if let Some(addresses) = &wanted.exactly {
        let route =
            |&to: &IpAddr| oracle.longest(to).map(|route| (to, route)).ok_or(PlanError::NoRoute(to.into()));
        return Ok((addresses.iter().map(route).collect::<Result<_, _>>()?, 0));
    }
    let mut random = SmallRng::seed_from_u64(wanted.seed);
    let mut from: Vec<IpNet> = if wanted.within.is_empty() { prefixes } else { &wanted.within }
        .iter()
        .copied()
        .filter(|prefix| wanted.family(*prefix))
        .collect();
    // Inside a given prefix any route will do.
    let exact = wanted.within.is_empty();
    from.shuffle(&mut random);
    let most = wanted.flows.unwrap_or(from.len());
    if most > MAX_FLOWS {
        return Err(PlanError::TooManyFlows(most));
    }
    let (mut found, mut skipped) = (Vec::with_capacity(most), 0);
    // More flows than prefixes: further addresses of each.
    while found.len() < most && !from.is_empty() {
        let before = found.len();
        let mut unusable = 0;
        for prefix in &from {
            if found.len() == most {
                break;
            }
            let destination = if exact {
                oracle.destination(*prefix, links, &mut random)
            } else {
                Some(oracle.address_within(*prefix, links, &mut random).ok_or(PlanError::NoRoute(*prefix))?)
            };
            match destination {
                Some(destination) => found.push(destination),
                None => unusable += 1,
            }
        }
        skipped = skipped.max(unusable);
        if found.len() == before || wanted.flows.is_none() {
            break;
        }
    }
    Ok((found, skipped))
}

pub(super) type Sorted = (Vec<Flow>, Vec<std::ops::Range<u32>>, Vec<u32>);

/// Sorts flows by the port that they enter by, in their order.
pub(super) fn by_ingress(
    mut flows: Vec<(u32, Flow)>,
    ports: usize,
    wanted: &Wanted,
) -> Result<Sorted, PlanError> {
    if flows.is_empty() {
        return Err(PlanError::NoDestination);
    }
    flows.sort_by_key(|(_, flow)| flow.ingress);
    let start = |port: usize| flows.partition_point(|(_, flow)| usize::from(flow.ingress) < port) as u32;
    let lanes = (0..ports).map(|port| start(port)..start(port + 1)).collect();
    let origins =
        if wanted.exactly.is_some() { flows.iter().map(|(number, _)| *number).collect() } else { Vec::new() };
    Ok((flows.into_iter().map(|(_, flow)| flow).collect(), lanes, origins))
}

impl Oracle {
    /// An address inside the prefix for which it is the longest match or, if more specific prefixes cover all attempts, one with another
    /// longest match.
    fn destination(&self, prefix: IpNet, links: &[Link], random: &mut SmallRng) -> Option<(IpAddr, u32)> {
        let own = self.exact(prefix)?;
        let mut second_best = None;
        for (to, route) in self.attempts(prefix, links, random) {
            if route == own {
                return Some((to, route));
            }
            second_best = Some((to, route));
        }
        second_best
    }

    /// An address inside the prefix that some route matches.
    fn address_within(&self, prefix: IpNet, links: &[Link], random: &mut SmallRng) -> Option<(IpAddr, u32)> {
        self.attempts(prefix, links, random).next()
    }

    fn attempts(
        &self,
        prefix: IpNet,
        links: &[Link],
        random: &mut SmallRng,
    ) -> impl Iterator<Item = (IpAddr, u32)> {
        (0..12).filter_map(move |attempt| {
            let to = match attempt {
                10 => prefix.network(),
                11 => prefix.broadcast(),
                _ => random_address(prefix, random),
            };
            let unusable = is_special(to) || links.iter().any(|link| link.holds(to));
            if unusable { None } else { self.longest(to).map(|route| (to, route)) }
        })
    }
}

fn random_address(prefix: IpNet, random: &mut SmallRng) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = random.random::<u32>() & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            let host = random.random::<u128>() & u128::from(net.hostmask());
            Ipv6Addr::from(u128::from(net.network()) | host).into()
        }
    }
}

/// Addresses that no router forwards (RFC 1812 §5.3.7, RFC 4291 §2.5).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            first == 0 || first == 127 || first >= 224 || (first, second) == (169, 254)
        }
        IpAddr::V6(address) => {
            address.is_multicast()
                || address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
        }
    }
}
