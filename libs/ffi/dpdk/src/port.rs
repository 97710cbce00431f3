//! Ethernet ports: opened by devargs or PCI address, configured, started, stopped.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::{Error, Result, c_string, check};
use crate::log;
use crate::pool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::stats::{Link, Stats};

const FRAME_OVERHEAD: u32 = 14 + 4 + 8;

/// Configuration of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; adjusted to the driver's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; adjusted to the driver's limits.
    pub tx_descriptors: u16,
    /// MTU: largest IP packet in bytes.
    pub mtu: u16,
    /// RSS: spread flows over the receive queues by a hash of addresses and ports, if the device can.
    pub rss: bool,
    /// Receive frames larger than a buffer in several segments, and send such packets. Many drivers have a faster path without it.
    pub segments: bool,
    /// All packets that the port sends come from one pool, have one segment and one reference: drivers may free them in bulk.
    pub one_pool: bool,
    /// The device verifies IPv4 header checksums; see [`Packet::has_good_ipv4_checksum`](crate::Packet::has_good_ipv4_checksum).
    pub ipv4_checksum: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            rss: false,
            segments: false,
            one_pool: false,
            ipv4_checksum: false,
        }
    }
}

/// Properties of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// Name of the driver, for example `net_virtio_user`.
    pub driver: String,
    /// Name of the bus: `pci`, or `vdev` for virtual devices.
    pub bus: String,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Largest MTU in bytes.
    pub max_mtu: u16,
    /// Whether the device supports RSS.
    pub rss: bool,
    /// Whether the device can verify IPv4 header checksums.
    pub ipv4_checksum: bool,
    /// NUMA node of the device, if it has one.
    pub socket: Option<u32>,
}

/// An Ethernet port that this process owns. When the port and all of its queue handles are dropped, it is closed, and unplugged if
/// [`Port::open`] plugged it in.
#[derive(Debug)]
pub struct Port {
    // Declared before `device`: a started port must be stopped before it is closed.
    started: Option<Arc<Started>>,
    device: Arc<Device>,
}

/// An open device.
#[derive(Debug)]
struct Device {
    eal: Eal,
    port: u16,
    name: String,
    /// Whether to unplug the device on close.
    plugged: bool,
}

/// The started state. Queue handles hold it, so a port cannot be stopped while they exist.
#[derive(Debug)]
pub(crate) struct Started {
    device: Arc<Device>,
    _pools: Vec<Mempool>,
}

impl Port {
    /// Opens a device by devargs (`net_null0,copy=1`), by PCI address with domain (`0000:03:00.0`), or by the name of an EAL `--vdev`. A
    /// device that does not exist yet is plugged in.
    ///
    /// # Errors
    /// [`Error`] if the device cannot be probed, has no Ethernet port, or is open already.
    pub fn open(eal: &Eal, devargs: &str) -> Result<Self> {
        log::forget();
        let name = devargs.split(',').next().unwrap_or(devargs);
        let name_c = c_string(name)?;
        let (port, plugged) = match port_by_name(&name_c) {
            Some(port) => (port, false),
            None => {
                let before = all_ports();
                let devargs_c = c_string(devargs)?;
                // SAFETY: EAL is initialised, the string outlives the call, which copies it.
                check(unsafe { sys::rte_dev_probe(devargs_c.as_ptr()) }, "probe device", devargs)?;
                let fresh = || all_ports().into_iter().find(|port| !before.contains(port));
                let port = port_by_name(&name_c).or_else(fresh);
                (port.ok_or_else(|| Error::NoPort(devargs.to_owned()))?, true)
            }
        };
        if !eal.claim_port(port) {
            return Err(Error::DeviceInUse(name.to_owned()));
        }
        let device = Device { eal: eal.clone(), port, name: name.to_owned(), plugged };
        Ok(Self { started: None, device: Arc::new(device) })
    }

    /// Configures and starts the port. Receive queue *i* takes its buffers from `pools[i]`, or from the last pool if there are fewer.
    ///
    /// # Errors
    /// [`Error`] if the port is started, `pools` is empty, a setting is out of range, or the driver refuses.
    pub fn start(&mut self, config: &PortConfig, pools: &[Mempool]) -> Result<(Vec<RxQueue>, Vec<TxQueue>)> {
        if self.started.is_some() {
            return Err(Error::AlreadyStarted(self.device.name.clone()));
        }
        log::forget();
        let info = self.device.info()?;
        self.device.check_config(config, &info)?;
        let Some(smallest) = pools.iter().map(Mempool::data_room).min() else {
            return Err(self.device.out_of_range("number of pools", 0, "at least 1".into()));
        };
        self.device.configure(config, &info, smallest)?;
        self.device.set_up_queues(config, pools)?;
        // SAFETY: configured, with all queues set up.
        check(unsafe { sys::rte_eth_dev_start(self.device.port) }, "start port", &self.device.name)?;
        let started = Arc::new(Started { device: Arc::clone(&self.device), _pools: pools.to_vec() });
        let rx = (0..config.rx_queues).map(|queue| RxQueue::new(queue, Arc::clone(&started))).collect();
        let tx = (0..config.tx_queues).map(|queue| TxQueue::new(queue, Arc::clone(&started))).collect();
        self.started = Some(started);
        Ok((rx, tx))
    }

    /// Stops the port, which can then be started again, also with another configuration. Does nothing if it is not started.
    ///
    /// # Errors
    /// [`Error`] if a queue handle still exists, or the driver refuses.
    pub fn stop(&mut self) -> Result<()> {
        match self.started.take().map(Arc::try_unwrap) {
            Some(Err(shared)) => {
                self.started = Some(shared);
                Err(Error::QueuesInUse(self.device.name.clone()))
            }
            Some(Ok(started)) => {
                drop(started);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// DPDK's id of the port.
    pub fn id(&self) -> u16 {
        self.device.port
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Properties of the device.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot be queried.
    pub fn info(&self) -> Result<PortInfo> {
        let raw = self.device.info()?;
        let text = |text: *const c_char| {
            if text.is_null() {
                return String::new();
            }
            // SAFETY: static strings of the driver and the bus.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        let driver = text(raw.driver_name);
        // SAFETY: the generic device lives as long as the port is open.
        let bus = text(unsafe { sys::fc_bus_name(raw.device) });
        // SAFETY: the port is open.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.device.port) };
        Ok(PortInfo {
            driver,
            bus,
            max_rx_queues: raw.max_rx_queues,
            max_tx_queues: raw.max_tx_queues,
            max_mtu: raw.max_mtu,
            rss: raw.flow_type_rss_offloads & sys::FC_RSS_IP_L4 != 0,
            ipv4_checksum: raw.rx_offload_capa & sys::FC_RX_OFFLOAD_IPV4_CKSUM != 0,
            socket: u32::try_from(socket).ok(),
        })
    }

    /// The MAC address.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot be queried.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let mut raw = sys::rte_ether_addr::default();
        // SAFETY: the port is open, `raw` is writable.
        check(unsafe { sys::rte_eth_macaddr_get(self.device.port, &mut raw) }, "read MAC of", self.name())?;
        Ok(raw.addr_bytes)
    }

    /// Sets the MAC address. Some drivers require the port to be started, or stopped; their error says so.
    ///
    /// # Errors
    /// [`Error`] if the driver refuses.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<()> {
        let mut raw = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the port is open, the address is copied.
        let returned = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.device.port, &mut raw) };
        check(returned, "set MAC of", self.name()).map(drop)
    }

    /// The current MTU in bytes.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot be queried.
    pub fn mtu(&self) -> Result<u16> {
        let mut mtu = 0;
        // SAFETY: the port is open, `mtu` is writable.
        check(unsafe { sys::rte_eth_dev_get_mtu(self.device.port, &mut mtu) }, "read MTU of", self.name())?;
        Ok(mtu)
    }

    /// The current link state, without waiting for it to settle. Exclusive, like all driver calls on a running port: some drivers (e1000)
    /// read the PHY without a lock and return wrong values to concurrent callers.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot be queried.
    pub fn link(&mut self) -> Result<Link> {
        let mut raw = sys::fc_link::default();
        // SAFETY: the port is open, `raw` is writable.
        let returned = unsafe { sys::fc_link_get(self.device.port, &mut raw) };
        check(returned, "read link of", self.name())?;
        Ok(raw.into())
    }

    /// Sets the link up or down, if the driver can.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot.
    pub fn set_link(&mut self, up: bool) -> Result<()> {
        let port = self.device.port;
        // SAFETY: the port is open.
        let returned = unsafe {
            if up { sys::rte_eth_dev_set_link_up(port) } else { sys::rte_eth_dev_set_link_down(port) }
        };
        check(returned, if up { "bring up" } else { "bring down" }, self.name()).map(drop)
    }

    /// Promiscuous mode: receives frames for every MAC address, or only for its own.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot.
    pub fn set_promiscuous(&mut self, on: bool) -> Result<()> {
        let port = self.device.port;
        // SAFETY: the port is open.
        let returned = unsafe {
            if on { sys::rte_eth_promiscuous_enable(port) } else { sys::rte_eth_promiscuous_disable(port) }
        };
        check(returned, "set promiscuous mode of", self.name()).map(drop)
    }

    /// All-multicast mode: receives frames for every multicast group (neighbor discovery needs it), or for none.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot.
    pub fn set_all_multicast(&mut self, on: bool) -> Result<()> {
        let port = self.device.port;
        // SAFETY: the port is open.
        let returned = unsafe {
            if on { sys::rte_eth_allmulticast_enable(port) } else { sys::rte_eth_allmulticast_disable(port) }
        };
        check(returned, "set all-multicast mode of", self.name()).map(drop)
    }

    /// The counters.
    ///
    /// # Errors
    /// [`Error`] if the driver cannot be queried.
    pub fn stats(&mut self) -> Result<Stats> {
        let mut raw = sys::rte_eth_stats::default();
        // SAFETY: the port is open, `raw` is writable.
        let returned = unsafe { sys::rte_eth_stats_get(self.device.port, &mut raw) };
        check(returned, "read counters of", self.name())?;
        Ok(raw.into())
    }
}

impl Device {
    fn info(&self) -> Result<sys::rte_eth_dev_info> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: the port is open, `info` is writable.
        check(unsafe { sys::rte_eth_dev_info_get(self.port, &mut info) }, "query device", &self.name)?;
        Ok(info)
    }

    fn out_of_range(&self, what: &'static str, found: u64, expected: String) -> Error {
        Error::OutOfRange { subject: self.name.clone(), what, found, expected }
    }

    fn check_config(&self, config: &PortConfig, info: &sys::rte_eth_dev_info) -> Result<()> {
        let ranges = [
            ("rx queues", config.rx_queues, 1, info.max_rx_queues),
            ("tx queues", config.tx_queues, 1, info.max_tx_queues),
            ("MTU", config.mtu, info.min_mtu, info.max_mtu),
        ];
        for (what, found, min, max) in ranges {
            if found < min || found > max {
                return Err(self.out_of_range(what, found.into(), format!("{min} to {max}")));
            }
        }
        Ok(())
    }

    fn configure(&self, config: &PortConfig, info: &sys::rte_eth_dev_info, data_room: u16) -> Result<()> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = config.mtu.into();
        (conf.rxmode.offloads, conf.txmode.offloads) =
            offloads(config, (info.rx_offload_capa, info.tx_offload_capa), data_room);
        // Some drivers refuse RSS if the device cannot hash.
        if config.rss && config.rx_queues > 1 && info.flow_type_rss_offloads != 0 {
            conf.rxmode.mq_mode = sys::FC_MQ_RX_RSS;
            conf.rxmode.offloads |= info.rx_offload_capa & sys::FC_RX_OFFLOAD_RSS_HASH;
            conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & sys::FC_RSS_IP_L4;
        }
        // SAFETY: the port is open and stopped, `conf` is copied.
        let returned =
            unsafe { sys::rte_eth_dev_configure(self.port, config.rx_queues, config.tx_queues, &conf) };
        check(returned, "configure port", &self.name).map(drop)
    }

    fn set_up_queues(&self, config: &PortConfig, pools: &[Mempool]) -> Result<()> {
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        // SAFETY: the port is configured, both counts are writable.
        let returned = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.port, &mut rx, &mut tx) };
        check(returned, "size the queues of", &self.name)?;
        // SAFETY: the port is open.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.port) } as u32;
        for queue in 0..config.rx_queues {
            let Some(pool) = pools.get(usize::from(queue)).or(pools.last()) else { break };
            // SAFETY: the queue number is below the configured count; a null configuration means the
            // driver's default; the pool is kept by `Started`.
            let returned = unsafe {
                sys::rte_eth_rx_queue_setup(self.port, queue, rx, socket, std::ptr::null(), pool.as_ptr())
            };
            check(returned, "set up a receive queue of", &self.name)?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            let returned =
                unsafe { sys::rte_eth_tx_queue_setup(self.port, queue, tx, socket, std::ptr::null()) };
            check(returned, "set up a transmit queue of", &self.name)?;
        }
        Ok(())
    }
}

impl Started {
    pub(crate) fn port(&self) -> u16 {
        self.device.port
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: started, and the last queue handle is gone.
        unsafe { sys::rte_eth_dev_stop(self.device.port) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let device = self.info().map(|info| info.device).ok();
        // SAFETY: stopped, and no handle is left.
        unsafe { sys::rte_eth_dev_close(self.port) };
        if let Some(device) = device.filter(|device| self.plugged && !device.is_null()) {
            // SAFETY: the generic device outlives its closed Ethernet port until it is removed here.
            unsafe { sys::rte_dev_remove(device) };
        }
        self.eal.release_port(self.port);
    }
}

/// Receive and transmit offloads to request, of those that the device has. Only the needed ones: most drivers choose their fastest path by
/// what was not requested.
fn offloads(config: &PortConfig, (rx, tx): (u64, u64), data_room: u16) -> (u64, u64) {
    let exceeds = u32::from(config.mtu) + FRAME_OVERHEAD > u32::from(data_room);
    let needed = |wanted: bool, offload: u64| if wanted { offload } else { 0 };
    let receive = needed(config.segments && exceeds, sys::FC_RX_OFFLOAD_SCATTER)
        | needed(config.ipv4_checksum, sys::FC_RX_OFFLOAD_IPV4_CKSUM);
    // Segmented packets are not freed in bulk.
    let transmit = needed(config.segments, sys::FC_TX_OFFLOAD_MULTI_SEGS)
        | needed(config.one_pool && !config.segments, sys::FC_TX_OFFLOAD_MBUF_FAST_FREE);
    (rx & receive, tx & transmit)
}

fn port_by_name(name: &CStr) -> Option<u16> {
    let mut port = 0;
    // SAFETY: the name is NUL-terminated, `port` is writable.
    (unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) } == 0).then_some(port)
}

fn all_ports() -> Vec<u16> {
    let mut ports = Vec::new();
    let mut from = 0;
    loop {
        // SAFETY: a plain search in the table of ports.
        let port = unsafe { sys::rte_eth_find_next(from) };
        if u32::from(port) >= sys::RTE_MAX_ETHPORTS {
            return ports;
        }
        ports.push(port);
        from = port + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::{
        FC_RX_OFFLOAD_IPV4_CKSUM as CHECKSUM, FC_RX_OFFLOAD_SCATTER as SCATTER,
        FC_TX_OFFLOAD_MBUF_FAST_FREE as FAST_FREE, FC_TX_OFFLOAD_MULTI_SEGS as SEGMENTS,
    };

    #[test]
    fn a_device_is_asked_for_what_is_needed_and_no_more() {
        let all = (u64::MAX, u64::MAX);
        let plain = PortConfig::default();
        assert_eq!(offloads(&plain, all, 2_048), (0, 0));
        let one_pool = PortConfig { one_pool: true, ipv4_checksum: true, ..plain.clone() };
        assert_eq!(offloads(&one_pool, all, 2_048), (CHECKSUM, FAST_FREE));
        assert_eq!(offloads(&one_pool, (0, 0), 2_048), (0, 0), "what a device does not have");
        let segments = PortConfig { segments: true, one_pool: true, ..plain };
        assert_eq!(offloads(&segments, all, 2_048), (0, SEGMENTS));
        let jumbo = PortConfig { mtu: 9_000, ..segments };
        assert_eq!(offloads(&jumbo, all, 9_216), (0, SEGMENTS), "it fits into one buffer");
        assert_eq!(offloads(&jumbo, all, 2_048), (SCATTER, SEGMENTS));
    }
}
