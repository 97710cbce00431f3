//! The subnet-router anycast address (RFC 4291 §2.6.1): every router of an IPv6 subnet answers to the subnet's prefix with all zeros behind it.
//!
//! Subnets of /127 and single addresses have none (RFC 6164 §5), as in Linux (`addrconf_join_anycast`).

use std::net::Ipv6Addr;

use ipnet::IpNet;

use super::PortSetup;
use crate::pipeline::port::subnet_router_anycast;

/// The port's own address on the subnet that `address` is the anycast address of. Answers have it as their source, because an anycast
/// address does not say which router answers (RFC 4443 §4.2).
pub fn behind(port: &PortSetup, address: Ipv6Addr) -> Option<Ipv6Addr> {
    port.addresses.iter().find_map(|own| match own {
        IpNet::V6(v6) if subnet_router_anycast(own) == Some(address) => Some(v6.addr()),
        _ => None,
    })
}
