//! How much memory the ports want, by the configuration alone: packet buffers, and what DPDK and its drivers need beside them.

use crate::config::{Config, Port};
use crate::pipeline::hold;
use crate::worker::spread;

/// Packets that each thread keeps at hand.
pub const POOL_CACHE: u32 = 256;
/// Bytes of a frame besides the IP packet: Ethernet header, two VLAN tags, frame check sequence.
const FRAME_EXTRA: u16 = 14 + 8 + 4;
/// Least room for a frame in a packet buffer.
const DATA_ROOM: u16 = 2_048;
/// Devices are told the size of buffers in units of so many bytes, and use no part of one.
const DATA_ROOM_UNIT: u16 = 1_024;

/// A cache line.
const LINE: u64 = 64;
/// What a buffer has in front of the room for a frame: the pool's header, the mbuf, the headroom.
const BUFFER_EXTRA: u64 = 64 + 128 + 128;
/// A pool itself: a cache for each of 128 threads of up to 1,536 pointers, and lists of its memory.
const POOL_EXTRA: u64 = 2 << 20;
/// Descriptors of a queue and what the driver remembers of each; most make rings for as many as their device can have.
const QUEUE: u64 = 512 << 10;
/// A device besides its queues.
const DEVICE: u64 = 512 << 10;
/// EAL, and what is lost at the borders of pages.
const EAL: u64 = 8 << 20;

/// The packet buffers of one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// How many: all rings, backlogs and caches together cannot empty the pool.
    pub buffers: u32,
    /// Room for a frame in each.
    pub room: u16,
}

impl Pool {
    /// For the devices of the ports that `on_node` is true of, by port index.
    pub fn of(config: &Config, on_node: impl Fn(usize) -> bool) -> Pool {
        let workers = config.workers.cores.len();
        let largest = config.ports.iter().map(|port| port.mtu).max().unwrap_or_default();
        // A packet may wait anywhere: for the rings out and the backlogs all ports count, for the rings in those of the node.
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
        // One less than a power of two is what the pool's ring holds.
        let buffers = u32::try_from((wanted + 1).next_power_of_two() - 1).unwrap_or(u32::MAX);
        Pool { buffers, room: data_room(largest) }
    }

    /// Bytes of memory that it takes at least.
    pub fn bytes(&self) -> u64 {
        let lines = (BUFFER_EXTRA + u64::from(self.room)).div_ceil(LINE);
        // An odd number, so that buffers begin at different memory channels.
        let buffer = (lines | 1) * LINE;
        let ring = (u64::from(self.buffers) + 1) * 8;
        u64::from(self.buffers) * buffer + ring
    }
}

/// Bytes of memory that the ports want in all, where their devices are on one NUMA node. With more of them it is so much on each.
pub fn wanted(config: &Config) -> u64 {
    let workers = config.workers.cores.len() as u64;
    let queues = |queues: Option<u16>| queues.map_or(workers, u64::from);
    let device = |port: &Port| DEVICE + (queues(port.rx_queues) + queues(port.tx_queues)) * QUEUE;
    let devices: u64 = config.ports.iter().filter(|port| port.device.is_some()).map(device).sum();
    Pool::of(config, |_| true).bytes() + POOL_EXTRA + devices + EAL
}

/// The same in MiB, rounded up to whole hugepages of 2 MiB.
pub fn wanted_mib(config: &Config) -> u64 {
    wanted(config).div_ceil(2 << 20) * 2
}

/// What to do where memory cannot be had.
pub fn advice(config: &Config) -> String {
    let mib = wanted_mib(config);
    format!(
        "the ports want {mib} MiB: {} free hugepages of 2 MiB, or, with --no-huge in [eal] args, -m {mib} there",
        mib / 2
    )
}

/// Room for the largest frame in one buffer.
pub fn data_room(mtu: u16) -> u16 {
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
        let jumbo = Pool::of(&changed[2], |_| true);
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
