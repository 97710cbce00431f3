//! The fast path of packets whose group alone does not say the next hop: one of several by the hash of the flow, or the destination itself
//! on a connected subnet. What needs more than that, such as a fragment or an unknown neighbor, is left to the exception path.

use std::net::IpAddr;

use fibcast_fib::{Adjacency, AdjacencyState, Forward, GroupIndex, PortId};

use super::forward::ForwardingContext;
use super::headers::Headers;
use super::verdict::{LISTED, Verdict, Verdicts};
use super::{flow_hash, rewrite};
use crate::io::{BURST, Packet, PacketMask, each};
use crate::packet::{ethernet, take};

/// Forwards the packets of `left` that need nothing else. The others have no verdict then.
#[inline(never)]
pub fn forward<P: Packet>(
    packets: &mut [P],
    left: PacketMask,
    headers: &Headers,
    groups: &[GroupIndex; BURST],
    context: ForwardingContext<'_>,
    verdicts: &mut Verdicts,
) {
    let mut sent = 0;
    for at in each(left) {
        let (limit, group) = (headers.limits()[at % BURST], groups[at % BURST]);
        let Some(packet) = packets.get_mut(at).filter(|_| limit <= u16::MAX.into()) else { continue };
        let Some(hop) = choose(packet.data(), group, context) else { continue };
        let is_up = context.down.is_none_or(|links| !links.is_down(hop.port));
        if limit > hop.mtu.into() || hop.port.0 >= LISTED.into() || !is_up {
            continue;
        }
        if let Some(head) = packet.data_mut().first_chunk_mut() {
            rewrite::forward(head, &hop.header, headers.words()[at % BURST]);
            verdicts.set(at, Verdict::Send(hop.port.0));
            sent |= 1 << at;
        }
    }
    context.counters.add_groups(sent, groups, headers.limits());
}

/// The next hop of a packet that is plain IP.
#[inline(always)]
fn choose<'a>(frame: &[u8], group: GroupIndex, context: ForwardingContext<'a>) -> Option<&'a Adjacency> {
    let is_v4 = take::<2>(frame, 12) == Some(&ethernet::IPV4.to_be_bytes());
    let packet = frame.get(ethernet::HEADER..)?;
    let hash = || {
        if is_v4 {
            flow_hash::of_ipv4(packet, context.seed)
        } else {
            flow_hash::of_ipv6(packet, context.seed)
        }
    };
    match context.generation.forward_by(group, hash) {
        Forward::Via(adjacency) => Some(adjacency),
        Forward::Connected(port) => {
            let address = if is_v4 {
                IpAddr::from(*take::<4>(packet, 16)?)
            } else {
                IpAddr::from(*take::<16>(packet, 24)?)
            };
            connected(port, address, context)
        }
        Forward::NoRoute | Forward::Incomplete { .. } | Forward::Special(_) => None,
    }
}

#[inline(always)]
fn connected(port: PortId, address: IpAddr, context: ForwardingContext<'_>) -> Option<&Adjacency> {
    let known = context.generation.neighbor(port, address);
    let adjacency = known.filter(|adjacency| adjacency.state == AdjacencyState::Reachable)?;
    context.counters.used().mark(port, address);
    Some(adjacency)
}

#[cfg(test)]
mod tests;
