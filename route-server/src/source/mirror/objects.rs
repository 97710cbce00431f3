//! Next-hop objects: routes refer to them by id; they may be defined after their users, and redefined.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::paths::{Lead, PathId, Paths};
use super::policy::Skip;
use super::ports::{PathHop, Ports};
use fibcast_netlink::{Definition, Hop, Special};

/// Most objects of one sender; real ones have some ten thousand.
const MOST: usize = 1 << 20;

/// Resolution of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// It, or a member, is not defined yet.
    Unknown,
    /// It cannot be used.
    Unusable(Skip),
    /// A path, of which the object holds one reference.
    Path(PathId),
}

#[derive(Debug)]
struct Object {
    definition: Option<Definition>,
    resolved: Resolved,
    /// Routes that refer to it.
    users: u32,
    /// Groups that have it as a member.
    groups: BTreeSet<u32>,
}

/// All objects that are defined or referred to.
#[derive(Debug, Default)]
pub struct Objects {
    all: HashMap<u32, Object>,
    /// Objects with users whose resolution has changed.
    changed: HashSet<u32>,
    hops: Vec<PathHop>,
}

impl Objects {
    fn place(&mut self, id: u32) -> &mut Object {
        self.all.entry(id).or_insert_with(|| Object {
            definition: None,
            resolved: Resolved::Unknown,
            users: 0,
            groups: BTreeSet::new(),
        })
    }

    /// Resolution of an object.
    pub fn resolved(&self, id: u32) -> Resolved {
        self.all.get(&id).map_or(Resolved::Unknown, |object| object.resolved)
    }

    /// A route refers to it now.
    pub fn use_by_route(&mut self, id: u32) {
        self.place(id).users += 1;
    }

    /// A route refers to it no longer.
    pub fn unused_by_route(&mut self, id: u32) {
        if let Some(object) = self.all.get_mut(&id) {
            object.users = object.users.saturating_sub(1);
        }
        self.tidy(id);
    }

    /// Defines or redefines it. False: there are too many.
    pub fn define(&mut self, id: u32, definition: Definition, paths: &mut Paths, ports: &mut Ports) -> bool {
        if self.all.len() >= MOST && !self.all.contains_key(&id) {
            return false;
        }
        self.redefine(id, Some(definition), paths, ports);
        true
    }

    /// Its definition was deleted.
    pub fn undefine(&mut self, id: u32, paths: &mut Paths, ports: &mut Ports) {
        if self.all.contains_key(&id) {
            self.redefine(id, None, paths, ports);
        }
    }

    fn redefine(&mut self, id: u32, new: Option<Definition>, paths: &mut Paths, ports: &mut Ports) {
        let old = std::mem::replace(&mut self.place(id).definition, new.clone());
        if old == new {
            return;
        }
        for (member, _) in members(old.as_ref()) {
            if let Some(object) = self.all.get_mut(member) {
                object.groups.remove(&id);
            }
            self.tidy(*member);
        }
        for (member, _) in members(new.as_ref()) {
            self.place(*member).groups.insert(id);
        }
        self.resolve(id, paths, ports);
        let groups: Vec<u32> =
            self.all.get(&id).map(|o| o.groups.iter().copied().collect()).unwrap_or_default();
        for group in groups {
            self.resolve(group, paths, ports);
        }
        self.tidy(id);
    }

    /// The state of an interface has changed: resolves the objects by it, and the groups of these, again.
    pub fn interface_changed(&mut self, interface: u32, paths: &mut Paths, ports: &mut Ports) {
        let by_it = |object: &Object| matches!(&object.definition, Some(Definition::Hop(hop)) if hop.interface == interface);
        let concerned: BTreeSet<u32> = self
            .all
            .iter()
            .filter(|(_, object)| by_it(object))
            .flat_map(|(id, object)| object.groups.iter().chain([id]))
            .copied()
            .collect();
        concerned.into_iter().for_each(|id| self.resolve(id, paths, ports));
    }

    /// Resolves an object.
    fn resolve(&mut self, id: u32, paths: &mut Paths, ports: &mut Ports) {
        let mut hops = std::mem::take(&mut self.hops);
        let resolved = match self.lead(id, ports, &mut hops) {
            Ok(Some(lead)) => Resolved::Path(paths.take(lead, 0, ports)),
            Ok(None) => Resolved::Unknown,
            Err(skip) => Resolved::Unusable(skip),
        };
        self.hops = hops;
        let Some(object) = self.all.get_mut(&id) else { return };
        let before = std::mem::replace(&mut object.resolved, resolved);
        if before != resolved && object.users > 0 {
            self.changed.insert(id);
        }
        if let Resolved::Path(path) = before {
            paths.give_back(path);
        }
    }

    fn lead<'h>(
        &self,
        id: u32,
        ports: &mut Ports,
        out: &'h mut Vec<PathHop>,
    ) -> Result<Option<Lead<&'h [PathHop]>>, Skip> {
        let definition = self.all.get(&id).and_then(|object| object.definition.as_ref());
        match definition {
            None => Ok(None),
            Some(Definition::Blackhole) => Ok(Some(Lead::Special(Special::Blackhole))),
            Some(Definition::Hop(hop)) => {
                ports.usable(std::slice::from_ref(hop), out)?;
                Ok(Some(Lead::Hops(out)))
            }
            Some(Definition::Group(members)) => {
                if members.len() > super::policy::MAX_HOPS {
                    return Err(Skip::TooManyHops);
                }
                let mut hops: Vec<Hop> = Vec::with_capacity(members.len());
                for (member, weight) in members {
                    match self.all.get(member).and_then(|object| object.definition.as_ref()) {
                        Some(Definition::Hop(hop)) => hops.push(Hop { weight: *weight, ..*hop }),
                        // A blackhole is the only member of its group (`nh_check_attr_group` of Linux).
                        Some(Definition::Blackhole) => return Ok(Some(Lead::Special(Special::Blackhole))),
                        // Neither zebra nor the kernel nests groups.
                        Some(Definition::Group(_)) | None => return Ok(None),
                    }
                }
                ports.usable(&hops, out)?;
                Ok(Some(Lead::Hops(out)))
            }
        }
    }

    /// Forgets an object that is neither defined nor referred to.
    fn tidy(&mut self, id: u32) {
        let idle = |o: &Object| o.definition.is_none() && o.users == 0 && o.groups.is_empty();
        if self.all.get(&id).is_some_and(idle) {
            self.all.remove(&id);
        }
    }

    /// Takes the objects whose users have to be re-evaluated.
    pub fn take_changed(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.changed)
    }

    /// Forgets all definitions and references: the sender starts over with other ids.
    pub fn clear(&mut self, paths: &mut Paths) {
        for (_, object) in self.all.drain() {
            if let Resolved::Path(path) = object.resolved {
                paths.give_back(path);
            }
        }
        self.changed.clear();
    }

    /// Number of routes that wait for a definition.
    pub fn parked(&self) -> u64 {
        let waiting = self.all.values().filter(|o| o.resolved == Resolved::Unknown);
        waiting.map(|o| u64::from(o.users)).sum()
    }

    /// All definitions.
    pub fn definitions(&self) -> impl Iterator<Item = (u32, &Definition)> {
        self.all.iter().filter_map(|(id, object)| Some((*id, object.definition.as_ref()?)))
    }

    /// Number of definitions.
    pub fn len(&self) -> usize {
        self.all.values().filter(|o| o.definition.is_some()).count()
    }
}

fn members(definition: Option<&Definition>) -> &[(u32, u16)] {
    match definition {
        Some(Definition::Group(members)) => members,
        _ => &[],
    }
}
