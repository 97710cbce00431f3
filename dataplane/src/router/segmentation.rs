//! Senders at the other end of veth pairs cut their packets themselves: a packet socket has no room for longer ones.
//!
//! `net_af_xdp` has no need of it: the kernel does the same for the program of its own.

use tap::veth::{self, Uncut};

use crate::config::Config;

/// Takes segmentation offload from the other ends of the ports' veth pairs, until the result is dropped.
pub fn without(config: &Config) -> Vec<Uncut> {
    let packet_sockets = config.ports.iter().filter_map(|port| Some((port, port.interface()?)));
    let packet_sockets = packet_sockets
        .filter(|(port, _)| port.device_name().is_some_and(|device| device.contains("_af_packet")));
    let mut all = Vec::new();
    for (port, interface) in packet_sockets {
        match veth::without_segmentation(&interface) {
            Ok(uncut) => all.extend(uncut),
            Err(error) => tracing::warn!(
                "port {}: cannot take segmentation offload from the peer of {interface} ({error}): its longer TCP packets are dropped \
                 (bad_length) unless it has none: ethtool -K IF tso off gso off at the other end, in its namespace",
                port.name
            ),
        }
    }
    all
}
