//! The Ethernet header (IEEE 802.3 with an EtherType) and MAC addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Malformed, put, take};

/// Length of the header in bytes: destination, source, EtherType.
pub const HEADER: usize = 14;
/// Shortest frame in bytes without frame check sequence; shorter ones are padded with zeros.
pub const MIN_FRAME: usize = 60;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Kind of the destination MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkDestination {
    /// Our own MAC address.
    Unicast,
    /// Multicast or broadcast.
    Multicast,
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether it is a group address; broadcast is one.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a single station can have it: neither a group address nor all zeros.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Mac::default()
    }

    /// The MAC address of an IPv6 multicast group (RFC 2464 §7).
    pub fn of_group(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// The MAC address of an IPv4 multicast group (RFC 1112 §6.4).
    pub fn of_group_v4(group: Ipv4Addr) -> Mac {
        let [_, a, b, c] = group.octets();
        Mac([1, 0, 0x5e, a & 0x7f, b, c])
    }

    /// The link-local address that a port forms from its MAC address (RFC 4291 appendix A, RFC 2464 §4).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Mac, Malformed> {
        let wrong = Malformed {
            layer: "MAC address",
            expected: "six bytes in hexadecimal, 02:00:00:00:00:01",
            found: text.len(),
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong)?;
        }
        if parts.next().is_some() { Err(wrong) } else { Ok(Mac(bytes)) }
    }
}

/// A frame with a complete header.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    header: &'a [u8; HEADER],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Parses the header.
    ///
    /// # Errors
    /// [`Malformed`] if it is shorter than [`HEADER`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        match bytes.split_first_chunk::<HEADER>() {
            Some((header, payload)) => Ok(Frame { header, payload }),
            None => Err(Malformed { layer: "Ethernet", expected: "at least 14 bytes", found: bytes.len() }),
        }
    }

    /// Destination MAC address.
    #[inline]
    pub fn destination(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// Source MAC address.
    #[inline]
    pub fn source(&self) -> Mac {
        let [.., a, b, c, d, e, f, _, _] = *self.header;
        Mac([a, b, c, d, e, f])
    }

    /// EtherType of the payload.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        let [.., high, low] = *self.header;
        u16::from_be_bytes([high, low])
    }

    /// Bytes after the header, padding included.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A frame with `payload`, padded to [`MIN_FRAME`].
pub fn build(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; (HEADER + payload.len()).max(MIN_FRAME)];
    put(&mut frame, 0, &destination.0);
    put(&mut frame, 6, &source.0);
    put(&mut frame, 12, &ethertype.to_be_bytes());
    put(&mut frame, HEADER, payload);
    frame
}

/// Four bytes as an IPv4 address; 0.0.0.0 if there are fewer, which cannot happen after a length check.
pub(crate) fn ipv4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    take::<4>(bytes, at).copied().unwrap_or_default().into()
}

/// Like [`ipv4_at`] for IPv6.
pub(crate) fn ipv6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    take::<16>(bytes, at).copied().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_as_it_writes() {
        let mac: Mac = "02:00:5e:10:00:fF".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for wrong in ["", "02:00:5e:10:00", "02:00:5e:10:00:ff:01", "2:0:5e:10:00:ff", "02-00-5e-10-00-ff"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_link_local_address_is_formed_from_the_mac_address() {
        let mac: Mac = "00:1b:21:aa:bb:cc".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::21b:21ff:feaa:bbcc");
    }

    #[test]
    fn a_short_frame_is_padded() {
        let frame = build(Mac::BROADCAST, Mac([2; 6]), ARP, &[7]);
        assert_eq!((frame.len(), frame[14], frame[15]), (60, 7, 0));
        let view = Frame::new_checked(&frame).unwrap();
        assert_eq!((view.destination(), view.source(), view.ethertype()), (Mac::BROADCAST, Mac([2; 6]), ARP));
    }
}
