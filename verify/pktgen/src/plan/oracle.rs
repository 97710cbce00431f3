//! Longest matches, by `treebitmap`, which shares nothing with the router's trie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::IpNet;

/// Numbers of prefixes.
pub struct Oracle {
    v4: IpLookupTable<Ipv4Addr, u32>,
    v6: IpLookupTable<Ipv6Addr, u32>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self { v4: IpLookupTable::with_capacity(1 << 16), v6: IpLookupTable::with_capacity(1 << 16) }
    }
}

impl Oracle {
    /// Returns the number that the prefix already had; it keeps that one.
    pub fn insert(&mut self, prefix: IpNet, number: u32) -> Option<u32> {
        if let Some(before) = self.exact(prefix) {
            return Some(before);
        }
        let length = u32::from(prefix.prefix_len());
        match prefix.network() {
            IpAddr::V4(network) => self.v4.insert(network, length, number),
            IpAddr::V6(network) => self.v6.insert(network, length, number),
        }
    }

    pub fn exact(&self, prefix: IpNet) -> Option<u32> {
        let length = u32::from(prefix.prefix_len());
        match prefix.network() {
            IpAddr::V4(network) => self.v4.exact_match(network, length).copied(),
            IpAddr::V6(network) => self.v6.exact_match(network, length).copied(),
        }
    }

    pub fn longest(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.v4.longest_match(address).map(|(_, _, &number)| number),
            IpAddr::V6(address) => self.v6.longest_match(address).map(|(_, _, &number)| number),
        }
    }
}
