//! Reverse-path check (RFC 3704): a packet is accepted only if the table has a route back to its source.
//!
//! Strict (§2.2): by the port of arrival. Loose (§2.4): by any port. A default route counts. Link-local IPv6 sources are not checked; they
//! cannot be forwarded anyway.

use fibcast_fib::{Forward, Generation, GroupIndex, PortId, VrfId};

use super::family_batch::{Destination, FamilyBatch, LINK_LOCAL, REVERSE_PATH};
use super::port::ReversePath;
use crate::io::{BURST, Packet};
use crate::packet::{ethernet, take};

/// The check of a burst: its port, and how to find the port of packets that arrived elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The VRF of the port.
    pub vrf: VrfId,
    /// The port of arrival.
    pub port: PortId,
    /// Its check.
    pub check: ReversePath,
}

/// Flags each packet of the batch whose source fails the check of its port; `of` maps a packet's index to its port.
pub fn ipv4<P: Packet>(
    packets: &[P],
    generation: &Generation,
    batch: &mut FamilyBatch<u32>,
    of: impl Fn(u8) -> Option<Asked>,
) {
    check(packets, generation, batch, of, |bytes| {
        take::<4>(bytes, ethernet::HEADER + 12).map(|source| u32::from_be_bytes(*source))
    });
}

/// Like [`ipv4`] for IPv6.
pub fn ipv6<P: Packet>(
    packets: &[P],
    generation: &Generation,
    batch: &mut FamilyBatch<u128>,
    of: impl Fn(u8) -> Option<Asked>,
) {
    check(packets, generation, batch, of, |bytes| {
        take::<16>(bytes, ethernet::HEADER + 8).map(|source| u128::from_be_bytes(*source))
    });
}

fn check<P: Packet, A: Destination>(
    packets: &[P],
    generation: &Generation,
    batch: &mut FamilyBatch<A>,
    of: impl Fn(u8) -> Option<Asked>,
    source: impl Fn(&[u8]) -> Option<A>,
) {
    let mut sources = [A::default(); BURST];
    let mut groups = [GroupIndex::NO_ROUTE; BURST];
    for meta in batch.metas_mut().filter(|meta| meta.flags & LINK_LOCAL == 0) {
        let at = usize::from(meta.at);
        let Some(asked) = of(meta.at) else { continue };
        let Some(address) = packets.get(at).and_then(|packet| source(packet.data())) else { continue };
        let (Some(one), Some(group)) = (sources.get_mut(at..=at), groups.get_mut(at..=at)) else { continue };
        one.fill(address);
        A::look_up(generation, asked.vrf, one, group);
        let group = group.first().copied().unwrap_or_default();
        let passes = match asked.check {
            ReversePath::Off => true,
            ReversePath::Strict => generation.leads_to(group, asked.port),
            ReversePath::Loose => matches!(
                generation.forward(group, 0),
                Forward::Via(_) | Forward::Connected(_) | Forward::Incomplete { .. }
            ),
        };
        if !passes {
            meta.flags |= REVERSE_PATH;
        }
    }
}
