//! Opens the configured devices, starts them with the queues and offloads that they need, and assigns queues to workers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use dpdk::{Eal, Link, Mempool, Port, PortConfig, PortInfo, RxQueue, Stats, TxQueue};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;
use fibcast_machine::Machine;

use super::explain::{Scene, explain};
use super::pools::Pools;
use super::queues::{self, QueuePlan};
use super::state::{DeviceState, DeviceStates};
use crate::config::{Config, SoftwareRssPolicy};
use crate::io::dpdk::Tx;
use crate::memory;
use crate::packet::ethernet::Mac;
use crate::preflight::is_on_interface;
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

/// The NUMA node of a CPU core; none on a machine with one node.
pub fn node_of(core: usize) -> Option<u32> {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let node = |name: String| name.strip_prefix("node")?.parse().ok();
    entries.flatten().find_map(|entry| node(entry.file_name().to_string_lossy().into_owned()))
}

/// The running ports. They belong to one thread, which alone calls their drivers; see [`super::state`].
#[derive(Debug)]
pub struct Ports(Vec<Option<Port>>);

/// Result of starting the ports.
#[derive(Debug)]
pub struct Started {
    /// For the watch thread.
    pub ports: Ports,
    /// Queues by worker.
    pub queues: Vec<Queues>,
    /// Packet buffers.
    pub pools: Pools,
    /// State of the devices.
    pub states: DeviceStates,
    /// Ports whose devices verify IPv4 header checksums, by port index.
    pub ipv4_checksum: Vec<bool>,
    /// Ports whose drivers do not tell unfinished checksums, by port index.
    pub partial_checksums: Vec<bool>,
    /// Ports with software RSS.
    pub software_rss: SoftwareRss,
}

/// A device before its start; none for a sub-interface.
type Opened = Option<(Port, PortInfo)>;

impl Ports {
    /// Opens and starts all ports, and assigns their queues to the workers, one per core.
    ///
    /// # Errors
    /// [`Failure`] with file, line and key if a device cannot be opened, configured or started.
    pub fn start(eal: &Eal, loaded: &Loaded<Config>) -> Result<Started, Failure> {
        let config = &loaded.value;
        let workers = config.workers.cores.len();
        let opened = open(eal, loaded)?;
        let infos = || opened.iter().flatten().map(|(_, info)| info);
        // A segmented frame may leave by any port, so one port that receives such frames requires multi-segment transmission on all.
        let segments =
            config.ports.iter().any(|port| memory::is_jumbo(port.mtu)) || infos().any(queues::may_chain);
        let nodes: Vec<Option<u32>> =
            opened.iter().map(|device| device.as_ref().and_then(|(_, info)| info.socket)).collect();
        let pools = Pools::new(eal, loaded, &nodes)?;
        let mut all = Ports(Vec::new());
        let mut dealt: Vec<Queues> = (0..workers).map(|_| Queues::default()).collect();
        let (mut states, mut ipv4_checksum, mut fewer, mut next) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut partial_checksums = Vec::new();
        for (index, (opened, port)) in opened.into_iter().zip(&config.ports).enumerate() {
            let pool = opened.as_ref().and_then(|(_, info)| pools.of(info.socket));
            let (Some((mut device, info)), Some(pool)) = (opened, pool) else {
                dealt.iter_mut().for_each(|worker| worker.tx.push(None));
                states.push(DeviceState::default());
                ipv4_checksum.push(false);
                partial_checksums.push(false);
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
                // If software had to verify it, our own code does.
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
            // Neighbor discovery needs multicast. Devices that cannot filter it, mostly virtual ones, deliver everything.
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
            partial_checksums.push(is_on_interface(&info.driver));
            states.push(DeviceState::new(info.driver, mac));
            ipv4_checksum.push(setup.ipv4_checksum);
            fewer.push(counts.0 < workers);
            all.0.push(Some(device));
        }
        let software_rss = software_rss(config.workers.spread, &fewer, &dealt);
        let states = states.into();
        Ok(Started {
            ports: all,
            queues: dealt,
            pools,
            states,
            ipv4_checksum,
            partial_checksums,
            software_rss,
        })
    }

    /// Number of ports, sub-interfaces included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Link state of a port; none without a device, or if it does not report one.
    pub fn link(&mut self, index: usize) -> Option<Link> {
        self.0.get_mut(index)?.as_mut()?.link().ok()
    }

    /// Counters of a port's driver.
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
        let device = Port::open(eal, &devargs).map_err(|error| {
            let machine = Machine::here();
            let memory_mib = memory::wanted_mib(&loaded.value);
            let explained = explain(&error, Scene { machine: &machine, memory_mib, device: Some(&devargs) });
            wrong(loaded, index, "device", format!("port {}: {}", port.name, explained.reason))
        })?;
        let info = device.info().map_err(failed)?;
        Ok(Some((device, info)))
    };
    loaded.value.ports.iter().enumerate().map(one).collect()
}

/// Starts a device. If it reports several receive queues but cannot start with them, it gets one.
fn start(
    device: &mut Port,
    setup: &PortConfig,
    pool: &Mempool,
    name: &str,
) -> dpdk::Result<(Vec<RxQueue>, Vec<TxQueue>)> {
    let pools = std::slice::from_ref(pool);
    match device.start(setup, pools) {
        Err(error) if setup.rx_queues > 1 => {
            tracing::warn!("port {name}: {error} with {} receive queues; using one", setup.rx_queues);
            device.start(&PortConfig { rx_queues: 1, rss: false, ..setup.clone() }, pools)
        }
        other => other,
    }
}

/// A transmit queue for each worker, exclusive or shared.
fn share(queues: Vec<TxQueue>, workers: usize) -> Vec<Tx> {
    if queues.len() >= workers {
        return queues.into_iter().map(Tx::Own).collect();
    }
    let shared: Vec<_> = queues.into_iter().map(|queue| Arc::new(Mutex::new(queue))).collect();
    shared.iter().cycle().take(workers).map(|queue| Tx::Shared(queue.clone())).collect()
}

/// Ports that start with software RSS: of those with fewer receive queues than workers.
fn software_rss(spread: SoftwareRssPolicy, fewer: &[bool], dealt: &[Queues]) -> SoftwareRss {
    let idle = dealt.iter().any(|worker| worker.rx.is_empty());
    let on = match spread {
        SoftwareRssPolicy::Auto => idle,
        SoftwareRssPolicy::On => true,
        SoftwareRssPolicy::Off => false,
    };
    if idle && !on {
        tracing::warn!(
            "more workers than receive queues, and [workers] spread is off: some workers stay idle"
        );
    }
    if on && fewer.contains(&true) {
        tracing::info!("software RSS is on for ports with fewer receive queues than workers");
    }
    fewer.iter().map(|fewer| AtomicBool::new(on && *fewer)).collect()
}
