//! The table that is measured and the addresses that are asked for: real prefixes, reproducible draws.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::{Change, Fib, Forward, Generation, Group, GroupIndex, GroupLabel, Limits, NextHop, VrfId};
use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::IpNet;

/// Addresses of one set; large enough that neither side's caches hold its answers.
pub const ADDRESSES: usize = 1 << 20;

/// Group 0 goes to 10.0.0.1.
const FIRST_GATEWAY: u32 = 0x0a00_0001;

/// SplitMix64 (Steele, Lea, Flood 2014): the same draws on every machine.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// What the two families differ in.
pub trait Family: Copy + Eq + std::hash::Hash + 'static {
    /// As it appears in metrics.
    const NAME: &'static str;
    /// As the peers call their arguments.
    type Ip: ip_network_table_deps_treebitmap::address::Address + Copy + std::fmt::Display;
    /// The prefix, where it is of this family.
    fn prefix(of: IpNet) -> Option<(Self, u8)>;
    /// Any address within `prefix`.
    fn within(prefix: (Self, u8), random: &mut Random) -> Self;
    /// Any global unicast address.
    fn anywhere(random: &mut Random) -> Self;
    /// The first `length` bits, which are fewer than all.
    fn stem(self, length: u8) -> Self;
    /// Answers of one burst.
    fn lookup(generation: &Generation, dst: &[Self], out: &mut [GroupIndex]);
    /// For the peers.
    fn ip(self) -> Self::Ip;
    /// As `dpdk-test-fib` wants it in a file of addresses: it reads IPv4 in network order and looks it up in host order.
    fn listed(self) -> Self::Ip {
        self.ip()
    }
}

impl Family for u32 {
    const NAME: &'static str = "ipv4";
    type Ip = Ipv4Addr;

    fn prefix(of: IpNet) -> Option<(u32, u8)> {
        match of {
            IpNet::V4(net) => Some((net.network().to_bits(), net.prefix_len())),
            IpNet::V6(_) => None,
        }
    }

    fn within((network, length): (u32, u8), random: &mut Random) -> u32 {
        network | (random.next() as u32 & u32::MAX.checked_shr(length.into()).unwrap_or(0))
    }

    fn anywhere(random: &mut Random) -> u32 {
        // 1.0.0.0 to 223.255.255.255.
        0x0100_0000 + (random.next() % 0xdf00_0000) as u32
    }

    fn stem(self, length: u8) -> u32 {
        self >> (32 - length)
    }

    fn lookup(generation: &Generation, dst: &[u32], out: &mut [GroupIndex]) {
        generation.lookup_v4(VrfId::DEFAULT, dst, out);
    }

    fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from(self)
    }

    fn listed(self) -> Ipv4Addr {
        Ipv4Addr::from(self.to_ne_bytes())
    }
}

impl Family for u128 {
    const NAME: &'static str = "ipv6";
    type Ip = Ipv6Addr;

    fn prefix(of: IpNet) -> Option<(u128, u8)> {
        match of {
            IpNet::V6(net) => Some((net.network().to_bits(), net.prefix_len())),
            IpNet::V4(_) => None,
        }
    }

    fn within((network, length): (u128, u8), random: &mut Random) -> u128 {
        network | (random.wide() & u128::MAX.checked_shr(length.into()).unwrap_or(0))
    }

    fn anywhere(random: &mut Random) -> u128 {
        // 2000::/3
        1 << 125 | random.wide() >> 3
    }

    fn stem(self, length: u8) -> u128 {
        self >> (128 - length)
    }

    fn lookup(generation: &Generation, dst: &[u128], out: &mut [GroupIndex]) {
        generation.lookup_v6(VrfId::DEFAULT, dst, out);
    }

    fn ip(self) -> Ipv6Addr {
        Ipv6Addr::from(self)
    }
}

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
pub fn announce(prefix: IpNet, group: u32) -> Change {
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

/// The number of the group that a lookup found, told by its next hop.
pub fn group_of(generation: &Generation, index: GroupIndex) -> Option<u32> {
    match generation.forward(index, 0) {
        Forward::Incomplete { next_hop: NextHop { gateway: Some(IpAddr::V4(gateway)), .. } } => {
            gateway.to_bits().checked_sub(FIRST_GATEWAY)
        }
        _ => None,
    }
}

/// Distinct addresses, each within a prefix drawn from the table.
pub fn inside<F: Family>(table: &Table) -> Vec<F> {
    let prefixes: Vec<(F, u8)> = table.of::<F>().map(|(prefix, _)| prefix).collect();
    let mut random = Random(2);
    let mut seen = HashSet::with_capacity(ADDRESSES);
    let mut found = Vec::with_capacity(ADDRESSES);
    // A small table may not have as many addresses.
    for _ in 0..8 * ADDRESSES {
        if prefixes.is_empty() || found.len() == ADDRESSES {
            break;
        }
        let address = F::within(prefixes[random.below(prefixes.len())], &mut random);
        if seen.insert(address) {
            found.push(address);
        }
    }
    found
}

/// Draws from `inside` by Zipf's law with exponent 1, as traffic has it: the address of rank r comes 1/r times as often as the first.
pub fn zipf<F: Family>(inside: &[F]) -> Vec<F> {
    let mut random = Random(3);
    let draw = |random: &mut Random| {
        let even = random.next() as f64 / u64::MAX as f64;
        // The inverse of the distribution's continuous form.
        let rank = (inside.len() as f64).powf(even) as usize;
        inside[rank.clamp(1, inside.len()) - 1]
    };
    (0..inside.len()).map(|_| draw(&mut random)).collect()
}

/// As `inside`, but every third address is in no prefix.
pub fn third_outside<F: Family>(inside: &[F], oracle: &IpLookupTable<F::Ip, u32>) -> Vec<F> {
    let mut random = Random(4);
    let mut outside = || {
        // A table with a default route has no outside.
        let mut draws = std::iter::repeat_with(|| F::anywhere(&mut random)).take(10_000);
        draws.find(|address| oracle.longest_match(address.ip()).is_none())
    };
    let keep = inside.iter().enumerate();
    keep.map(|(at, &address)| if at % 3 == 0 { outside().unwrap_or(address) } else { address }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let prefixes = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "10.0.0.0/8"];
        Table::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(), 4)
    }

    #[test]
    fn a_prefix_that_comes_twice_is_one_route() {
        assert_eq!(table().of::<u32>().count(), 2);
        assert_eq!(table().of::<u128>().count(), 1);
    }

    #[test]
    fn addresses_inside_are_distinct_and_have_a_route() {
        let (table, addresses) = (table(), inside::<u32>(&table()));
        let oracle = table.oracle::<u32>();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), ADDRESSES);
        assert!(addresses.iter().all(|address| oracle.longest_match(address.ip()).is_some()));
    }

    #[test]
    fn a_third_is_outside() {
        let table = table();
        let oracle = table.oracle::<u128>();
        let addresses = third_outside(&inside::<u128>(&table), &oracle);
        let outside = addresses.iter().filter(|address| oracle.longest_match(address.ip()).is_none()).count();
        assert_eq!(outside, ADDRESSES.div_ceil(3));
    }

    #[test]
    fn few_addresses_make_up_much_of_a_zipf_set() {
        let addresses: Vec<u32> = (0..1 << 16).collect();
        let frequent = zipf(&addresses).iter().filter(|&&address| address < 256).count();
        assert!((1 << 14..1 << 16).contains(&frequent), "{frequent}");
    }
}
