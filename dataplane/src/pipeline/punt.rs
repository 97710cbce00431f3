//! Packets for the router itself that are no plain unicast to one of its addresses: which of them the host gets.
//!
//! The input checks drop broadcast, multicast and sources that are no host's, because none of them is forwarded. But protocols of the link
//! use all of these, and their programs run behind a port's TAP interface. So what the checks drop is judged here again, by destination and
//! protocol. This is part of the exception path: no plain packet gets here.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Verdict;
use super::port::{PortFacts, edges};
use crate::packet::ethernet::{self, Frame, LinkDestination};
use crate::packet::{igmp, ipv4, ipv6, mld, nd, take};
use crate::reason::Reason;

/// Largest value of the field behind the MAC addresses that is a length and no EtherType (IEEE 802.3 §3.2.6): LLC follows, as in IS-IS,
/// spanning tree and CDP.
const LARGEST_LENGTH: u16 = 1_500;
/// EtherTypes of encapsulations of other hosts' packets, for which this router has no decapsulation: VLAN tags that no port has, MPLS,
/// PPPoE sessions, MACsec.
const ENCAPSULATIONS: [u16; 6] = [0x8100, 0x88a8, 0x8847, 0x8848, 0x8864, 0x88e5];
const UDP: u8 = 17;
/// RFC 2131 §4.1: the port of DHCP servers and relays.
const DHCP_SERVER: u16 = 67;

/// RFC 2131 §4.1: the port of DHCP clients.
const DHCP_CLIENT: u16 = 68;

/// Whether a frame that is neither IP nor ARP belongs to a protocol of the link: LLDP (0x88cc), LACP (0x8809), IS-IS (LLC; 0x8870 where a
/// length does not fit), EAPOL, and so on. Such a frame crosses a TAP interface unchanged, both ways.
pub fn is_link_protocol(ethertype: u16) -> bool {
    ethertype <= LARGEST_LENGTH || (ethertype >= 0x0600 && !ENCAPSULATIONS.contains(&ethertype))
}

/// A frame that is neither IP nor ARP.
#[cold]
pub fn other(ethertype: u16, port: &PortFacts) -> Verdict {
    if port.exception_path && is_link_protocol(ethertype) {
        Verdict::Kernel
    } else {
        Verdict::Drop(Reason::UnknownEthertype)
    }
}

/// The verdict on an IPv4 packet for which the input checks found `found`.
#[cold]
pub fn ipv4(found: Verdict, bytes: &[u8], link: LinkDestination, port: &PortFacts) -> Verdict {
    let judged = matches!(
        found,
        Verdict::PuntMulticast
            | Verdict::Drop(
                Reason::MartianSource
                    | Reason::MartianDestination
                    | Reason::LinkBroadcast
                    | Reason::Multicast
            )
    );
    let Ok(header) = ipv4::Ipv4Header::measured(bytes, usize::from(u16::MAX)) else { return found };
    let (source, destination) = (header.source(), header.destination());
    // RFC 1122 §3.2.1.3 (a): 0.0.0.0 is the source of a host that does not know its address yet, and of a querier that has none (RFC 4541
    // §2.1.1). All other martian sources stay what they are.
    let nameless = source.is_unspecified();
    if !judged || (found == Verdict::Drop(Reason::MartianSource) && !nameless) {
        return found;
    }
    if destination.is_multicast() {
        let of_link = destination.octets().starts_with(&[224, 0, 0]);
        return match () {
            () if igmp::is_query(&header) => Verdict::PuntBoth,
            () if !port.exception_path || (nameless && !of_link) => found,
            () => Verdict::PuntMulticast,
        };
    }
    // RFC 1812 §5.3.5.1: a limited broadcast is for this router. §5.3.5.2: so is a broadcast to the subnet of this port, on this link.
    let broadcast = destination.is_broadcast()
        || (link == LinkDestination::Multicast && is_subnet_broadcast(destination, &port.addresses));
    if broadcast && port.exception_path {
        return Verdict::Kernel;
    }
    // RFC 951 §4: a client that knows its server sends to it by unicast.
    let to_server = nameless
        && link == LinkDestination::Unicast
        && header.protocol() == UDP
        && take::<2>(header.payload(), 2) == Some(&DHCP_SERVER.to_be_bytes())
        && port.addresses.iter().any(|own| own.addr() == IpAddr::V4(destination));
    if to_server { Verdict::Host } else { found }
}

/// RFC 2131 §4.1: a server may send to the address that it offers, which the client does not have yet. For packets that are not forwarded.
#[cold]
pub fn is_dhcp_offer(frame: &[u8]) -> bool {
    let Ok(frame) = Frame::new_checked(frame) else { return false };
    frame.ethertype() == ethernet::IPV4
        && ipv4::Ipv4Header::measured(frame.payload(), usize::from(u16::MAX)).is_ok_and(|header| {
            header.protocol() == UDP
                && header.fragment_offset() == 0
                && take::<2>(header.payload(), 0) == Some(&DHCP_SERVER.to_be_bytes())
                && take::<2>(header.payload(), 2) == Some(&DHCP_CLIENT.to_be_bytes())
        })
}

/// RFC 1812 §4.2.2.11: the broadcast address of a subnet; subnets of one or two addresses have none (RFC 3021).
fn is_subnet_broadcast(address: Ipv4Addr, subnets: &[IpNet]) -> bool {
    subnets.iter().any(|subnet| match subnet {
        IpNet::V4(subnet) => edges(subnet).is_some_and(|[_, broadcast]| broadcast == IpAddr::V4(address)),
        IpNet::V6(_) => false,
    })
}

/// The verdict on an IPv6 packet for which the input checks found `found`.
#[cold]
pub fn ipv6(found: Verdict, bytes: &[u8], port: &PortFacts) -> Verdict {
    let Ok(header) = ipv6::Ipv6Header::new_checked(bytes, usize::MAX) else { return found };
    let destination = header.destination();
    let group = destination.is_multicast();
    match found {
        // RFC 4861 §7.2: solicitations and advertisements of neighbors are the control thread's. Those of routers and redirects (§6, §8) are
        // for the host, as are other ICMPv6 messages.
        Verdict::Control => match neighbor_discovery(&header) {
            // RFC 4862 §5.4: an answer to duplicate address detection, which may be that of the kernel.
            Some(Discovery::Advertisement) if group => Verdict::PuntBoth,
            Some(_) => Verdict::Control,
            None if group => Verdict::PuntMulticast,
            None => Verdict::Host,
        },
        Verdict::PuntMulticast | Verdict::Drop(Reason::Multicast) if mld::is_query(&header) => {
            Verdict::PuntBoth
        }
        // RFC 4291 §2.7: groups of interface-local scope (1) are never on a link; scope 0 is reserved.
        Verdict::Drop(Reason::Multicast)
            if port.exception_path && destination.octets().get(1).is_some_and(|scope| scope & 0x0f > 1) =>
        {
            Verdict::PuntMulticast
        }
        found => found,
    }
}

/// A message of neighbor discovery that the control thread handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Neighbor solicitation.
    Solicitation,
    /// Neighbor advertisement.
    Advertisement,
}

/// Whether the packet is a neighbor solicitation or advertisement (RFC 4861 §4.3, §4.4).
pub fn neighbor_discovery(header: &ipv6::Ipv6Header<'_>) -> Option<Discovery> {
    match (header.next_header(), header.payload().first()) {
        (nd::ICMPV6, Some(135)) => Some(Discovery::Solicitation),
        (nd::ICMPV6, Some(136)) => Some(Discovery::Advertisement),
        _ => None,
    }
}

/// RFC 5227 §2.1.1: a reply to an ARP probe, which names no target and may answer a program behind the TAP interface.
#[cold]
pub fn arp(bytes: &[u8]) -> Verdict {
    const REPLY: [u8; 2] = [0, 2];
    let probed = take::<2>(bytes, 6) == Some(&REPLY) && take::<4>(bytes, 24) == Some(&[0; 4]);
    if probed { Verdict::PuntBoth } else { Verdict::Control }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_protocols_of_the_link_are_told_from_encapsulations() {
        for ethertype in [0, 3, 1_500, 0x8870, 0x88cc, 0x8809, 0x888e, 0x88f7, 0x9000] {
            assert!(is_link_protocol(ethertype), "{ethertype:#06x}");
        }
        // 1,501 to 1,535 are undefined.
        for ethertype in [1_501, 1_535, 0x8100, 0x88a8, 0x8847, 0x8848, 0x8864, 0x88e5] {
            assert!(!is_link_protocol(ethertype), "{ethertype:#06x}");
        }
    }

    #[test]
    fn only_subnets_of_more_than_two_addresses_have_a_broadcast_address() {
        let subnets: Vec<IpNet> =
            ["192.0.2.1/24", "198.51.100.1/31", "203.0.113.1/32"].map(|net| net.parse().unwrap()).into();
        assert!(is_subnet_broadcast([192, 0, 2, 255].into(), &subnets));
        for other in [[192, 0, 2, 0], [192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1]] {
            assert!(!is_subnet_broadcast(other.into(), &subnets));
        }
    }
}
