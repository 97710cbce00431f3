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
    /// Its next hops that are in use; none: no one is.
    group: Option<Arc<Group>>,
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
        let lead = match lead {
            Lead::Hops(hops) => Lead::Hops(hops.into()),
            Lead::Special(special) => Lead::Special(special),
        };
        let group = value(&lead, ports).map(Group::new);
        self.insert(Content { lead, metric }, group)
    }

    /// A new path, with one reference. It takes the place of an earlier one with this content.
    fn insert(&mut self, content: Content<Box<[PathHop]>>, group: Option<Arc<Group>>) -> PathId {
        let slot = Some(Slot { content: content.clone(), group, users: 1 });
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
            if self.index.get(&slot.content) == Some(&id) {
                self.index.remove(&slot.content);
            }
            *place = None;
            self.free.push(id);
        }
    }

    /// The state of an interface has changed: paths by it whose next hops in use are others now, each with the path that replaces it. The
    /// caller owns a reference to the latter.
    pub fn replace(&mut self, interface: u32, ports: &Ports) -> HashMap<PathId, PathId> {
        let mut replaced = HashMap::new();
        for id in 0..self.slots.len() as PathId {
            let Some(Some(slot)) = self.slots.get(id as usize) else { continue };
            let Lead::Hops(hops) = &slot.content.lead else { continue };
            // One that was replaced before belongs to routes that the RIB will hear of.
            let current = self.index.get(&slot.content) == Some(&id);
            if !current || hops.iter().all(|hop| hop.interface != interface) {
                continue;
            }
            let group = value(&slot.content.lead, ports).map(Group::new);
            if group != slot.group {
                let content = slot.content.clone();
                replaced.insert(id, self.insert(content, group));
            }
        }
        replaced
    }

    /// The path that has replaced this one, or itself.
    pub fn current(&self, id: PathId) -> PathId {
        let slot = self.slots.get(id as usize).and_then(Option::as_ref);
        slot.and_then(|slot| self.index.get(&slot.content)).copied().unwrap_or(id)
    }

    /// Group and metric of a path; none: no next hop is in use.
    pub fn get(&self, id: PathId) -> Option<(Arc<Group>, u32)> {
        let slot = self.slots.get(id as usize)?.as_ref()?;
        Some((slot.group.clone()?, slot.content.metric))
    }

    /// Whether one of its next hops is in use, or it needs none.
    pub fn is_usable(&self, id: PathId) -> bool {
        self.slots.get(id as usize).and_then(Option::as_ref).is_some_and(|slot| slot.group.is_some())
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

/// What the RIB gets: the next hops that are in use. None: there is none.
fn value(lead: &Lead<Box<[PathHop]>>, ports: &Ports) -> Option<GroupValue> {
    let hops = match lead {
        Lead::Special(Special::Blackhole) => return Some(GroupValue::Blackhole),
        Lead::Special(Special::Unreachable) => return Some(GroupValue::Unreachable),
        Lead::Special(Special::Prohibit) => return Some(GroupValue::Prohibit),
        Lead::Hops(hops) => hops,
    };
    let in_use = ports.in_use(hops);
    let hop = |hop: &PathHop| HopValue {
        gateway: hop.gateway,
        port: hop.port.and_then(|port| ports.name(port).cloned()),
        weight: hop.weight,
    };
    (!in_use.is_empty()).then(|| GroupValue::Hops(in_use.iter().map(hop).collect()))
}
