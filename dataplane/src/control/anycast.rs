//! The subnet-router anycast address (RFC 4291 §2.6.1): every router of an IPv6 subnet answers to the subnet's prefix with all zeros behind it.
//!
//! Subnets of /127 and single addresses have none (RFC 6164 §5), as in Linux (`addrconf_join_anycast`).

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use super::PortSetup;
use crate::packet::ipv6::is_link_local;

/// Longest prefix of a subnet with such an address (RFC 6164 §5).
const LONGEST: u8 = 126;

/// The subnet-router anycast address of a port's address.
pub fn of_subnet(own: &Ipv6Net) -> Option<Ipv6Addr> {
    (own.prefix_len() <= LONGEST && !is_link_local(own.addr())).then(|| own.network())
}

/// The port's own address on the subnet that `address` is the anycast address of. Answers have it as their source, because an anycast
/// address does not say which router answers (RFC 4443 §4.2).
pub fn behind(port: &PortSetup, address: Ipv6Addr) -> Option<Ipv6Addr> {
    port.addresses.iter().find_map(|own| match own {
        IpNet::V6(own) if of_subnet(own) == Some(address) => Some(own.addr()),
        _ => None,
    })
}
