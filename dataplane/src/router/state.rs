//! State of the ports' devices, as last seen by the watch thread.
//!
//! Only that thread calls drivers: several (e1000) read registers in steps and return wrong values to concurrent callers. All others read
//! this state, and no operator's query reaches a driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use dpdk::{Link, Stats};

use crate::packet::ethernet::Mac;

const UNKNOWN: u8 = 0;
const DOWN: u8 = 1;
const UP: u8 = 2;

/// State of one port's device; the default is that of a port without a device.
#[derive(Debug, Default)]
pub struct DeviceState {
    /// Name of the driver.
    pub driver: String,
    /// MAC address.
    pub mac: Mac,
    link: AtomicU8,
    /// In Mbit/s; 0: unknown.
    speed: AtomicU32,
    missed: AtomicU64,
    tx_errors: AtomicU64,
}

/// By port index.
pub type DeviceStates = Arc<[DeviceState]>;

impl DeviceState {
    /// Of a device that has not been polled yet.
    pub fn new(driver: String, mac: Mac) -> DeviceState {
        DeviceState { driver, mac, ..DeviceState::default() }
    }

    /// Whether the link is up; none without a device, or if it does not report one.
    pub fn link_up(&self) -> Option<bool> {
        match self.link.load(Ordering::Relaxed) {
            UNKNOWN => None,
            link => Some(link == UP),
        }
    }

    /// Speed of the link in Mbit/s, if it is up and the device reports one.
    pub fn speed_mbps(&self) -> Option<u32> {
        Some(self.speed.load(Ordering::Relaxed)).filter(|speed| *speed != 0 && self.link_up() == Some(true))
    }

    /// Packets that the device dropped before a worker saw them.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Packets that the driver took for sending and lost.
    pub fn tx_errors(&self) -> u64 {
        self.tx_errors.load(Ordering::Relaxed)
    }

    pub(super) fn set_link(&self, link: &Link) {
        self.link.store(if link.up { UP } else { DOWN }, Ordering::Relaxed);
        self.speed.store(link.speed_mbps.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn set_stats(&self, stats: &Stats) {
        let missed = stats.rx_missed + stats.rx_no_buffer + stats.rx_errors;
        self.missed.store(missed, Ordering::Relaxed);
        self.tx_errors.store(stats.tx_errors, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_unknown_until_the_device_was_asked() {
        let state = DeviceState::default();
        let link = |up| Link { up, speed_mbps: Some(25_000), full_duplex: true };
        assert_eq!((state.link_up(), state.speed_mbps()), (None, None));
        state.set_link(&link(true));
        assert_eq!((state.link_up(), state.speed_mbps()), (Some(true), Some(25_000)));
        state.set_link(&link(false));
        assert_eq!((state.link_up(), state.speed_mbps()), (Some(false), None));
    }

    #[test]
    fn what_the_device_lost_is_one_sum() {
        let state = DeviceState::default();
        state.set_stats(&Stats {
            rx_missed: 1,
            rx_no_buffer: 2,
            rx_errors: 4,
            rx_packets: 8,
            tx_errors: 16,
            ..Stats::default()
        });
        assert_eq!((state.missed(), state.tx_errors()), (7, 16));
    }
}
