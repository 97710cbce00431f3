//! Packet buffers: one pool for each NUMA node that has a device.

use dpdk::{Eal, Mempool};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use crate::config::Config;
use crate::memory;

/// Packet buffers by NUMA node, so that a device writes into memory of its own node.
#[derive(Debug, Clone)]
pub struct Pools {
    /// By node; none: of devices that have no node.
    pools: Vec<(Option<u32>, Mempool)>,
}

impl Pools {
    /// The pool of a node, or any where that has none of its own.
    pub fn of(&self, node: Option<u32>) -> Option<&Mempool> {
        let own = self.pools.iter().find(|(known, _)| *known == node);
        own.or(self.pools.first()).map(|(_, pool)| pool)
    }

    /// Whether all packets are from one pool.
    pub fn is_one(&self) -> bool {
        self.pools.len() == 1
    }

    /// A pool for each NUMA node that a device is on, which all rings, backlogs and caches together cannot empty. `nodes` are those of
    /// the devices, by port index.
    pub fn new(eal: &Eal, loaded: &Loaded<Config>, nodes: &[Option<u32>]) -> Result<Pools, Failure> {
        let config = &loaded.value;
        let with_device = || config.ports.iter().zip(nodes).filter(|(port, _)| port.device.is_some());
        let mut used: Vec<Option<u32>> = with_device().map(|(_, node)| *node).collect();
        used.sort_unstable();
        used.dedup();
        // Devices of no node are content with the memory of any.
        if used.len() > 1 {
            used.retain(Option::is_some);
        }
        let one = |node: Option<u32>| {
            let pool = memory::Pool::of(config, |index| {
                nodes.get(index).is_none_or(|at| at.is_none() || *at == node)
            });
            let (size, cache) = (pool.buffers, memory::POOL_CACHE);
            let pool = Mempool::new(eal, "packets", size, cache, pool.room, node).map_err(|error| {
                let reason = format!("{error}; {}", memory::advice(config));
                Failure::work(loaded.error(&[Step::Key("eal"), Step::Key("args")], reason))
            })?;
            Ok((node, pool))
        };
        Ok(Pools { pools: used.into_iter().map(one).collect::<Result<_, Failure>>()? })
    }
}
