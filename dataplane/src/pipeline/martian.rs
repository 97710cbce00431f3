//! Sources that no packet can have: the router's own addresses, and network and broadcast addresses of its subnets.
//!
//! RFC 1812 §5.3.7 and RFC 1122 §3.2.1.3: such an address is no source, and an answer would go to the router itself (source and destination
//! may even be the same, "LAND") or to all hosts of a subnet. Linux drops such packets whether they are forwarded or delivered, and whatever
//! `rp_filter` says (`fib_validate_source`).
//!
//! These addresses are few, and almost no packet has one. So the fast path asks a [`SourceFilter`], one byte for a hash of the source (0.9 cycles of
//! some 13 for all checks of a header), and only what that does not rule out is looked up.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use fibcast_fib::VrfId;
use ipnet::IpNet;

use super::delivery::is_neighbor_discovery;
use super::family_batch::OWN_SOURCE;
use super::port::{PortFacts, edges};
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

#[inline]
fn hash_v4(source: u32) -> usize {
    (source.wrapping_mul(GOLDEN) >> (32 - BITS)) as usize
}

#[inline]
fn hash_v6([upper, lower]: [u64; 2]) -> usize {
    let mixed = upper.rotate_left(32) ^ lower;
    hash_v4((mixed >> 32) as u32 ^ mixed as u32)
}

impl SourceFilter {
    /// [`OWN_SOURCE`] if the source, as its four bytes are in memory, may be one of the addresses.
    #[inline]
    pub fn flag_v4(&self, source: u32) -> u8 {
        self.0[hash_v4(source)]
    }

    /// The same for the two halves of an IPv6 source.
    #[inline]
    pub fn flag_v6(&self, halves: [u64; 2]) -> u8 {
        self.0[hash_v6(halves)]
    }

    fn add(&mut self, address: IpAddr) {
        let at = match address {
            IpAddr::V4(v4) => hash_v4(u32::from_le_bytes(v4.octets())),
            IpAddr::V6(v6) => hash_v6(halves(v6)),
        };
        self.0[at] = OWN_SOURCE;
    }
}

/// The halves of an address as numbers.
pub fn halves(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
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
        assert_eq!((filter.flag_v4(0), filter.flag_v6([0, 0])), (0, 0));
        for subnet in 0..10u8 {
            [0, 1, 255].into_iter().for_each(|host| filter.add([10, 0, subnet, host].into()));
        }
        let held = (0..1_000_000u32).filter(|n| filter.flag_v4(n.wrapping_mul(2_654_435_761)) != 0).count();
        assert!(held < 9_000, "{held}");
        let of_subnet = |host: u8| filter.flag_v4(u32::from_le_bytes([10, 0, 1, host]));
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
                    IpAddr::V4(address) => filter.flag_v4(u32::from_le_bytes(address.octets())),
                    IpAddr::V6(address) => filter.flag_v6(halves(address)),
                };
                prop_assert_eq!(flag, OWN_SOURCE);
            }
        }
    }
}
