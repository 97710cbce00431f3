//! The fast validator and the full one agree, packet by packet: what the fast path takes, the full one would have accepted with the same metadata;
//! what the full one takes without reserve, the fast path has accepted, if the first buffer has enough bytes for a header of either family.

use crate::stage::*;
use fibcast_dataplane::io::{Packet, PacketMask};
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::pipeline::classify::classify;
use fibcast_dataplane::pipeline::family_batch::{FamilyBatch, LINK_LOCAL, OPTIONS};
use fibcast_dataplane::pipeline::headers::{Headers, SPARE};
use fibcast_dataplane::pipeline::martian::OwnSources;
use fibcast_dataplane::pipeline::port::PortFacts;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame of which the first bytes are in the first buffer, with a device that tells the truth about checksums.
#[derive(Debug, Clone)]
struct Received {
    bytes: Vec<u8>,
    behind: usize,
}

impl Packet for Received {
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
        let header = self.bytes.get(14..).unwrap_or_default();
        let length = header.first().map_or(0, |byte| usize::from(byte & 15) * 4);
        header.get(..length).is_some_and(|header| checksum::sum(header) == 0xffff)
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

/// What lookup and forwarding get to know of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    destination: IpAddr,
    flags: u8,
    length: u16,
    at: u8,
}

/// Which packets two batches hold.
fn accepted(v4: &FamilyBatch<u32>, v6: &FamilyBatch<u128>) -> Vec<Accepted> {
    let accepted = |destination, meta: fibcast_dataplane::pipeline::family_batch::PacketMeta| Accepted {
        destination,
        flags: meta.flags,
        length: meta.length,
        at: meta.at,
    };
    let four = v4.iter().map(|(meta, to, _)| accepted(Ipv4Addr::from_bits(to).into(), meta));
    let six = v6.iter().map(|(meta, to, _)| accepted(Ipv6Addr::from_bits(to).into(), meta));
    four.chain(six).collect()
}

/// By the fast validator, with or without the checksums of the device.
fn fast(burst: &[Received], offload: bool) -> Vec<Accepted> {
    let (mut headers, mut spare, mut burst) = (Headers::default(), SPARE, burst.to_vec());
    let (mut v4, mut v6) = (FamilyBatch::default(), FamilyBatch::default());
    let (own, count) = (OwnSources::new(&[self::facts()]), burst.len());
    let heads = headers.gather::<_, true>(&mut burst, &mut spare);
    let good = if offload {
        headers.validate::<true>(&heads, count, PORT[0], own.filter())
    } else {
        headers.validate::<false>(&heads, count, PORT[0], own.filter())
    };
    headers.add_to(good, &heads, count, &mut v4, &mut v6);
    let accepted = accepted(&v4, &v6);
    let places = accepted.iter().fold(0, |places, accepted| places | (1 as PacketMask) << accepted.at);
    assert_eq!(places, good.v4 | good.v6);
    accepted
}

/// By the full one.
fn full(burst: &[Received], facts: &PortFacts) -> Vec<Accepted> {
    let (mut v4, mut v6) = (FamilyBatch::default(), FamilyBatch::default());
    let own = OwnSources::new(&[self::facts()]);
    for (at, packet) in burst.iter().enumerate() {
        let before = accepted(&v4, &v6).len();
        let verdict = classify(packet, facts, at, own.filter(), &mut v4, &mut v6);
        assert_eq!(accepted(&v4, &v6).len() - before, usize::from(verdict.is_none()), "{verdict:?}");
    }
    accepted(&v4, &v6)
}

/// Addresses that nobody is given, for which the fast path has no time: the rest of ::/64 (RFC 4291 §2.5.2, §2.5.3, §2.5.5), and what was
/// site-local (RFC 3879 §4). The full validator takes them as any others.
fn is_reserved(address: &[u8]) -> bool {
    address[..8] == [0; 8] || (address[0] == 0xfe && address[1] >= 0xc0)
}

/// Whether the full one takes a packet without reserve.
fn is_plain(accepted: &Accepted, packet: &Received) -> bool {
    let reserved = accepted.destination.is_ipv6()
        && (is_reserved(&packet.bytes[22..38]) || is_reserved(&packet.bytes[38..54]));
    // Lengths and fragment offsets of 32 KiB or more.
    let long = accepted.destination.is_ipv4() && (packet.bytes[16] & 0x80 | packet.bytes[20] & 0x10) != 0;
    // Frames too short for both families' headers.
    let short = packet.bytes.len() < 54;
    accepted.flags & (OPTIONS | LINK_LOCAL) == 0 && !reserved && !long && !short
}

fn facts() -> PortFacts {
    let mut facts = None;
    let _ = Stage::with(|setup| facts = Some(setup.ports[0].facts()));
    facts.unwrap()
}

/// First bytes of addresses of each kind, so that mutations meet them.
const KINDS: [&str; 12] = [
    "2001:db8::7",
    "::",
    "::1",
    "::5",
    "::ffff:10.0.0.1",
    "fe80::7",
    "febf::7",
    "fec0::7",
    "feff::7",
    "ff02::1",
    "fd00::1",
    "64:ff9b::1",
];

fn good() -> impl Strategy<Value = Vec<u8>> {
    let four =
        (any::<[u8; 2]>(), any::<[u8; 2]>(), 0u8..4, 0usize..3).prop_map(|(from, to, ttl, options)| {
            let mut frame = ipv4("10.1.2.3");
            frame[26..28].copy_from_slice(&from);
            frame[30..32].copy_from_slice(&to);
            frame[22] = ttl;
            frame.splice(34..34, vec![1; options * 4]);
            frame[14] += options as u8;
            frame[17] += options as u8 * 4;
            seal(frame)
        });
    let kind = || prop::sample::select(KINDS.to_vec());
    let six = (kind(), kind(), 0u8..4).prop_map(|(from, to, limit)| {
        let mut frame = ipv6(to);
        frame[22..38].copy_from_slice(&from.parse::<Ipv6Addr>().unwrap().octets());
        frame[21] = limit;
        frame
    });
    prop_oneof![four, six]
}

/// Good packets, with some bytes changed, cut, or longer than the first buffer.
fn received() -> impl Strategy<Value = Received> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let bytes = (good(), changes, any::<bool>(), prop::option::weighted(0.2, 0usize..70)).prop_map(
        |(mut bytes, changes, sealed, end)| {
            // In what comes before the payload.
            changes.iter().for_each(|(at, byte)| bytes[at.index(54)] = *byte);
            if sealed
                && bytes[14] >> 4 == 4
                && 14 + usize::from(bytes[14] & 15) * 4 <= bytes.len()
                && bytes[14] & 15 >= 5
            {
                bytes = seal(bytes);
            }
            bytes.truncate(end.unwrap_or(usize::MAX));
            bytes
        },
    );
    let any_bytes = prop::collection::vec(any::<u8>(), 0..80).prop_map(|mut bytes| {
        // For this port, mostly.
        let ours = bytes.len().min(6);
        bytes[..ours].copy_from_slice(&PORT[0].0[..ours]);
        bytes
    });
    (
        prop_oneof![8 => bytes, 1 => any_bytes],
        prop_oneof![4 => Just(0usize), 1 => 0usize..2_000, 1 => Just(66_000)],
    )
        .prop_map(|(bytes, behind)| Received { bytes, behind })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn fast_and_full_validators_agree(burst in prop::collection::vec(received(), 1..8), offload in any::<bool>()) {
        let full = full(&burst, &facts());
        let fast = fast(&burst, offload);
        for accepted in &fast {
            prop_assert!(full.contains(accepted), "the fast path alone takes {:?} {:?}", accepted, burst[usize::from(accepted.at)]);
        }
        for accepted in &full {
            let packet = &burst[usize::from(accepted.at)];
            if is_plain(accepted, packet) {
                prop_assert!(fast.contains(accepted), "the fast path refuses {:?} {:?}", accepted, packet);
            } else {
                prop_assert!(!fast.iter().any(|other| other.at == accepted.at), "{:?} has its own way: {:?}", accepted, packet);
            }
        }
    }
}

/// What the fast path has no time for is forwarded all the same.
#[test]
fn addresses_that_nobody_is_given_are_forwarded() {
    let mut stage = Stage::with(|setup| {
        setup.routes.extend([route("::/16", "2001:db8:1::9"), route("fec0::/10", "2001:db8:1::9")]);
    });
    for address in ["::5", "::1:0:0:7", "fec0::7", "feff::7"] {
        let out = stage.expect_forward(ipv6(address));
        assert_eq!((out[21], &out[..6]), (63, GATEWAY.0.as_slice()), "{address}");
        let mut from = ipv6("2001:db8:f::1");
        from[22..38].copy_from_slice(&address.parse::<Ipv6Addr>().unwrap().octets());
        stage.expect_forward(from);
    }
}
