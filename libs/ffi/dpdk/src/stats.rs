//! Counters and link state of a port.

use dpdk_sys as sys;

/// Counters of a port since it was started, as its driver keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped by the device because a receive queue was full.
    pub rx_missed: u64,
    /// Erroneous packets received.
    pub rx_errors: u64,
    /// Packets that failed to be sent.
    pub tx_errors: u64,
    /// Receive failures because no mbuf was available.
    pub rx_no_buffer: u64,
}

impl From<sys::rte_eth_stats> for Stats {
    fn from(raw: sys::rte_eth_stats) -> Self {
        Self {
            rx_packets: raw.ipackets,
            tx_packets: raw.opackets,
            rx_bytes: raw.ibytes,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            tx_errors: raw.oerrors,
            rx_no_buffer: raw.rx_nombuf,
        }
    }
}

/// Link state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether the link is up.
    pub up: bool,
    /// Speed in Mbit/s, or `None` if unknown. Virtual devices report a made-up value.
    pub speed_mbps: Option<u32>,
    /// Whether the link is full duplex.
    pub full_duplex: bool,
}

impl From<sys::fc_link> for Link {
    fn from(raw: sys::fc_link) -> Self {
        Self {
            up: raw.up != 0,
            speed_mbps: (raw.speed_mbps != 0).then_some(raw.speed_mbps),
            full_duplex: raw.full_duplex != 0,
        }
    }
}
