//! Entries that nobody has proven: packets to addresses that may not exist, and stations that spoke but never answered.
//!
//! A scan of a subnet and a flood of made-up senders cause such entries at will. Each port has room for a number of them, of which the
//! newest are kept; a station that answers one request is proven and counts no more.

use std::collections::{BTreeMap, HashMap};

use fibcast_fib::PortId;

use super::Key;

/// By port: keys of the unproven entries, by the number of their creation.
#[derive(Debug)]
pub(super) struct Unproven {
    /// Most entries of a port.
    most: usize,
    ports: HashMap<PortId, BTreeMap<u64, Key>>,
    created: u64,
}

impl Unproven {
    /// With at most so many entries of each port.
    pub fn new(most: usize) -> Unproven {
        Unproven { most, ports: HashMap::new(), created: 0 }
    }

    /// Most entries of a port, and how many the port with most of them has.
    pub fn use_of_limit(&self) -> (usize, usize) {
        (self.most, self.ports.values().map(BTreeMap::len).max().unwrap_or(0))
    }

    /// An entry is created; returns the number of its creation.
    pub fn add(&mut self, key: Key) -> u64 {
        self.created += 1;
        self.ports.entry(key.0).or_default().insert(self.created, key);
        self.created
    }

    /// An entry is proven, needed or deleted.
    pub fn remove(&mut self, port: PortId, number: u64) {
        if let Some(keys) = self.ports.get_mut(&port) {
            keys.remove(&number);
        }
    }

    /// Whether a port has its share.
    pub fn is_full(&self, port: PortId) -> bool {
        self.ports.get(&port).is_some_and(|keys| keys.len() >= self.most)
    }

    /// The oldest entry of a port.
    pub fn oldest(&self, port: PortId) -> Option<Key> {
        self.ports.get(&port)?.first_key_value().map(|(_, key)| *key)
    }

    /// The oldest entry of the port that has most of them.
    pub fn oldest_of_largest(&self) -> Option<Key> {
        let largest = self.ports.values().max_by_key(|keys| keys.len())?;
        largest.first_key_value().map(|(_, key)| *key)
    }
}
