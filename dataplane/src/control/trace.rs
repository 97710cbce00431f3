//! Traces a packet through the same table, flow hash and neighbors that workers use, without sending one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fibcast_control::capture::Trace;
use fibcast_fib::{AdjacencyState, Forward, GroupIndex, NextHop, Special, VrfId};

use super::{Control, PortSetup};
use crate::neighbor::Key as Neighbor;
use crate::packet::ethernet::LinkDestination;
use crate::packet::{checksum, ipv4, ipv6, put};
use crate::pipeline::family_batch::{Destination, FamilyBatch};
use crate::pipeline::martian::{OwnSources, SourceFilter};
use crate::pipeline::{Verdict, flow_hash, ipv4_input, ipv6_input};
use crate::reason::Reason;

impl Control {
    /// Traces a packet without ports from `from` to `address`; `seed` is that of the flow hash.
    pub fn trace(&mut self, vrf: VrfId, address: IpAddr, from: Option<IpAddr>, seed: u64) -> Trace {
        let generation = self.fib.generation();
        let mut trace =
            Trace { vrf: vrf.0, address: Some(address), serial: generation.serial(), ..Trace::default() };
        let mut group = [GroupIndex::NO_ROUTE];
        match address {
            IpAddr::V4(v4) => u32::look_up(&generation, vrf, &[v4.to_bits()], &mut group),
            IpAddr::V6(v6) => u128::look_up(&generation, vrf, &[v6.to_bits()], &mut group),
        }
        let [group] = group;
        if let Some(reason) = refused(address, from, self.allow_class_e) {
            trace.outcome = format!("dropped: {}", reason.name());
            return trace;
        }
        let label = self.fib.longest_match(vrf, address).map(|(_, label)| label);
        if let Some((prefix, label)) = self.fib.longest_match(vrf, address) {
            let own = self.own.contains(vrf, prefix);
            trace.prefix = Some(prefix);
            trace.origin = Some(if own { "own" } else { "servers" }.to_owned());
            trace.label = Some(format!("{:016x}", self.recursion.server_label(label).0));
            trace.via = self.fib.group(label).map(|group| self.words(group)).unwrap_or_default();
        }
        if from.is_some_and(|from| self.is_martian(vrf, from)) {
            trace.outcome = format!("dropped: {}", Reason::MartianSource.name());
            return trace;
        }
        let (adjacency, outcome) = match generation.forward(group, hash(address, from, seed)) {
            Forward::Via(adjacency) => (Some(*adjacency), "sent"),
            Forward::Connected(port) => {
                trace.next_hop = Some(address.to_string());
                trace.port = Some(self.port_name(usize::from(port.0)));
                match generation.neighbor(port, address) {
                    Some(known) if known.state == AdjacencyState::Reachable => (Some(*known), "sent"),
                    _ => (None, "held: the neighbor has not answered yet"),
                }
            }
            Forward::Incomplete { next_hop } => {
                trace.next_hop = next_hop.gateway.map(|gateway| gateway.to_string());
                (None, "held: the neighbor has not answered yet")
            }
            Forward::Special(Special::Local) => (None, "host"),
            Forward::NoRoute => (None, "dropped: no_route"),
            Forward::Special(Special::Blackhole) => (None, "dropped: blackhole"),
            Forward::Special(Special::Unreachable) => (None, "dropped: unreachable"),
            Forward::Special(Special::Prohibit) => (None, "dropped: prohibited"),
        };
        trace.outcome = outcome.to_owned();
        if let Some(adjacency) = adjacency {
            let [a, b, c, d, e, f, ..] = adjacency.header;
            let mac = crate::packet::ethernet::Mac([a, b, c, d, e, f]);
            trace.mac = Some(mac.to_string());
            trace.mtu = Some(adjacency.mtu);
            trace.port = Some(self.port_name(usize::from(adjacency.port.0)));
            let members =
                label.and_then(|label| self.fib.group(label)).map_or(&[][..], |group| group.members());
            let same = |(key, users): &(&Neighbor, &[NextHop])| {
                key.0 == adjacency.port
                    && self.neighbors.get(key).is_some_and(|entry| entry.mac == Some(mac))
                    && members.iter().any(|member| users.contains(&member.next_hop))
            };
            let neighbor = self.next_hops.iter().find(same).map(|(key, _)| key.1.to_string());
            trace.next_hop = trace.next_hop.take().or(neighbor);
        }
        trace
    }

    /// Whether the router accepts no packet from this address.
    fn is_martian(&self, vrf: VrfId, source: IpAddr) -> bool {
        let facts: Vec<_> = self.ports.iter().map(PortSetup::facts).collect();
        OwnSources::new(&facts).rule_out(vrf, source)
    }
}

/// Why a packet between two addresses is dropped before the lookup.
fn refused(address: IpAddr, from: Option<IpAddr>, class_e: bool) -> Option<Reason> {
    let verdict = match (address, from) {
        (IpAddr::V4(to), from) => {
            let from = match from {
                Some(IpAddr::V4(from)) => from,
                _ => NOBODY,
            };
            let bytes = packet_v4(from, to);
            ipv4_input::ipv4_input(
                &bytes,
                bytes.len(),
                LinkDestination::Unicast,
                0,
                class_e,
                &SourceFilter::default(),
                &mut FamilyBatch::default(),
            )
        }
        (IpAddr::V6(to), from) => {
            let from = match from {
                Some(IpAddr::V6(from)) => from,
                _ => NOBODY_V6,
            };
            let bytes = packet_v6(from, to);
            ipv6_input::ipv6_input(
                &bytes,
                bytes.len(),
                LinkDestination::Unicast,
                0,
                &SourceFilter::default(),
                &mut FamilyBatch::default(),
            )
        }
    };
    match verdict {
        Some(Verdict::Drop(reason)) => Some(reason),
        _ => None,
    }
}

/// Source of packets for which none was named: from RFC 5737 and RFC 3849.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);

fn packet_v4(from: Ipv4Addr, to: Ipv4Addr) -> [u8; ipv4::HEADER] {
    let mut bytes = [0; ipv4::HEADER];
    put(&mut bytes, 0, &[0x45, 0, 0, 20, 0, 0, 0, 0, 64]);
    put(&mut bytes, 12, &from.octets());
    put(&mut bytes, 16, &to.octets());
    let field = checksum::checksum(&bytes);
    put(&mut bytes, 10, &field.to_be_bytes());
    bytes
}

fn packet_v6(from: Ipv6Addr, to: Ipv6Addr) -> [u8; ipv6::HEADER] {
    let mut bytes = [0; ipv6::HEADER];
    put(&mut bytes, 0, &[0x60, 0, 0, 0, 0, 0, 59, 64]);
    put(&mut bytes, 8, &from.octets());
    put(&mut bytes, 24, &to.octets());
    bytes
}

/// The flow hash of a packet between two addresses without ports; from the unspecified address if none is named.
fn hash(address: IpAddr, from: Option<IpAddr>, seed: u64) -> u32 {
    match address {
        IpAddr::V4(to) => {
            let from = match from {
                Some(IpAddr::V4(from)) => from,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            let bytes = packet_v4(from, to);
            ipv4::Ipv4Header::new_checked(&bytes, bytes.len())
                .map_or(0, |header| flow_hash::ipv4(&header, seed))
        }
        IpAddr::V6(to) => {
            let from = match from {
                Some(IpAddr::V6(from)) => from,
                _ => Ipv6Addr::UNSPECIFIED,
            };
            let bytes = packet_v6(from, to);
            ipv6::Ipv6Header::new_checked(&bytes, bytes.len())
                .map_or(0, |header| flow_hash::ipv6(&header, seed))
        }
    }
}
