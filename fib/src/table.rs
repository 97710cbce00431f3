//! All routes of one VRF, by address family.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::trie::{Demand, Encoder, Family, Root, V4, V6};
use crate::types::GroupIndex;

/// Number of routes by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// IPv4 routes.
    pub v4: usize,
    /// IPv6 routes.
    pub v6: usize,
}

/// Routes that an iterator fetches at a time.
const PAGE: usize = 256;

/// Routes of one VRF; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Table {
    v4: Family,
    v6: Family,
}

/// What a generation holds of a VRF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roots {
    pub(crate) v4: Root,
    pub(crate) v6: Root,
}

/// A prefix in the form of the tries: left-aligned bits and length.
fn key(prefix: IpNet) -> (bool, u128, u8) {
    match prefix {
        IpNet::V4(net) => (true, u128::from(net.network().to_bits()) << 96, net.prefix_len()),
        IpNet::V6(net) => (false, net.network().to_bits(), net.prefix_len()),
    }
}

fn prefix(v4: bool, bits: u128, len: u8) -> Option<IpNet> {
    if v4 {
        Ipv4Net::new(((bits >> 96) as u32).into(), len).ok().map(IpNet::V4)
    } else {
        Ipv6Net::new(bits.into(), len).ok().map(IpNet::V6)
    }
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { v4: Family::new(&V4), v6: Family::new(&V6) }
    }

    /// Points a prefix to a group (`NO_ROUTE` removes it); returns the previous group.
    pub(crate) fn set(&mut self, prefix: IpNet, index: GroupIndex) -> GroupIndex {
        let (v4, bits, len) = key(prefix);
        if v4 { self.v4.set(bits, len, index) } else { self.v6.set(bits, len, index) }
    }

    /// Prefetches what [`Table::set`] will read.
    pub(crate) fn fetch(&self, prefix: IpNet) {
        let (v4, bits, len) = key(prefix);
        if v4 { self.v4.fetch(bits, len) } else { self.v6.fetch(bits, len) }
    }

    pub(crate) fn family(&self, v4: bool) -> &Family {
        if v4 { &self.v4 } else { &self.v6 }
    }

    /// Marks everything as out of date, so that [`Table::encode`] writes every block.
    pub(crate) fn refresh(&mut self) {
        self.v4.refresh();
        self.v6.refresh();
    }

    /// Adds the blocks that [`Table::encode`] may allocate.
    pub(crate) fn demand(&self, encoder: &Encoder, demand: &mut Demand) {
        self.v4.demand(encoder, demand);
        self.v6.demand(encoder, demand);
    }

    /// Discards the record of changes after a roll-back.
    pub(crate) fn settle(&mut self) {
        self.v4.settle();
        self.v6.settle();
    }

    /// Encodes the changed nodes into blocks.
    pub(crate) fn encode(&mut self, encoder: &mut Encoder) {
        self.v4.encode(encoder);
        self.v6.encode(encoder);
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots { v4: self.v4.root(), v6: self.v6.root() }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { v4: self.v4.count(), v6: self.v6.count() }
    }

    pub(crate) fn get(&self, prefix: IpNet) -> Option<GroupIndex> {
        let (v4, bits, len) = key(prefix.trunc());
        if v4 { self.v4.get(bits, len) } else { self.v6.get(bits, len) }
    }

    pub(crate) fn longest_match(&self, address: IpAddr) -> Option<(IpNet, GroupIndex)> {
        let (v4, bits, _) = key(IpNet::from(address));
        let (len, index) = if v4 { self.v4.longest(bits)? } else { self.v6.longest(bits)? };
        let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
        Some((prefix(v4, bits & mask, len)?, index))
    }

    /// IPv4 before IPv6, by address, then by length.
    pub(crate) fn routes(&self, from: Option<IpNet>) -> impl Iterator<Item = (IpNet, GroupIndex)> {
        let (v4, bits, len) = from.map_or((true, 0, 0), |from| key(from.trunc()));
        let first = v4.then(|| pages(&self.v4, true, (bits, len)));
        let second = pages(&self.v6, false, if v4 { (0, 0) } else { (bits, len) });
        first.into_iter().flatten().chain(second)
    }

    pub(crate) fn memory(&self) -> usize {
        self.v4.memory() + self.v6.memory()
    }
}

/// A family's routes, fetched page by page.
fn pages(family: &Family, v4: bool, from: (u128, u8)) -> impl Iterator<Item = (IpNet, GroupIndex)> {
    let mut next = Some(from);
    let pages = std::iter::from_fn(move || {
        let page = family.page(next?, PAGE);
        // The key right after the last one: same bits, length plus one. No prefix is longer than 128, none lies between.
        next = page.last().filter(|_| page.len() >= PAGE).map(|&(bits, len, _)| (bits, len + 1));
        Some(page)
    });
    pages.flatten().filter_map(move |(bits, len, index)| Some((prefix(v4, bits, len)?, index)))
}
