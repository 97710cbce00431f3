//! Devices, packet pools and queues: opened by the configuration, and dealt to the workers.

use dpdk::{Eal, Mempool, Port, PortConfig, RxQueue, TxQueue};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use crate::config::Config;
use crate::packet::ethernet::Mac;
use crate::pipeline::hold;
use crate::worker::RxSlot;

/// Packets that each thread keeps at hand.
const POOL_CACHE: u32 = 256;
/// Bytes of a frame besides the IP packet: Ethernet header, two VLAN tags.
const FRAME_EXTRA: u16 = 14 + 8;
/// Least room for a frame in a packet buffer.
const DATA_ROOM: u16 = 2_048;

/// The queues of one worker.
#[derive(Debug, Default)]
pub struct Queues {
    /// Receive queues with the places of their ports.
    pub rx: Vec<RxSlot<RxQueue>>,
    /// One transmit queue for each port with a device, by place.
    pub tx: Vec<Option<TxQueue>>,
}

/// The ports, started.
#[derive(Debug)]
pub struct Ports {
    ports: Vec<Option<Port>>,
    macs: Vec<Mac>,
    drivers: Vec<String>,
}

/// Starts DPDK's environment.
pub fn init(loaded: &Loaded<Config>) -> Result<Eal, Failure> {
    let config = &loaded.value;
    let mut arguments = config.eal.args.clone();
    let chosen = |argument: &String| {
        ["-l", "-c", "-S", "--lcores", "-s"].iter().any(|option| argument.starts_with(option))
    };
    // Workers are threads of our own: without this DPDK starts one more per core.
    if !arguments.iter().any(chosen)
        && let Some(core) = config.workers.cores.first()
    {
        arguments.extend(["-l".to_owned(), core.to_string()]);
    }
    let eal = Eal::init(&arguments).map_err(|error| {
        Failure::work(loaded.error(&[Step::Key("eal"), Step::Key("args")], error.to_string()))
    })?;
    // Initialisation pins this thread; control and agent must not share a core with the first worker because of that.
    eal.restore_affinity();
    Ok(eal)
}

impl Ports {
    /// Opens and starts all ports, and deals their queues to as many workers as there are cores.
    pub fn start(eal: &Eal, loaded: &Loaded<Config>) -> Result<(Ports, Vec<Queues>, Mempool), Failure> {
        let config = &loaded.value;
        let workers = config.workers.cores.len();
        let wrong = |place: usize, key: &'static str, error: String| {
            Failure::work(loaded.error(&[Step::Key("port"), Step::At(place), Step::Key(key)], error))
        };
        let mut opened = Vec::new();
        for (place, port) in config.ports.iter().enumerate() {
            let Some(name) = &port.device else {
                opened.push(None);
                continue;
            };
            let device = Port::open(eal, name).map_err(|error| wrong(place, "device", error.to_string()))?;
            let info = device.info().map_err(|error| wrong(place, "device", error.to_string()))?;
            if usize::from(info.max_tx_queues) < workers {
                let reason = format!(
                    "{name} has {} transmit queues, expected one for each of {workers} workers",
                    info.max_tx_queues
                );
                return Err(wrong(place, "device", reason));
            }
            opened.push(Some((device, info)));
        }
        let pool = Self::pool(eal, loaded)?;
        let mut all = Ports { ports: Vec::new(), macs: Vec::new(), drivers: Vec::new() };
        let mut queues: Vec<Queues> = (0..workers).map(|_| Queues::default()).collect();
        let mut next = 0;
        for (place, (opened, port)) in opened.into_iter().zip(&config.ports).enumerate() {
            let Some((mut device, info)) = opened else {
                queues.iter_mut().for_each(|worker| worker.tx.push(None));
                all.macs.push(Mac::default());
                all.drivers.push(String::new());
                all.ports.push(None);
                continue;
            };
            let failed = |error: dpdk::Error| wrong(place, "device", error.to_string());
            // A queue for each worker where the device can spread flows, else as many as it has.
            let rx_queues = usize::from(info.max_rx_queues).min(workers).max(1);
            let setup = PortConfig {
                rx_queues: rx_queues as u16,
                tx_queues: workers as u16,
                rx_descriptors: port.rx_desc,
                tx_descriptors: port.tx_desc,
                mtu: port.mtu,
                rss: rx_queues > 1,
            };
            let (rx, tx) = device.start(&setup, std::slice::from_ref(&pool)).map_err(failed)?;
            for queue in rx {
                if let Some(worker) = queues.get_mut(next % workers) {
                    worker.rx.push(RxSlot { port: place, queue });
                }
                next += 1;
            }
            for (worker, queue) in queues.iter_mut().zip(tx) {
                worker.tx.push(Some(queue));
            }
            // Neighbour discovery comes by multicast. Devices that cannot be asked for it, mostly virtual ones, give everything.
            if device.set_all_multicast(true).is_err() && device.set_promiscuous(true).is_err() {
                tracing::debug!("{}: neither multicast nor promiscuous mode", port.name);
            }
            let mac = Mac(device.mac().map_err(failed)?);
            tracing::info!(
                "port {}: {} ({}), {mac}, {rx_queues} rx queues",
                port.name,
                device.name(),
                info.driver
            );
            all.macs.push(mac);
            all.drivers.push(info.driver);
            all.ports.push(Some(device));
        }
        Ok((all, queues, pool))
    }

    /// One pool that all rings, backlogs and caches together cannot empty.
    fn pool(eal: &Eal, loaded: &Loaded<Config>) -> Result<Mempool, Failure> {
        let config = &loaded.value;
        let workers = config.workers.cores.len();
        let rings: usize = config
            .ports
            .iter()
            .filter(|port| port.device.is_some())
            .map(|port| {
                (usize::from(port.rx_desc) + usize::from(port.tx_desc) + config.workers.tx_backlog) * workers
            })
            .sum();
        let wanted = rings + workers * (2 * POOL_CACHE as usize + 256 + hold::IN_ALL) + 1_024;
        let size = u32::try_from((wanted + 1).next_power_of_two() - 1).unwrap_or(u32::MAX);
        let largest = config.ports.iter().map(|port| port.mtu).max().unwrap_or_default();
        let room = DATA_ROOM.max(largest.saturating_add(FRAME_EXTRA));
        Mempool::new(eal, "packets", size, POOL_CACHE, room, None).map_err(|error| {
            let reason = format!("{error}; the ports want {} MiB", (u64::from(size) * u64::from(room)) >> 20);
            Failure::work(loaded.error(&[Step::Key("eal"), Step::Key("args")], reason))
        })
    }

    /// MAC addresses by place; zero where there is no device.
    pub fn macs(&self) -> &[Mac] {
        &self.macs
    }

    /// How many there are, sub-interfaces included.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Name of a port's driver.
    pub fn driver(&self, place: usize) -> &str {
        self.drivers.get(place).map_or("", String::as_str)
    }

    /// Whether the link of a port with a device is up; none where there is no device, or it does not say.
    pub fn link_up(&self, place: usize) -> Option<bool> {
        let port = self.ports.get(place)?.as_ref()?;
        port.link().ok().map(|link| link.up)
    }

    /// Packets that the device dropped before a worker saw them.
    pub fn missed(&self, place: usize) -> u64 {
        let port = self.ports.get(place).and_then(Option::as_ref);
        let stats = port.and_then(|port| port.stats().ok());
        stats.map_or(0, |stats| stats.rx_missed + stats.rx_no_buffer + stats.rx_errors)
    }
}
