//! `RTM_NEWLINK`: the interfaces of a host.

use super::attribute::Attributes;
use super::bytes::u32_at;
use super::kind;
use super::message::Message;
use super::writer::Writer;

/// `struct ifinfomsg`.
const HEADER: usize = 16;

const ADDRESS: u16 = 1;
const MTU: u16 = 4;

/// `IFF_UP`.
const UP: u32 = 1;
/// `IFF_RUNNING`: it is up and has a carrier, or cannot know (RFC 2863).
const RUNNING: u32 = 0x40;

/// An interface, or what of one is to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// It is up, or is to be. False changes nothing.
    pub up: bool,
    /// It is up and has a carrier, as the kernel says; not written.
    pub running: bool,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
}

impl Link {
    /// Reads a message; none: it is about something else, or malformed.
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != kind::NEW_LINK {
            return None;
        }
        let (index, flags) = (u32_at(message.body, 4)?, u32_at(message.body, 8)?);
        let (up, running) = (flags & UP != 0, flags & (UP | RUNNING) == UP | RUNNING);
        let mut link = Self { index, up, running, ..Self::default() };
        for attribute in Attributes::new(message.body.get(HEADER..)?, message.body_at() + HEADER).flatten() {
            match attribute.kind {
                ADDRESS => link.mac = attribute.value.try_into().ok(),
                MTU => link.mtu = attribute.number().ok(),
                _ => {}
            }
        }
        Some(link)
    }

    /// The number of the interface that is gone; none: the message is about something else, or malformed.
    pub fn deleted(message: &Message<'_>) -> Option<u32> {
        (message.kind == kind::DEL_LINK).then(|| u32_at(message.body, 4))?
    }

    /// Writes a request for all of them.
    pub fn dump(writer: &mut Writer, sequence: u32) {
        writer.dump(kind::GET_LINK, sequence, &[0; HEADER]);
    }

    /// Writes what is to change of an interface that is there.
    pub fn write(&self, writer: &mut Writer, flags: u16, sequence: u32) {
        let up = if self.up { UP } else { 0 };
        // Family and type, number, flags, and which of the flags are to change.
        let header = [0, self.index, up, up].map(u32::to_ne_bytes).concat();
        writer.begin(kind::NEW_LINK, flags, sequence, &header);
        if let Some(mac) = &self.mac {
            writer.attribute(ADDRESS, mac);
        }
        if let Some(mtu) = self.mtu {
            writer.number(MTU, mtu);
        }
        writer.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;

    #[test]
    fn what_is_written_is_what_is_read() {
        let link =
            Link { index: 7, up: true, mac: Some([2, 0, 0, 0, 0, 7]), mtu: Some(1500), ..Link::default() };
        for link in [link, Link { index: 8, ..Link::default() }] {
            let mut writer = Writer::default();
            link.write(&mut writer, 0, 1);
            let message = Messages::new(writer.bytes()).next().unwrap().unwrap();
            assert_eq!(Link::read(&message), Some(link));
        }
    }
}
