//! Group and flow hash to adjacency, and the packet written for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crossbeam_queue::ArrayQueue;
use fibcast_fib::{Adjacency, AdjacencyState, Forward, Generation, GroupIndex, PortId};

use super::lane::{Lane, Mark};
use super::{Verdict, rewrite};
use crate::io::{BURST, Packet};
use crate::packet::{ethernet, ipv6, take};
use crate::reason::Reason;

/// A host on a connected subnet whose MAC address a packet needed and nobody knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// The subnet's port.
    pub port: PortId,
    /// The host.
    pub address: IpAddr,
}

/// Every IPv4 packet of a burst.
#[inline]
pub fn ipv4<P: Packet>(
    packets: &mut [P],
    generation: &Generation,
    lane: &Lane<u32>,
    verdicts: &mut [Verdict; BURST],
    misses: &ArrayQueue<Miss>,
) {
    for (mark, destination, group) in lane.iter() {
        let at = usize::from(mark.at);
        let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
        let address = || IpAddr::V4(Ipv4Addr::from_bits(destination));
        *verdict = match adjacency(generation, group, mark, address, misses) {
            Ok(adjacency) => sent(rewrite::ipv4(packet.data_mut(), &adjacency.header), adjacency),
            Err(verdict) => verdict,
        };
    }
}

/// Every IPv6 packet of a burst.
#[inline]
pub fn ipv6<P: Packet>(
    packets: &mut [P],
    generation: &Generation,
    lane: &Lane<u128>,
    verdicts: &mut [Verdict; BURST],
    misses: &ArrayQueue<Miss>,
) {
    for (mark, destination, group) in lane.iter() {
        let at = usize::from(mark.at);
        let (Some(packet), Some(verdict)) = (packets.get_mut(at), verdicts.get_mut(at)) else { continue };
        let address = || IpAddr::V6(Ipv6Addr::from_bits(destination));
        *verdict = match adjacency(generation, group, mark, address, misses) {
            Ok(_) if comes_from_link_local(packet.data()) => Verdict::Drop(Reason::LinkLocal),
            Ok(adjacency) => sent(rewrite::ipv6(packet.data_mut(), &adjacency.header), adjacency),
            Err(verdict) => verdict,
        };
    }
}

#[inline]
fn sent(rewritten: Result<(), Reason>, adjacency: &Adjacency) -> Verdict {
    match rewritten {
        Ok(()) => Verdict::Send(adjacency.port.0),
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Where the packet goes, or what else becomes of it.
#[inline]
fn adjacency<'a>(
    generation: &'a Generation,
    group: GroupIndex,
    mark: Mark,
    address: impl Fn() -> IpAddr,
    misses: &ArrayQueue<Miss>,
) -> Result<&'a Adjacency, Verdict> {
    let adjacency = match generation.forward(group, mark.hash) {
        Forward::Via(adjacency) => adjacency,
        Forward::Connected(port) => match generation.neighbor(port, address()) {
            Some(adjacency) if adjacency.state == AdjacencyState::Reachable => adjacency,
            known => {
                if known.is_none() {
                    // A full ring only delays: the next packet to that host asks again.
                    let _ = misses.push(Miss { port, address: address() });
                }
                return Err(Verdict::Drop(Reason::NeighborIncomplete));
            }
        },
        Forward::Local => return Err(Verdict::Host),
        Forward::Incomplete { .. } => return Err(Verdict::Drop(Reason::NeighborIncomplete)),
        Forward::NoRoute => return Err(Verdict::Drop(Reason::NoRoute)),
        Forward::Blackhole => return Err(Verdict::Drop(Reason::Blackhole)),
        Forward::Unreachable => return Err(Verdict::Drop(Reason::Unreachable)),
        Forward::Prohibit => return Err(Verdict::Drop(Reason::Prohibited)),
    };
    if mark.length > adjacency.mtu {
        return Err(Verdict::Drop(Reason::TooBig));
    }
    Ok(adjacency)
}

/// RFC 4291 §2.5.6: a router must not forward packets with a link-local source to other links.
#[inline]
fn comes_from_link_local(frame: &[u8]) -> bool {
    take::<16>(frame, ethernet::HEADER + 8).is_some_and(|source| ipv6::is_link_local((*source).into()))
}
