//! Eight headers at a time and one by one: the same verdict, bytes and flags for any burst. [`oracle`] checks one packet by plain arithmetic.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::packet::checksum;
use crate::pipeline::family_batch::OWN_SOURCE;
use crate::pipeline::martian::OwnSources;
use crate::pipeline::port::{Link, PortFacts, ReversePath};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 8]);

/// A frame of which `behind` bytes are in further buffers, and whether its device verified the checksum.
#[derive(Debug, Clone)]
struct Frame {
    bytes: Vec<u8>,
    behind: usize,
    checked: bool,
}

impl Packet for Frame {
    fn data(&self) -> &[u8] {
        &self.bytes
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn length(&self) -> usize {
        self.bytes.len() + self.behind
    }
    fn has_good_ipv4_checksum(&self) -> bool {
        self.checked
    }
    fn truncate(&mut self, _: usize) -> bool {
        false
    }
    fn grow_front(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, _: usize) -> bool {
        false
    }
}

fn own() -> OwnSources {
    OwnSources::new(&[PortFacts {
        mac: MAC,
        vrf: fibcast_fib::VrfId::DEFAULT,
        link: Link { device: 0, vlan: None },
        addresses: ["10.0.0.1/24", "2001:db8::1/64"].map(|address| address.parse().unwrap()).into(),
        loopback: Box::default(),
        mtu: 1_500,
        reverse_path: ReversePath::Off,
        exception_path: false,
        ipv4_checksum: false,
        partial_checksums: false,
        allow_class_e: false,
    }])
}

/// What the fast path is to find out about a good packet.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    v6: bool,
    destination: u128,
    flags: u8,
    length: u16,
    limit: u32,
    /// The frame's first bytes once it is forwarded.
    head: Vec<u8>,
}

/// By plain arithmetic; `None` for packets that are not good.
fn oracle(frame: &Frame, offload: bool, own: &OwnSources) -> Option<Found> {
    let head: &Head = frame.bytes.first_chunk()?;
    let length = frame.length();
    let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    if head[..6] != MAC.0 {
        return None;
    }
    let (v6, total, ttl, destination, own_source) = match short(12) {
        ethernet::IPV4 => {
            let total = usize::from(short(16));
            let sum = checksum::sum(&head[14..34]) == 0xffff;
            let unicast =
                |at: usize| !matches!(head[at], 0 | 127 | 224..) && (head[at], head[at + 1]) != (169, 254);
            let source = Ipv4Addr::from([head[26], head[27], head[28], head[29]]);
            let good = head[14] == 0x45
                && (20..0x8000).contains(&total)
                && head[20] & 0x10 == 0
                && (sum || offload && frame.checked)
                && unicast(26)
                && unicast(30);
            let destination = u32::from_be_bytes([head[30], head[31], head[32], head[33]]);
            good.then_some((false, total, head[22], destination.into(), own.filter().flag_v4(source)))?
        }
        ethernet::IPV6 => {
            let upper = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().unwrap());
            let plain = |at: usize| upper(at) != 0 && upper(at) >> 48 < 0xfe80;
            let source = u128::from_be_bytes(*head[22..].first_chunk().unwrap());
            let good = head[14] >> 4 == 6 && plain(22) && plain(38);
            let destination = u128::from_be_bytes(*head[38..].first_chunk().unwrap());
            let flag = own.filter().flag_v6(source.into());
            good.then_some((true, 40 + usize::from(short(18)), head[21], destination, flag))?
        }
        _ => return None,
    };
    let expired = if ttl <= 1 { TTL_EXPIRED } else { 0 };
    let flags = expired | trailer::flag(total + IP, length) | own_source;
    let mut after = head.to_vec();
    assert!(if v6 { rewrite::ipv6(&mut after, &[7; 12]) } else { rewrite::ipv4(&mut after, &[7; 12]) });
    let limit = if flags == 0 { total.min(0xffff) as u32 } else { NEVER };
    let found = Found { v6, destination, flags, length: total.min(0xffff) as u16, limit, head: after };
    (total + IP <= length).then_some(found)
}

/// By the vectors.
fn found<const OFFLOAD: bool>(burst: &mut [Frame], own: &OwnSources) -> Vec<Option<Found>> {
    let (mut headers, mut spare) = (Headers::default(), SPARE);
    let (mut v4, mut v6) = (FamilyBatch::default(), FamilyBatch::default());
    let count = burst.len();
    let heads = headers.gather::<_, OFFLOAD>(burst, &mut spare);
    let good = headers.validate::<OFFLOAD>(&heads, count, MAC, own.filter());
    headers.add_to(good, &heads, count, &mut v4, &mut v6);
    assert_eq!((good.v4 & good.v6, (good.v4 | good.v6) & !first_of(count)), (0, 0));
    let mut all: Vec<Option<Found>> = (0..count).map(|_| None).collect();
    let four = v4.iter().map(|(meta, destination, _)| (false, meta, u128::from(destination)));
    let six = v6.iter().map(|(meta, destination, _)| (true, meta, destination));
    for (v6, meta, destination) in four.chain(six) {
        let at = usize::from(meta.at);
        assert_eq!((good.v4 >> at & 1, good.v6 >> at & 1), (u64::from(!v6), u64::from(v6)));
        assert_eq!(rewrite::words(heads[at]), Some(headers.words()[at]));
        let mut head = *heads[at];
        rewrite::forward(&mut head, &[7; 12], headers.words()[at]);
        let (flags, length, limit) = (meta.flags, meta.length, headers.limits()[at]);
        all[at] = Some(Found { v6, destination, flags, length, limit, head: head.to_vec() });
    }
    for at in (0..count).filter(|at| all[*at].is_none()) {
        assert_eq!(headers.limits()[at], NEVER, "no MTU lets a packet pass that is not good");
    }
    all
}

/// A valid frame, with some bytes changed, cut, or longer than the first buffer.
fn frame() -> impl Strategy<Value = Frame> {
    let first = prop::sample::select(vec![0u8, 1, 10, 126, 127, 128, 169, 172, 223, 224, 240, 255]);
    let four = (any::<[u8; 20]>(), first.clone(), first, 0u8..4, any::<bool>(), 0u16..100).prop_map(
        |(mut ip, from, to, ttl, near, total)| {
            (ip[0], ip[6], ip[8], ip[12], ip[16]) = (0x45, ip[6] & 0xef, ttl, from, to);
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            if near {
                // An own address, and a link-local one.
                ip[12..16].copy_from_slice(&[10, 0, 0, 1]);
                ip[16..18].copy_from_slice(&[169, 254]);
            }
            ip[10..12].fill(0);
            let field = checksum::checksum(&ip);
            ip[10..12].copy_from_slice(&field.to_be_bytes());
            (ethernet::IPV4, ip.to_vec())
        },
    );
    let address = prop::sample::select(vec![
        "2001:db8::1",
        "2001:db8::2",
        "::",
        "::1",
        "::1:0:0:0",
        "0:0:0:1::",
        "fe7f:ffff::",
        "fe80::1",
        "ff02::1",
    ]);
    let six = (any::<[u8; 8]>(), address.clone(), address, 0u8..4, 0u16..100).prop_map(
        |(mut ip, from, to, limit, length)| {
            (ip[0], ip[7]) = (0x60 | ip[0] & 15, limit);
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
            (ethernet::IPV6, [&ip[..], &octets(from), &octets(to)].concat())
        },
    );
    let changes = prop::collection::vec((0usize..HEAD, any::<u8>()), 0..2);
    let size = prop_oneof![4 => 54usize..150, 1 => 0usize..60, 1 => 1_290usize..1_520];
    let behind = prop_oneof![6 => Just(0usize), 1 => 0usize..2_000, 1 => Just(66_000)];
    (prop_oneof![four, six], prop::bool::weighted(0.1), changes, size, behind, any::<bool>()).prop_map(
        |((ethertype, ip), other, changes, size, behind, checked)| {
            let mut bytes = ethernet::build(if other { OTHER } else { MAC }, OTHER, ethertype, &ip);
            bytes.resize(size, 0x5a);
            for (at, byte) in changes {
                bytes.get_mut(at).into_iter().for_each(|slot| *slot = byte);
            }
            Frame { bytes, behind, checked }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn eight_at_a_time_and_one_by_one_find_the_same(mut burst in prop::collection::vec(frame(), 0..=BURST)) {
        let own = own();
        for offload in [false, true] {
            let expected: Vec<_> = burst.iter().map(|frame| oracle(frame, offload, &own)).collect();
            let found = if offload { found::<true>(&mut burst, &own) } else { found::<false>(&mut burst, &own) };
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                prop_assert_eq!(found, expected, "{:?}", burst[at]);
            }
        }
    }

    #[test]
    fn any_bytes_are_judged_alike(mut bursts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..=BURST)) {
        let own = own();
        for bytes in &mut bursts {
            let ours = bytes.len().min(6);
            bytes[..ours].copy_from_slice(&MAC.0[..ours]);
        }
        let mut burst: Vec<_> = bursts.into_iter().map(|bytes| Frame { bytes, behind: 0, checked: false }).collect();
        let expected: Vec<_> = burst.iter().map(|frame| oracle(frame, false, &own)).collect();
        prop_assert_eq!(found::<false>(&mut burst, &own), expected);
    }
}

fn valid(spoilt: bool, checked: bool) -> Frame {
    let mut bytes = ethernet::build(
        MAC,
        OTHER,
        ethernet::IPV4,
        &[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2],
    );
    bytes.resize(60, 0);
    let field = checksum::checksum(&bytes[IP..34]) ^ u16::from(spoilt);
    bytes[24..26].copy_from_slice(&field.to_be_bytes());
    Frame { bytes, behind: 0, checked }
}

#[test]
fn a_checksum_that_the_device_found_good_is_not_computed_again_where_the_offload_is_in_use() {
    let mut burst = [(false, false), (true, false), (true, true), (false, true)]
        .map(|(spoilt, good)| valid(spoilt, good));
    let own = own();
    let good = |found: Vec<Option<Found>>| found.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(good(found::<true>(&mut burst, &own)), [true, false, true, true]);
    assert_eq!(good(found::<false>(&mut burst, &own)), [true, false, false, true]);
}

#[test]
fn a_full_burst_of_one_family_has_a_place_for_each_packet() {
    let mut burst = vec![valid(false, false); BURST];
    burst.iter_mut().enumerate().for_each(|(at, frame)| {
        // The destination's last byte; the sum stays the same.
        frame.bytes[33] = at as u8;
        frame.bytes[29] = 3u8.wrapping_sub(at as u8);
        let field = checksum::checksum(&[&frame.bytes[14..24], &[0, 0], &frame.bytes[26..34]].concat());
        frame.bytes[24..26].copy_from_slice(&field.to_be_bytes());
    });
    let found = found::<false>(&mut burst, &own());
    let last: Vec<_> =
        found.iter().map(|found| found.as_ref().map(|found| found.destination as u8)).collect();
    assert_eq!(last, (0..BURST as u8).map(Some).collect::<Vec<_>>());
}

#[test]
fn an_own_source_is_flagged_wherever_it_is_in_the_burst() {
    for at in 0..BURST {
        let mut burst = vec![valid(false, true); BURST];
        burst[at].bytes[26..30].copy_from_slice(&[10, 0, 0, 1]);
        let found = found::<true>(&mut burst, &own());
        let flagged = found.iter().map(|found| found.as_ref().is_some_and(|found| found.flags == OWN_SOURCE));
        assert!(flagged.enumerate().all(|(other, flagged)| flagged == (other == at)), "{at}");
    }
}
