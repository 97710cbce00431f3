//! Compares what workers read with the control side's records: nothing else would notice a wrong word in a published block.
//!
//! Lookups are a step function of the address that changes at the first address of a prefix and after its last. [`Fib::scrub`] walks these
//! pieces in order, some routes per call: those of the control side's routes, cut further where the result of the published blocks changes
//! (`trie::extent`). It looks up the first and the last address of each piece as workers do, and compares with the longest match of the
//! control side. So every route that is wrong for a packet is found, and every route that should not be there, whatever its length.
//! [`Fib::scrub_groups`] compares the compiled groups; what next hops and connected hosts lead to is compared by the caller, who knows the
//! links ([`Fib::adjacency_in`], [`Generation::neighbors`]). [`Fib::rebuild`] writes all blocks again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::change::ApplyError;
use crate::fib::Fib;
use crate::generation::Generation;
use crate::trie::{Demand, Family};
use crate::types::{Adjacency, GroupIndex, GroupLabel, NextHop, PortId, VrfId};

/// Where the next call of [`Fib::scrub`] continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubCursor {
    vrf: VrfId,
    v4: bool,
    /// Left-aligned bits.
    at: u128,
}

impl Default for ScrubCursor {
    fn default() -> Self {
        ScrubCursor { vrf: VrfId::DEFAULT, v4: true, at: 0 }
    }
}

/// An address whose lookup has another result than the control side's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLookup {
    /// VRF.
    pub vrf: VrfId,
    /// The address.
    pub address: IpAddr,
    /// The group by the control side's records; none: no route.
    pub expected: Option<GroupLabel>,
    /// The group that workers find; none: no route, or a group that does not exist.
    pub found: Option<GroupLabel>,
}

/// Result of a call of [`Fib::scrub`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to continue; none at the end of the last VRF.
    pub next: Option<ScrubCursor>,
    /// Lookups compared.
    pub compared: usize,
    /// Those with another result.
    pub wrong: Vec<WrongLookup>,
}

/// Most runs of the published blocks of a call: some milliseconds.
const RUNS: usize = 32 * 1024;

/// Where the result of the published blocks changes.
struct Changes {
    begins: Vec<u128>,
    /// Addresses whose way through the blocks leads out of them: no lookup may go there.
    broken: Vec<u128>,
    /// The first address that was not looked at.
    next: Option<u128>,
}

/// The changes from `at` to `end`, as far as a call goes.
fn changes(generation: &Generation, vrf: VrfId, v4: bool, at: u128, end: u128) -> Changes {
    let mut found = Changes { begins: Vec::new(), broken: Vec::new(), next: Some(at) };
    let mut before = None;
    for _ in 0..RUNS {
        let Some(begin) = found.next.filter(|next| *next <= end) else { return found };
        let run = generation.run(vrf, v4, begin);
        match run.value {
            None => found.broken.push(begin),
            value if before != Some(value) => found.begins.push(begin),
            _ => {}
        }
        before = Some(run.value);
        found.next = run.last.checked_add(1);
    }
    found
}

impl Family {
    /// Where pieces begin from `at` on, for some routes, and where the next call continues; none: this was the rest.
    fn pieces(&self, at: u128, routes: usize) -> (BTreeSet<u128>, Option<u128>) {
        let mut begins = BTreeSet::from([at]);
        let after = |bits: u128, len: u8| bits.checked_add(1u128.checked_shl(128 - u32::from(len))?);
        let width = self.width();
        for len in 1..=width {
            let bits = at & u128::MAX << (128 - u32::from(len));
            if self.get(bits, len).is_some() {
                begins.extend(after(bits, len));
            }
        }
        let mut next = None;
        // More than there can be at one address, so that each call proceeds.
        let page = self.page((at, 0), routes.max(usize::from(width) + 2));
        if page.len() >= routes.max(usize::from(width) + 2) {
            next = page.last().map(|(bits, ..)| *bits);
        }
        for (bits, len, _) in page {
            begins.insert(bits);
            begins.extend(after(bits, len));
        }
        begins.retain(|&begin| begin >= at && next.is_none_or(|next| begin < next));
        (begins, next)
    }
}

impl Fib {
    /// Compares a part of a published generation with the staged state: some `routes` from the cursor on. `generation` must be the staged
    /// state, which [`Fib::is_staged_as`] tells.
    pub fn scrub(&self, generation: &Generation, cursor: ScrubCursor, routes: usize) -> Scrubbed {
        let ScrubCursor { vrf, v4, at } = cursor;
        let mut done = Scrubbed::default();
        let Some(table) = self.table(vrf) else {
            done.next = self.vrf_after(vrf).map(|vrf| ScrubCursor { vrf, ..ScrubCursor::default() });
            return done;
        };
        let family = table.family(v4);
        let (mut begins, mut next) = family.pieces(at, routes);
        let mut end = next.map_or(u128::MAX, |next| next - 1);
        let published = changes(generation, vrf, v4, at, end);
        if let Some(rest) = published.next.filter(|rest| *rest <= end) {
            (next, end) = (Some(rest), rest - 1);
            begins.retain(|begin| *begin <= end);
        }
        begins.extend(&published.begins);
        let mut wanted: Vec<(u128, GroupIndex)> = Vec::with_capacity(begins.len() * 2);
        let ends = begins.iter().skip(1).map(|begin| begin - 1).chain([end]);
        for (&first, last) in begins.iter().zip(ends) {
            let group = family.longest(first).map_or(GroupIndex::NO_ROUTE, |(_, group)| group);
            // Last addresses, not all ones of 128 bits: an IPv4 address has 32.
            wanted.extend([(first, group), (last & family.last(), group)]);
        }
        if !published.broken.is_empty() {
            let broken = |bits: u128| generation.run(vrf, v4, bits).value.is_none();
            wanted.retain(|(bits, _)| !broken(*bits));
        }
        let mut found = vec![GroupIndex::NO_ROUTE; wanted.len()];
        if v4 {
            let addresses: Vec<u32> = wanted.iter().map(|(bits, _)| (bits >> 96) as u32).collect();
            generation.lookup_v4(vrf, &addresses, &mut found);
        } else {
            let addresses: Vec<u128> = wanted.iter().map(|(bits, _)| *bits).collect();
            generation.lookup_v6(vrf, &addresses, &mut found);
        }
        done.compared = wanted.len() + published.broken.len();
        let wrong = |bits: u128, wanted, found| WrongLookup {
            vrf,
            address: if v4 { IpAddr::V4(((bits >> 96) as u32).into()) } else { IpAddr::V6(bits.into()) },
            expected: self.group_label(wanted),
            found: self.group_label(found),
        };
        let looked_up = wanted.iter().zip(&found).filter(|((_, wanted), found)| wanted != *found);
        done.wrong = looked_up.map(|(&(bits, wanted), &found)| wrong(bits, wanted, found)).collect();
        done.wrong.extend(published.broken.iter().map(|&bits| {
            let wanted = family.longest(bits).map_or(GroupIndex::NO_ROUTE, |(_, group)| group);
            wrong(bits, wanted, GroupIndex::NO_ROUTE)
        }));
        done.next = match next {
            Some(at) => Some(ScrubCursor { at, ..cursor }),
            None if v4 => Some(ScrubCursor { v4: false, at: 0, ..cursor }),
            None => self.vrf_after(vrf).map(|vrf| ScrubCursor { vrf, ..ScrubCursor::default() }),
        };
        done
    }

    fn vrf_after(&self, vrf: VrfId) -> Option<VrfId> {
        self.vrfs().find(|other| *other > vrf)
    }

    /// The groups whose compiled form, which workers read, is not that of their content. `generation` must be the staged state.
    pub fn scrub_groups(&self, generation: &Generation) -> Vec<GroupLabel> {
        self.groups_wrong_in(generation)
    }

    /// Compiles a group again, after [`Fib::scrub_groups`] named it. Its next hops must be resolved again.
    pub fn recompile(&mut self, label: GroupLabel) {
        self.groups_recompile(label);
    }

    /// Where workers send packets to a next hop in use. Whether that is right, only the caller knows, who set it with [`Fib::set_adjacency`].
    /// `generation` must be the staged state.
    pub fn adjacency_in<'a>(&self, generation: &'a Generation, next_hop: &NextHop) -> Option<&'a Adjacency> {
        self.next_hop_in(generation, next_hop)
    }

    /// Rebuilds the table of directly connected hosts, after a comparison with [`Generation::neighbors`] found a difference.
    pub fn replace_neighbors(&mut self, all: impl IntoIterator<Item = (PortId, IpAddr, Adjacency)>) {
        self.neighbors_anew(all);
    }

    /// Writes all blocks of all tries again, as after a batch that touched every route: some 0.2 s for a full Internet table.
    ///
    /// # Errors
    /// [`ApplyError::TrieMemory`] if there is no room for the blocks beside the present ones; nothing changes then.
    pub fn rebuild(&mut self) -> Result<(), ApplyError> {
        self.refresh_tries();
        let mut demand = Demand::new();
        self.encoder_mut().demand_uniform(&mut demand);
        if let Err(error) = self.check_room_for(demand) {
            self.settle_tries();
            return Err(error);
        }
        self.encode_tries_anew();
        Ok(())
    }
}
