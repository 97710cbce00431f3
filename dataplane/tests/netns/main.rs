//! The real binary between real hosts: Linux network namespaces on both sides, connected to DPDK's af_packet ports by veth pairs.
//!
//! One scenario per file, named by the behaviour. They need root, `ip`, `nft` and `ethtool`; where one is missing, a scenario says so and is
//! skipped, and so is the part of a scenario whose program (ping, traceroute, tracepath, iperf3) is not installed.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

mod containers;
mod ecmp_spreads;
mod exception_path;
mod host_protocols;
mod hot_unplug;
mod iperf;
mod link_down;
mod linux_gateway;
mod loopback;
mod lost_notifications;
mod operator_ping;
mod path_mtu;
mod ping;
mod reverse_path;
mod routing_daemons;
mod snooping_switch;
mod traceroute;
mod two_nic_hosts;
mod unnumbered;
mod vlan;
mod vrf;
