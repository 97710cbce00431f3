//! The ports: devices opened by the configuration, started with the queues and offloads that they need, queues dealt to the workers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use dpdk::{Eal, Mempool, Port, PortConfig, PortInfo, RxQueue, Stats, TxQueue};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;

use super::pools::Pools;
use super::queues::{self, QueuePlan};
use super::state::{DeviceState, DeviceStates};
use crate::config::{Config, Spread};
use crate::io::dpdk::Tx;
use crate::memory;
use crate::packet::ethernet::Mac;
use crate::worker::RxSlot;
use crate::worker::spread::SoftwareRss;

/// The queues of one worker.
#[derive(Debug, Default)]
pub struct Queues {
    /// Receive queues with the indices of their ports.
    pub rx: Vec<RxSlot<RxQueue>>,
    /// One transmit queue for each port with a device, by port index.
    pub tx: Vec<Option<Tx>>,
}

/// The NUMA node of a CPU core, as the system says; none where it has one node only.
pub fn node_of(core: usize) -> Option<u32> {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let node = |name: String| name.strip_prefix("node")?.parse().ok();
    entries.flatten().find_map(|entry| node(entry.file_name().to_string_lossy().into_owned()))
}

/// The ports at work. One thread has them, and it alone asks their drivers; see [`super::state`].
#[derive(Debug)]
pub struct Ports(Vec<Option<Port>>);

/// All that starting the ports came to.
#[derive(Debug)]
pub struct Started {
    /// For the thread that watches them.
    pub ports: Ports,
    /// By worker.
    pub queues: Vec<Queues>,
    /// Where packets come from.
    pub pools: Pools,
    /// What the devices say.
    pub states: DeviceStates,
    /// Ports whose devices check IPv4 header checksums, by port index.
    pub ipv4_checksum: Vec<bool>,
    /// Ports whose flows software spreads over the workers.
    pub software_rss: SoftwareRss,
}

/// A device before it starts; none for a sub-interface.
type Opened = Option<(Port, PortInfo)>;

impl Ports {
    /// Opens and starts all ports, and deals their queues to as many workers as there are cores.
    pub fn start(eal: &Eal, loaded: &Loaded<Config>) -> Result<Started, Failure> {
        let config = &loaded.value;
        let workers = config.workers.cores.len();
        let opened = open(eal, loaded)?;
        let infos = || opened.iter().flatten().map(|(_, info)| info);
        // A frame in several buffers may leave by any port, so it takes one that brings such frames to need them everywhere.
        let segments =
            config.ports.iter().any(|port| memory::is_jumbo(port.mtu)) || infos().any(queues::may_chain);
        let nodes: Vec<Option<u32>> =
            opened.iter().map(|device| device.as_ref().and_then(|(_, info)| info.socket)).collect();
        let pools = Pools::new(eal, loaded, &nodes)?;
        let mut all = Ports(Vec::new());
        let mut dealt: Vec<Queues> = (0..workers).map(|_| Queues::default()).collect();
        let (mut states, mut ipv4_checksum, mut fewer, mut next) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, (opened, port)) in opened.into_iter().zip(&config.ports).enumerate() {
            let pool = opened.as_ref().and_then(|(_, info)| pools.of(info.socket));
            let (Some((mut device, info)), Some(pool)) = (opened, pool) else {
                dealt.iter_mut().for_each(|worker| worker.tx.push(None));
                states.push(DeviceState::default());
                ipv4_checksum.push(false);
                fewer.push(false);
                all.0.push(None);
                continue;
            };
            let wrong = |(key, reason)| wrong(loaded, index, key, reason);
            let failed = |error: dpdk::Error| wrong(("device", error.to_string()));
            let plan = QueuePlan::new(port, &info, workers).map_err(wrong)?;
            let setup = PortConfig {
                rx_queues: plan.rx,
                tx_queues: plan.tx,
                rx_descriptors: port.rx_desc,
                tx_descriptors: port.tx_desc,
                mtu: port.mtu,
                rss: info.rss,
                segments,
                one_pool: pools.is_one(),
                // Where software would check it, our own code does.
                ipv4_checksum: info.ipv4_checksum && info.bus == "pci",
            };
            let (rx, tx) = start(&mut device, &setup, pool, &port.name).map_err(failed)?;
            let counts = (rx.len(), tx.len());
            for queue in rx {
                if let Some(worker) = dealt.get_mut(next % workers) {
                    worker.rx.push(RxSlot { port: index, queue });
                }
                next += 1;
            }
            for (worker, queue) in dealt.iter_mut().zip(share(tx, workers)) {
                worker.tx.push(Some(queue));
            }
            // Neighbor discovery comes by multicast. Devices that cannot be asked for it, mostly virtual ones, give everything.
            if device.set_all_multicast(true).is_err() && device.set_promiscuous(true).is_err() {
                tracing::debug!("{}: neither multicast nor promiscuous mode", port.name);
            }
            let mac = Mac(device.mac().map_err(failed)?);
            tracing::info!(
                "port {}: {} ({}), {mac}, {} rx and {} tx queues{}",
                port.name,
                device.name(),
                info.driver,
                counts.0,
                counts.1,
                if counts.0 > 1 && info.rss { ", RSS" } else { "" }
            );
            states.push(DeviceState::new(info.driver, mac));
            ipv4_checksum.push(setup.ipv4_checksum);
            fewer.push(counts.0 < workers);
            all.0.push(Some(device));
        }
        let software_rss = software_rss(config.workers.spread, &fewer, &dealt);
        Ok(Started { ports: all, queues: dealt, pools, states: states.into(), ipv4_checksum, software_rss })
    }

    /// How many there are, sub-interfaces included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the link of a port with a device is up; none where there is no device, or it does not say.
    pub fn link_up(&mut self, index: usize) -> Option<bool> {
        self.0.get_mut(index)?.as_mut()?.link().ok().map(|link| link.up)
    }

    /// The counters of a port's driver.
    pub fn stats(&mut self, index: usize) -> Option<Stats> {
        self.0.get_mut(index)?.as_mut()?.stats().ok()
    }
}

fn wrong(loaded: &Loaded<Config>, index: usize, key: &'static str, reason: String) -> Failure {
    Failure::work(loaded.error(&[Step::Key("port"), Step::At(index), Step::Key(key)], reason))
}

/// The devices by port index.
fn open(eal: &Eal, loaded: &Loaded<Config>) -> Result<Vec<Opened>, Failure> {
    let one = |(index, port): (usize, &crate::config::Port)| {
        let Some(devargs) = port.devargs() else { return Ok(None) };
        let failed = |error: dpdk::Error| wrong(loaded, index, "device", error.to_string());
        let device = Port::open(eal, &devargs).map_err(failed)?;
        let info = device.info().map_err(failed)?;
        Ok(Some((device, info)))
    };
    loaded.value.ports.iter().enumerate().map(one).collect()
}

/// Starts a device; with one receive queue where it names several and cannot be started with them.
fn start(
    device: &mut Port,
    setup: &PortConfig,
    pool: &Mempool,
    name: &str,
) -> dpdk::Result<(Vec<RxQueue>, Vec<TxQueue>)> {
    let pools = std::slice::from_ref(pool);
    match device.start(setup, pools) {
        Err(error) if setup.rx_queues > 1 => {
            tracing::warn!("port {name}: {error} with {} receive queues; it gets one", setup.rx_queues);
            device.start(&PortConfig { rx_queues: 1, rss: false, ..setup.clone() }, pools)
        }
        other => other,
    }
}

/// A transmit queue for each worker, its own or a shared one.
fn share(queues: Vec<TxQueue>, workers: usize) -> Vec<Tx> {
    if queues.len() >= workers {
        return queues.into_iter().map(Tx::Own).collect();
    }
    let shared: Vec<_> = queues.into_iter().map(|queue| Arc::new(Mutex::new(queue))).collect();
    shared.iter().cycle().take(workers).map(|queue| Tx::Shared(queue.clone())).collect()
}

/// Which ports begin with flows that software spreads: of those with fewer receive queues than there are workers.
fn software_rss(spread: Spread, fewer: &[bool], dealt: &[Queues]) -> SoftwareRss {
    let idle = dealt.iter().any(|worker| worker.rx.is_empty());
    let on = match spread {
        Spread::Auto => idle,
        Spread::On => true,
        Spread::Off => false,
    };
    if idle && !on {
        tracing::warn!(
            "more workers than receive queues, and [workers] spread is off: some have nothing to do"
        );
    }
    if on && fewer.contains(&true) {
        tracing::info!("flows of ports with fewer receive queues than workers are spread by software");
    }
    fewer.iter().map(|fewer| AtomicBool::new(on && *fewer)).collect()
}
