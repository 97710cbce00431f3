//! Recursive next hops: gateways that are on no connected subnet, or in another VRF.
//!
//! A server's group names gateways by address. The VRF of the route that uses the group decides where that address is, and a gateway on no
//! connected subnet is reached by the table's own route to it: through at most [`LEVELS`] routes, without loops, over all members of each.
//! Both are resolved here by rewriting the group with the resolved next hops, so workers, link-down handling and reverse-path checks see
//! ordinary groups only. Routes do not change for it: a VRF other than the default one uses a copy of the group under a label of its own.
//!
//! The prefixes on the way are remembered; a batch that touches none of them costs one set lookup per change.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Change, Fib, Group, GroupLabel, MAX_MEMBERS, Member, NextHop, Special, VrfId};
use ipnet::IpNet;

use super::PortSetup;
use super::next_hops::{connected, owned};
use super::own_routes::is_own;

/// Most routes between a gateway and the neighbor that it resolves to.
pub const LEVELS: usize = 4;
/// Most gateways followed for one group, so that nested multipath routes cannot multiply without bound.
const STEPS: usize = 4_096;
/// Largest weight if shares are not small integer ratios.
const FINEST: f64 = 4_096.0;

/// A group as the server defined it, and the VRF of its gateways.
#[derive(Debug)]
struct RecursiveGroup {
    vrf: VrfId,
    /// Label of the server's group: the key itself, except for copies.
    label: GroupLabel,
    group: Group,
    /// Members that cannot be resolved at the moment.
    lost: usize,
}

/// Resolver of recursive groups; see the module's documentation.
#[derive(Debug, Default)]
pub struct Recursion {
    /// By the label in the table.
    wanted: HashMap<GroupLabel, RecursiveGroup>,
    /// VRFs other than the default that use a group, by the server's label.
    copies: HashMap<GroupLabel, Vec<VrfId>>,
    /// Prefixes that a resolution depends on.
    watched: HashSet<(VrfId, IpNet)>,
    labels: HashSet<GroupLabel>,
    stale: bool,
}

/// Resolution of one group's gateways to neighbors.
struct Walk<'a> {
    ports: &'a [PortSetup],
    fib: &'a Fib,
    vrf: VrfId,
    path: Vec<IpAddr>,
    found: Vec<(NextHop, f64)>,
    steps: usize,
}

impl Recursion {
    /// Registers the host's own groups, each of which belongs to one VRF, before their batch is applied.
    pub fn adopt(&mut self, changes: &[Change], ports: &[PortSetup]) {
        for change in changes {
            if let Change::Announce { vrf, label, .. } = change
                && is_own(*label)
                && let Some(group) = latest(changes, *label)
            {
                self.want(*label, *label, *vrf, group, ports);
            }
        }
    }

    /// Points routes of VRFs other than the default to copies of their groups, and records which groups need resolution. A batch that
    /// `replaces` holds all groups. Returns the original batch if it changed. May be called again for a batch that could not be applied:
    /// [`note`](Self::note) drops unused copies.
    pub fn prepare(
        &mut self,
        changes: &mut Vec<Change>,
        replaces: bool,
        ports: &[PortSetup],
        fib: &Fib,
    ) -> Option<Vec<Change>> {
        if replaces {
            self.wanted.retain(|label, _| is_own(*label));
            self.copies.clear();
        }
        let needed = !self.copies.is_empty()
            || changes.iter().any(|change| {
                matches!(change, Change::Announce { vrf, label, .. } if *vrf != VrfId::DEFAULT && !is_own(*label))
            });
        if !needed {
            // Usual case: the batch stays as it is.
            for change in changes.iter() {
                if let Change::PutGroup { label, group } = change {
                    self.want_server(*label, group, ports);
                }
            }
            return None;
        }
        let before = changes.clone();
        let original = std::mem::take(changes);
        let mut puts: HashMap<GroupLabel, Group> = HashMap::new();
        let mut copied: HashSet<GroupLabel> = HashSet::new();
        for change in original {
            match change {
                Change::PutGroup { label, group } => {
                    self.want_server(label, &group, ports);
                    for vrf in self.copies.get(&label).cloned().unwrap_or_default() {
                        copied.insert(copy_of(label, vrf));
                        changes.push(self.copy(label, vrf, &group, ports));
                    }
                    puts.insert(label, group.clone());
                    changes.push(Change::PutGroup { label, group });
                }
                Change::DeleteGroup { label } => {
                    let vrfs = self.copies.get(&label).into_iter().flatten();
                    changes.extend(vrfs.map(|vrf| Change::DeleteGroup { label: copy_of(label, *vrf) }));
                    puts.remove(&label);
                    changes.push(Change::DeleteGroup { label });
                }
                Change::Announce { vrf, prefix, label } if vrf != VrfId::DEFAULT && !is_own(label) => {
                    let copy = copy_of(label, vrf);
                    let there = copied.contains(&copy)
                        || (fib.group_index(copy).is_some() && !puts.contains_key(&label));
                    if !there {
                        let group =
                            puts.get(&label).cloned().or_else(|| self.definition(label, fib).cloned());
                        let Some(group) = group else {
                            // Names an unknown group: refused with its own label in the message.
                            changes.push(Change::Announce { vrf, prefix, label });
                            continue;
                        };
                        copied.insert(copy);
                        changes.push(self.copy(label, vrf, &group, ports));
                    }
                    let vrfs = self.copies.entry(label).or_default();
                    if !vrfs.contains(&vrf) {
                        vrfs.push(vrf);
                    }
                    changes.push(Change::Announce { vrf, prefix, label: copy });
                }
                other => changes.push(other),
            }
        }
        Some(before)
    }

    fn want_server(&mut self, label: GroupLabel, group: &Group, ports: &[PortSetup]) {
        if !is_own(label) {
            self.want(label, label, VrfId::DEFAULT, group, ports);
        }
    }

    fn copy(&mut self, label: GroupLabel, vrf: VrfId, group: &Group, ports: &[PortSetup]) -> Change {
        let copy = copy_of(label, vrf);
        self.want(copy, label, vrf, group, ports);
        Change::PutGroup { label: copy, group: group.clone() }
    }

    /// Records a group that needs resolution, or forgets one that does not.
    fn want(
        &mut self,
        label: GroupLabel,
        server: GroupLabel,
        vrf: VrfId,
        group: &Group,
        ports: &[PortSetup],
    ) {
        let found_at_once = |member: &Member| match member.next_hop {
            NextHop { gateway: Some(gateway), port: None } => {
                vrf == VrfId::DEFAULT && connected(gateway, vrf, ports).is_some()
            }
            _ => true,
        };
        // Copies stay recorded whatever their content: they map to the server's label for operators.
        if label == server && group.members().iter().all(found_at_once) {
            self.wanted.remove(&label);
            return;
        }
        self.wanted.insert(label, RecursiveGroup { vrf, label: server, group: group.clone(), lost: 0 });
        self.stale = true;
    }

    /// The content of a group as the server defined it.
    fn definition<'a>(&'a self, label: GroupLabel, fib: &'a Fib) -> Option<&'a Group> {
        self.wanted.get(&label).map(|wanted| &wanted.group).or_else(|| fib.group(label))
    }

    /// Checks whether an applied batch may change the resolution of gateways.
    pub fn note(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::DeleteGroup { label } = change {
                self.wanted.remove(label);
                self.copies.remove(label);
            }
        }
        self.stale |= !self.wanted.is_empty()
            && changes.iter().any(|change| match change {
                Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => {
                    self.watched.contains(&(*vrf, *prefix))
                }
                Change::PutGroup { label, .. } | Change::DeleteGroup { label } => {
                    self.labels.contains(label) || self.wanted.contains_key(label)
                }
            });
    }

    /// The groups to rewrite, if anything changed since the last call.
    pub fn resolve(&mut self, ports: &[PortSetup], fib: &Fib) -> Vec<Change> {
        if !std::mem::take(&mut self.stale) {
            return Vec::new();
        }
        self.watched.clear();
        self.labels.clear();
        let mut changes = Vec::new();
        let labels: Vec<GroupLabel> = self.wanted.keys().copied().collect();
        for label in labels {
            let Some(wanted) = self.wanted.get(&label) else { continue };
            let (vrf, group) = (wanted.vrf, wanted.group.clone());
            let (group, lost) = self.expand(vrf, group, ports, fib);
            if let Some(wanted) = self.wanted.get_mut(&label) {
                if lost > wanted.lost {
                    tracing::warn!(
                        "group {:016x}: {lost} gateways cannot be resolved in vrf {}: no connected subnet and no route",
                        wanted.label.0,
                        vrf.0
                    );
                }
                wanted.lost = lost;
            }
            if fib.group(label).is_some_and(|known| *known != group) {
                changes.push(Change::PutGroup { label, group });
            }
        }
        changes
    }

    /// After a failure: resolve everything again.
    pub fn again(&mut self) {
        self.stale = true;
    }

    /// A group with its gateways resolved to neighbors, and the number of unresolvable ones.
    fn expand(&mut self, vrf: VrfId, group: Group, ports: &[PortSetup], fib: &Fib) -> (Group, usize) {
        if group.members().is_empty() {
            return (group, 0);
        }
        let mut walk = Walk { ports, fib, vrf, path: Vec::new(), found: Vec::new(), steps: 0 };
        let mut lost = 0;
        for member in group.members() {
            let before = walk.found.len();
            match member.next_hop {
                NextHop { gateway: Some(gateway), port: None } => {
                    self.follow(&mut walk, gateway, f64::from(member.weight));
                }
                settled => walk.found.push((settled, f64::from(member.weight))),
            }
            lost += usize::from(walk.found.len() == before);
        }
        match (weigh(walk.found), vrf) {
            (Some(resolved), _) => (resolved, lost),
            // Held, like any next hop that does not answer.
            (None, VrfId::DEFAULT) => (group, lost),
            // Unchanged, it would be resolved in the default VRF.
            (None, _) => (Group::Special(Special::Unreachable), lost),
        }
    }

    fn follow(&mut self, walk: &mut Walk<'_>, gateway: IpAddr, share: f64) {
        walk.steps += 1;
        if walk.steps > STEPS || walk.found.len() >= MAX_MEMBERS {
            return;
        }
        if let Some(port) = connected(gateway, walk.vrf, walk.ports) {
            if !owned(gateway, walk.vrf, walk.ports) {
                // Same form as a group without recursion, so that its flows stay in place when another member recurses.
                let plain = walk.path.is_empty() && walk.vrf == VrfId::DEFAULT;
                let port = (!plain).then_some(port);
                walk.found.push((NextHop { gateway: Some(gateway), port }, share));
            }
            return;
        }
        self.watch(walk.vrf, gateway);
        if walk.path.len() >= LEVELS || walk.path.contains(&gateway) {
            return;
        }
        let Some((_, label)) = walk.fib.longest_match(walk.vrf, gateway) else { return };
        self.labels.insert(label);
        let Some(group) = self.definition(label, walk.fib) else { return };
        let members: Vec<Member> = group.members().to_vec();
        let sum: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        walk.path.push(gateway);
        for member in members {
            let share = share * f64::from(member.weight) / sum;
            match member.next_hop {
                NextHop { gateway: None, port: Some(port) } => {
                    walk.found.push((NextHop { gateway: Some(gateway), port: Some(port) }, share));
                }
                NextHop { gateway: Some(_), port: Some(_) } => walk.found.push((member.next_hop, share)),
                NextHop { gateway: Some(next), port: None } => self.follow(walk, next, share),
                NextHop { gateway: None, port: None } => {}
            }
        }
        walk.path.pop();
    }

    fn watch(&mut self, vrf: VrfId, address: IpAddr) {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let cover = (0..=longest).filter_map(|length| IpNet::new(address, length).ok());
        self.watched.extend(cover.map(|prefix| (vrf, prefix.trunc())));
    }

    /// The server's label of a group in the table.
    pub fn server_label(&self, label: GroupLabel) -> GroupLabel {
        self.wanted.get(&label).map_or(label, |wanted| wanted.label)
    }

    /// Gateways that cannot be resolved.
    pub fn lost(&self) -> usize {
        self.wanted.values().map(|wanted| wanted.lost).sum()
    }
}

/// The last change to a group in a batch.
fn latest(changes: &[Change], label: GroupLabel) -> Option<&Group> {
    changes.iter().rev().find_map(|change| match change {
        Change::PutGroup { label: put, group } if *put == label => Some(group),
        _ => None,
    })
}

/// Label of a VRF's copy of a group: distributed like servers' labels, and never one of the host's own.
fn copy_of(label: GroupLabel, vrf: VrfId) -> GroupLabel {
    let mixed = (label.0 ^ (u64::from(vrf.0) << 32 | 0x5bd1_e995)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let copy = GroupLabel(mixed ^ (mixed >> 32));
    if is_own(copy) { GroupLabel(copy.0 ^ 1 << 63) } else { copy }
}

/// Turns shares into weights, each next hop once; none without a next hop.
fn weigh(found: Vec<(NextHop, f64)>) -> Option<Group> {
    let mut merged: Vec<(NextHop, f64)> = Vec::new();
    for (next_hop, share) in found {
        match merged.iter_mut().find(|(known, _)| *known == next_hop) {
            Some((_, sum)) => *sum += share,
            None => merged.push((next_hop, share)),
        }
    }
    merged.truncate(MAX_MEMBERS);
    let least = merged.iter().map(|(_, share)| *share).fold(f64::INFINITY, f64::min);
    let most = merged.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let whole = |scale: &f64| {
        most * scale <= f64::from(u16::MAX)
            && merged.iter().all(|(_, share)| (share * scale - (share * scale).round()).abs() < 1e-6)
    };
    let scale = (1..=64u32).map(|count| f64::from(count) / least).find(whole).unwrap_or(FINEST / most);
    let member = |(next_hop, share): (NextHop, f64)| Member {
        next_hop,
        weight: (share * scale).round().clamp(1.0, f64::from(u16::MAX)) as u16,
    };
    Group::hops(merged.into_iter().map(member).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(last: u8) -> NextHop {
        NextHop::via([10, 0, 0, last].into())
    }

    fn weights(found: Vec<(NextHop, f64)>) -> Vec<u16> {
        weigh(found).unwrap().members().iter().map(|member| member.weight).collect()
    }

    #[test]
    fn shares_become_the_smallest_whole_weights() {
        assert_eq!(weights(vec![(hop(1), 0.5), (hop(2), 0.5)]), [1, 1]);
        assert_eq!(weights(vec![(hop(1), 1.0 / 3.0), (hop(2), 1.0), (hop(1), 1.0 / 3.0)]), [2, 3]);
        assert_eq!(weights(vec![(hop(1), 0.001), (hop(2), 900.0)]), [1, 4_096]);
        assert!(weigh(Vec::new()).is_none());
    }

    #[test]
    fn a_copy_has_a_label_of_its_own() {
        let copies: HashSet<GroupLabel> = (0..1_000).map(|vrf| copy_of(GroupLabel(7), VrfId(vrf))).collect();
        assert!(copies.len() == 1_000 && !copies.contains(&GroupLabel(7)));
        assert!(copies.iter().all(|label| !is_own(*label)));
    }
}
