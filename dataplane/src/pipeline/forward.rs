//! From group and flow hash to an adjacency, and the packet rewritten for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_fib::{Adjacency, AdjacencyState, Forward, Generation, GroupIndex, NextHop, PortId, Special};

use super::fair_queue::{FairQueue, FromPort};
use super::family_batch::{
    FamilyBatch, LINK_LOCAL, OPTIONS, OWN_SOURCE, PacketMeta, REVERSE_PATH, TRAILER, TTL_EXPIRED,
};
use super::headers::{Headers, Heads};
use super::links::Links;
use super::martian::OwnSources;
use super::port::{PortFacts, error_source_v4};
use super::verdict::{LISTED, Verdict, Verdicts};
use super::{flow_hash, options, rewrite, trailer};
use crate::counters::WorkerCounters;
use crate::io::{BURST, Packet, PacketMask};
use crate::packet::{ethernet, take};
use crate::reason::Reason;

/// A host on a connected subnet that has to be resolved, because a packet needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// Port of the subnet.
    pub port: PortId,
    /// The host.
    pub address: IpAddr,
}

impl FromPort for Miss {
    fn port_of_share(&self) -> u16 {
        self.port.0
    }
}

/// What forwarding reads besides the packets.
#[derive(Debug, Clone, Copy)]
pub struct ForwardingContext<'a> {
    /// The generation of the table.
    pub generation: &'a Generation,
    /// All ports by port index.
    pub ports: &'a [PortFacts],
    /// Seed of the flow hash.
    pub seed: u64,
    /// Ring for resolution requests; none: no requests.
    pub misses: Option<&'a FairQueue<Miss>>,
    /// Counters of groups and workers.
    pub counters: &'a WorkerCounters,
    /// Links that are down, if any.
    pub down: Option<&'a Links>,
    /// Addresses that no received packet has as its source.
    pub own_sources: &'a OwnSources,
    /// By index in the burst: the port of arrival.
    pub arrived: &'a [u16; BURST],
}

/// Forwards the packets of a burst whose group has a single next hop that is reachable and takes them as they are; `groups` has the group of each
/// packet. The others have no verdict then.
#[inline]
pub fn fast(
    heads: &mut Heads<'_>,
    count: usize,
    headers: &Headers,
    groups: &[GroupIndex; BURST],
    context: ForwardingContext<'_>,
    verdicts: &mut Verdicts,
) {
    match context.down {
        None => rewrite_all(heads, count, headers, groups, context, verdicts, |_| true),
        Some(links) => {
            rewrite_all(heads, count, headers, groups, context, verdicts, |port| !links.is_down(port))
        }
    }
    context.counters.add_groups(verdicts.sent(), groups, headers.limits());
}

#[inline(always)]
fn rewrite_all(
    heads: &mut Heads<'_>,
    count: usize,
    headers: &Headers,
    groups: &[GroupIndex; BURST],
    context: ForwardingContext<'_>,
    verdicts: &mut Verdicts,
    is_up: impl Fn(PortId) -> bool,
) {
    let packets = heads.iter_mut().zip(groups).zip(headers.limits()).zip(headers.words());
    for ((((head, group), limit), words), exit) in packets.zip(verdicts.exits_mut()).take(count) {
        let hop = context.generation.single_hop(*group);
        if (*limit <= hop.mtu.into()) & (hop.port.0 < LISTED.into()) && is_up(hop.port) {
            rewrite::forward(head, &hop.header, *words);
            *exit = hop.port.0 as u8;
        }
    }
}

/// Forwards the IPv4 packets of the batch that are in `left`, with a verdict of any kind.
pub fn ipv4<P: Packet>(
    packets: &mut [P],
    left: PacketMask,
    context: ForwardingContext<'_>,
    batch: &FamilyBatch<u32>,
    verdicts: &mut Verdicts,
) {
    for (meta, destination, group) in batch.iter().filter(|(meta, ..)| left >> meta.at & 1 == 1) {
        let at = usize::from(meta.at);
        if let Some(packet) = packets.get_mut(at) {
            verdicts.set(at, ipv4_exception(packet, context, meta, destination, group));
        }
    }
}

/// Like [`ipv4`] for IPv6.
pub fn ipv6<P: Packet>(
    packets: &mut [P],
    left: PacketMask,
    context: ForwardingContext<'_>,
    batch: &FamilyBatch<u128>,
    verdicts: &mut Verdicts,
) {
    for (meta, destination, group) in batch.iter().filter(|(meta, ..)| left >> meta.at & 1 == 1) {
        let at = usize::from(meta.at);
        if let Some(packet) = packets.get_mut(at) {
            verdicts.set(at, ipv6_exception(packet, context, meta, destination, group));
        }
    }
}

/// Forwards an IPv4 packet off the fast path: its group has several next hops, or a flag is set.
#[inline(never)]
fn ipv4_exception<P: Packet>(
    packet: &mut P,
    context: ForwardingContext<'_>,
    meta: PacketMeta,
    destination: u32,
    group: GroupIndex,
) -> Verdict {
    if let Some(reason) = refused(context, meta, group, packet.data()) {
        return Verdict::Drop(reason);
    }
    let hash = || flow_hash::of_ipv4(ip(packet.data()), context.seed);
    let adjacency = match adjacency(context, group, hash, || Ipv4Addr::from_bits(destination).into()) {
        Ok(adjacency) => adjacency,
        Err(verdict) => return verdict,
    };
    if meta.flags & OPTIONS != 0 {
        record_route(packet, adjacency, context);
    }
    let (port, mtu) = (adjacency.port.0, adjacency.mtu);
    if meta.flags & TRAILER != 0 {
        trailer::trim(packet, mtu);
    }
    let too_big = meta.length > mtu;
    if too_big && dont_fragment(packet.data()) {
        return Verdict::TooBig(mtu);
    }
    if !rewrite::ipv4(packet.data_mut(), &adjacency.header) {
        return Verdict::Drop(Reason::ShortPacket);
    }
    context.counters.group(group.0, meta.length);
    if too_big { Verdict::Fragment { port, mtu } } else { Verdict::Send(port) }
}

/// Like [`ipv4_exception`] for IPv6.
#[inline(never)]
fn ipv6_exception<P: Packet>(
    packet: &mut P,
    context: ForwardingContext<'_>,
    meta: PacketMeta,
    destination: u128,
    group: GroupIndex,
) -> Verdict {
    if let Some(reason) = refused(context, meta, group, packet.data()) {
        return Verdict::Drop(reason);
    }
    let hash = || flow_hash::of_ipv6(ip(packet.data()), context.seed);
    let adjacency = match adjacency(context, group, hash, || Ipv6Addr::from_bits(destination).into()) {
        Ok(adjacency) => adjacency,
        Err(verdict) => return verdict,
    };
    if meta.flags & TRAILER != 0 {
        trailer::trim(packet, adjacency.mtu);
    }
    if meta.length > adjacency.mtu {
        return Verdict::TooBig(adjacency.mtu);
    }
    if !rewrite::ipv6(packet.data_mut(), &adjacency.header) {
        return Verdict::Drop(Reason::ShortPacket);
    }
    context.counters.group(group.0, meta.length);
    Verdict::Send(adjacency.port.0)
}

/// The reason to drop a packet by its flags ([`super::family_batch`]), before anybody asks for its next hop.
///
/// RFC 1812 §5.2.1.2 and Linux (`ip_forward`, `ip6_forward`) agree on the order: the route comes first, then the time to live, then the MTU,
/// and the next hop's MAC address last. So the time to live of a packet ends here (RFC 1812 §5.3.1, RFC 8200 §3) whether its next hop is
/// known, silent or behind a link that is down, and however long the packet is; such a packet asks for no neighbor and waits for none. A
/// packet without a usable route is answered by what the route says (no route, unreachable, prohibit), or not at all (blackhole), and one
/// for the router itself is delivered, all whatever the time to live is.
///
/// A martian source comes before all of that: nobody is to be answered.
fn refused(
    context: ForwardingContext<'_>,
    meta: PacketMeta,
    group: GroupIndex,
    frame: &[u8],
) -> Option<Reason> {
    if meta.flags & (OWN_SOURCE | REVERSE_PATH | TTL_EXPIRED | LINK_LOCAL) == 0 {
        return None;
    }
    if meta.flags & OWN_SOURCE != 0
        && let Some(port) = context.arrived.get(usize::from(meta.at))
    {
        let local = matches!(context.generation.forward(group, 0), Forward::Special(Special::Local));
        if context.own_sources.refuse(*port, frame, local) {
            return Some(Reason::MartianSource);
        }
    }
    if meta.flags & (REVERSE_PATH | TTL_EXPIRED | LINK_LOCAL) == 0 {
        return None;
    }
    if meta.flags & REVERSE_PATH != 0 {
        return Some(Reason::ReversePath);
    }
    match context.generation.forward(group, 0) {
        Forward::Special(_) | Forward::NoRoute => None,
        Forward::Via(_) | Forward::Connected(_) | Forward::Incomplete { .. } => {
            // RFC 4291 §2.5.6, RFC 3927 §7: a router must not forward packets with a link-local source to other links.
            let expired = meta.flags & TTL_EXPIRED != 0;
            Some(if expired { Reason::TtlExceeded } else { Reason::LinkLocal })
        }
    }
}

/// RFC 1812 §5.2.4.2: a router records its route in a packet that it forwards.
fn record_route<P: Packet>(packet: &mut P, adjacency: &Adjacency, context: ForwardingContext<'_>) {
    if let Some(port) = context.ports.get(usize::from(adjacency.port.0)) {
        let destination = take::<4>(packet.data(), ethernet::HEADER + 16).copied().unwrap_or_default();
        let own = error_source_v4(context.ports, port, destination.into());
        options::record_route(packet.data_mut(), own);
    }
}

/// The IP packet of a frame.
fn ip(frame: &[u8]) -> &[u8] {
    frame.get(ethernet::HEADER..).unwrap_or_default()
}

/// RFC 791 §3.1: the flag "don't fragment", of a frame with an IPv4 packet.
fn dont_fragment_v4(frame: &[u8]) -> bool {
    take::<1>(frame, ethernet::HEADER + 6).is_none_or(|[flags]| flags & 0x40 != 0)
}

/// Whether a packet must not be fragmented: by its DF flag, or because it is IPv6 (RFC 8200 §5).
pub fn dont_fragment(frame: &[u8]) -> bool {
    take::<2>(frame, 12) != Some(&ethernet::IPV4.to_be_bytes()) || dont_fragment_v4(frame)
}

/// The next hop's adjacency, or another verdict. Computes the hash only if the group has several members.
///
/// # Errors
/// The verdict for a packet that is not sent: no route, blackhole, held, and so on.
pub fn adjacency<'a>(
    context: ForwardingContext<'a>,
    group: GroupIndex,
    hash: impl FnOnce() -> u32,
    address: impl Fn() -> IpAddr,
) -> Result<&'a Adjacency, Verdict> {
    let mut hashed = 0;
    let hash = || {
        hashed = hash();
        hashed
    };
    match context.generation.forward_by(group, hash) {
        Forward::Via(adjacency) => match context.down {
            Some(links) if links.is_down(adjacency.port) => {
                // No other member: the packet is held, as for a neighbor, until the link is back or the control thread updates the group.
                links.instead(context.generation, group, hashed).ok_or(Verdict::Hold(group.0))
            }
            _ => Ok(adjacency),
        },
        Forward::Connected(port) => connected(context, port, address()),
        Forward::Special(Special::Local) => Err(Verdict::Host),
        Forward::Incomplete { next_hop } => Err(Verdict::Hold(key(next_hop))),
        Forward::NoRoute => Err(Verdict::Drop(Reason::NoRoute)),
        Forward::Special(Special::Blackhole) => Err(Verdict::Drop(Reason::Blackhole)),
        Forward::Special(Special::Unreachable) => Err(Verdict::Drop(Reason::Unreachable)),
        Forward::Special(Special::Prohibit) => Err(Verdict::Drop(Reason::Prohibited)),
    }
}

/// The destination is directly connected to `port`.
///
/// # Errors
/// The verdict for a packet that is held until the host is resolved.
pub fn connected(
    context: ForwardingContext<'_>,
    port: PortId,
    address: IpAddr,
) -> Result<&Adjacency, Verdict> {
    match context.generation.neighbor(port, address) {
        Some(adjacency) if adjacency.state == AdjacencyState::Reachable => {
            context.counters.used().mark(port, address);
            Ok(adjacency)
        }
        known => {
            if let (None, Some(misses)) = (known, context.misses) {
                // A full ring only delays: the next packet to that host asks again.
                let _ = misses.push(Miss { port, address });
            }
            Err(Verdict::Hold(key(&NextHop { gateway: Some(address), port: Some(port) })))
        }
    }
}

/// Hold-queue key of a next hop. Next hops with equal keys share one bound, nothing else.
fn key(next_hop: &NextHop) -> u32 {
    let bits = match next_hop.gateway {
        Some(IpAddr::V4(v4)) => u128::from(v4.to_bits()),
        Some(IpAddr::V6(v6)) => v6.to_bits(),
        None => 0,
    };
    let port = next_hop.port.map_or(0, |port| u64::from(port.0) + 1);
    let mixed = ((bits >> 64) as u64 ^ bits as u64 ^ port << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}
