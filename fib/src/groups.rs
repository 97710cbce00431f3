//! Groups and their next hops: the control side's records and the compiled form that a generation holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::cow::CowVec;
use crate::ecmp::Buckets;
use crate::generation::Generation;
use crate::types::{
    Adjacency, AdjacencyState, Group, GroupIndex, GroupLabel, NextHop, PortId, SingleHop, Special,
};

/// A group as a worker reads it: next hops by their index.
#[derive(Clone, Debug, Default)]
pub(crate) enum Compiled {
    /// No group, or one that was deleted.
    #[default]
    None,
    /// All traffic to one next hop.
    One(u32),
    /// Shared among several next hops.
    Many(Arc<Many>),
    /// Not forwarded.
    Special(Special),
}

/// The members of a group and how flows are shared among them.
#[derive(Debug)]
pub(crate) struct Many {
    pub(crate) members: Box<[u32]>,
    pub(crate) buckets: Buckets,
}

/// A next hop and where its packets go.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) next_hop: NextHop,
    pub(crate) adjacency: Adjacency,
}

impl Default for Slot {
    fn default() -> Self {
        let adjacency =
            Adjacency { port: PortId(0), state: AdjacencyState::Incomplete, header: [0; 12], mtu: 0 };
        Slot { next_hop: NextHop { gateway: None, port: None }, adjacency }
    }
}

#[derive(Debug)]
struct GroupEntry {
    label: GroupLabel,
    /// None between the reservation of the index and the commit of the batch that brought the group.
    content: Option<Group>,
    routes: usize,
}

#[derive(Debug)]
struct Used {
    index: u32,
    members: usize,
    /// Groups whose only member this is.
    alone: BTreeSet<u32>,
}

/// The control side's records of groups and next hops, with the staged compiled forms.
#[derive(Debug)]
pub(crate) struct Groups {
    labels: HashMap<GroupLabel, GroupIndex>,
    entries: Vec<Option<GroupEntry>>,
    free: Vec<u32>,
    next_hops: HashMap<NextHop, Used>,
    free_next_hops: Vec<u32>,
    next_hop_slots: u32,
    new_next_hops: Vec<NextHop>,
    pub(crate) compiled: CowVec<Compiled>,
    pub(crate) slots: CowVec<Slot>,
    /// By group: the precomputed answer for groups of one next hop, derived from `compiled` and `slots`.
    pub(crate) single_hop: CowVec<SingleHop>,
}

/// The form of a group that workers read, from the indices of its next hops.
fn compile(group: &Group, indices: Vec<u32>) -> Compiled {
    match group {
        Group::Special(special) => Compiled::Special(*special),
        Group::Hops(members) => match indices.as_slice() {
            [one] => Compiled::One(*one),
            _ => Compiled::Many(Arc::new(Many {
                members: indices.into_boxed_slice(),
                buckets: Buckets::fill(members),
            })),
        },
    }
}

/// The precomputed answer of a group with this next hop alone.
fn single_hop_of(slot: &Slot) -> SingleHop {
    let reachable = slot.next_hop.gateway.is_some() && slot.adjacency.state == AdjacencyState::Reachable;
    if reachable { SingleHop::from(&slot.adjacency) } else { SingleHop::default() }
}

impl Groups {
    pub(crate) fn new() -> Self {
        let mut compiled = CowVec::new();
        compiled.set(GroupIndex::NO_ROUTE.0, Compiled::None);
        Groups {
            labels: HashMap::new(),
            // Index 0 is NO_ROUTE and never changes.
            entries: vec![None],
            free: Vec::new(),
            next_hops: HashMap::new(),
            free_next_hops: Vec::new(),
            next_hop_slots: 0,
            new_next_hops: Vec::new(),
            compiled,
            slots: CowVec::new(),
            single_hop: CowVec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn index(&self, label: GroupLabel) -> Option<GroupIndex> {
        self.labels.get(&label).copied()
    }

    pub(crate) fn label(&self, index: GroupIndex) -> Option<GroupLabel> {
        self.entry(index).map(|entry| entry.label)
    }

    pub(crate) fn content(&self, label: GroupLabel) -> Option<&Group> {
        self.entry(self.index(label)?)?.content.as_ref()
    }

    pub(crate) fn routes(&self, label: GroupLabel) -> usize {
        self.index(label).and_then(|index| self.entry(index)).map_or(0, |entry| entry.routes)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupLabel, &Group, usize)> {
        self.entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.content.as_ref().map(|content| (entry.label, content, entry.routes)))
    }

    /// Reserves an index for a label before its content is committed.
    pub(crate) fn reserve(&mut self, label: GroupLabel) -> GroupIndex {
        if let Some(index) = self.index(label) {
            return index;
        }
        let entry = Some(GroupEntry { label, content: None, routes: 0 });
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.entries.get_mut(index as usize) {
                    *slot = entry;
                }
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.labels.insert(label, GroupIndex(index));
        GroupIndex(index)
    }

    /// Adds `by` to a group's route count.
    pub(crate) fn count(&mut self, index: GroupIndex, by: isize) {
        if let Some(Some(entry)) = self.entries.get_mut(index.0 as usize) {
            entry.routes = entry.routes.saturating_add_signed(by);
        }
    }

    /// Writes a group's content; returns whether it differs from the previous content.
    pub(crate) fn commit(&mut self, label: GroupLabel, group: &Group) -> bool {
        let index = self.reserve(label);
        let Some(Some(entry)) = self.entries.get_mut(index.0 as usize) else { return false };
        if entry.content.as_ref() == Some(group) {
            return false;
        }
        let before = entry.content.replace(group.clone());
        // Use before release: a next hop that stays must not lose its slot in between.
        let indices: Vec<u32> =
            group.members().iter().map(|member| self.use_next_hop(member.next_hop)).collect();
        self.release(before.as_ref(), index);
        self.compiled.set(index.0, compile(group, indices));
        if let [member] = group.members()
            && let Some(used) = self.next_hops.get_mut(&member.next_hop)
        {
            used.alone.insert(index.0);
        }
        self.refresh_single_hop(index.0);
        true
    }

    /// The groups whose compiled form is not that of their content.
    pub(crate) fn wrong_in(&self, generation: &Generation) -> Vec<GroupLabel> {
        let right = |index: u32, group: &Group| {
            let members = group.members();
            let known: Option<Vec<u32>> =
                members.iter().map(|m| self.next_hops.get(&m.next_hop).map(|used| used.index)).collect();
            let Some(known) = known else { return false };
            let slots = members.iter().zip(&known);
            let slots = slots.map(|(member, &at)| (member, generation.slots.get(at), self.slots.get(at)));
            let mut slots = slots.map(|(member, published, staged)| {
                published.is_some_and(|slot| {
                    slot.next_hop == member.next_hop
                        && staged.is_some_and(|staged| staged.adjacency == slot.adjacency)
                })
            });
            let single = |at: u32| generation.slots.get(at).map(single_hop_of).unwrap_or_default();
            let found = generation.groups.get(index).unwrap_or(&Compiled::None);
            let expected_single = match found {
                Compiled::One(at) => single(*at),
                _ => SingleHop::default(),
            };
            slots.all(|right| right)
                && generation.single_hop.get(index).copied().unwrap_or_default() == expected_single
                && match (found, compile(group, known)) {
                    (Compiled::One(found), Compiled::One(wanted)) => *found == wanted,
                    (Compiled::Special(found), Compiled::Special(wanted)) => *found == wanted,
                    (Compiled::Many(found), Compiled::Many(wanted)) => {
                        found.members == wanted.members && found.buckets == wanted.buckets
                    }
                    _ => false,
                }
        };
        let all = (0u32..).zip(&self.entries).filter_map(|(index, entry)| Some((index, entry.as_ref()?)));
        all.filter(|(index, entry)| entry.content.as_ref().is_some_and(|content| !right(*index, content)))
            .map(|(_, entry)| entry.label)
            .collect()
    }

    /// Writes the compiled form of a group again. Next hops whose slot was wrong are reported as new.
    pub(crate) fn recompile(&mut self, label: GroupLabel) {
        let Some(index) = self.index(label) else { return };
        let Some(group) = self.content(label).cloned() else { return };
        let mut indices = Vec::new();
        for member in group.members() {
            let Some(at) = self.next_hops.get(&member.next_hop).map(|used| used.index) else { return };
            if self.slots.get(at).is_none_or(|slot| slot.next_hop != member.next_hop) {
                self.slots.set(at, Slot { next_hop: member.next_hop, ..Slot::default() });
                self.new_next_hops.push(member.next_hop);
            }
            indices.push(at);
        }
        self.compiled.set(index.0, compile(&group, indices));
        self.single_hop.set(index.0, SingleHop::default());
        self.refresh_single_hop(index.0);
    }

    /// Releases the next hops of a group's previous content.
    fn release(&mut self, content: Option<&Group>, index: GroupIndex) {
        let members = content.map(Group::members).unwrap_or_default();
        if let [member] = members
            && let Some(used) = self.next_hops.get_mut(&member.next_hop)
        {
            used.alone.remove(&index.0);
        }
        for member in members {
            self.release_next_hop(&member.next_hop);
        }
    }

    /// Updates the precomputed answer of a group if it is out of date.
    fn refresh_single_hop(&mut self, index: u32) {
        let slot = match self.compiled.get(index) {
            Some(Compiled::One(next_hop)) => self.slots.get(*next_hop),
            _ => None,
        };
        let single_hop = slot.map(single_hop_of).unwrap_or_default();
        if self.single_hop.get(index).copied().unwrap_or_default() != single_hop {
            self.single_hop.set(index, single_hop);
        }
    }

    /// Deletes a group, or cancels a reservation.
    pub(crate) fn delete(&mut self, label: GroupLabel) -> bool {
        let Some(index) = self.labels.remove(&label) else { return false };
        let Some(entry) = self.entries.get_mut(index.0 as usize).and_then(Option::take) else { return false };
        self.free.push(index.0);
        if entry.content.is_some() {
            self.release(entry.content.as_ref(), index);
            self.compiled.set(index.0, Compiled::None);
            self.refresh_single_hop(index.0);
        }
        true
    }

    /// Next hops that at least one group uses.
    pub(crate) fn next_hops(&self) -> impl Iterator<Item = NextHop> {
        self.next_hops.keys().copied()
    }

    /// Next hops that came into use since the last call and are still in use.
    pub(crate) fn take_new_next_hops(&mut self) -> Vec<NextHop> {
        let mut new = std::mem::take(&mut self.new_next_hops);
        new.retain(|next_hop| self.next_hops.contains_key(next_hop));
        new
    }

    pub(crate) fn adjacency(&self, next_hop: &NextHop) -> Option<&Adjacency> {
        self.next_hops.get(next_hop).and_then(|used| self.slots.get(used.index)).map(|slot| &slot.adjacency)
    }

    /// What workers read of a next hop in use; none: no group uses it.
    pub(crate) fn adjacency_in<'a>(
        &self,
        generation: &'a Generation,
        next_hop: &NextHop,
    ) -> Option<&'a Adjacency> {
        let used = self.next_hops.get(next_hop)?;
        generation.slots.get(used.index).map(|slot| &slot.adjacency)
    }

    /// Damages what workers read of a next hop: its slot, or the copies in groups of it alone.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn corrupt(
        &mut self,
        next_hop: NextHop,
        damage: impl FnOnce(&mut Adjacency),
        copies: bool,
    ) -> bool {
        let Some(used) = self.next_hops.get(&next_hop) else { return false };
        let Some(mut slot) = self.slots.get(used.index).cloned() else { return false };
        damage(&mut slot.adjacency);
        if copies {
            used.alone.iter().for_each(|index| self.single_hop.set(*index, single_hop_of(&slot)));
        } else {
            self.slots.set(used.index, slot);
        }
        true
    }

    /// Returns whether anything changed. A next hop that no group uses changes nothing.
    pub(crate) fn set_adjacency(&mut self, next_hop: NextHop, adjacency: Adjacency) -> bool {
        let Some(used) = self.next_hops.get(&next_hop) else { return false };
        if self.slots.get(used.index).is_some_and(|slot| slot.adjacency == adjacency) {
            return false;
        }
        self.slots.set(used.index, Slot { next_hop, adjacency });
        let alone: Vec<u32> = used.alone.iter().copied().collect();
        alone.into_iter().for_each(|index| self.refresh_single_hop(index));
        true
    }

    pub(crate) fn memory(&self) -> usize {
        self.labels.allocation_size()
            + self.next_hops.allocation_size()
            + self.entries.capacity() * size_of::<Option<GroupEntry>>()
    }

    fn entry(&self, index: GroupIndex) -> Option<&GroupEntry> {
        self.entries.get(index.0 as usize)?.as_ref()
    }

    fn use_next_hop(&mut self, next_hop: NextHop) -> u32 {
        if let Some(used) = self.next_hops.get_mut(&next_hop) {
            used.members += 1;
            return used.index;
        }
        let index = self.free_next_hops.pop().unwrap_or_else(|| {
            self.next_hop_slots += 1;
            self.next_hop_slots - 1
        });
        self.next_hops.insert(next_hop, Used { index, members: 1, alone: BTreeSet::new() });
        self.new_next_hops.push(next_hop);
        self.slots.set(index, Slot { next_hop, ..Slot::default() });
        index
    }

    fn release_next_hop(&mut self, next_hop: &NextHop) {
        let Some(used) = self.next_hops.get_mut(next_hop) else { return };
        used.members -= 1;
        if used.members == 0 {
            self.free_next_hops.push(used.index);
            self.next_hops.remove(next_hop);
        }
    }
}
