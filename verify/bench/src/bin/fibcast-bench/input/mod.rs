//! The tables that are measured and the addresses that are asked for: real prefixes, reproducible draws.
//!
//! [`Table`] is a set of routes, `addresses` draws sets of addresses for it. [`Family`] is what IPv4 and IPv6 differ in.

mod addresses;
mod table;

use std::net::{Ipv4Addr, Ipv6Addr};

use fibcast_fib::{Generation, GroupIndex, VrfId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use addresses::{inside, third_outside, zipf};
pub use table::{Table, change, group_of};

use crate::rte_fib::Lookups;

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
    /// DPDK's table.
    type Peer: Lookups<Address = Self::Wire>;
    /// As DPDK's table takes it.
    type Wire: Copy;
    /// For DPDK's table.
    fn wire(self) -> Self::Wire;
    /// The prefix that lies `blocks` of its own size further, where that is a global unicast one.
    fn beside(prefix: (Self, u8), blocks: i64) -> Option<(Self, u8)>;
    /// As the rest of the project writes it.
    fn net(prefix: (Self, u8)) -> Option<IpNet>;
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

    type Peer = dpdk::Fib;
    type Wire = u32;

    fn wire(self) -> u32 {
        self
    }

    fn beside((network, length): (u32, u8), blocks: i64) -> Option<(u32, u8)> {
        let size = 1i64 << (32 - u32::from(length));
        let moved = u32::try_from(i64::from(network) + blocks * size).ok()?;
        (0x0100_0000..0xe000_0000).contains(&moved).then_some((moved, length))
    }

    fn net((network, length): (u32, u8)) -> Option<IpNet> {
        Ipv4Net::new(network.into(), length).ok().map(IpNet::V4)
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

    type Peer = dpdk::Fib6;
    type Wire = [u8; 16];

    fn wire(self) -> [u8; 16] {
        self.to_be_bytes()
    }

    fn beside((network, length): (u128, u8), blocks: i64) -> Option<(u128, u8)> {
        let size = 1u128.checked_shl(128 - u32::from(length))?;
        let moved =
            network.checked_add_signed(i128::from(blocks).checked_mul(i128::try_from(size).ok()?)?)?;
        (moved >> 125 == 1).then_some((moved, length))
    }

    fn net((network, length): (u128, u8)) -> Option<IpNet> {
        Ipv6Net::new(network.into(), length).ok().map(IpNet::V6)
    }
}
