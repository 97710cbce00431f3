//! Group membership of the ports: when it is reported, and the reports on their way out.

use std::time::Instant;

use super::{Control, PortSetup};
use crate::membership::Station;
use crate::pipeline::host_frame::HostFrame;

/// What decides the groups of a port.
pub(super) fn station(port: &PortSetup) -> Station<'_> {
    Station { mac: port.mac, addresses: &port.addresses, loopback: &port.loopback }
}

impl Control {
    /// The link of a device is up for the first time: its port and their sub-interfaces announce their addresses, and report their groups
    /// from now on.
    pub fn first_link_up(&mut self, device: usize, now: Instant) {
        for port_index in 0..self.ports.len() {
            if let Some(port) =
                self.ports.get(port_index).filter(|port| usize::from(port.link.device) == device)
            {
                self.membership.start(port_index, station(port), now);
                self.announce_port(port_index, now);
            }
        }
    }

    /// Sends the reports that are due. Those of a port whose link is down are lost; all are repeated once it is up.
    pub(super) fn report_groups(&mut self, now: Instant) {
        for (port, frame) in self.membership.poll(now) {
            if let (Some(frame), Some(rings)) = (HostFrame::new(port, &frame), self.rings.first())
                && self.link_up(usize::from(port))
            {
                // A full ring: the next query asks again.
                let _ = rings.originate.push(frame);
            }
        }
    }
}
