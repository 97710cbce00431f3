//! Number of queues of a port: limited by what its device can do.

use dpdk::PortInfo;

use crate::config::Port;

/// The queues of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlan {
    /// Receive queues.
    pub rx: u16,
    /// Transmit queues.
    pub tx: u16,
}

/// A wrong key of a port, with the reason.
pub type Wrong = (&'static str, String);

impl QueuePlan {
    /// A queue for each worker if flows are spread over them: by the device (RSS) or, on virtual devices, by the peer. Otherwise one,
    /// whatever the driver reports: e1000 has two receive queues but uses the first, and transmits by only one on some devices. Configured
    /// values take precedence, within the device's limits.
    ///
    /// # Errors
    /// The key and the reason if a configured value exceeds the device's limit.
    pub fn new(port: &Port, info: &PortInfo, workers: usize) -> Result<QueuePlan, Wrong> {
        let workers = u16::try_from(workers).unwrap_or(u16::MAX).max(1);
        let several = info.rss || spreads_by_peer(info);
        let most = |most: u16| if several { most.max(1) } else { 1 };
        let chosen = |key, wanted: Option<u16>, most: u16, usual: u16| match wanted {
            Some(wanted) if wanted > most => {
                let driver = &info.driver;
                Err((key, format!("expected at most {most}, which driver {driver} has, found {wanted}")))
            }
            Some(wanted) => Ok(wanted),
            None => Ok(usual),
        };
        Ok(QueuePlan {
            rx: chosen(
                "rx_queues",
                port.rx_queues,
                info.max_rx_queues,
                most(info.max_rx_queues).min(workers),
            )?,
            tx: chosen(
                "tx_queues",
                port.tx_queues,
                info.max_tx_queues,
                most(info.max_tx_queues).min(workers),
            )?,
        })
    }
}

/// Virtual devices, and virtio on PCI: the peer (a vhost, the kernel, a file) selects the queue.
fn spreads_by_peer(info: &PortInfo) -> bool {
    info.bus != "pci" || info.driver.starts_with("net_virtio")
}

/// Whether the device may segment a frame that would fit one buffer: virtual devices take whatever their peer sends.
pub fn may_chain(info: &PortInfo) -> bool {
    spreads_by_peer(info)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn info(driver: &str, bus: &str, queues: u16, rss: bool) -> PortInfo {
        PortInfo {
            driver: driver.to_owned(),
            bus: bus.to_owned(),
            max_rx_queues: queues,
            max_tx_queues: queues,
            max_mtu: 9_000,
            rss,
            ipv4_checksum: true,
            socket: None,
        }
    }

    fn plan(info: &PortInfo, keys: &str, workers: usize) -> Result<(u16, u16), Wrong> {
        let text = format!("name = \"p0\"\ndevice = \"x\"\n{keys}");
        let port = fibcast_daemon::config::parse::<Port>(Path::new("test.toml"), text).unwrap().value;
        QueuePlan::new(&port, info, workers).map(|plan| (plan.rx, plan.tx))
    }

    #[test]
    fn each_worker_has_a_queue_where_flows_are_spread() {
        assert_eq!(plan(&info("net_ixgbe", "pci", 128, true), "", 4), Ok((4, 4)));
        assert_eq!(plan(&info("net_ixgbe", "pci", 2, true), "", 4), Ok((2, 2)));
        assert_eq!(plan(&info("net_virtio", "pci", 4, false), "", 2), Ok((2, 2)));
        assert_eq!(plan(&info("net_pcap", "vdev", 16, false), "", 2), Ok((2, 2)));
    }

    #[test]
    fn a_device_without_rss_has_one_queue_whatever_its_driver_names() {
        assert_eq!(plan(&info("net_e1000_em", "pci", 2, false), "", 2), Ok((1, 1)));
    }

    #[test]
    fn keys_win_within_what_the_device_has() {
        let device = info("net_ixgbe", "pci", 8, true);
        assert_eq!(plan(&device, "rx_queues = 1\ntx_queues = 8", 4), Ok((1, 8)));
        let (key, reason) = plan(&device, "rx_queues = 9", 4).unwrap_err();
        assert!(
            key == "rx_queues" && reason.contains("at most 8") && reason.contains("net_ixgbe"),
            "{reason}"
        );
    }
}
