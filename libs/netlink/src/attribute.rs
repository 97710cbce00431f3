//! Attributes of a message: length, type, value, padded to four bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::{Malformed, u16_at, u32_at};

/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`: flags that describe the encoding of a value.
const FLAGS: u16 = 0xc000;

/// An attribute of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// Where its value begins in the buffer.
    pub at: usize,
    /// Its type, without flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl Attribute<'_> {
    /// Its value as a number of four bytes.
    ///
    /// # Errors
    /// [`Malformed`] if it does not have four bytes.
    pub fn number(&self) -> Result<u32, Malformed> {
        match self.value.len() {
            4 => u32_at(self.value, 0).ok_or_else(|| self.wrong("expected four bytes")),
            _ => Err(self.wrong("expected four bytes")),
        }
    }

    /// Its value as an address of 4 or 16 bytes.
    ///
    /// # Errors
    /// [`Malformed`] if it has another length.
    pub fn address(&self) -> Result<IpAddr, Malformed> {
        address(self.value).ok_or_else(|| self.wrong("expected an address of 4 or 16 bytes"))
    }

    /// An error about this attribute.
    pub fn wrong(&self, reason: &'static str) -> Malformed {
        Malformed { at: self.at, reason }
    }
}

pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| Ipv4Addr::from(b).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}

/// Iterates over attributes; ends after an error.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes` in the buffer.
    base: usize,
    at: usize,
}

impl<'a> Attributes<'a> {
    /// The attributes in `bytes`, which start at offset `base` of the buffer.
    pub fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, base, at: 0 }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.base + self.at;
        let wrong = |this: &mut Self, reason| {
            this.at = this.bytes.len();
            Some(Err(Malformed { at, reason }))
        };
        let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
            return wrong(self, "expected an attribute, found the end");
        };
        let length = usize::from(length);
        if length < 4 {
            return wrong(self, "an attribute is shorter than its header");
        }
        let Some(value) = rest.get(4..length) else {
            return wrong(self, "an attribute is longer than what holds it");
        };
        self.at = (self.at + length.next_multiple_of(4)).min(self.bytes.len());
        Some(Ok(Attribute { at: at + 4, kind: kind & !FLAGS, value }))
    }
}
