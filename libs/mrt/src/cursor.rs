//! Reads the fields of a record without reading past its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::{At, Problem};

/// Address family of a prefix, with its number in BGP and MRT (IANA address family numbers).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Afi {
    V4,
    V6,
}

impl Afi {
    pub(super) fn from_number(n: u16) -> Option<Self> {
        match n {
            1 => Some(Afi::V4),
            2 => Some(Afi::V6),
            _ => None,
        }
    }

    /// Bits of an address.
    pub(super) fn bits(self) -> u8 {
        if self == Afi::V4 { 32 } else { 128 }
    }

    /// Bytes of an address.
    pub(super) fn bytes(self) -> usize {
        usize::from(self.bits() / 8)
    }
}

/// The unread rest of a record, with its offset in the file.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [u8], offset: u64) -> Self {
        Self { rest, offset }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(super) fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], At> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                self.offset += n as u64;
                Ok(head)
            }
            None => Err(At::new(self.offset, Problem::Short { what, wanted: n, found: self.rest.len() })),
        }
    }

    /// The next `n` bytes as a separate cursor.
    pub(super) fn part(&mut self, n: usize, what: &'static str) -> Result<Cursor<'a>, At> {
        let offset = self.offset;
        Ok(Cursor::new(self.bytes(n, what)?, offset))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], At> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                self.offset += N as u64;
                Ok(*head)
            }
            None => Err(At::new(self.offset, Problem::Short { what, wanted: N, found: self.rest.len() })),
        }
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, At> {
        self.array::<1>(what).map(|[b]| b)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, At> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, At> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn address(&mut self, afi: Afi, what: &'static str) -> Result<IpAddr, At> {
        Ok(match afi {
            Afi::V4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>(what)?)),
            Afi::V6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>(what)?)),
        })
    }

    /// One prefix in the encoding of RFC 4271 §4.3: length in bits, then as many bytes as these need.
    ///
    /// "The value of trailing bits is irrelevant", so they are cleared.
    pub(super) fn prefix(&mut self, afi: Afi) -> Result<IpNet, At> {
        let at = self.offset;
        let bits = self.u8("a prefix length")?;
        if bits > afi.bits() {
            return Err(too_long(afi, bits, at));
        }
        let given = self.bytes(usize::from(bits).div_ceil(8), "a prefix")?;
        net(afi, given, bits).ok_or_else(|| too_long(afi, bits, at))
    }

    /// One prefix in the encoding of RFC 6396 §4.2: a whole address, then the length in bits.
    pub(super) fn address_and_length(&mut self, afi: Afi) -> Result<IpNet, At> {
        let given = self.bytes(afi.bytes(), "a prefix")?;
        let at = self.offset;
        let bits = self.u8("a prefix length")?;
        net(afi, given, bits).ok_or_else(|| too_long(afi, bits, at))
    }

    pub(super) fn end(&self, what: &'static str) -> Result<(), At> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(At::new(self.offset, Problem::Trailing { what, found: self.rest.len() }))
    }
}

fn too_long(afi: Afi, found: u8, at: u64) -> At {
    let what = if afi == Afi::V4 { "an IPv4 prefix length" } else { "an IPv6 prefix length" };
    At::new(at, Problem::OverLimit { what, limit: u64::from(afi.bits()), found: u64::from(found) })
}

/// The prefix of the given bytes, host bits cleared; none if it is too long for its family.
fn net(afi: Afi, given: &[u8], bits: u8) -> Option<IpNet> {
    Some(match afi {
        Afi::V4 => {
            let mut octets = [0; 4];
            octets.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
            IpNet::V4(Ipv4Net::new(octets.into(), bits).ok()?.trunc())
        }
        Afi::V6 => {
            let mut octets = [0; 16];
            octets.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
            IpNet::V6(Ipv6Net::new(octets.into(), bits).ok()?.trunc())
        }
    })
}
