//! The flow hash: the same for all packets of a flow, so that a flow keeps its path and its order.
//!
//! Over addresses, protocol and ports, for IPv6 also the flow label (RFC 6438). A fragment has no ports except in its first piece,
//! so ports are left out for every piece of a fragmented packet.
//!
//! Next hops of a group and workers ([`crate::worker::spread`]) are chosen by it, with different seeds. Packets of the router's own have
//! another one, of the destination alone ([`super::slow`]): all that goes to a host is to take one path.

use crate::packet::{ipv4, ipv6, take};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Of bytes that begin with an IPv4 header, whose checksum and addresses may be wrong; 0 where its lengths are.
pub fn of_ipv4(bytes: &[u8], seed: u64) -> u32 {
    ipv4::Ipv4Header::measured(bytes, usize::MAX).map_or(0, |header| ipv4(&header, seed))
}

/// The same of IPv6.
pub fn of_ipv6(bytes: &[u8], seed: u64) -> u32 {
    ipv6::Ipv6Header::new_checked(bytes, usize::MAX).map_or(0, |header| ipv6(&header, seed))
}

/// For an IPv4 packet.
#[inline]
pub fn ipv4(header: &ipv4::Ipv4Header<'_>, seed: u64) -> u32 {
    let ports = if header.is_fragment() { 0 } else { ports(header.protocol(), header.payload()) };
    let addresses = u64::from(header.source().to_bits()) << 32 | u64::from(header.destination().to_bits());
    finish(mix(addresses, seed), header.protocol(), ports)
}

/// For an IPv6 packet. An extension header hides the ports; flow label and addresses decide alone then.
#[inline]
pub fn ipv6(header: &ipv6::Ipv6Header<'_>, seed: u64) -> u32 {
    let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
    let [a, b] = halves(header.source().to_bits());
    let [c, d] = halves(header.destination().to_bits());
    let addresses = mix(a ^ c.rotate_left(32), seed ^ u64::from(header.flow_label())) ^ mix(b, d ^ seed);
    finish(addresses, header.next_header(), ports(header.next_header(), header.payload()))
}

#[inline]
fn ports(protocol: u8, payload: &[u8]) -> u32 {
    match (protocol, take::<4>(payload, 0)) {
        (TCP | UDP | SCTP, Some(ports)) => u32::from_be_bytes(*ports),
        _ => 0,
    }
}

/// XOR of both halves of a wide product: each input bit affects every output bit.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b | 1);
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn finish(addresses: u64, protocol: u8, ports: u32) -> u32 {
    let last = mix(addresses ^ (u64::from(ports) << 8 | u64::from(protocol)), 0xd6e8_feb8_6659_fd93);
    (last >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum;

    fn udp(source_port: u16, flags: u16) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        let field = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&field.to_be_bytes());
        bytes.extend(source_port.to_be_bytes());
        bytes.extend([0, 53, 0, 8, 0, 0]);
        bytes
    }

    fn hash(bytes: &[u8], seed: u64) -> u32 {
        ipv4(&ipv4::Ipv4Header::new_checked(bytes, bytes.len()).unwrap(), seed)
    }

    #[test]
    fn ports_make_a_flow_of_their_own() {
        assert_ne!(hash(&udp(1000, 0), 1), hash(&udp(1001, 0), 1));
        assert_eq!(hash(&udp(1000, 0), 1), hash(&udp(1000, 0), 1));
    }

    #[test]
    fn all_pieces_of_a_fragmented_packet_keep_one_path() {
        // More fragments, offset 0; and offset 8 without ports at all.
        assert_eq!(hash(&udp(1000, 0x2000), 1), hash(&udp(1001, 0x0001), 1));
    }

    #[test]
    fn another_seed_gives_another_choice() {
        let same =
            (0..1_000).filter(|&port| hash(&udp(port, 0), 1) % 2 == hash(&udp(port, 0), 2) % 2).count();
        assert!((350..650).contains(&same), "{same}");
    }

    #[test]
    fn flows_spread_evenly() {
        let mut seen = [0u32; 16];
        (0..16_000).for_each(|port| seen[(hash(&udp(port, 0), 7) >> 28) as usize] += 1);
        assert!(seen.iter().all(|count| (700..1_300).contains(count)), "{seen:?}");
    }
}
