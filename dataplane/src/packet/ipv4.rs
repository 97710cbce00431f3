//! The IPv4 header (RFC 791), validated as RFC 1812 §5.2.2 requires of a router.

use std::net::Ipv4Addr;

use super::checksum;

/// Length of a header without options, in bytes.
pub const HEADER: usize = 20;

/// The check of RFC 1812 §5.2.2 that a packet failed, in the order of the RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidIpv4 {
    /// (1) Shorter than a header.
    Short,
    /// (2) The header checksum is wrong.
    Checksum,
    /// (3) The version is not 4.
    Version,
    /// (4) The header length is less than 20 bytes.
    HeaderLength,
    /// (5) The total length is less than the header length, or more than the frame holds.
    TotalLength,
}

/// A header with valid lengths and checksum.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4Header<'a> {
    fixed: &'a [u8; HEADER],
    bytes: &'a [u8],
}

impl<'a> Ipv4Header<'a> {
    /// Validates the header at the start of `bytes`, of a packet that has `length` bytes in the frame.
    ///
    /// The checksum comes last here, because it needs a valid header length.
    ///
    /// # Errors
    /// [`InvalidIpv4`]: the first failed check.
    #[inline]
    pub fn new_checked(bytes: &'a [u8], length: usize) -> Result<Ipv4Header<'a>, InvalidIpv4> {
        let header = Ipv4Header::measured(bytes, length)?;
        let sum = match header.header_length() {
            HEADER => checksum::sum(header.fixed),
            longer => checksum::sum(bytes.get(..longer).ok_or(InvalidIpv4::Short)?),
        };
        if sum != 0xffff {
            return Err(InvalidIpv4::Checksum);
        }
        Ok(header)
    }

    /// All checks except the checksum, for packets that passed it before.
    ///
    /// # Errors
    /// [`InvalidIpv4`]: the first failed check.
    #[inline]
    pub fn measured(bytes: &'a [u8], length: usize) -> Result<Ipv4Header<'a>, InvalidIpv4> {
        let fixed = bytes.first_chunk::<HEADER>().ok_or(InvalidIpv4::Short)?;
        let [version, _, high, low, ..] = *fixed;
        if version >> 4 != 4 {
            return Err(InvalidIpv4::Version);
        }
        let header_length = usize::from(version & 0x0f) * 4;
        if header_length < HEADER {
            return Err(InvalidIpv4::HeaderLength);
        }
        let total = usize::from(u16::from_be_bytes([high, low]));
        if total < header_length || total > length {
            return Err(InvalidIpv4::TotalLength);
        }
        Ok(Ipv4Header { fixed, bytes })
    }

    /// Ipv4Header length in bytes, with options.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.fixed[0] & 0x0f) * 4
    }

    /// Total length of header and payload in bytes.
    #[inline]
    pub fn total_length(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed[8]
    }

    /// Upper-layer protocol.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.fixed[9]
    }

    /// The header with its options, as far as it is contiguous.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes.get(..self.header_length()).unwrap_or_default()
    }

    /// Type of service (RFC 1349), now the DS field (RFC 2474).
    #[inline]
    pub fn tos(&self) -> u8 {
        self.fixed[1]
    }

    /// The DF flag: do not fragment (RFC 791 §3.1).
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fixed[6] & 0x40 != 0
    }

    /// Offset of its payload in the original packet, in units of 8 bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]]) & 0x1fff
    }

    /// Whether it is a fragment of a packet longer than 65,535 bytes, which no total length can state (RFC 791 §3.1) and which overflowed
    /// the buffers of careless receivers ("ping of death", CVE-1999-0128).
    #[inline]
    pub fn ends_beyond(&self) -> bool {
        u32::from(self.fragment_offset()) * 8 + u32::from(self.total_length()) > u32::from(u16::MAX)
    }

    /// The MF flag: more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fixed[6] & 0x20 != 0
    }

    /// Whether it is a fragment, including the first one.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.fixed[6], self.fixed[7]]) & 0x3fff != 0
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.fixed;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Bytes after the header without padding, as far as they are contiguous.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let end = usize::from(self.total_length()).min(self.bytes.len());
        self.bytes.get(self.header_length()..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 24, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 9, 9, 9, 9];
        let field = checksum::checksum(&bytes[..20]);
        bytes[10..12].copy_from_slice(&field.to_be_bytes());
        bytes
    }

    fn error(change: impl FnOnce(&mut Vec<u8>)) -> Option<InvalidIpv4> {
        let mut bytes = header();
        change(&mut bytes);
        Ipv4Header::new_checked(&bytes, bytes.len()).err()
    }

    #[test]
    fn a_good_header_passes_and_padding_is_no_payload() {
        let mut bytes = header();
        bytes.resize(46, 0xee);
        let view = Ipv4Header::new_checked(&bytes, bytes.len()).unwrap();
        assert_eq!((view.payload(), view.ttl(), view.protocol()), ([9; 4].as_slice(), 64, 17));
        assert_eq!(
            (view.source().to_string(), view.destination().to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );
    }

    #[test]
    fn each_check_of_rfc_1812_has_its_name() {
        assert_eq!(error(|bytes| bytes.truncate(19)), Some(InvalidIpv4::Short));
        assert_eq!(error(|bytes| bytes[0] = 0x65), Some(InvalidIpv4::Version));
        assert_eq!(error(|bytes| bytes[0] = 0x44), Some(InvalidIpv4::HeaderLength));
        assert_eq!(error(|bytes| bytes[3] = 19), Some(InvalidIpv4::TotalLength));
        assert_eq!(error(|bytes| bytes[3] = 25), Some(InvalidIpv4::TotalLength));
        assert_eq!(error(|bytes| bytes[12] ^= 1), Some(InvalidIpv4::Checksum));
        assert_eq!(error(|_| ()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), length in 0usize..100) {
            if let Ok(view) = Ipv4Header::new_checked(&bytes, length) {
                let _ = (view.payload(), view.source(), view.destination(), view.is_fragment());
            }
        }
    }
}
