//! What the tests compare with: a hash map per prefix length, asked from the longest down.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::IpAddr;

use fibcast_fib::*;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One label per group of the tests; label `n` is a next hop of its own.
pub fn put(label: u64) -> Change {
    let gateway = IpAddr::from(((label as u32) | 0x6400_0000).to_be_bytes());
    let group = Group::one(NextHop::via(gateway)).unwrap();
    Change::PutGroup { label: GroupLabel(label), group }
}

pub fn announce(prefix: &str, label: u64) -> Change {
    let prefix = prefix.parse().unwrap();
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) }
}

pub fn withdraw(prefix: &str) -> Change {
    Change::Withdraw { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap() }
}

/// The usual limits; an interpreter gets less memory to look after.
pub fn limits() -> Limits {
    let limits = Limits::default();
    Limits { trie_bytes: if cfg!(miri) { 0 } else { limits.trie_bytes }, ..limits }
}

#[derive(Default, Clone)]
pub struct Oracle {
    by_length: HashMap<(bool, u8), HashMap<u128, u64>>,
}

impl Oracle {
    pub fn apply(&mut self, change: &Change) {
        let (prefix, label) = match change {
            Change::Announce { prefix, label, .. } => (prefix, Some(label.0)),
            Change::Withdraw { prefix, .. } => (prefix, None),
            _ => return,
        };
        let (v4, bits) = match prefix {
            IpNet::V4(net) => (true, u128::from(net.network().to_bits()) << 96),
            IpNet::V6(net) => (false, net.network().to_bits()),
        };
        let map = self.by_length.entry((v4, prefix.prefix_len())).or_default();
        match label {
            Some(label) => map.insert(bits, label),
            None => map.remove(&bits),
        };
    }

    pub fn lookup(&self, address: IpAddr) -> Option<u64> {
        let (v4, bits, longest) = match address {
            IpAddr::V4(address) => (true, u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (false, address.to_bits(), 128),
        };
        (0..=longest).rev().find_map(|len: u8| {
            let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
            self.by_length.get(&(v4, len))?.get(&(bits & mask)).copied()
        })
    }

    pub fn len(&self) -> usize {
        self.by_length.values().map(HashMap::len).sum()
    }

    pub fn prefixes(&self) -> Vec<IpNet> {
        let mut all = Vec::new();
        for (&(v4, len), map) in &self.by_length {
            all.extend(map.keys().map(|&bits| net(v4, bits, len)));
        }
        all.sort();
        all
    }
}

/// A prefix from left-aligned bits; host bits are cut off.
pub fn net(v4: bool, bits: u128, len: u8) -> IpNet {
    if v4 {
        IpNet::V4(Ipv4Net::new(((bits >> 96) as u32).into(), len).unwrap().trunc())
    } else {
        IpNet::V6(Ipv6Net::new(bits.into(), len).unwrap().trunc())
    }
}

/// First and last address of a prefix and those just outside: where a wrong trie shows.
pub fn edges(prefix: IpNet) -> [IpAddr; 4] {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V4(bits.into()))
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

/// Looks addresses up by burst, as labels.
pub fn lookup(fib: &mut Fib, addresses: &[IpAddr]) -> Vec<Option<u64>> {
    let generation = fib.generation();
    let v4: Vec<u32> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        })
        .collect();
    let v6: Vec<u128> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(address) => Some(address.to_bits()),
            IpAddr::V4(_) => None,
        })
        .collect();
    let mut found_v4 = vec![GroupIndex(77); v4.len()];
    let mut found_v6 = vec![GroupIndex(77); v6.len()];
    // An odd burst, so that full and partial groups of a kernel are both used.
    for (dst, out) in v4.chunks(61).zip(found_v4.chunks_mut(61)) {
        generation.lookup_v4(VrfId::DEFAULT, dst, out);
    }
    for (dst, out) in v6.chunks(61).zip(found_v6.chunks_mut(61)) {
        generation.lookup_v6(VrfId::DEFAULT, dst, out);
    }
    let (mut found_v4, mut found_v6) = (found_v4.into_iter(), found_v6.into_iter());
    addresses
        .iter()
        .map(|address| {
            let index = if address.is_ipv4() { found_v4.next() } else { found_v6.next() }.unwrap();
            if index == GroupIndex::NO_ROUTE { None } else { Some(fib.group_label(index).unwrap().0) }
        })
        .collect()
}

/// Every address must be answered as the oracle does.
pub fn agree(fib: &mut Fib, oracle: &Oracle, addresses: &[IpAddr]) {
    for (address, found) in addresses.iter().zip(lookup(fib, addresses)) {
        assert_eq!(found, oracle.lookup(*address), "{address}");
    }
}

/// A table and its oracle that move together.
pub struct Both {
    pub fib: Fib,
    pub oracle: Oracle,
    serial: u64,
}

impl Both {
    pub fn new(labels: u64) -> Self {
        let mut fib = Fib::new(limits());
        let puts: Vec<Change> = (1..=labels).map(put).collect();
        fib.apply(&puts, 0).unwrap();
        Both { fib, oracle: Oracle::default(), serial: 0 }
    }

    pub fn apply(&mut self, changes: &[Change]) -> Applied {
        self.serial += 1;
        let applied = self.fib.apply(changes, self.serial).unwrap();
        changes.iter().for_each(|change| self.oracle.apply(change));
        assert_eq!(self.fib.len(), self.oracle.len());
        applied
    }

    pub fn agree(&mut self, addresses: &[IpAddr]) {
        agree(&mut self.fib, &self.oracle, addresses);
    }

    /// Compares at the edges of all routes.
    pub fn agree_at_edges(&mut self) {
        let edges: Vec<IpAddr> = self.oracle.prefixes().into_iter().flat_map(edges).collect();
        self.agree(&edges);
    }
}
