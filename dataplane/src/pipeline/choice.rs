//! The fast path of packets whose group alone does not say the next hop: one of several by the hash of the flow, or the destination itself
//! on a connected subnet. What needs more than that, such as a fragment or an unknown neighbor, is left to the exception path.

use std::net::{Ipv4Addr, Ipv6Addr};

use fibcast_fib::{Adjacency, GroupIndex};

use super::forward::{ForwardingContext, adjacency};
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
    // What stays behind asks for its neighbor on the exception path.
    let silent = ForwardingContext { misses: None, ..context };
    let mut sent = 0;
    for at in each(left) {
        let (limit, group) = (headers.limits()[at % BURST], groups[at % BURST]);
        let Some(packet) = packets.get_mut(at).filter(|_| limit <= u16::MAX.into()) else { continue };
        let Some(hop) = choose(packet.data(), group, silent) else { continue };
        if limit > hop.mtu.into() || hop.port.0 >= LISTED.into() {
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
    let packet = frame.get(ethernet::HEADER..)?;
    if take::<2>(frame, 12) == Some(&ethernet::IPV4.to_be_bytes()) {
        let destination = Ipv4Addr::from(*take::<4>(packet, 16)?);
        let hash = || flow_hash::of_ipv4(packet, context.seed);
        adjacency(context, group, hash, || destination.into()).ok()
    } else {
        let destination = Ipv6Addr::from(*take::<16>(packet, 24)?);
        let hash = || flow_hash::of_ipv6(packet, context.seed);
        adjacency(context, group, hash, || destination.into()).ok()
    }
}

#[cfg(test)]
mod tests;
