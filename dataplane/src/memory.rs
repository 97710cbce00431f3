//! Memory that the ports need, computed from the configuration: packet buffers plus what DPDK and its drivers take.

use crate::config::{Config, Port};
use crate::pipeline::hold;
use crate::worker::spread;

/// Packet buffers in each thread's pool cache.
pub const POOL_CACHE: u32 = 256;
/// Bytes of a frame in addition to the IP packet: Ethernet header, two VLAN tags, frame check sequence.
const FRAME_EXTRA: u16 = 14 + 8 + 4;
/// Smallest data room of a packet buffer.
const DATA_ROOM: u16 = 2_048;
/// Devices take buffer sizes in units of this many bytes and ignore the rest.
const DATA_ROOM_UNIT: u16 = 1_024;

/// A cache line.
const LINE: u64 = 64;
/// Bytes of a buffer before its data room: pool header, mbuf, headroom.
const BUFFER_EXTRA: u64 = 64 + 128 + 128;
/// The pool itself: a cache of up to 1,536 pointers for each of 128 threads, and memory lists.
const POOL_EXTRA: u64 = 2 << 20;
/// Descriptors of a queue and the driver's state for each; most drivers allocate for the device's maximum.
const QUEUE: u64 = 512 << 10;
/// A device without its queues.
const DEVICE: u64 = 512 << 10;
/// EAL, and loss at page borders.
const EAL: u64 = 8 << 20;

/// Size of the packet buffer pool of one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Number of buffers: all rings, backlogs and caches together cannot exhaust the pool.
    pub buffers: u32,
    /// Data room of each buffer in bytes.
    pub room: u16,
}

impl PoolSize {
    /// For the devices of the ports (by index) for which `on_node` is true.
    pub fn of(config: &Config, on_node: impl Fn(usize) -> bool) -> PoolSize {
        let workers = config.workers.cores.len();
        let largest = config.ports.iter().map(|port| port.mtu).max().unwrap_or_default();
        // A packet may wait anywhere: transmit rings and backlogs of all ports count, receive rings only of this node.
        let rings: usize = config
            .ports
            .iter()
            .enumerate()
            .filter(|(_, port)| port.device.is_some())
            .map(|(index, port)| {
                let queues = |queues: Option<u16>| queues.map_or(workers, usize::from);
                let rx = if on_node(index) { usize::from(port.rx_desc) * queues(port.rx_queues) } else { 0 };
                rx + usize::from(port.tx_desc) * queues(port.tx_queues) + config.workers.tx_backlog * workers
            })
            .sum();
        let wanted = rings + workers * (2 * POOL_CACHE as usize + 256 + hold::IN_ALL + spread::RING) + 1_024;
        // A pool's ring holds one less than a power of two.
        let buffers = u32::try_from((wanted + 1).next_power_of_two() - 1).unwrap_or(u32::MAX);
        PoolSize { buffers, room: data_room(largest) }
    }

    /// Lower bound of its size in bytes.
    pub fn bytes(&self) -> u64 {
        let lines = (BUFFER_EXTRA + u64::from(self.room)).div_ceil(LINE);
        // An odd number of lines, so that buffers start at different memory channels.
        let buffer = (lines | 1) * LINE;
        let ring = (u64::from(self.buffers) + 1) * 8;
        u64::from(self.buffers) * buffer + ring
    }
}

/// Total bytes that the ports need if their devices are on one NUMA node. With several nodes, each needs this much.
pub fn wanted(config: &Config) -> u64 {
    let workers = config.workers.cores.len() as u64;
    let queues = |queues: Option<u16>| queues.map_or(workers, u64::from);
    let device = |port: &Port| DEVICE + (queues(port.rx_queues) + queues(port.tx_queues)) * QUEUE;
    let devices: u64 = config.ports.iter().filter(|port| port.device.is_some()).map(device).sum();
    PoolSize::of(config, |_| true).bytes() + POOL_EXTRA + devices + EAL
}

/// The same in MiB, rounded up to whole hugepages of 2 MiB.
pub fn wanted_mib(config: &Config) -> u64 {
    wanted(config).div_ceil(2 << 20) * 2
}

/// What to do if memory cannot be allocated.
pub fn advice(config: &Config) -> String {
    let mib = wanted_mib(config);
    format!(
        "the ports need {mib} MiB: {} free hugepages of 2 MiB or, with --no-huge in [eal] args, also -m {mib}",
        mib / 2
    )
}

/// Data room for the largest frame in one buffer.
pub fn data_room(mtu: u16) -> u16 {
    let frame = mtu.saturating_add(FRAME_EXTRA);
    DATA_ROOM.max(frame.checked_next_multiple_of(DATA_ROOM_UNIT).unwrap_or(frame))
}

/// Whether frames of this MTU need a larger buffer than usual. Drivers with coarser size units may still receive one in several buffers.
pub fn is_jumbo(mtu: u16) -> bool {
    mtu.saturating_add(FRAME_EXTRA) > DATA_ROOM
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_daemon::config::load;
    use fibcast_machine::hugepages::EXAMPLE_MIB;

    fn example() -> Config {
        load(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples/dataplane.toml").as_ref())
            .unwrap()
            .value
    }

    #[test]
    fn the_recommendation_is_what_the_example_wants() {
        assert_eq!(wanted_mib(&example()), EXAMPLE_MIB);
    }

    #[test]
    fn documents_say_the_same_number_of_hugepages() {
        let pages = format!("vm.nr_hugepages={}", EXAMPLE_MIB / 2);
        for file in ["README.md", "docs/hardware.md", "packaging/examples/dataplane.toml"] {
            let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(&pages), "{file} does not say {pages}");
        }
    }

    #[test]
    fn more_descriptors_workers_or_larger_frames_want_more() {
        let plain = example();
        let mut changed = [plain.clone(), plain.clone(), plain.clone()];
        changed[0].ports[0].rx_desc = 32_768;
        changed[1].workers.cores = vec![1, 2, 3];
        changed[2].ports[1].mtu = 9_000;
        for config in &changed {
            assert!(wanted(config) > wanted(&plain) + (8 << 20));
        }
        let jumbo = PoolSize::of(&changed[2], |_| true);
        assert!(jumbo.room >= 9_026 && jumbo.bytes() > u64::from(jumbo.buffers) * 9_300);
    }

    #[test]
    fn a_buffer_holds_the_largest_frame_in_whole_units() {
        assert_eq!((data_room(1_500), data_room(2_022)), (2_048, 2_048));
        assert_eq!((data_room(2_023), data_room(9_000)), (3_072, 9_216));
        assert_eq!(data_room(u16::MAX), u16::MAX);
        assert!(!is_jumbo(1_500) && !is_jumbo(2_022) && is_jumbo(2_023) && is_jumbo(u16::MAX));
    }
}
