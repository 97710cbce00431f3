//! The headers of a burst: gathered once, and validated eight at a time.
//!
//! [`Headers::gather`] reads each packet buffer once: where its first bytes are, and how long it is. [`Headers::validate`] turns eight headers at a
//! time into vectors, one for each word of the header. Each check leaves zero where a packet passes it, and the checks are ORed: one comparison at
//! the end tells which packets are good. It decides as [`super::ipv4_input`] and [`super::ipv6_input`] do, which name the reason for the packets that
//! it refuses. What it finds is in packet order, for both families alike, as [`super::forward`] needs it.

use wide::u32x8;

use super::family_batch::{FamilyBatch, PacketMeta, TRAILER, TTL_EXPIRED};
use super::martian::{self, SourceFilter};
use super::{rewrite, trailer};
use crate::io::{BURST, Packet, PacketMask, each};
use crate::packet::ethernet::{self, Mac};
use crate::packet::{ipv4, ipv6};

/// Offset of the IP header in a frame.
const IP: usize = ethernet::HEADER;
/// Bytes of a frame with either IP header.
const HEAD: usize = IP + ipv6::HEADER;
/// The first bytes of a frame.
pub type Head = [u8; HEAD];
/// The first bytes of each packet of a burst.
pub type Heads<'a> = [&'a mut Head; BURST];
/// In place of those of packets that have fewer: all zero, which is no IP packet. Nothing writes to them.
pub type Spare = [Head; BURST];
/// All of them.
pub const SPARE: Spare = [[0; HEAD]; BURST];

/// No MTU is as large.
const NEVER: u32 = 1 << 16;
/// Packets that are validated together.
const LANES: usize = 8;
const _: () = assert!(BURST.is_multiple_of(LANES));

/// The first two bytes of the EtherType and the last two of the MAC address, as one number.
const KIND_V4: u32 = (ethernet::IPV4.swap_bytes() as u32) << 16;
const KIND_V6: u32 = (ethernet::IPV6.swap_bytes() as u32) << 16;
/// Version 4 with a header of 20 bytes, and a total length below 32 KiB.
const PLAIN: u32 = 0x45;
const PLAIN_MASK: u32 = u32::from_le_bytes([0xff, 0, 0x80, 0]);
/// Fragment offsets of 32 KiB or more. So the end of a plain fragment cannot pass 65,535 (see [`ends_beyond`](ipv4::Ipv4Header::ends_beyond)).
const FAR_FRAGMENT: u32 = u32::from_le_bytes([0, 0, 0x10, 0]);
/// 169.254.0.0/16, not forwarded (RFC 3927 §7).
const LINK_LOCAL_NET: u32 = u32::from_le_bytes([169, 254, 0, 0]);

/// What validation found, by index in the burst.
#[derive(Debug)]
pub struct Headers {
    /// Length of the whole frame in bytes.
    lengths: [u32; BURST],
    /// All ones: the device verified the IPv4 header checksum.
    checked: [u32; BURST],
    macs: [u32; BURST],
    kinds: [u32; BURST],
    /// Where the source filter has each source.
    places: [u32; BURST],
    /// [`PacketMeta`] as one number.
    facts: [u32; BURST],
    /// IPv4 destinations as in memory.
    destinations: [u32; BURST],
    limits: [u32; BURST],
    words: [[u32; 2]; BURST],
}

/// The good packets of a burst, by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Good {
    /// IPv4.
    pub v4: PacketMask,
    /// IPv6.
    pub v6: PacketMask,
}

impl Default for Headers {
    fn default() -> Self {
        Headers {
            lengths: [0; BURST],
            checked: [0; BURST],
            macs: [0; BURST],
            kinds: [0; BURST],
            places: [0; BURST],
            facts: [0; BURST],
            destinations: [0; BURST],
            limits: [NEVER; BURST],
            words: [[0; 2]; BURST],
        }
    }
}

impl Headers {
    /// Reads where the first bytes of each packet are and prefetches them. With `OFFLOAD`, also whether the device verified its checksum.
    #[inline]
    pub fn gather<'a, P: Packet, const OFFLOAD: bool>(
        &mut self,
        packets: &'a mut [P],
        spare: &'a mut Spare,
    ) -> Heads<'a> {
        let mut heads = spare.each_mut();
        let slots = heads.iter_mut().zip(&mut self.lengths).zip(&mut self.checked);
        for (packet, ((head, length), checked)) in packets.iter_mut().zip(slots) {
            packet.prefetch();
            *length = packet.length() as u32;
            if OFFLOAD {
                *checked = if packet.has_good_ipv4_checksum() { u32::MAX } else { 0 };
            }
            if let Some(first) = packet.data_mut().first_chunk_mut() {
                *head = first;
            }
        }
        heads
    }

    /// Which of the first `count` packets are plain IP to the port's MAC address, and valid. The other ones take the exception path. With
    /// `OFFLOAD`, a checksum that the device verified is not computed again.
    #[inline]
    pub fn validate<const OFFLOAD: bool>(
        &mut self,
        heads: &Heads<'_>,
        count: usize,
        mac: Mac,
        own: &SourceFilter,
    ) -> Good {
        for ((head, mac), kind) in heads.iter().zip(&mut self.macs).zip(&mut self.kinds).take(count) {
            *mac = word(head, 0);
            *kind = word(head, 4) & 0xffff | word(head, 12) << 16;
        }
        let mut good = Good { v4: 0, v6: 0 };
        for block in 0..count.div_ceil(LANES).min(BURST / LANES) {
            let Good { v4, v6 } = self.block::<OFFLOAD>(heads, block, mac);
            good.v4 |= v4 << (block * LANES);
            good.v6 |= v6 << (block * LANES);
        }
        if own.any(&self.places, count) {
            self.flag_sources(own, count);
        }
        good
    }

    /// Validates the packets of a block.
    #[inline(always)]
    fn block<const OFFLOAD: bool>(&mut self, heads: &Heads<'_>, block: usize, mac: Mac) -> Good {
        let [a, b, c, d, e, f] = mac.0;
        let of = |values: &[u32; BURST]| lanes(values, block);
        let row = |lane: usize| {
            let head = &heads[(block * LANES + lane) % BURST];
            // Neighbors in memory, so that the compiler makes one load of them.
            let word = |at: usize| word(head, IP + 4 * at);
            u32x8::new([word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)])
        };
        let rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        let [w0, w1, w2, w3, w4, w5, w6, w7] = u32x8::transpose(rows);
        let (length, kind) = (of(&self.lengths), of(&self.kinds));
        let link = of(&self.macs) ^ all(u32::from_le_bytes([a, b, c, d]));
        let rest = u32::from_le_bytes([e, f, 0, 0]);
        let is_v6 = (kind & all(0xffff_0000)).simd_eq(all(KIND_V6));

        // RFC 1071 §2: the ones' complement sum does not depend on byte order; that of a valid header, which is not all zero, is 65,535.
        let halves = |word: u32x8| (word & all(0xffff)) + (word >> 16i32);
        let sum = halves(halves(w0) + halves(w1) + halves(w2) + halves(w3) + halves(w4)) ^ all(0xffff);
        let sum = if OFFLOAD { sum & !of(&self.checked) } else { sum };
        let total_v4 = swap_halves(w0 >> 16i32);
        let bad_v4 = link
            | kind ^ all(rest | KIND_V4)
            | (w0 & all(PLAIN_MASK)) ^ all(PLAIN)
            | w1 & all(FAR_FRAGMENT)
            | sum
            | above(all(ipv4::HEADER as u32), total_v4)
            | above(total_v4 + all(IP as u32), length)
            | special_v4(w3)
            | special_v4(w4);

        let total_v6 = all(ipv6::HEADER as u32) + swap_halves(w1);
        let bad_v6 = link
            | kind ^ all(rest | KIND_V6)
            | (w0 & all(0xf0)) ^ all(0x60)
            | above(total_v6 + all(IP as u32), length)
            | special_v6(w2, w3)
            | special_v6(w6, w7);

        let total = is_v6.bitselect(total_v6, total_v4);
        let ttl = is_v6.bitselect(w1 >> 24i32, w2 & all(0xff));
        let fits = (total + all(IP as u32)).max(all(trailer::ALWAYS_FITS as u32));
        let flags =
            at_least(all(1), ttl) & all(TTL_EXPIRED.into()) | !at_least(fits, length) & all(TRAILER.into());
        let total = total.min(all(u16::MAX.into()));
        let (good_v4, good_v6) = (bad_v4.simd_eq(all(0)), bad_v6.simd_eq(all(0)));
        let plain = (good_v4 | good_v6) & flags.simd_eq(all(0));

        // The bytes that forwarding changes; see `rewrite`.
        let field = (w2 >> 16i32) + all(1);
        let field = field - at_least(field, all(0xffff));
        let word_v4 = (w2 - all(1)) & all(0xffff) | field << 16i32;
        let first = is_v6.bitselect(w1 - all(1 << 24), w1).to_array();
        let second = is_v6.bitselect(w2, word_v4).to_array();

        put(&mut self.places, block, martian::places(w3 ^ is_v6 & (w2 ^ w4 ^ w5)));
        let at = u32x8::new([0, 1, 2, 3, 4, 5, 6, 7]) + all((block * LANES) as u32);
        put(&mut self.facts, block, at | flags << 8i32 | total << 16i32);
        put(&mut self.destinations, block, w4);
        put(&mut self.limits, block, plain.bitselect(total, all(NEVER)));
        if let Some(words) = self.words.as_chunks_mut::<LANES>().0.get_mut(block) {
            words.iter_mut().zip(first.iter().zip(&second)).for_each(|(words, (a, b))| *words = [*a, *b]);
        }
        Good { v4: good_v4.to_bitmask().into(), v6: good_v6.to_bitmask().into() }
    }

    /// Flags the packets whose source is not ruled out as an own address.
    #[cold]
    fn flag_sources(&mut self, own: &SourceFilter, count: usize) {
        let slots = self.places.iter().zip(&mut self.facts).zip(&mut self.limits);
        for ((place, facts), limit) in slots.take(count) {
            let flag = own.at(*place);
            if flag != 0 {
                *facts |= u32::from(flag) << 8;
                *limit = NEVER;
            }
        }
    }

    /// Adds the good packets to the batches of their families.
    #[inline]
    pub fn add_to(
        &self,
        good: Good,
        heads: &Heads<'_>,
        count: usize,
        v4: &mut FamilyBatch<u32>,
        v6: &mut FamilyBatch<u128>,
    ) {
        if good.v4 == first_of(count) {
            v4.fill(count, &self.destinations, &self.facts);
            return;
        }
        let mut batch = v4.adding();
        for at in each(good.v4) {
            batch.add(self.destinations[at % BURST].swap_bytes(), self.meta(at), true);
        }
        drop(batch);
        let mut batch = v6.adding();
        for at in each(good.v6) {
            let destination = heads[at % BURST].last_chunk().copied().map_or(0, u128::from_be_bytes);
            batch.add(destination, self.meta(at), true);
        }
    }

    #[inline(always)]
    fn meta(&self, at: usize) -> PacketMeta {
        PacketMeta::from_bits(self.facts[at % BURST])
    }

    /// Takes over what the exception path found out about packets: their flags, and the bytes to write for those in `changed`.
    pub fn update(
        &mut self,
        heads: &Heads<'_>,
        changed: PacketMask,
        metas: impl Iterator<Item = PacketMeta>,
    ) {
        for meta in metas {
            let at = usize::from(meta.at) % BURST;
            let mut plain = meta.flags == 0;
            if changed >> at & 1 == 1 {
                let words = rewrite::words(heads[at]);
                plain &= words.is_some();
                self.words[at] = words.unwrap_or_default();
            }
            self.limits[at] = if plain { meta.length.into() } else { NEVER };
        }
    }

    /// Length of each frame in bytes.
    #[inline]
    pub fn lengths(&self) -> &[u32; BURST] {
        &self.lengths
    }

    /// Measures the packets of `mask` again, which may have been cut.
    #[inline(never)]
    pub fn measure<P: Packet>(&mut self, packets: &[P], mask: PacketMask) {
        for (at, packet) in each(mask).filter_map(|at| Some((at, packets.get(at)?))) {
            self.lengths[at % BURST] = packet.length() as u32;
        }
    }

    /// Length of all of the first `count` frames in bytes.
    #[inline]
    pub fn bytes(&self, count: usize) -> u64 {
        self.lengths.iter().take(count).map(|length| u64::from(*length)).sum()
    }

    /// The smallest MTU that lets each packet pass, in bytes; above any MTU for packets that are not good, or flagged.
    #[inline]
    pub fn limits(&self) -> &[u32; BURST] {
        &self.limits
    }

    /// What forwarding writes into each packet; see [`rewrite::forward`].
    #[inline]
    pub fn words(&self) -> &[[u32; 2]; BURST] {
        &self.words
    }
}

/// The first `count` packets.
#[inline]
pub fn first_of(count: usize) -> PacketMask {
    PacketMask::MAX.checked_shr(PacketMask::BITS - count as u32).unwrap_or(0)
}

/// The four bytes at `at`, as they are in memory.
#[inline(always)]
fn word(head: &Head, at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[inline(always)]
fn all(value: u32) -> u32x8 {
    u32x8::splat(value)
}

/// The values of a block.
#[inline(always)]
fn lanes(values: &[u32; BURST], block: usize) -> u32x8 {
    u32x8::new(values.as_chunks::<LANES>().0.get(block).copied().unwrap_or_default())
}

#[inline(always)]
fn put(values: &mut [u32; BURST], block: usize, value: u32x8) {
    if let Some(values) = values.as_chunks_mut::<LANES>().0.get_mut(block) {
        *values = value.to_array();
    }
}

/// The lower two bytes, in network byte order.
#[inline(always)]
fn swap_halves(word: u32x8) -> u32x8 {
    (word << 8i32) & all(0xff00) | (word >> 8i32) & all(0xff)
}

/// Not zero where `a` is above `b`.
#[inline(always)]
fn above(a: u32x8, b: u32x8) -> u32x8 {
    a.max(b) ^ b
}

/// All ones where `a` is at least `b`.
#[inline(always)]
fn at_least(a: u32x8, b: u32x8) -> u32x8 {
    a.max(b).simd_eq(a)
}

/// Not zero for addresses that are no unicast ones or link-local (RFC 1812 §5.3.7, §4.2.2.11; RFC 3927 §7): the first bytes decide.
#[inline(always)]
fn special_v4(address: u32x8) -> u32x8 {
    let first = address & all(0xff);
    above(first - all(1), all(222))
        | first.simd_eq(all(127))
        | (address & all(0xffff)).simd_eq(all(LINK_LOCAL_NET))
}

/// Not zero for addresses in ::/64, which has the unspecified and loopback ones (RFC 4291 §2.5.2, §2.5.3), and from the link-local ones on
/// (§2.5.6), multicast (§2.7) among them: the upper half decides.
#[inline(always)]
fn special_v6(first: u32x8, second: u32x8) -> u32x8 {
    (first | second).simd_eq(all(0)) | above(swap_halves(first), all(0xfe7f))
}

#[cfg(test)]
mod tests;
