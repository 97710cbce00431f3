//! Packet buffers: one pool for each NUMA node with a device.

use dpdk::{Eal, Mempool};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use crate::config::Config;
use crate::memory;

/// Packet buffer pools by NUMA node, so that a device writes to memory of its own node.
#[derive(Debug, Clone)]
pub struct Pools {
    /// By node; none for devices without a node.
    pools: Vec<(Option<u32>, Mempool)>,
}

impl Pools {
    /// The pool of a node, or any other if it has none.
    pub fn of(&self, node: Option<u32>) -> Option<&Mempool> {
        let own = self.pools.iter().find(|(known, _)| *known == node);
        own.or(self.pools.first()).map(|(_, pool)| pool)
    }

    /// Whether all packets come from one pool.
    pub fn is_one(&self) -> bool {
        self.pools.len() == 1
    }

    /// Creates a pool for each NUMA node with a device. All rings, backlogs and caches together cannot exhaust it. `nodes` are the nodes of
    /// the devices, by port index.
    ///
    /// # Errors
    /// [`Failure`] if DPDK cannot allocate a pool, with the memory that is needed.
    pub fn new(eal: &Eal, loaded: &Loaded<Config>, nodes: &[Option<u32>]) -> Result<Pools, Failure> {
        let config = &loaded.value;
        let with_device = || config.ports.iter().zip(nodes).filter(|(port, _)| port.device.is_some());
        let mut used: Vec<Option<u32>> = with_device().map(|(_, node)| *node).collect();
        used.sort_unstable();
        used.dedup();
        // Devices without a node use the memory of any.
        if used.len() > 1 {
            used.retain(Option::is_some);
        }
        let one = |node: Option<u32>| {
            let pool = memory::PoolSize::of(config, |index| {
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
