//! Devices, packet pools and queues: opened by the configuration, and dealt to the workers.

use std::sync::{Arc, Mutex};

use dpdk::{Eal, Mempool, Port, PortConfig, RxQueue};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use crate::config::{Config, Spread};
use crate::io::dpdk::Tx;
use crate::packet::ethernet::Mac;
use crate::worker::RxSlot;
use crate::{memory, preflight};

/// The queues of one worker.
#[derive(Debug, Default)]
pub struct Queues {
    /// Receive queues with the places of their ports.
    pub rx: Vec<RxSlot<RxQueue>>,
    /// One transmit queue for each port with a device, by place.
    pub tx: Vec<Option<Tx>>,
    /// Which of the receive queues are shared with other workers by software, in their order.
    pub dealt: Vec<bool>,
}

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
}

/// The NUMA node of a CPU core, as the system says; none where it has one node only.
pub fn node_of(core: usize) -> Option<u32> {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let node = |name: String| name.strip_prefix("node")?.parse().ok();
    entries.flatten().find_map(|entry| node(entry.file_name().to_string_lossy().into_owned()))
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
    preflight::check(loaded)?;
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
    pub fn start(eal: &Eal, loaded: &Loaded<Config>) -> Result<(Ports, Vec<Queues>, Pools), Failure> {
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
            opened.push(Some((device, info)));
        }
        let nodes: Vec<Option<u32>> =
            opened.iter().map(|device| device.as_ref().and_then(|(_, info)| info.socket)).collect();
        let pools = Self::pools(eal, loaded, &nodes)?;
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
            let tx_queues = usize::from(info.max_tx_queues).min(workers).max(1);
            let setup = PortConfig {
                rx_queues: rx_queues as u16,
                tx_queues: tx_queues as u16,
                rx_descriptors: port.rx_desc,
                tx_descriptors: port.tx_desc,
                mtu: port.mtu,
                rss: rx_queues > 1,
            };
            let Some(pool) = pools.of(info.socket) else { continue };
            let (rx, tx) = device.start(&setup, std::slice::from_ref(pool)).map_err(failed)?;
            for queue in rx {
                if let Some(worker) = queues.get_mut(next % workers) {
                    worker.rx.push(RxSlot { port: place, queue });
                    worker.dealt.push(rx_queues < workers);
                }
                next += 1;
            }
            let mut tx: Vec<Tx> = if tx_queues < workers {
                let shared: Vec<_> = tx.into_iter().map(|queue| Arc::new(Mutex::new(queue))).collect();
                shared.iter().cycle().take(workers).map(|queue| Tx::Shared(queue.clone())).collect()
            } else {
                tx.into_iter().map(Tx::Own).collect()
            };
            for (worker, queue) in queues.iter_mut().zip(tx.drain(..)) {
                worker.tx.push(Some(queue));
            }
            // Neighbour discovery comes by multicast. Devices that cannot be asked for it, mostly virtual ones, give everything.
            if device.set_all_multicast(true).is_err() && device.set_promiscuous(true).is_err() {
                tracing::debug!("{}: neither multicast nor promiscuous mode", port.name);
            }
            let mac = Mac(device.mac().map_err(failed)?);
            tracing::info!(
                "port {}: {} ({}), {mac}, {rx_queues} rx and {tx_queues} tx queues",
                port.name,
                device.name(),
                info.driver
            );
            all.macs.push(mac);
            all.drivers.push(info.driver);
            all.ports.push(Some(device));
        }
        let idle = queues.iter().any(|worker| worker.rx.is_empty());
        let share = match config.workers.spread {
            Spread::Auto => idle,
            Spread::On => true,
            Spread::Off => false,
        };
        if !share {
            queues.iter_mut().for_each(|worker| worker.dealt.clear());
            if idle {
                tracing::warn!(
                    "more workers than receive queues, and spread is off: some have nothing to do"
                );
            }
        }
        if queues.iter().any(|worker| worker.dealt.contains(&true)) {
            tracing::info!("flows of ports with fewer queues than workers are shared by software");
        }
        Ok((all, queues, pools))
    }

    /// A pool for each NUMA node that a device is on, which all rings, backlogs and caches together cannot empty.
    fn pools(eal: &Eal, loaded: &Loaded<Config>, nodes: &[Option<u32>]) -> Result<Pools, Failure> {
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
            let pool = memory::Pool::of(config, |index| nodes.get(index) == Some(&node));
            let (size, cache) = (pool.buffers, memory::POOL_CACHE);
            let pool = Mempool::new(eal, "packets", size, cache, pool.room, node).map_err(|error| {
                let reason = format!("{error}; {}", memory::advice(config));
                Failure::work(loaded.error(&[Step::Key("eal"), Step::Key("args")], reason))
            })?;
            Ok((node, pool))
        };
        Ok(Pools { pools: used.into_iter().map(one).collect::<Result<_, Failure>>()? })
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
