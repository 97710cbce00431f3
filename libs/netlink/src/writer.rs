//! Builds messages in one buffer, as one system call sends them.

use std::net::IpAddr;

/// `NLM_F_*`.
pub mod flag {
    /// A request.
    pub const REQUEST: u16 = 1;
    /// Requests an acknowledgement.
    pub const ACK: u16 = 4;
    /// The table changed during the dump, which may be incomplete (`NLM_F_DUMP_INTR`).
    pub const DUMP_INTERRUPTED: u16 = 0x10;
    /// Asks for all there is.
    pub(crate) const DUMP: u16 = 0x300;
    /// Takes the place of what is there.
    pub const REPLACE: u16 = 0x100;
    /// Fails if the object exists.
    pub const EXCLUSIVE: u16 = 0x200;
    /// Creates the object if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Appends to an existing object.
    pub const APPEND: u16 = 0x800;
}

/// Messages in a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Offset of the current message.
    at: usize,
}

impl Writer {
    /// Begins a message with the header of its kind.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, header: &[u8]) {
        self.at = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    /// Adds an attribute with a number.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds an attribute with an address.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }

    /// Begins something whose length comes first, in two bytes; [`Writer::close`] fills it in. `rest` follows the length.
    pub(crate) fn open(&mut self, rest: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(rest);
        at
    }

    /// See [`Writer::open`].
    pub(crate) fn close(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u16;
        if let Some(place) = self.bytes.get_mut(at..at + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
    }

    fn pad(&mut self) {
        let from = self.bytes.len() - self.at;
        self.bytes.resize(self.at + from.next_multiple_of(4), 0);
    }

    /// Ends the message.
    pub(crate) fn end(&mut self) {
        let length = (self.bytes.len() - self.at) as u32;
        if let Some(place) = self.bytes.get_mut(self.at..self.at + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Writes a request for all there is of a kind, with the header of that kind.
    pub(crate) fn dump(&mut self, kind: u16, sequence: u32, header: &[u8]) {
        self.begin(kind, flag::REQUEST | flag::DUMP, sequence, header);
        self.end();
    }

    /// Adds flags to the message that was written last.
    pub fn flag(&mut self, more: u16) {
        if let Some(place) = self.bytes.get_mut(self.at + 6..self.at + 8)
            && let Ok(flags) = <[u8; 2]>::try_from(&*place)
        {
            place.copy_from_slice(&(u16::from_ne_bytes(flags) | more).to_ne_bytes());
        }
    }

    /// The messages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Drops all messages, and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }
}
