//! Packet buffers: one pool for each NUMA node that has a device.

use dpdk::{Eal, Mempool};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use crate::config::Config;
use crate::pipeline::hold;
use crate::worker::spread;

/// Packets that each thread keeps at hand.
const POOL_CACHE: u32 = 256;
/// Bytes of a frame besides the IP packet: Ethernet header, two VLAN tags, frame check sequence.
const FRAME_EXTRA: u16 = 14 + 8 + 4;
/// Least room for a frame in a packet buffer.
const DATA_ROOM: u16 = 2_048;
/// Devices are told the size of buffers in units of so many bytes, and use no part of one.
const DATA_ROOM_UNIT: u16 = 1_024;

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
        let workers = config.workers.cores.len();
        let room = data_room(config.ports.iter().map(|port| port.mtu).max().unwrap_or_default());
        let with_device = || config.ports.iter().zip(nodes).filter(|(port, _)| port.device.is_some());
        let mut used: Vec<Option<u32>> = with_device().map(|(_, node)| *node).collect();
        used.sort_unstable();
        used.dedup();
        // Devices of no node are content with the memory of any.
        if used.len() > 1 {
            used.retain(Option::is_some);
        }
        let one = |node: Option<u32>| {
            // A packet may wait anywhere: for the rings out and the backlogs all ports count, for the rings in those of the node.
            let rings: usize = with_device()
                .map(|(port, at)| {
                    let rx = if *at == node { usize::from(port.rx_desc) } else { 0 };
                    let queues = |queues: Option<u16>| queues.map_or(workers, usize::from);
                    rx * queues(port.rx_queues)
                        + usize::from(port.tx_desc) * queues(port.tx_queues)
                        + config.workers.tx_backlog * workers
                })
                .sum();
            let wanted =
                rings + workers * (2 * POOL_CACHE as usize + 256 + hold::IN_ALL + spread::RING) + 1_024;
            let size = u32::try_from((wanted + 1).next_power_of_two() - 1).unwrap_or(u32::MAX);
            let pool = Mempool::new(eal, "packets", size, POOL_CACHE, room, node).map_err(|error| {
                let reason =
                    format!("{error}; the ports want {} MiB", (u64::from(size) * u64::from(room)) >> 20);
                Failure::work(loaded.error(&[Step::Key("eal"), Step::Key("args")], reason))
            })?;
            Ok((node, pool))
        };
        Ok(Pools { pools: used.into_iter().map(one).collect::<Result<_, Failure>>()? })
    }
}

/// Room for the largest frame in one buffer.
fn data_room(mtu: u16) -> u16 {
    let frame = mtu.saturating_add(FRAME_EXTRA);
    DATA_ROOM.max(frame.checked_next_multiple_of(DATA_ROOM_UNIT).unwrap_or(frame))
}

/// Whether frames of this MTU need more than the usual buffer. Drivers may then receive one in several buffers all the same, where
/// their units are larger.
pub fn is_jumbo(mtu: u16) -> bool {
    mtu.saturating_add(FRAME_EXTRA) > DATA_ROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_holds_the_largest_frame_in_whole_units() {
        assert_eq!((data_room(1_500), data_room(2_022)), (2_048, 2_048));
        assert_eq!((data_room(2_023), data_room(9_000)), (3_072, 9_216));
        assert_eq!(data_room(u16::MAX), u16::MAX);
        assert!(!is_jumbo(1_500) && !is_jumbo(2_022) && is_jumbo(2_023) && is_jumbo(u16::MAX));
    }
}
