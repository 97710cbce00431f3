//! All routes of one VRF, and the tries made from them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::fib::Counts;
use crate::trie::VrfTries;
use crate::types::GroupIndex;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    routes: BTreeMap<IpNet, GroupIndex>,
    counts: Counts,
    /// Prefixes that changed since the tries were written.
    dirty: Vec<IpNet>,
    tries: VrfTries,
}

impl Table {
    /// Points a prefix to a group (`NO_ROUTE` removes it); returns what was there before.
    pub(crate) fn set(&mut self, prefix: IpNet, index: GroupIndex) -> GroupIndex {
        let before = if index == GroupIndex::NO_ROUTE {
            self.routes.remove(&prefix)
        } else {
            self.routes.insert(prefix, index)
        };
        let before = before.unwrap_or_default();
        let count = match prefix {
            IpNet::V4(_) => &mut self.counts.v4,
            IpNet::V6(_) => &mut self.counts.v6,
        };
        *count += usize::from(before == GroupIndex::NO_ROUTE && index != GroupIndex::NO_ROUTE);
        *count -= usize::from(before != GroupIndex::NO_ROUTE && index == GroupIndex::NO_ROUTE);
        if before != index {
            self.dirty.push(prefix);
        }
        before
    }

    /// Brings the tries up to date.
    pub(crate) fn encode(&mut self) {
        for prefix in self.dirty.drain(..) {
            let index = self.routes.get(&prefix).copied().unwrap_or_default();
            match prefix {
                IpNet::V4(net) => {
                    self.tries.v4.set(u128::from(net.network().to_bits()) << 96, net.prefix_len(), index)
                }
                IpNet::V6(net) => self.tries.v6.set(net.network().to_bits(), net.prefix_len(), index),
            }
        }
    }

    pub(crate) fn tries(&self) -> VrfTries {
        self.tries.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn get(&self, prefix: IpNet) -> Option<GroupIndex> {
        self.routes.get(&prefix).copied()
    }

    pub(crate) fn longest_match(&self, address: IpAddr) -> Option<(IpNet, GroupIndex)> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest).rev().find_map(|len| {
            let prefix = match address {
                IpAddr::V4(address) => Ipv4Net::new(address, len).ok().map(|net| IpNet::V4(net.trunc())),
                IpAddr::V6(address) => Ipv6Net::new(address, len).ok().map(|net| IpNet::V6(net.trunc())),
            }?;
            Some((prefix, self.get(prefix)?))
        })
    }

    pub(crate) fn routes(&self, from: Option<IpNet>) -> impl Iterator<Item = (IpNet, GroupIndex)> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        self.routes.range((from, Bound::Unbounded)).map(|(&prefix, &index)| (prefix, index))
    }

    pub(crate) fn memory(&self) -> usize {
        self.routes.len() * (size_of::<(IpNet, GroupIndex)>() + 8)
    }
}
