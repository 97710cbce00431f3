//! Recursive next hops: gateways without a port, and gateways of routes in VRFs other than the default one.
//!
//! A server's group names gateways by address. The VRF of the route that uses the group decides where that address is: [`walk`] finds the next
//! hops by the longest match over the whole table of that VRF, connected subnets included (RFC 4271 §9.1.2.1). The group is rewritten with
//! them, so workers, link-down handling and reverse-path checks see ordinary groups only. Routes do not change for it: a VRF other than the
//! default one uses a copy of the group under a label of its own.
//!
//! A gateway that resolves to a blackhole makes its group one (RTBH, RFC 5635), as do unreachable and prohibit. If other members of the group
//! forward, these take all flows: a drop is no next hop. Linux does not let the two be mixed (`nh_check_attr_group` refuses a blackhole beside
//! other next hops of a group).
//!
//! `dependents` knows which groups depend on which routes and groups: a batch that touches none of them costs one ordered lookup per change, and
//! others resolve only the groups concerned. `lost` says what the log does about gateways that lead nowhere, `shares` turns shares into weights.

mod dependents;
mod lost;
mod shares;
mod walk;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use fibcast_fib::{Change, Fib, Group, GroupLabel, Member, NextHop, Special, VrfId};
use ipnet::IpNet;

use super::PortSetup;
use super::own_routes::is_own;
use dependents::Dependents;
pub use lost::Lost;
use lost::LostGateway;
use shares::weigh;
pub use walk::LEVELS;
use walk::{Seen, Walk, stronger};

/// A group as it was defined, and the VRF of its gateways.
#[derive(Debug, Clone)]
struct RecursiveGroup {
    vrf: VrfId,
    /// Label of the server's group: the key itself, except for copies.
    label: GroupLabel,
    group: Group,
}

/// Resolver of recursive groups; see the module's documentation.
#[derive(Debug, Default)]
pub struct Recursion {
    /// By the label in the table.
    wanted: HashMap<GroupLabel, RecursiveGroup>,
    /// VRFs other than the default that use a group, by the server's label.
    copies: HashMap<GroupLabel, Vec<VrfId>>,
    dependents: Dependents,
    /// Groups to resolve.
    stale: BTreeSet<GroupLabel>,
    /// Gateways that cannot be resolved, by the label in the table.
    lost: HashMap<GroupLabel, Vec<(IpAddr, Lost)>>,
}

/// A group with its gateways resolved.
struct Resolved {
    group: Group,
    lost: Vec<(IpAddr, Lost)>,
    seen: Seen,
}

impl Recursion {
    /// Registers the host's own groups, each of which belongs to one VRF, before their batch is applied.
    pub fn adopt(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Announce { vrf, label, .. } = change
                && is_own(*label)
                && let Some(group) = latest(changes, *label)
            {
                self.want(*label, *label, *vrf, group);
            }
        }
    }

    /// Points routes of VRFs other than the default to copies of their groups, and records which groups need resolution. A batch that
    /// `replaces` holds all groups. Returns the original batch if it changed. May be called again for a batch that could not be applied:
    /// [`note`](Self::note) drops unused copies.
    pub fn prepare(&mut self, changes: &mut Vec<Change>, replaces: bool, fib: &Fib) -> Option<Vec<Change>> {
        if replaces {
            self.keep_own();
        }
        let needed = !self.copies.is_empty()
            || changes.iter().any(|change| {
                matches!(change, Change::Announce { vrf, label, .. } if *vrf != VrfId::DEFAULT && !is_own(*label))
            });
        if !needed {
            // Usual case: the batch stays as it is.
            for change in changes.iter() {
                if let Change::PutGroup { label, group } = change {
                    self.want_server(*label, group);
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
                    self.want_server(label, &group);
                    for vrf in self.copies.get(&label).cloned().unwrap_or_default() {
                        copied.insert(copy_of(label, vrf));
                        changes.push(self.copy(label, vrf, &group));
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
                        changes.push(self.copy(label, vrf, &group));
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

    fn want_server(&mut self, label: GroupLabel, group: &Group) {
        if !is_own(label) {
            self.want(label, label, VrfId::DEFAULT, group);
        }
    }

    fn copy(&mut self, label: GroupLabel, vrf: VrfId, group: &Group) -> Change {
        let copy = copy_of(label, vrf);
        self.want(copy, label, vrf, group);
        Change::PutGroup { label: copy, group: group.clone() }
    }

    /// Records a group that needs resolution, or forgets one that does not.
    fn want(&mut self, label: GroupLabel, server: GroupLabel, vrf: VrfId, group: &Group) {
        let recursive = group.members().iter().any(|member| is_recursive(&member.next_hop));
        // Copies stay recorded whatever their content: they map to the server's label for operators.
        if label == server && !recursive {
            self.forget(label);
            return;
        }
        self.wanted.insert(label, RecursiveGroup { vrf, label: server, group: group.clone() });
        self.stale.insert(label);
    }

    /// Forgets the servers' groups: their definitions follow. What is lost stays known, so that a whole table is no news for the log.
    fn keep_own(&mut self) {
        let gone: Vec<GroupLabel> = self.wanted.keys().copied().filter(|label| !is_own(*label)).collect();
        for label in gone {
            self.wanted.remove(&label);
            self.dependents.remove(label);
        }
        self.copies.clear();
    }

    fn forget(&mut self, label: GroupLabel) {
        self.wanted.remove(&label);
        self.dependents.remove(label);
        self.lost.remove(&label);
    }

    /// The content of a group as it was defined.
    pub(super) fn definition<'a>(&'a self, label: GroupLabel, fib: &'a Fib) -> Option<&'a Group> {
        self.wanted.get(&label).map(|wanted| &wanted.group).or_else(|| fib.group(label))
    }

    /// Finds the groups that an applied batch may resolve differently.
    pub fn note(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => {
                    self.dependents.of_route(*vrf, *prefix, &mut self.stale);
                }
                Change::PutGroup { label, .. } => self.dependents.of_group(*label, &mut self.stale),
                Change::DeleteGroup { label } => {
                    self.dependents.of_group(*label, &mut self.stale);
                    self.forget(*label);
                    self.copies.remove(label);
                }
            }
        }
    }

    /// Finds the groups that depend on the subnet of a port's address that came or went, whether a route came or went with it or not.
    pub fn note_subnet(&mut self, vrf: VrfId, subnet: IpNet) {
        self.dependents.of_route(vrf, subnet, &mut self.stale);
    }

    /// The groups to rewrite, if anything changed since the last call.
    pub fn resolve(&mut self, ports: &[PortSetup], fib: &Fib) -> Vec<Change> {
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        for label in std::mem::take(&mut self.stale) {
            let Some(wanted) = self.wanted.get(&label) else { continue };
            let vrf = wanted.vrf;
            let Resolved { group, lost, seen } = self.expand(wanted, ports, fib);
            self.dependents.set(label, vrf, seen);
            let before = if lost.is_empty() {
                self.lost.remove(&label)
            } else {
                self.lost.insert(label, lost.clone())
            };
            // One line for each change of state, however often the routes around it change.
            let before = before.unwrap_or_default();
            let news = lost.into_iter().filter(|one| !before.contains(one));
            new.extend(news.map(|(gateway, reason)| LostGateway { vrf, label, gateway, reason }));
            if fib.group(label).is_some_and(|known| *known != group) {
                changes.push(Change::PutGroup { label, group });
            }
        }
        if !new.is_empty() {
            lost::lines(&new, fib).iter().for_each(|line| tracing::warn!("{line}"));
        }
        changes
    }

    /// After a failure: resolve everything again.
    pub fn again(&mut self) {
        self.stale.extend(self.wanted.keys());
    }

    fn expand(&self, wanted: &RecursiveGroup, ports: &[PortSetup], fib: &Fib) -> Resolved {
        let definition = |label| self.definition(label, fib);
        let mut walk = Walk::new(wanted.vrf, ports, fib, &definition);
        let (mut hops, mut lost, mut special) = (Vec::new(), Vec::new(), None);
        let mut one_by_one = true;
        for member in wanted.group.members() {
            let weight = f64::from(member.weight);
            let NextHop { gateway: Some(gateway), port: None } = member.next_hop else {
                hops.push((member.next_hop, weight));
                continue;
            };
            match walk.resolve(gateway) {
                Ok(outcome) => {
                    one_by_one &= outcome.hops.len() == 1;
                    hops.extend(outcome.hops.into_iter().map(|(next_hop, share)| (next_hop, share * weight)));
                    special = outcome
                        .special
                        .map(|one| special.map_or(one, |other| stronger(one, other)))
                        .or(special);
                }
                Err(reason) => {
                    one_by_one = false;
                    lost.push((gateway, reason));
                }
            }
        }
        let members = if one_by_one { same_weights(&wanted.group, &hops) } else { weigh(hops) };
        let group = match (members, special, wanted.vrf) {
            (Some(resolved), ..) => resolved,
            (None, Some(special), _) => Group::Special(special),
            // Held, like any next hop that does not answer. A group that drops stays as it is.
            (None, None, VrfId::DEFAULT) => wanted.group.clone(),
            (None, None, _) if wanted.group.members().is_empty() => wanted.group.clone(),
            // Unchanged, it would be resolved in the default VRF.
            (None, None, _) => Group::Special(Special::Unreachable),
        };
        Resolved { group, lost, seen: walk.into_seen() }
    }

    /// The server's label of a group in the table.
    pub fn server_label(&self, label: GroupLabel) -> GroupLabel {
        self.wanted.get(&label).map_or(label, |wanted| wanted.label)
    }

    /// Gateways that cannot be resolved.
    pub fn lost(&self) -> usize {
        self.lost.values().map(Vec::len).sum()
    }

    /// The same, each with its group's label in the table and the reason.
    pub fn lost_gateways(&self) -> impl Iterator<Item = (GroupLabel, IpAddr, Lost)> {
        self.lost.iter().flat_map(|(label, all)| all.iter().map(|(gateway, why)| (*label, *gateway, *why)))
    }
}

fn is_recursive(next_hop: &NextHop) -> bool {
    next_hop.gateway.is_some() && next_hop.port.is_none()
}

/// Each member with its one next hop and the weight that it has: flows stay in place. None without a member.
fn same_weights(group: &Group, hops: &[(NextHop, f64)]) -> Option<Group> {
    let members = group.members().iter().zip(hops);
    let member =
        |(member, (next_hop, _)): (&Member, &(NextHop, f64))| Member { next_hop: *next_hop, ..*member };
    Group::hops(members.map(member).collect()).ok()
}

/// The last change to a group in a batch.
fn latest(changes: &[Change], label: GroupLabel) -> Option<&Group> {
    changes.iter().rev().find_map(|change| match change {
        Change::PutGroup { label: put, group } if *put == label => Some(group),
        _ => None,
    })
}

/// Label of a VRF's copy of a group: distributed like servers' labels, and never one of the host's own. The hash is another one in each run of
/// the program, so that nobody who announces routes can choose a group whose copy takes the place of another group.
fn copy_of(label: GroupLabel, vrf: VrfId) -> GroupLabel {
    static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let copy = GroupLabel(HASH.hash_one((label.0, vrf.0)));
    if is_own(copy) { GroupLabel(copy.0 ^ 1 << 63) } else { copy }
}

#[cfg(test)]
mod tests;
