//! Wanted and actual state of the kernel's table, and the steps between them. No socket, no clock.

use std::collections::{HashMap, HashSet};

use fibcast_sync_proto::{Change, GroupValue, Key, Label, Value};
use ipnet::IpNet;

use super::resolver::{PLACES, Place, Resolver};
use super::route::{Lead, Unfit};

/// Key of a route: VRF and prefix.
pub(super) type RouteKey = (u32, IpNet);

/// Actual state of a route in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    /// None of ours.
    Nothing,
    /// Left by an earlier run or an interrupted step: replace it in any case.
    Something,
    /// Written with this label at this `version` of the group; `special`: without next hops.
    Label { label: Label, version: u32, special: bool },
}

impl Has {
    fn written(label: Label, version: u32, lead: &Lead) -> Self {
        Has::Label { label, version, special: lead.is_special() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    want: Option<Label>,
    has: Has,
    /// The scrubber's pass that found it in the kernel.
    seen: u32,
}

impl Entry {
    const NONE: Self = Self { want: None, has: Has::Nothing, seen: 0 };
}

#[derive(Debug)]
struct Group {
    /// For each kind of routes, in the order of [`Place::all`].
    leads: [Result<Lead, Unfit>; PLACES],
    value: GroupValue,
    /// Incremented with each change of content or leads.
    version: u32,
}

impl Group {
    fn leads(value: &GroupValue, resolver: &Resolver) -> [Result<Lead, Unfit>; PLACES] {
        Place::all().map(|place| Lead::of(value, place, resolver))
    }

    fn lead(&self, key: &RouteKey) -> Result<&Lead, &Unfit> {
        let lead = self.leads.get(Place::of(key).number());
        lead.map_or(Err(&Unfit::NoGateway), Result::as_ref)
    }
}

/// A step that corrects one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Add it; there is none.
    Add(Lead),
    /// Replace the existing one; `fresh`: it has to be deleted first.
    Replace { lead: Lead, fresh: bool },
    /// Delete it.
    Remove,
    /// It cannot be written for this reason; delete the existing one.
    Unfit { reason: Unfit, remove: bool },
}

/// Wanted and actual routes; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Table {
    routes: HashMap<RouteKey, Entry>,
    groups: HashMap<Label, Group>,
}

impl Table {
    /// One of our routes was found in the kernel.
    pub fn found(&mut self, key: RouteKey) {
        self.routes.entry(key).or_insert(Entry::NONE).has = Has::Something;
    }

    /// Applies changes; returns the routes that may need a step.
    pub fn change(&mut self, changes: Vec<Change>, replaces: bool, resolver: &Resolver) -> HashSet<RouteKey> {
        let mut keys = HashSet::new();
        if replaces {
            // What is not named again is to be deleted.
            self.routes.values_mut().for_each(|entry| entry.want = None);
            keys.extend(self.routes.keys().copied());
        }
        let mut rewritten: HashSet<Label> = HashSet::new();
        for change in changes {
            match change {
                Change::Put(Key::Group(label), Value::Group(value)) => {
                    let version = self.groups.get(&label).map_or(0, |group| group.version);
                    let leads = Group::leads(&value, resolver);
                    let same = self.groups.get(&label).is_some_and(|group| group.value == value);
                    rewritten.extend((!same).then_some(label));
                    self.groups.insert(label, Group { leads, value, version: version + u32::from(!same) });
                }
                Change::Delete(Key::Group(label)) => {
                    self.groups.remove(&label);
                }
                Change::Put(Key::Route { vrf, prefix }, Value::Route(label)) => {
                    let entry = self.routes.entry((vrf, prefix)).or_insert(Entry::NONE);
                    entry.want = Some(label);
                    keys.insert((vrf, prefix));
                }
                Change::Delete(Key::Route { vrf, prefix }) => {
                    if let Some(entry) = self.routes.get_mut(&(vrf, prefix)) {
                        entry.want = None;
                        keys.insert((vrf, prefix));
                    }
                }
                _ => {}
            }
        }
        if !rewritten.is_empty() {
            // The protocol lets a group's content change under its label, without its routes: those that use it are written again.
            let uses = |entry: &Entry| entry.want.is_some_and(|label| rewritten.contains(&label));
            keys.extend(self.routes.iter().filter(|(_, entry)| uses(entry)).map(|(key, _)| *key));
        }
        keys
    }

    /// Interfaces, addresses, the host's own routes or the server have changed: recomputes targets. Returns the routes that may need a step.
    pub fn host_changed(&mut self, resolver: &Resolver) -> HashSet<RouteKey> {
        let mut changed = HashSet::new();
        for (label, group) in &mut self.groups {
            let leads = Group::leads(&group.value, resolver);
            if leads != group.leads {
                (group.leads, group.version) = (leads, group.version + 1);
                changed.insert(*label);
            }
        }
        let uses = |entry: &Entry| entry.want.is_some_and(|label| changed.contains(&label));
        self.routes.iter().filter(|(_, entry)| uses(entry)).map(|(key, _)| *key).collect()
    }

    /// The step that a route needs; none: it is up to date.
    pub fn step(&self, key: &RouteKey) -> Option<Step> {
        let entry = self.routes.get(key)?;
        let there = entry.has != Has::Nothing;
        let Some(label) = entry.want else { return there.then_some(Step::Remove) };
        // A route without its group is impossible; the sync table checks that.
        let group = self.groups.get(&label)?;
        if matches!(entry.has, Has::Label { label: old, version, .. } if (old, version) == (label, group.version))
        {
            return None;
        }
        let lead = match group.lead(key) {
            Ok(lead) => lead.clone(),
            Err(reason) => return Some(Step::Unfit { reason: reason.clone(), remove: there }),
        };
        let alike = match entry.has {
            Has::Nothing => return Some(Step::Add(lead)),
            Has::Something => false,
            Has::Label { special, .. } => special == lead.is_special(),
        };
        // IPv6 would add a new route next to an old one of another kind.
        let fresh = matches!(key.1, IpNet::V6(_)) && !alike;
        Some(Step::Replace { lead, fresh })
    }

    /// A step succeeded.
    pub fn done(&mut self, key: &RouteKey) {
        let Some(entry) = self.routes.get_mut(key) else { return };
        match entry.want.and_then(|label| Some((label, self.groups.get(&label)?))) {
            Some((label, group)) => {
                let written = |lead| Has::written(label, group.version, lead);
                entry.has = group.lead(key).map_or(Has::Nothing, written);
            }
            None => {
                self.routes.remove(key);
            }
        }
    }

    /// A step failed; `there` tells whether the kernel may have the route.
    pub fn failed(&mut self, key: &RouteKey, there: bool) {
        if let Some(entry) = self.routes.get_mut(key) {
            entry.has = if there { Has::Something } else { Has::Nothing };
        }
    }

    /// Compares with all of our routes in the kernel; returns those that need a step.
    pub fn audit(&mut self, found: &HashMap<RouteKey, Lead>) -> HashSet<RouteKey> {
        let mut wrong = HashSet::new();
        for (key, entry) in &mut self.routes {
            let wanted = entry.want.and_then(|label| Some((label, self.groups.get(&label)?)));
            let right = match (wanted, found.get(key)) {
                (Some((label, group)), Some(found)) => {
                    let met = group.lead(key).ok().filter(|lead| lead.is_met_by(found));
                    let written = |lead| Has::written(label, group.version, lead);
                    entry.has = met.map_or(Has::Something, written);
                    met.is_some()
                }
                (None, None) => true,
                (_, there) => {
                    entry.has = if there.is_some() { Has::Something } else { Has::Nothing };
                    false
                }
            };
            if !right {
                wrong.insert(*key);
            }
        }
        for key in found.keys().filter(|key| !self.routes.contains_key(*key)).copied().collect::<Vec<_>>() {
            self.found(key);
            wrong.insert(key);
        }
        wrong
    }

    /// The scrubber found one of our routes in the kernel; false if it is not as it was written. One that a step is due for is known to be
    /// wrong, and right here.
    pub fn see(&mut self, key: &RouteKey, found: &Lead, pass: u32) -> bool {
        let Some(entry) = self.routes.get_mut(key) else { return false };
        entry.seen = pass;
        let Has::Label { label, version, .. } = entry.has else { return true };
        self.groups
            .get(&label)
            .filter(|group| group.version == version)
            .is_none_or(|group| group.lead(key).is_ok_and(|lead| lead.is_met_by(found)))
    }

    /// Whether the scrubber found it in this pass.
    pub fn is_seen(&self, key: &RouteKey, pass: u32) -> bool {
        self.routes.get(key).is_some_and(|entry| entry.seen == pass)
    }

    /// Whether the kernel has our route, as far as we know.
    pub fn is_there(&self, key: &RouteKey) -> bool {
        self.routes.get(key).is_some_and(|entry| entry.has != Has::Nothing)
    }

    /// Routes that were written and that the scrubber did not find in this pass.
    pub fn unseen(&self, pass: u32) -> Vec<RouteKey> {
        let missing = |entry: &Entry| matches!(entry.has, Has::Label { .. }) && entry.seen != pass;
        self.routes.iter().filter(|(_, entry)| missing(entry)).map(|(key, _)| *key).collect()
    }

    /// What a route is to lead to.
    pub fn wanted(&self, key: &RouteKey) -> Option<&Lead> {
        self.groups.get(&self.routes.get(key)?.want?)?.lead(key).ok()
    }

    /// Number of routes that the kernel has as wanted.
    pub fn right(&self) -> u64 {
        self.routes.values().filter(|entry| matches!(entry.has, Has::Label { .. })).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use fibcast_netlink::Special;
    use fibcast_sync_proto::HopValue;

    use super::super::next_hop::{NextHop, NextHops};

    use super::super::resolver::tests::plain;
    use super::*;

    /// Our route servers make labels of content, but the protocol and the agent's table take what another server sends.
    #[test]
    fn routes_are_written_again_when_the_content_of_their_group_changes() {
        let (label, key) = (Label(5), (0, "10.0.0.0/8".parse().unwrap()));
        let group = |value| Change::Put(Key::Group(label), Value::Group(value));
        let route = Change::Put(Key::Route { vrf: key.0, prefix: key.1 }, Value::Route(label));
        let mut table = Table::default();
        table.change(vec![group(GroupValue::Blackhole), route], true, &plain(|_| None));
        assert_eq!(table.step(&key), Some(Step::Add(Lead::Special(Special::Blackhole))));
        table.done(&key);
        assert!(table.change(vec![group(GroupValue::Blackhole)], false, &plain(|_| None)).is_empty());
        assert_eq!(table.change(vec![group(GroupValue::Prohibit)], false, &plain(|_| None)), [key].into());
        let lead = Lead::Special(Special::Prohibit);
        assert_eq!(table.step(&key), Some(Step::Replace { lead, fresh: false }));
    }

    /// A failover with `next_hop = "server"` must not take routes away in between, which a deletion before each addition would.
    #[test]
    fn routes_of_both_families_are_replaced_in_one_step_when_the_server_changes() {
        let server = |address: &str| Some(address.parse().unwrap());
        let next_hop = NextHops { ipv4: NextHop::Server, ipv6: NextHop::Server };
        let mut resolver = Resolver { next_hop, server: server("[2001:db8::1]:1"), ..plain(|_| None) };
        let group = GroupValue::Hops(vec![HopValue { gateway: None, port: Some("p".into()), weight: 1 }]);
        let label = Label::of(&group);
        let keys: Vec<RouteKey> = ["10.0.0.0/8", "2001:db8:7::/48"].map(|p| (0, p.parse().unwrap())).into();
        let route = |(vrf, prefix): &RouteKey| {
            Change::Put(Key::Route { vrf: *vrf, prefix: *prefix }, Value::Route(label))
        };
        let mut changes = vec![Change::Put(Key::Group(label), Value::Group(group))];
        changes.extend(keys.iter().map(route));
        let mut table = Table::default();
        table.change(changes, true, &resolver);
        keys.iter().for_each(|key| table.done(key));
        assert!(table.host_changed(&resolver).is_empty());
        resolver.server = server("[2001:db8::2]:1");
        assert_eq!(table.host_changed(&resolver), keys.iter().copied().collect());
        for key in &keys {
            let lead = Lead::Hops(vec![(Some("2001:db8::2".parse().unwrap()), 0, 1)]);
            assert_eq!(table.step(key), Some(Step::Replace { lead, fresh: false }), "{key:?}");
        }
    }
}
