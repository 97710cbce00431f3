//! Sources that no packet can have: the router's own addresses, and network and broadcast addresses of its subnets.
//!
//! RFC 1812 §5.3.7 and RFC 1122 §3.2.1.3: such an address is no source, and an answer would go to the router itself (source and destination
//! may even be the same, "LAND") or to all hosts of a subnet. Linux drops such packets whether they are forwarded or delivered, and whatever
//! `rp_filter` says (`fib_validate_source`).
//!
//! These addresses are few, and almost no packet has one. So the fast path asks a [`SourceFilter`], one byte for a hash of the source, and only
//! what that does not rule out is looked up. The hashes of eight sources are computed together.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::VrfId;
use ipnet::IpNet;
use wide::u32x8;

use super::delivery::is_neighbor_discovery;
use super::family_batch::OWN_SOURCE;
use super::port::{PortFacts, edges};
use crate::io::BURST;
use crate::packet::ethernet::{self, Frame, ipv4_at, ipv6_at};
use crate::packet::ipv6;

/// Bits of a hash: with 30 addresses, 0.7 % of all sources are looked up in vain.
const BITS: u32 = 12;
/// The golden ratio in 32 bits: multiplicative hashing (Knuth, TAOCP 6.4).
const GOLDEN: u32 = 0x9e37_79b9;

/// Which sources may be among the addresses that are none: a Bloom filter with one hash function. Its elements are bytes, which are the flag of
/// a packet as they are; bits cost more instructions than they save cache.
#[derive(Debug)]
pub struct SourceFilter(Box<[u8; 1 << BITS]>);

impl Default for SourceFilter {
    /// Rules out every source.
    fn default() -> Self {
        SourceFilter(Box::new([0; 1 << BITS]))
    }
}

/// The place of an IPv4 source, by its four bytes as they are in memory, or of an IPv6 one, by the XOR of its four words.
fn place(source: u32) -> u32 {
    source.wrapping_mul(GOLDEN) >> (32 - BITS)
}

/// [`place`] of eight sources.
#[inline(always)]
pub fn places(sources: u32x8) -> u32x8 {
    (sources * u32x8::splat(GOLDEN)) >> (32 - BITS)
}

fn word_v4(source: Ipv4Addr) -> u32 {
    u32::from_le_bytes(source.octets())
}

fn word_v6(source: Ipv6Addr) -> u32 {
    source.octets().as_chunks::<4>().0.iter().fold(0, |word, four| word ^ u32::from_le_bytes(*four))
}

impl SourceFilter {
    /// [`OWN_SOURCE`] if the source may be one of the addresses.
    pub fn flag_v4(&self, source: Ipv4Addr) -> u8 {
        self.at(place(word_v4(source)))
    }

    /// The same for IPv6.
    pub fn flag_v6(&self, source: Ipv6Addr) -> u8 {
        self.at(place(word_v6(source)))
    }

    /// The same by its place.
    #[inline]
    pub fn at(&self, place: u32) -> u8 {
        self.0[place as usize % (1 << BITS)]
    }

    /// Whether any of the first `count` places has an address.
    #[inline]
    pub fn any(&self, places: &[u32; BURST], count: usize) -> bool {
        // In four chains, which the processor follows together.
        let mut any = [0; 4];
        for places in places.as_chunks::<4>().0.iter().take(count.div_ceil(4)) {
            any.iter_mut().zip(places).for_each(|(any, place)| *any |= self.at(*place));
        }
        any != [0; 4]
    }

    fn add(&mut self, address: IpAddr) {
        let word = match address {
            IpAddr::V4(v4) => word_v4(v4),
            IpAddr::V6(v6) => word_v6(v6),
        };
        self.0[place(word) as usize % (1 << BITS)] = OWN_SOURCE;
    }
}

/// The addresses that are no sources, of all ports.
#[derive(Debug)]
pub struct OwnSources {
    vrfs: Box<[VrfId]>,
    addresses: HashSet<(VrfId, IpAddr)>,
    /// Link-local ones, which another station may have on another link (RFC 4007 §6), by port.
    scoped: HashSet<(u16, IpAddr)>,
    /// All of them, sorted: rules out most of what the filter does not.
    all: Box<[IpAddr]>,
    filter: SourceFilter,
}

impl OwnSources {
    /// Built from all ports, by port index.
    pub fn new(ports: &[PortFacts]) -> OwnSources {
        let of_port = |port: &PortFacts| {
            let link_local = std::iter::once(IpAddr::V6(port.mac.link_local()));
            let configured = port.addresses.iter().flat_map(|address| of_address(*address));
            configured.chain(link_local).chain(port.loopback.iter().copied()).collect::<Vec<_>>()
        };
        let (mut addresses, mut scoped) = (HashSet::new(), HashSet::new());
        let (mut filter, mut all) = (SourceFilter::default(), Vec::new());
        for (port_index, port) in ports.iter().enumerate() {
            for address in of_port(port) {
                filter.add(address);
                all.push(address);
                if ipv6::is_link_local_v6(address) {
                    scoped.insert((port_index as u16, address));
                } else {
                    addresses.insert((port.vrf, address));
                }
            }
        }
        all.sort_unstable();
        let vrfs = ports.iter().map(|port| port.vrf).collect();
        OwnSources { vrfs, addresses, scoped, all: all.into(), filter }
    }

    /// What the fast path asks first.
    #[inline]
    pub fn filter(&self) -> &SourceFilter {
        &self.filter
    }

    /// Whether a frame that arrived on the port with index `port` is to be dropped because one of them is its IP source. `local`: it is for
    /// the router itself.
    #[cold]
    pub fn refuse(&self, port: u16, frame: &[u8], local: bool) -> bool {
        let (Some(vrf), Ok(view)) = (self.vrfs.get(usize::from(port)), Frame::new_checked(frame)) else {
            return false;
        };
        let source: IpAddr = match view.ethertype() {
            ethernet::IPV4 => ipv4_at(view.payload(), 12).into(),
            ethernet::IPV6 => ipv6_at(view.payload(), 8).into(),
            _ => return false,
        };
        if self.all.binary_search(&source).is_err() {
            return false;
        }
        // Discovery with such a source is how the control thread finds a duplicate of an own address (RFC 4862 §5.4).
        (self.rule_out(*vrf, source) || self.scoped.contains(&(port, source)))
            && !(local && is_neighbor_discovery(frame))
    }

    /// Whether no packet from `source` is accepted in this VRF.
    pub fn rule_out(&self, vrf: VrfId, source: IpAddr) -> bool {
        self.addresses.contains(&(vrf, source))
    }
}

/// The addresses that a configured address rules out: itself, and both edges of its subnet.
fn of_address(address: IpNet) -> Vec<IpAddr> {
    let mut all = vec![address.addr()];
    if let IpNet::V4(v4) = address {
        all.extend(edges(&v4).into_iter().flatten());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sieve_rules_out_almost_every_source() {
        let mut filter = SourceFilter::default();
        assert_eq!((filter.flag_v4(0.into()), filter.flag_v6(0.into())), (0, 0));
        for subnet in 0..10u8 {
            [0, 1, 255].into_iter().for_each(|host| filter.add([10, 0, subnet, host].into()));
        }
        let held =
            (0..1_000_000u32).filter(|n| filter.flag_v4(n.wrapping_mul(2_654_435_761).into()) != 0).count();
        assert!(held < 9_000, "{held}");
        let of_subnet = |host: u8| filter.flag_v4([10, 0, 1, host].into());
        let inside = (0..=255).filter(|host| of_subnet(*host) != 0).count();
        assert!((3..20).contains(&inside), "{inside}");
    }

    proptest! {
        #[test]
        fn a_sieve_holds_what_was_put_in(addresses in prop::collection::vec(any::<IpAddr>(), 0..50)) {
            let mut filter = SourceFilter::default();
            addresses.iter().for_each(|address| filter.add(*address));
            for address in addresses {
                let flag = match address {
                    IpAddr::V4(address) => filter.flag_v4(address),
                    IpAddr::V6(address) => filter.flag_v6(address),
                };
                prop_assert_eq!(flag, OWN_SOURCE);
            }
        }
    }
}
