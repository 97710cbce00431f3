//! Compares what workers read with the control side's records: nothing else would notice a wrong word in a published block.
//!
//! Lookups are a step function of the address that changes at the first address of a prefix and after its last. [`Fib::scrub`] walks these
//! pieces in order, some routes per call. It looks up the first and the last address of each piece in the published generation, and the
//! first of each slot inside (IPv4: /24; IPv6: the dense levels of `trie::shape`), and compares with the longest match of the control side.
//! So every route that is wrong for a packet is found, and every route that should not be there, unless it is longer than a slot and
//! within a piece.
//! [`Fib::scrub_groups`] compares the compiled groups. [`Fib::rebuild`] writes all blocks again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::change::ApplyError;
use crate::fib::Fib;
use crate::generation::Generation;
use crate::trie::{Demand, Family};
use crate::types::{GroupIndex, GroupLabel, VrfId};

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

/// Most lookups of a call, beyond those of its last route: less than a millisecond.
const LOOKUPS: usize = 32 * 1024;

/// First addresses of the slots from `first` to `last`, coarse ones where they fit entirely.
fn slots(v4: bool, first: u128, last: u128) -> impl Iterator<Item = u128> {
    let (coarse, fine) = if v4 { (24, 24) } else { (13, 26) };
    let (coarse, fine) = (1u128 << (128 - coarse), 1u128 << (128 - fine));
    let mut at = first.checked_next_multiple_of(fine);
    std::iter::from_fn(move || {
        let slot = at.filter(|&slot| slot <= last)?;
        let whole = slot % coarse == 0 && last - slot >= coarse - 1;
        at = slot.checked_add(if whole { coarse } else { fine });
        Some(slot)
    })
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
        let (begins, mut next) = family.pieces(at, routes);
        let end = next.map_or(family.last(), |next| next - 1);
        let mut wanted: Vec<(u128, GroupIndex)> = Vec::with_capacity(begins.len() * 3);
        let ends = begins.iter().skip(1).map(|begin| begin - 1).chain([end]);
        for (&first, last) in begins.iter().zip(ends) {
            // Last addresses, not all ones of 128 bits: an IPv4 address has 32.
            let last = last & family.last();
            let group = family.longest(first).map_or(GroupIndex::NO_ROUTE, |(_, group)| group);
            wanted.push((first, group));
            let room = LOOKUPS.saturating_sub(wanted.len());
            let mut inside = slots(v4, first, last);
            wanted.extend(inside.by_ref().take(room.max(1)).map(|slot| (slot, group)));
            if let Some(rest) = inside.next() {
                next = Some(rest);
                break;
            }
            wanted.push((last, group));
        }
        let mut found = vec![GroupIndex::NO_ROUTE; wanted.len()];
        if v4 {
            let addresses: Vec<u32> = wanted.iter().map(|(bits, _)| (bits >> 96) as u32).collect();
            generation.lookup_v4(vrf, &addresses, &mut found);
        } else {
            let addresses: Vec<u128> = wanted.iter().map(|(bits, _)| *bits).collect();
            generation.lookup_v6(vrf, &addresses, &mut found);
        }
        done.compared = wanted.len();
        done.wrong = wanted
            .iter()
            .zip(&found)
            .filter(|((_, wanted), found)| wanted != *found)
            .map(|(&(bits, wanted), &found)| WrongLookup {
                vrf,
                address: if v4 { IpAddr::V4(((bits >> 96) as u32).into()) } else { IpAddr::V6(bits.into()) },
                expected: self.group_label(wanted),
                found: self.group_label(found),
            })
            .collect();
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
