//! Routes: the real prefixes, with next hops by one of two rules, or more of them than there are.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use fibcast_fib::{Change, Fib, Forward, Generation, Group, GroupIndex, GroupLabel, Limits, NextHop, VrfId};
use fibcast_testbed::tablegen::{Gateways, Rule};
use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Family, Random};

/// Group 0 goes to 10.0.0.1.
const FIRST_GATEWAY: u32 = 0x0a00_0001;

/// A table: sorted prefixes, each with the number of its group.
#[derive(Debug)]
pub struct Table {
    /// Sorted, each once.
    pub routes: Vec<(IpNet, u32)>,
    /// Groups are numbered from 0.
    pub groups: u32,
}

impl Table {
    /// Gives each prefix one of `groups` groups, drawn at random.
    pub fn new(mut prefixes: Vec<IpNet>, groups: u32) -> Table {
        prefixes.sort();
        prefixes.dedup();
        let mut random = Random(1);
        let routes =
            prefixes.into_iter().map(|prefix| (prefix, random.below(groups as usize) as u32)).collect();
        Table { routes, groups }
    }

    /// The same prefixes with groups as a real table has them: each block of /14 (IPv4) or /29 (IPv6) has a home group that 80 % of its
    /// prefixes use, the others use any.
    pub fn with_homes(&self, groups: u32) -> Table {
        let subnets = (vec![Ipv4Net::default()], vec![Ipv6Net::default()]);
        let Ok(gateways) = Gateways::new(subnets.0, subnets.1, groups) else {
            return Table { routes: Vec::new(), groups };
        };
        let rule = Rule { gateways, seed: 1 };
        let routes = self.routes.iter().map(|&(prefix, _)| (prefix, rule.gateway(prefix) as u32)).collect();
        Table { routes, groups }
    }

    /// A table `times` as large, as if all announcements grew alike: the real prefixes plus neighbors of them,
    /// of the same length and at most 64 blocks away, so that lengths and clusters stay as they are. Groups are drawn at random.
    pub fn grown(&self, times: usize) -> Table {
        let mut random = Random(11);
        let mut prefixes = more::<u32>(self, times, &mut random);
        prefixes.extend(more::<u128>(self, times, &mut random));
        Table::new(prefixes, self.groups)
    }

    /// Routes of one family.
    pub fn of<F: Family>(&self) -> impl Iterator<Item = ((F, u8), u32)> {
        self.routes.iter().filter_map(|&(prefix, group)| Some((F::prefix(prefix)?, group)))
    }

    /// All groups, with one next hop each.
    pub fn puts(&self) -> Vec<Change> {
        let group = |number| Group::one(NextHop::via(IpAddr::from(Ipv4Addr::from(FIRST_GATEWAY + number))));
        (0..self.groups)
            .filter_map(|number| {
                Some(Change::PutGroup { label: GroupLabel(number.into()), group: group(number).ok()? })
            })
            .collect()
    }

    /// Announcements of all routes of one family.
    pub fn announcements<F: Family>(&self) -> Vec<Change> {
        let of = self.routes.iter().filter(|(prefix, _)| F::prefix(*prefix).is_some());
        of.map(|&(prefix, group)| announce(prefix, group)).collect()
    }

    /// A FIB that holds the table.
    pub fn fib(&self) -> Result<Fib, fibcast_fib::ApplyError> {
        let mut fib = Fib::new(Limits::default());
        fib.apply(&self.puts(), 0)?;
        fib.apply(&self.announcements::<u32>(), 1)?;
        fib.apply(&self.announcements::<u128>(), 2)?;
        Ok(fib)
    }

    /// The same routes in another author's trie: a peer, and the oracle for every answer.
    pub fn oracle<F: Family>(&self) -> IpLookupTable<F::Ip, u32> {
        let mut trie = IpLookupTable::new();
        for ((network, length), group) in self.of::<F>() {
            trie.insert(network.ip(), length.into(), group);
        }
        trie
    }
}

/// A route to a group.
fn announce(prefix: IpNet, group: u32) -> Change {
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(group.into()) }
}

/// One random change of a route: to another group or, one time in four, gone. What is gone may come back by another change.
pub fn change(table: &Table, random: &mut Random) -> Change {
    let (prefix, _) = table.routes[random.below(table.routes.len())];
    match random.below(4) {
        0 => Change::Withdraw { vrf: VrfId::DEFAULT, prefix },
        _ => announce(prefix, random.below(table.groups as usize) as u32),
    }
}

/// The number of the group that a lookup found, by its next hop.
pub fn group_of(generation: &Generation, index: GroupIndex) -> Option<u32> {
    match generation.forward(index, 0) {
        Forward::Incomplete { next_hop: NextHop { gateway: Some(IpAddr::V4(gateway)), .. } } => {
            gateway.to_bits().checked_sub(FIRST_GATEWAY)
        }
        _ => None,
    }
}

/// The prefixes of a family and neighbors of them, up to `times` as many.
fn more<F: Family>(table: &Table, times: usize, random: &mut Random) -> Vec<IpNet> {
    let there: Vec<(F, u8)> = table.of::<F>().map(|(prefix, _)| prefix).collect();
    let mut all: HashSet<(F, u8)> = there.iter().copied().collect();
    // Short prefixes soon have no free neighbor left.
    for _ in 0..16 * times * there.len() {
        if all.len() >= times * there.len() {
            break;
        }
        let Some(&prefix) = there.get(random.below(there.len())) else { break };
        let blocks = random.below(128) as i64 - 64;
        all.extend(F::beside(prefix, blocks));
    }
    all.into_iter().filter_map(F::net).collect()
}

/// Four prefixes, one of them twice.
#[cfg(test)]
pub fn small() -> Table {
    let prefixes = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "10.0.0.0/8"];
    Table::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(), 4)
}

#[cfg(test)]
mod tests {
    use super::small as table;
    use super::*;

    #[test]
    fn a_prefix_that_comes_twice_is_one_route() {
        assert_eq!(table().of::<u32>().count(), 2);
        assert_eq!(table().of::<u128>().count(), 1);
    }

    #[test]
    fn a_grown_table_holds_the_old_one_and_prefixes_of_the_same_lengths() {
        let grown = table().grown(4);
        assert_eq!((grown.of::<u32>().count(), grown.of::<u128>().count()), (8, 4));
        assert!(grown.of::<u32>().all(|((network, length), _)| [8, 16].contains(&length)
            && network.trailing_zeros() >= 32 - u32::from(length)));
        let prefixes: Vec<IpNet> = grown.routes.iter().map(|route| route.0).collect();
        assert!(table().routes.iter().all(|(prefix, _)| prefixes.contains(prefix)));
    }

    #[test]
    fn most_neighbors_share_their_home_group() {
        let prefixes =
            (0..1000u32).map(|n| Ipv4Net::new((0x0a00_0000 + (n << 8)).into(), 24).unwrap().into());
        let table = Table::new(prefixes.collect(), 2).with_homes(4_000);
        let mut counts = std::collections::HashMap::new();
        table.routes.iter().for_each(|(_, group)| *counts.entry(*group).or_insert(0) += 1);
        let most = counts.values().max().unwrap();
        assert!((700..900).contains(most) && counts.len() > 50, "{most} {}", counts.len());
    }
}
