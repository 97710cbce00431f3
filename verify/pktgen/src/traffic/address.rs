//! A destination in words, which the processor handles more quickly than the enum of bytes that the standard library has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::read;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    v6: bool,
    high: u64,
    /// All of an IPv4 address.
    low: u64,
}

impl Address {
    /// The address that begins there.
    #[inline]
    pub fn read(bytes: &[u8], at: usize, v6: bool) -> Option<Self> {
        Some(if v6 {
            let high = u64::from_be_bytes(read(bytes, at)?);
            Self { v6, high, low: u64::from_be_bytes(read(bytes, at + 8)?) }
        } else {
            Self { v6, high: 0, low: u64::from(u32::from_be_bytes(read(bytes, at)?)) }
        })
    }

    #[inline]
    pub fn is_ipv6(self) -> bool {
        self.v6
    }

    #[inline]
    pub fn words(self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// Writes it there.
    #[inline]
    pub fn write(self, out: &mut [u8], at: usize) -> Option<()> {
        if self.v6 {
            out.get_mut(at..at + 8)?.copy_from_slice(&self.high.to_be_bytes());
            out.get_mut(at + 8..at + 16)?.copy_from_slice(&self.low.to_be_bytes());
        } else {
            out.get_mut(at..at + 4)?.copy_from_slice(&(self.low as u32).to_be_bytes());
        }
        Some(())
    }

    /// As [`sum_wide`](crate::checksum::sum_wide) of its bytes.
    #[inline]
    pub fn sum(self) -> u64 {
        const LOW: u64 = u32::MAX as u64;
        (self.high >> 32) + (self.high & LOW) + (self.low >> 32) + (self.low & LOW)
    }
}

impl From<IpAddr> for Address {
    #[inline]
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { v6: false, high: 0, low: u64::from(address.to_bits()) },
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                Self { v6: true, high: (bits >> 64) as u64, low: bits as u64 }
            }
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.v6 {
            Ipv6Addr::from_bits(u128::from(address.high) << 64 | u128::from(address.low)).into()
        } else {
            Ipv4Addr::from_bits(address.low as u32).into()
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_in_all_forms() {
        for text in ["192.0.2.77", "255.255.255.254", "2a00:1:ffff:2::5", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!((IpAddr::from(address), address.to_string()), (ip, text.to_owned()));
            let mut bytes = [9; 20];
            address.write(&mut bytes, 3).unwrap();
            assert_eq!(Address::read(&bytes, 3, ip.is_ipv6()), Some(address));
            let octets = match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            assert_eq!(bytes[3..3 + octets.len()], octets);
            assert_eq!(address.sum(), crate::checksum::sum_wide(0, &octets));
            assert_eq!(address.write(&mut bytes, 18), None);
            assert_eq!(Address::read(&bytes, 18, true), None);
        }
    }
}
