//! IEEE 802.1Q: a tagged frame belongs to a sub-interface of its port. The tag is removed on input and added on output.

use super::port::PortFacts;
use crate::io::Packet;
use crate::packet::{ethernet, take};
use crate::reason::Reason;

/// Length of a tag in bytes: EtherType and tag control information.
pub const TAG: usize = 4;
/// No sub-interface has this index.
const NONE: u16 = u16::MAX;

/// The sub-interface of each VLAN of each device.
#[derive(Debug)]
pub struct Vlans {
    by_device: Box<[Option<Box<[u16; 4096]>>]>,
}

impl Vlans {
    /// Built from all ports, by port index.
    pub fn new(ports: &[PortFacts]) -> Vlans {
        let mut by_device: Vec<Option<Box<[u16; 4096]>>> = ports.iter().map(|_| None).collect();
        for (port_index, port) in ports.iter().enumerate() {
            if let Some(vlan) = port.link.vlan
                && let Some(device) = by_device.get_mut(usize::from(port.link.device))
            {
                let table = device.get_or_insert_with(|| Box::new([NONE; 4096]));
                if let Some(slot) = table.get_mut(usize::from(vlan)) {
                    *slot = port_index as u16;
                }
            }
        }
        Vlans { by_device: by_device.into() }
    }

    /// Removes the tag of a frame that `device` received; returns the index of the port that it belongs to.
    ///
    /// # Errors
    /// The drop reason if no sub-interface has the tag's VLAN.
    #[cold]
    pub fn strip<P: Packet>(&self, device: u16, packet: &mut P) -> Result<u16, Reason> {
        let tag = take::<2>(packet.data(), ethernet::HEADER).ok_or(Reason::ShortFrame)?;
        // The priority and drop-eligible bits are ignored.
        let vlan = u16::from_be_bytes(*tag) & 0x0fff;
        let port_index = match vlan {
            // IEEE 802.1Q §9.6: a tag with VLAN 0 carries only a priority.
            0 => device,
            _ => {
                let table = self.by_device.get(usize::from(device)).and_then(Option::as_ref);
                let port_index =
                    table.and_then(|table| table.get(usize::from(vlan))).copied().unwrap_or(NONE);
                if port_index == NONE {
                    return Err(Reason::UnknownVlan);
                }
                port_index
            }
        };
        let macs = take::<12>(packet.data(), 0).copied().ok_or(Reason::ShortFrame)?;
        if packet.data().len() < ethernet::HEADER + TAG || !packet.trim_front(TAG) {
            return Err(Reason::ShortFrame);
        }
        crate::packet::put(packet.data_mut(), 0, &macs);
        Ok(port_index)
    }
}

/// Adds a tag; false if the buffer has no headroom.
#[cold]
pub fn push<P: Packet>(packet: &mut P, vlan: u16) -> bool {
    let Some(macs) = take::<12>(packet.data(), 0).copied() else { return false };
    if !packet.grow_front(TAG) {
        return false;
    }
    crate::packet::put(packet.data_mut(), 0, &macs);
    crate::packet::put(packet.data_mut(), 12, &ethernet::VLAN.to_be_bytes());
    crate::packet::put(packet.data_mut(), 14, &vlan.to_be_bytes());
    true
}
