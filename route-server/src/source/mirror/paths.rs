//! Paths shared by routes: next hops and metric, stored once and reference-counted.

use std::sync::Arc;

use fibcast_sync_proto::{GroupValue, HopValue};
use hashbrown::{Equivalent, HashMap};

use super::ports::{PathHop, Ports};
use crate::source::outlet::Group;
use fibcast_netlink::Special;

/// Where a path leads: to a sorted list of next hops, owned or borrowed, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lead<H> {
    /// These next hops, sorted.
    Hops(H),
    /// No next hop.
    Special(Special),
}

/// With borrowed next hops, it finds itself with owned ones: both have the same hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content<H> {
    lead: Lead<H>,
    metric: u32,
}

impl Equivalent<Content<Box<[PathHop]>>> for Content<&[PathHop]> {
    fn equivalent(&self, key: &Content<Box<[PathHop]>>) -> bool {
        self.metric == key.metric
            && match (&self.lead, &key.lead) {
                (Lead::Hops(hops), Lead::Hops(others)) => **hops == **others,
                (Lead::Special(special), Lead::Special(other)) => special == other,
                _ => false,
            }
    }
}

#[derive(Debug)]
struct Slot {
    content: Content<Box<[PathHop]>>,
    group: Arc<Group>,
    users: u32,
}

/// Index of a path in [`Paths`]. Each holder owns one reference, and returns it.
pub type PathId = u32;

/// All paths in use.
#[derive(Debug, Default)]
pub struct Paths {
    index: HashMap<Content<Box<[PathHop]>>, PathId>,
    slots: Vec<Option<Slot>>,
    free: Vec<PathId>,
}

impl Paths {
    /// The path with this content, with one more reference.
    pub fn take(&mut self, lead: Lead<&[PathHop]>, metric: u32, ports: &Ports) -> PathId {
        if let Some(&id) = self.index.get(&Content { lead, metric }) {
            self.again(id);
            return id;
        }
        let (lead, value) = match lead {
            Lead::Hops(hops) => (Lead::Hops(hops.into()), value(hops, ports)),
            Lead::Special(special) => {
                let value = match special {
                    Special::Blackhole => GroupValue::Blackhole,
                    Special::Unreachable => GroupValue::Unreachable,
                    Special::Prohibit => GroupValue::Prohibit,
                };
                (Lead::Special(special), value)
            }
        };
        let content = Content { lead, metric };
        let slot = Some(Slot { content: content.clone(), group: Group::new(value), users: 1 });
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id as usize) {
                    *place = slot;
                }
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as PathId
            }
        };
        self.index.insert(content, id);
        id
    }

    /// Adds a reference to a path in use.
    pub fn again(&mut self, id: PathId) {
        if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
            slot.users += 1;
        }
    }

    /// Returns a reference.
    pub fn give_back(&mut self, id: PathId) {
        let Some(place) = self.slots.get_mut(id as usize) else { return };
        let Some(slot) = place else { return };
        slot.users -= 1;
        if slot.users == 0 {
            self.index.remove(&slot.content);
            *place = None;
            self.free.push(id);
        }
    }

    /// Group and metric of a path.
    pub fn get(&self, id: PathId) -> Option<(Arc<Group>, u32)> {
        let slot = self.slots.get(id as usize)?.as_ref()?;
        Some((slot.group.clone(), slot.content.metric))
    }

    /// Number of next hops of a path.
    pub fn hops(&self, id: PathId) -> usize {
        match self.slots.get(id as usize).and_then(Option::as_ref).map(|slot| &slot.content.lead) {
            Some(Lead::Hops(hops)) => hops.len(),
            _ => 0,
        }
    }

    /// Number of paths.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

fn value(hops: &[PathHop], ports: &Ports) -> GroupValue {
    let hop = |hop: &PathHop| HopValue {
        gateway: hop.gateway,
        port: hop.port.and_then(|port| ports.name(port).cloned()),
        weight: hop.weight,
    };
    GroupValue::Hops(hops.iter().map(hop).collect())
}
