//! The IPv6 header (RFC 8200 §3).

use std::net::{IpAddr, Ipv6Addr};

/// More extension headers than any packet has a use for.
pub const MOST_HEADERS: usize = 16;
/// Length of the header in bytes.
pub const HEADER: usize = 40;

/// The check that a packet failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidIpv6 {
    /// Shorter than a header.
    Short,
    /// The version is not 6.
    Version,
    /// The payload length is more than the frame holds.
    PayloadLength,
}

/// A header with valid lengths.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6Header<'a> {
    fixed: &'a [u8; HEADER],
    bytes: &'a [u8],
}

impl<'a> Ipv6Header<'a> {
    /// Validates the header at the start of `bytes`, of a packet that has `length` bytes in the frame.
    ///
    /// # Errors
    /// [`InvalidIpv6`]: the first failed check.
    #[inline]
    pub fn new_checked(bytes: &'a [u8], length: usize) -> Result<Ipv6Header<'a>, InvalidIpv6> {
        let fixed = bytes.first_chunk::<HEADER>().ok_or(InvalidIpv6::Short)?;
        if fixed[0] >> 4 != 6 {
            return Err(InvalidIpv6::Version);
        }
        let header = Ipv6Header { fixed, bytes };
        if header.total_length() > length {
            return Err(InvalidIpv6::PayloadLength);
        }
        Ok(header)
    }

    /// Total length of header and payload in bytes.
    #[inline]
    pub fn total_length(&self) -> usize {
        HEADER + usize::from(u16::from_be_bytes([self.fixed[4], self.fixed[5]]))
    }

    /// Next header: an extension header or the upper-layer protocol.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.fixed[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.fixed[7]
    }

    /// Traffic class (RFC 2474, RFC 3168).
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.fixed[0] << 4 | self.fixed[1] >> 4
    }

    /// Flow label (RFC 6437), 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.fixed[1] & 0x0f, self.fixed[2], self.fixed[3]])
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        self.fixed.get(8..24).and_then(|bytes| bytes.first_chunk::<16>()).copied().unwrap_or_default().into()
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        self.fixed.last_chunk::<16>().copied().unwrap_or_default().into()
    }

    /// Bytes after the header without padding, as far as they are contiguous.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER..self.total_length().min(self.bytes.len())).unwrap_or_default()
    }
}

/// Whether it is in fe80::/10, which is never forwarded (RFC 4291 §2.5.6).
#[inline]
pub fn is_link_local(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 0xfe && b & 0xc0 == 0x80
}

/// [`is_link_local`] for an address of either family. IPv4 link-local addresses (RFC 3927) do not count.
#[inline]
pub fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if is_link_local(v6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet() -> Vec<u8> {
        let mut bytes = vec![0; 44];
        bytes[0] = 0x60;
        bytes[5] = 4;
        bytes[6] = 17;
        bytes[7] = 64;
        bytes[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes[24..40].copy_from_slice(&"2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes
    }

    #[test]
    fn fields_are_where_rfc_8200_puts_them() {
        let bytes = packet();
        let view = Ipv6Header::new_checked(&bytes, bytes.len()).unwrap();
        assert_eq!((view.next_header(), view.hop_limit(), view.total_length()), (17, 64, 44));
        assert_eq!(view.source().to_string(), "2001:db8::1");
        assert_eq!(view.destination().to_string(), "2001:db8::2");
    }

    #[test]
    fn wrong_lengths_and_versions_are_refused() {
        let mut bytes = packet();
        assert_eq!(Ipv6Header::new_checked(&bytes, 43).err(), Some(InvalidIpv6::PayloadLength));
        assert_eq!(Ipv6Header::new_checked(&bytes[..39], 39).err(), Some(InvalidIpv6::Short));
        bytes[0] = 0x45;
        assert_eq!(Ipv6Header::new_checked(&bytes, 44).err(), Some(InvalidIpv6::Version));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), length in 0usize..100) {
            if let Ok(view) = Ipv6Header::new_checked(&bytes, length) {
                let _ = (view.payload(), view.source(), view.destination(), view.flow_label());
            }
        }
    }
}
