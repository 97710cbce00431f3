//! IEEE 802.1Q: a tagged frame belongs to a sub-interface of its port; the tag comes off at the way in and goes on at the way out.

use super::port::PortFacts;
use crate::io::Packet;
use crate::packet::{ethernet, take};
use crate::reason::Reason;

/// Length of a tag: its EtherType and the tag control information.
pub const TAG: usize = 4;
/// No sub-interface has this place.
const NONE: u16 = u16::MAX;

/// Which sub-interface each VLAN of each device means.
#[derive(Debug)]
pub struct Vlans {
    by_device: Box<[Option<Box<[u16; 4096]>>]>,
}

impl Vlans {
    /// From all ports, by place.
    pub fn new(ports: &[PortFacts]) -> Vlans {
        let mut by_device: Vec<Option<Box<[u16; 4096]>>> = ports.iter().map(|_| None).collect();
        for (place, port) in ports.iter().enumerate() {
            if let Some(vlan) = port.link.vlan
                && let Some(device) = by_device.get_mut(usize::from(port.link.device))
            {
                let table = device.get_or_insert_with(|| Box::new([NONE; 4096]));
                if let Some(slot) = table.get_mut(usize::from(vlan)) {
                    *slot = place as u16;
                }
            }
        }
        Vlans { by_device: by_device.into() }
    }

    /// Takes the tag off a frame that `device` received; returns the place of the port that it belongs to.
    #[cold]
    pub fn strip<P: Packet>(&self, device: u16, packet: &mut P) -> Result<u16, Reason> {
        let tag = take::<2>(packet.data(), ethernet::HEADER).ok_or(Reason::ShortFrame)?;
        // The priority and drop-eligible bits above it are not looked at.
        let vlan = u16::from_be_bytes(*tag) & 0x0fff;
        let place = match vlan {
            // IEEE 802.1Q §9.6: a tag of VLAN 0 carries a priority only.
            0 => device,
            _ => {
                let table = self.by_device.get(usize::from(device)).and_then(Option::as_ref);
                let place = table.and_then(|table| table.get(usize::from(vlan))).copied().unwrap_or(NONE);
                if place == NONE {
                    return Err(Reason::UnknownVlan);
                }
                place
            }
        };
        let macs = take::<12>(packet.data(), 0).copied().ok_or(Reason::ShortFrame)?;
        if packet.data().len() < ethernet::HEADER + TAG || !packet.trim_front(TAG) {
            return Err(Reason::ShortFrame);
        }
        crate::packet::put(packet.data_mut(), 0, &macs);
        Ok(place)
    }
}

/// Puts a tag on; false where the buffer has no room in front.
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
