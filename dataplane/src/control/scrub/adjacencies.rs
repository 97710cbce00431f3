//! Compares where workers send packets to next hops and connected hosts with what the links say: the neighbor table, the ports and their state.
//!
//! A wrong byte of a MAC address loses all packets to a gateway, and no digest and no trie would show it. Each comparison is one slice: a
//! lookup for each next hop, two for each host.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Adjacency, Generation, NextHop, PortId};

use super::super::Control;
use super::super::adjacencies::NOWHERE;
use crate::packet::ethernet::Mac;

impl Control {
    /// Next hops.
    pub(super) fn scrub_next_hops(&mut self, generation: &Generation) {
        let neighbors = self.next_hops.iter().flat_map(|(key, users)| users.iter().map(|user| (*user, *key)));
        let neighbors: HashMap<NextHop, _> = neighbors.collect();
        let mut wrong = Vec::new();
        let mut count = 0;
        for next_hop in self.fib.next_hops().filter(|next_hop| next_hop.gateway.is_some()) {
            let expected = match neighbors.get(&next_hop) {
                Some(key) => {
                    let mac = self.neighbors.get(key).and_then(|entry| entry.mac);
                    self.adjacency(key.0, mac).unwrap_or(NOWHERE)
                }
                None => NOWHERE,
            };
            count += 1;
            let found = self.fib.adjacency_in(generation, &next_hop);
            if found != Some(&expected) {
                let (wanted, found) = (describe(Some(&expected)), describe(found));
                wrong.push((
                    next_hop,
                    expected,
                    format!("{next_hop:?}: the links say {wanted}, workers read {found}"),
                ));
            }
        }
        self.scrubber.tries.compared(count);
        for (next_hop, expected, text) in wrong {
            self.scrubber.tries.difference(text);
            if self.fib.set_adjacency(next_hop, expected) {
                self.scrubber.tries.mended(1);
                self.dirty = true;
            }
        }
    }

    /// Connected hosts.
    pub(super) fn scrub_hosts(&mut self, generation: &Generation) {
        let known = self.neighbors.iter().filter_map(|(key, entry)| Some((*key, entry.mac?)));
        let expected =
            known.filter_map(|(key, mac): (_, Mac)| Some((key, self.adjacency(key.0, Some(mac))?)));
        let expected: HashMap<(PortId, IpAddr), Adjacency> = expected.collect();
        let mut wrong: HashSet<(PortId, IpAddr)> = HashSet::new();
        wrong.extend(expected.keys().filter(|(port, address)| {
            generation.neighbor(*port, *address) != expected.get(&(*port, *address))
        }));
        // One that no lookup finds may be there nevertheless, and one that nobody knows.
        let all = generation.neighbors().map(|(port, address, found)| ((port, address), found));
        wrong.extend(all.filter(|(key, found)| expected.get(key) != Some(*found)).map(|(key, _)| key));
        let entries = generation.neighbors().count();
        self.scrubber.tries.compared(expected.len() + entries);
        if wrong.is_empty() && entries == expected.len() {
            return;
        }
        for key in &wrong {
            let wanted = describe(expected.get(key));
            let found = describe(generation.neighbor(key.0, key.1));
            let text =
                format!("host {} on port {}: the links say {wanted}, workers read {found}", key.1, key.0.0);
            self.scrubber.tries.difference(text);
        }
        if wrong.is_empty() {
            let text = format!("{} connected hosts, workers have {entries}", expected.len());
            self.scrubber.tries.difference(text);
        }
        self.fib.replace_neighbors(expected.iter().map(|((port, address), to)| (*port, *address, *to)));
        self.scrubber.tries.mended(wrong.len().max(1));
        self.dirty = true;
    }
}

/// Everything of an adjacency, for the log.
fn describe(adjacency: Option<&Adjacency>) -> String {
    let Some(Adjacency { port, state, header, mtu }) = adjacency else { return "nothing".into() };
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    let (to, from) = (Mac([a, b, c, d, e, f]), Mac([g, h, i, j, k, l]));
    format!("{state:?} by port {} from {from} to {to}, MTU {mtu}", port.0)
}
