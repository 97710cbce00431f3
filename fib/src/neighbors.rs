//! Directly connected hosts, in shards behind `Arc`s: a change copies one shard.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::types::{Adjacency, PortId};

const SHARDS: usize = 64;

type Shard = HashMap<(PortId, IpAddr), Adjacency>;

/// Neighbors by port and address; see the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Neighbors {
    shards: Arc<[Arc<Shard>]>,
    count: usize,
}

impl Neighbors {
    pub(crate) fn new() -> Self {
        Neighbors { shards: (0..SHARDS).map(|_| Arc::new(Shard::new())).collect(), count: 0 }
    }

    pub(crate) fn get(&self, port: PortId, address: IpAddr) -> Option<&Adjacency> {
        self.shards.get(shard(address))?.get(&(port, address))
    }

    /// Returns whether anything changed. Without a change nothing is copied.
    pub(crate) fn set(&mut self, port: PortId, address: IpAddr, adjacency: Adjacency) -> bool {
        if self.get(port, address) == Some(&adjacency) {
            return false;
        }
        let before = self.write(address, |shard| shard.insert((port, address), adjacency));
        self.count += usize::from(before.flatten().is_none());
        true
    }

    /// Returns whether there was one.
    pub(crate) fn remove(&mut self, port: PortId, address: IpAddr) -> bool {
        if self.get(port, address).is_none() {
            return false;
        }
        self.write(address, |shard| shard.remove(&(port, address)));
        self.count -= 1;
        true
    }

    /// Puts a key where no lookup of it looks: what a flipped bit of a key does.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn misplace(&mut self, (port, address): (PortId, IpAddr), adjacency: Adjacency) {
        let shards = Arc::make_mut(&mut self.shards);
        if let Some(other) = shards.get_mut((shard(address) + 1) % SHARDS) {
            Arc::make_mut(other).insert((port, address), adjacency);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PortId, IpAddr, &Adjacency)> {
        self.shards
            .iter()
            .flat_map(|shard| shard.iter().map(|(&(port, ip), adjacency)| (port, ip, adjacency)))
    }

    pub(crate) fn memory(&self) -> usize {
        self.shards.iter().map(|shard| shard.allocation_size() + size_of::<Shard>() + 24).sum()
    }

    /// Bytes that they do not share with others.
    pub(crate) fn not_in(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.shards, &other.shards) {
            return 0;
        }
        let own = self.shards.iter().zip(&*other.shards).filter(|(own, other)| !Arc::ptr_eq(own, other));
        size_of_val(&*self.shards) + own.map(|(shard, _)| shard.allocation_size()).sum::<usize>()
    }

    fn write<R>(&mut self, address: IpAddr, change: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        let slot = Arc::make_mut(&mut self.shards).get_mut(shard(address))?;
        Some(change(Arc::make_mut(slot)))
    }
}

/// Shards by the last bits of an address, which are those that differ inside a subnet.
fn shard(address: IpAddr) -> usize {
    let last = match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    usize::from(last) % SHARDS
}
