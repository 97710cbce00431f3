//! Snapshot order: groups by label, routes by origin, VRF, family and prefix, the rest by key.
//!
//! A walk can stop at any key and resume later, whatever has changed in between.

use std::cmp::Ordering;
use std::ops::Bound::{Excluded, Included, Unbounded};

use ipnet::IpNet;

use super::arena::{Arena, Slot, halves};
use super::{Context, Table};
use crate::change::ChangeRef;
use crate::record::{Key, Label, OriginId, Value};

impl Table {
    /// All live records in snapshot order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, Value)> + '_ {
        self.slots_after(None).filter_map(|s| Some((self.key(s)?, self.value(s)?)))
    }

    /// The forwarding routes of a VRF after a prefix, in order.
    pub fn routes_of(&self, vrf: u32, after: Option<IpNet>) -> impl Iterator<Item = (IpNet, Label)> + '_ {
        let context = self.context_ids.get(&Context { origin: None, vrf });
        let slots = context.into_iter().flat_map(move |&context| self.routes_after(context, after));
        slots.filter_map(|slot| match self.change(slot)? {
            ChangeRef::Route { prefix, label: Some(label), .. } => Some((prefix, label)),
            _ => None,
        })
    }

    /// Slots of all records after a key, remembered deletions included.
    pub(crate) fn slots_after(&self, after: Option<&Key>) -> impl Iterator<Item = Slot> + '_ {
        let (groups, routes, misc) = match after {
            None => (Some(Unbounded), Some((Unbounded, None)), Some(Unbounded)),
            Some(Key::Group(label)) => (Some(Excluded(*label)), Some((Unbounded, None)), Some(Unbounded)),
            Some(Key::Route { vrf, prefix }) => {
                let context = Context { origin: None, vrf: *vrf };
                (None, Some((Included(context), Some(*prefix))), Some(Unbounded))
            }
            Some(Key::RibRoute { origin, vrf, prefix }) => {
                let context = Context { origin: Some(*origin), vrf: *vrf };
                (None, Some((Included(context), Some(*prefix))), Some(Unbounded))
            }
            Some(other) => (None, None, Some(Excluded(other.clone()))),
        };
        let groups = groups.into_iter().flat_map(|from| self.groups.order.range((from, Unbounded)));
        let groups = groups.map(|(_, &i)| Slot::new(Arena::Group, i));
        let routes = routes.into_iter().flat_map(move |(from, after)| {
            let contexts = self.context_ids.range((from, Unbounded));
            contexts.flat_map(move |(context, &i)| {
                // The prefix to start after belongs to the first context.
                let begins = matches!(from, Included(first) if first == *context);
                self.routes_after(i, after.filter(|_| begins))
            })
        });
        let misc = misc.into_iter().flat_map(|from| self.misc.index.range((from, Unbounded)));
        groups.chain(routes).chain(misc.map(|(_, &i)| Slot::new(Arena::Misc, i)))
    }

    /// Slots of one context's routes after a prefix: IPv4, then IPv6.
    fn routes_after(&self, context: u16, after: Option<IpNet>) -> impl Iterator<Item = Slot> + '_ {
        let (v4, v6) = match &after {
            None => (Some(None), None),
            Some(IpNet::V4(p)) => (Some(Some((u32::from(p.network()), p.prefix_len()))), None),
            Some(IpNet::V6(p)) => (None, Some((halves(p), p.prefix_len()))),
        };
        self.contexts.get(usize::from(context)).into_iter().flat_map(move |entry| {
            let v4 = v4.into_iter().flat_map(|after| entry.v4.after(after));
            v4.map(|i| Slot::new(Arena::V4, i)).chain(entry.v6.after(v6).map(|i| Slot::new(Arena::V6, i)))
        })
    }
}

/// Snapshot order of two keys.
pub(super) fn compare(a: &Key, b: &Key) -> Ordering {
    fn rank(key: &Key) -> (u8, Option<OriginId>, u32) {
        match key {
            Key::Group(_) => (0, None, 0),
            Key::Route { vrf, .. } => (1, None, *vrf),
            Key::RibRoute { origin, vrf, .. } => (1, Some(*origin), *vrf),
            Key::Origin(_) | Key::Opaque(_) => (2, None, 0),
        }
    }
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (
            Key::Route { prefix: p, .. } | Key::RibRoute { prefix: p, .. },
            Key::Route { prefix: q, .. } | Key::RibRoute { prefix: q, .. },
        ) => (p.addr().is_ipv6(), p.network(), p.prefix_len()).cmp(&(
            q.addr().is_ipv6(),
            q.network(),
            q.prefix_len(),
        )),
        _ => a.cmp(b),
    })
}
