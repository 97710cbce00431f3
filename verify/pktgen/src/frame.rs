//! The packet that the generator sends, and the check of what comes back.
//!
//! Ethernet, IPv4 or IPv6, UDP, then 34 bytes (big endian) and up to 24 of filler:
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | magic |
//! | 4 | kind: 1 counted, 2 warm-up |
//! | 5 | TTL or hop limit as sent |
//! | 6–9 | flow |
//! | 10–13 | sequence within the flow |
//! | 14–21 | sequence over all |
//! | 22–29 | time sent, ns since 1970 |
//! | 30–33 | check sum over addresses, ports, and all other bytes of the payload |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::{fold, mix, sum};

pub type Mac = [u8; 6];

pub const ETHERNET: usize = 14;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
/// Largest frame that [`build`] makes.
pub const MAX_FRAME: usize = 100;

const UDP: usize = 8;
const PAYLOAD: usize = 34;
const CHECK: usize = 30;
const MAGIC: u32 = 0xfb1c_a575;
const DESTINATION_PORT: u16 = 0xfca5;
const UDP_PROTOCOL: u8 = 17;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counted,
    WarmUp,
}

/// The content of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub kind: Kind,
    pub ttl: u8,
    pub flow: u32,
    pub flow_seq: u32,
    pub seq: u64,
    pub sent_ns: u64,
}

/// Addresses of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    pub from_mac: Mac,
    pub to_mac: Mac,
    pub from: IpAddr,
    pub to: IpAddr,
}

/// One of our packets, returned with an intact payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    pub envelope: Envelope,
    pub probe: Probe,
    pub ttl: u8,
    /// The IPv4 header check sum is right (always true for IPv6).
    pub checksum_right: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    Ours(Arrived),
    /// One of our packets, modified in a way that no router may.
    Corrupt(&'static str),
    /// Something else: ARP, ICMP, …
    Foreign,
}

/// Writes the frame into `out`. `None` if `out` is too small or the families of the addresses differ.
pub fn build(out: &mut [u8], envelope: &Envelope, probe: &Probe) -> Option<usize> {
    let ip_len = if envelope.to.is_ipv4() { 20 } else { 40 };
    let filler = filler(probe.seq, MAX_FRAME - ETHERNET - ip_len - UDP - PAYLOAD);
    let udp_len = UDP + PAYLOAD + filler;
    let total = ETHERNET + ip_len + udp_len;
    let frame = out.get_mut(..total)?;
    let (ethernet, ip) = frame.split_at_mut_checked(ETHERNET)?;
    let (header, udp) = ip.split_at_mut_checked(ip_len)?;

    ethernet.get_mut(..6)?.copy_from_slice(&envelope.to_mac);
    ethernet.get_mut(6..12)?.copy_from_slice(&envelope.from_mac);
    let ethertype = if envelope.to.is_ipv4() { IPV4 } else { IPV6 };
    ethernet.get_mut(12..)?.copy_from_slice(&ethertype.to_be_bytes());

    let payload = udp.get_mut(UDP..)?;
    payload.get_mut(..4)?.copy_from_slice(&MAGIC.to_be_bytes());
    *payload.get_mut(4)? = if probe.kind == Kind::Counted { 1 } else { 2 };
    *payload.get_mut(5)? = probe.ttl;
    payload.get_mut(6..10)?.copy_from_slice(&probe.flow.to_be_bytes());
    payload.get_mut(10..14)?.copy_from_slice(&probe.flow_seq.to_be_bytes());
    payload.get_mut(14..22)?.copy_from_slice(&probe.seq.to_be_bytes());
    payload.get_mut(22..30)?.copy_from_slice(&probe.sent_ns.to_be_bytes());
    for (number, byte) in payload.get_mut(PAYLOAD..)?.iter_mut().enumerate() {
        *byte = (probe.seq as u8).wrapping_add(number as u8);
    }

    let source_port = 0xc000 | (probe.flow as u16 & 0x3fff);
    udp.get_mut(..2)?.copy_from_slice(&source_port.to_be_bytes());
    udp.get_mut(2..4)?.copy_from_slice(&DESTINATION_PORT.to_be_bytes());
    udp.get_mut(4..6)?.copy_from_slice(&(udp_len as u16).to_be_bytes());
    udp.get_mut(6..8)?.fill(0);

    let addresses = match (envelope.from, envelope.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            write_ipv4(header, from, to, probe, (ip_len + udp_len) as u16)?;
            12..20
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            write_ipv6(header, from, to, probe, udp_len as u16)?;
            8..40
        }
        _ => return None,
    };
    let addresses = header.get(addresses)?;
    let check = own_check(addresses, udp)?;
    udp.get_mut(UDP + CHECK..UDP + CHECK + 4)?.copy_from_slice(&check.to_be_bytes());
    // The pseudo header (RFC 768, RFC 8200 §8.1): addresses, protocol, UDP length.
    let pseudo = sum(u32::from(UDP_PROTOCOL) + udp_len as u32, addresses);
    let checksum = match fold(sum(pseudo, udp)) {
        0 => 0xffff,
        other => other,
    };
    udp.get_mut(6..8)?.copy_from_slice(&checksum.to_be_bytes());
    Some(total)
}

fn write_ipv4(header: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, probe: &Probe, total: u16) -> Option<()> {
    header.fill(0);
    *header.get_mut(0)? = 0x45;
    header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    header.get_mut(4..6)?.copy_from_slice(&(probe.seq as u16).to_be_bytes());
    *header.get_mut(8)? = probe.ttl;
    *header.get_mut(9)? = UDP_PROTOCOL;
    header.get_mut(12..16)?.copy_from_slice(&from.octets());
    header.get_mut(16..20)?.copy_from_slice(&to.octets());
    let checksum = fold(sum(0, header));
    header.get_mut(10..12)?.copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn write_ipv6(header: &mut [u8], from: Ipv6Addr, to: Ipv6Addr, probe: &Probe, payload: u16) -> Option<()> {
    header.get_mut(..4)?.copy_from_slice(&[0x60, 0, 0, 0]);
    header.get_mut(4..6)?.copy_from_slice(&payload.to_be_bytes());
    *header.get_mut(6)? = UDP_PROTOCOL;
    *header.get_mut(7)? = probe.ttl;
    header.get_mut(8..24)?.copy_from_slice(&from.octets());
    header.get_mut(24..40)?.copy_from_slice(&to.octets());
    Some(())
}

/// Reads a frame that came from the router.
pub fn parse(frame: &[u8]) -> Parsed {
    let Some((ethernet, ip)) = frame.split_at_checked(ETHERNET) else { return Parsed::Foreign };
    let ip_len = match read_u16(ethernet, 12) {
        Some(IPV4) => 20,
        Some(IPV6) => 40,
        _ => return Parsed::Foreign,
    };
    let Some((header, udp)) = ip.split_at_checked(ip_len) else { return Parsed::Foreign };
    let marked = |at, magic: u32| read::<4>(udp, at).map(u32::from_be_bytes) == Some(magic);
    // Either mark suffices, so that a packet whose other mark is damaged counts as corrupt.
    if !marked(UDP, MAGIC) && read_u16(udp, 2) != Some(DESTINATION_PORT) {
        return Parsed::Foreign;
    }
    match check(ethernet, header, udp) {
        Ok(arrived) => Parsed::Ours(arrived),
        Err(what) => Parsed::Corrupt(what),
    }
}

fn check(ethernet: &[u8], header: &[u8], udp: &[u8]) -> Result<Arrived, &'static str> {
    const SHORT: &str = "truncated";
    let length = usize::from(read_u16(udp, 4).ok_or(SHORT)?);
    let udp = udp.get(..length).ok_or(SHORT)?;
    let (addresses, ttl, checksum_right) =
        if header.len() == 20 { ipv4(header, udp)? } else { ipv6(header, udp)? };
    let payload = udp.get(UDP..).filter(|payload| payload.len() >= PAYLOAD).ok_or(SHORT)?;
    let claimed = read::<4>(payload, CHECK).map(u32::from_be_bytes).ok_or(SHORT)?;
    if own_check(header.get(addresses.clone()).ok_or(SHORT)?, udp) != Some(claimed) {
        return Err("payload, port or address changed");
    }
    let probe = read_probe(payload).ok_or("unknown payload")?;
    if addresses.len() == 8 && read_u16(header, 4) != Some(probe.seq as u16) {
        return Err("IPv4 identification changed");
    }
    let envelope = Envelope {
        to_mac: read(ethernet, 0).ok_or(SHORT)?,
        from_mac: read(ethernet, 6).ok_or(SHORT)?,
        from: address(header, addresses.start, addresses.len() / 2).ok_or(SHORT)?,
        to: address(header, addresses.start + addresses.len() / 2, addresses.len() / 2).ok_or(SHORT)?,
    };
    Ok(Arrived { envelope, probe, ttl, checksum_right })
}

type Header = (std::ops::Range<usize>, u8, bool);

fn ipv4(header: &[u8], udp: &[u8]) -> Result<Header, &'static str> {
    if read_u16(header, 0) != Some(0x4500) {
        return Err("IPv4 version, header length or DSCP changed");
    }
    if read_u16(header, 2).map(usize::from) != Some(20 + udp.len()) {
        return Err("IPv4 total length changed");
    }
    if read_u16(header, 6) != Some(0) {
        return Err("IPv4 flags or fragment offset changed");
    }
    if header.get(9) != Some(&UDP_PROTOCOL) {
        return Err("IPv4 protocol changed");
    }
    Ok((12..20, header.get(8).copied().unwrap_or(0), fold(sum(0, header)) == 0))
}

fn ipv6(header: &[u8], udp: &[u8]) -> Result<Header, &'static str> {
    if read::<4>(header, 0) != Some([0x60, 0, 0, 0]) {
        return Err("IPv6 version, traffic class or flow label changed");
    }
    if read_u16(header, 4).map(usize::from) != Some(udp.len()) {
        return Err("IPv6 payload length changed");
    }
    if header.get(6) != Some(&UDP_PROTOCOL) {
        return Err("IPv6 next header changed");
    }
    Ok((8..40, header.get(7).copied().unwrap_or(0), true))
}

fn read_probe(payload: &[u8]) -> Option<Probe> {
    let kind = match payload.get(4)? {
        1 => Kind::Counted,
        2 => Kind::WarmUp,
        _ => return None,
    };
    Some(Probe {
        kind,
        ttl: *payload.get(5)?,
        flow: u32::from_be_bytes(read(payload, 6)?),
        flow_seq: u32::from_be_bytes(read(payload, 10)?),
        seq: u64::from_be_bytes(read(payload, 14)?),
        sent_ns: u64::from_be_bytes(read(payload, 22)?),
    })
}

/// Over the addresses, the UDP header without its check sum, and the payload without this one.
fn own_check(addresses: &[u8], udp: &[u8]) -> Option<u32> {
    let mut state = mix(u64::from(MAGIC), addresses);
    state = mix(state, udp.get(..6)?);
    state = mix(state, udp.get(UDP..UDP + CHECK)?);
    state = mix(state, udp.get(UDP + PAYLOAD..)?);
    Some((state ^ (state >> 32)) as u32)
}

/// Lengths vary so that queues see different sizes.
fn filler(seq: u64, most: usize) -> usize {
    (seq as usize) % (most + 1)
}

fn address(header: &[u8], at: usize, length: usize) -> Option<IpAddr> {
    match length {
        4 => Some(IpAddr::from(read::<4>(header, at)?)),
        _ => Some(IpAddr::from(read::<16>(header, at)?)),
    }
}

pub fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    read(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe {
            kind: Kind::Counted,
            ttl: 64,
            flow: 77,
            flow_seq: 3,
            seq: 0x1_0002_0003,
            sent_ns: 1_700_000_000_123,
        }
    }

    fn envelope(v6: bool) -> Envelope {
        let (from, to) = if v6 { ("2001:2::9", "2a00:1::5") } else { ("198.18.0.9", "192.0.2.77") };
        Envelope {
            from_mac: [2, 0, 0, 0, 0, 1],
            to_mac: [2, 0, 0, 0, 0, 2],
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    fn frame(v6: bool) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let length = build(&mut out, &envelope(v6), &probe()).unwrap();
        out[..length].to_vec()
    }

    #[test]
    fn frame_reads_back_as_it_was_built() {
        for v6 in [false, true] {
            let Parsed::Ours(arrived) = parse(&frame(v6)) else { panic!("not recognised") };
            assert_eq!((arrived.probe, arrived.envelope, arrived.ttl), (probe(), envelope(v6), 64));
            assert!(arrived.checksum_right);
        }
    }

    #[test]
    fn lengths_stay_between_64_and_100_bytes_and_padding_is_ignored() {
        for v6 in [false, true] {
            for seq in 0..100 {
                let mut out = [0; MAX_FRAME + 8];
                let length = build(&mut out, &envelope(v6), &Probe { seq, ..probe() }).unwrap();
                assert!((64..=100).contains(&length));
                assert!(matches!(parse(&out[..length + 8]), Parsed::Ours(_)));
            }
        }
    }

    #[test]
    fn udp_check_sum_is_right_for_receivers_that_look() {
        for (v6, addresses, udp) in [(false, 26..34, 34), (true, 22..54, 54)] {
            let frame = frame(v6);
            let udp = &frame[udp..];
            let pseudo = sum(17 + udp.len() as u32, &frame[addresses]);
            assert_eq!(fold(sum(pseudo, udp)), 0);
        }
    }

    /// A router may change MAC addresses, TTL and the IPv4 checksum; it does not read the UDP checksum.
    #[test]
    fn each_other_bit_that_changes_is_found() {
        for (v6, may_change) in [(false, vec![22, 24, 25, 40, 41]), (true, vec![21, 60, 61])] {
            let right = frame(v6);
            for bit in 14 * 8..right.len() * 8 {
                if may_change.contains(&(bit / 8)) {
                    continue;
                }
                let mut wrong = right.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(parse(&wrong), Parsed::Corrupt(_)), "bit {} of byte {}", bit % 8, bit / 8);
            }
        }
    }

    #[test]
    fn frame_that_lost_its_end_is_corrupt() {
        for v6 in [false, true] {
            let right = frame(v6);
            for length in right.len() - 30..right.len() {
                assert!(matches!(parse(&right[..length]), Parsed::Corrupt("truncated")));
            }
        }
    }

    #[test]
    fn ttl_changed_without_the_check_sum_is_seen() {
        let mut wrong = frame(false);
        wrong[22] -= 1;
        assert!(matches!(parse(&wrong), Parsed::Ours(Arrived { ttl: 63, checksum_right: false, .. })));
    }

    #[test]
    fn other_traffic_is_foreign_and_no_length_panics() {
        let right = frame(true);
        for length in 0..62 {
            let _ = parse(&right[..length]);
        }
        assert_eq!(parse(&[]), Parsed::Foreign);
        assert_eq!(parse(&[0xff; 60]), Parsed::Foreign);
    }
}
