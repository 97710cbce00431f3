//! Which groups have to be resolved again when a route or a group changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use fibcast_fib::{GroupLabel, VrfId};
use ipnet::IpNet;

use super::walk::Seen;

/// Dependencies of resolved groups: on the routes to gateways, and on the groups of these routes.
#[derive(Debug, Default)]
pub struct Dependents {
    /// Groups by gateway, each with the length of the shortest prefix that concerns it.
    gateways: BTreeMap<(VrfId, IpAddr), BTreeMap<GroupLabel, Option<u8>>>,
    labels: HashMap<GroupLabel, BTreeSet<GroupLabel>>,
    seen: HashMap<GroupLabel, (VrfId, Seen)>,
}

impl Dependents {
    /// Replaces the dependencies of a group.
    pub fn set(&mut self, group: GroupLabel, vrf: VrfId, mut seen: Seen) {
        self.remove(group);
        seen.gateways.sort_unstable();
        seen.gateways.dedup();
        seen.labels.sort_unstable();
        seen.labels.dedup();
        for (gateway, length) in &seen.gateways {
            // The shortest comes first. Another group may have got another answer for the same gateway, on its own way to it.
            self.gateways.entry((vrf, *gateway)).or_default().entry(group).or_insert(*length);
        }
        for label in &seen.labels {
            self.labels.entry(*label).or_default().insert(group);
        }
        self.seen.insert(group, (vrf, seen));
    }

    /// Forgets a group.
    pub fn remove(&mut self, group: GroupLabel) {
        let Some((vrf, seen)) = self.seen.remove(&group) else { return };
        for (gateway, _) in seen.gateways {
            if let Some(groups) = self.gateways.get_mut(&(vrf, gateway)) {
                groups.remove(&group);
                if groups.is_empty() {
                    self.gateways.remove(&(vrf, gateway));
                }
            }
        }
        for label in seen.labels {
            if let Some(groups) = self.labels.get_mut(&label) {
                groups.remove(&group);
                if groups.is_empty() {
                    self.labels.remove(&label);
                }
            }
        }
    }

    /// Adds the groups that depend on a prefix, of a route or of a port's address: those with a gateway in it that has no longer match.
    pub fn of_route(&self, vrf: VrfId, prefix: IpNet, into: &mut BTreeSet<GroupLabel>) {
        let range = (vrf, prefix.network())..=(vrf, prefix.broadcast());
        for (_, groups) in self.gateways.range(range) {
            let concerned =
                groups.iter().filter(|(_, length)| length.is_none_or(|length| length <= prefix.prefix_len()));
            into.extend(concerned.map(|(group, _)| group));
        }
    }

    /// Adds the groups that depend on the content of another one.
    pub fn of_group(&self, label: GroupLabel, into: &mut BTreeSet<GroupLabel>) {
        into.extend(self.labels.get(&label).into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(gateways: &[(&str, Option<u8>)], labels: &[u64]) -> Seen {
        Seen {
            gateways: gateways.iter().map(|(gateway, length)| (gateway.parse().unwrap(), *length)).collect(),
            labels: labels.iter().map(|label| GroupLabel(*label)).collect(),
        }
    }

    fn of_route(dependents: &Dependents, vrf: u32, prefix: &str) -> Vec<u64> {
        let mut found = BTreeSet::new();
        dependents.of_route(VrfId(vrf), prefix.parse().unwrap(), &mut found);
        found.into_iter().map(|label| label.0).collect()
    }

    #[test]
    fn a_route_concerns_gateways_inside_of_it_that_have_no_longer_match() {
        let mut dependents = Dependents::default();
        dependents.set(GroupLabel(1), VrfId(0), seen(&[("10.1.2.3", Some(16)), ("2001:db8::1", None)], &[7]));
        dependents.set(GroupLabel(2), VrfId(0), seen(&[("10.1.2.3", Some(16))], &[7, 8]));
        dependents.set(GroupLabel(3), VrfId(7), seen(&[("10.1.2.3", None)], &[]));
        for (vrf, prefix, expected) in [
            (0, "10.1.0.0/16", vec![1, 2]),
            (0, "10.1.2.3/32", vec![1, 2]),
            (0, "10.0.0.0/8", vec![]),
            (0, "10.1.3.0/24", vec![]),
            (0, "::/0", vec![1]),
            (0, "0.0.0.0/0", vec![]),
            (7, "0.0.0.0/0", vec![3]),
            (8, "0.0.0.0/0", vec![]),
        ] {
            assert_eq!(of_route(&dependents, vrf, prefix), expected, "vrf {vrf}, {prefix}");
        }
        let mut found = BTreeSet::new();
        dependents.of_group(GroupLabel(7), &mut found);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn nothing_is_left_of_a_group_that_was_removed() {
        let mut dependents = Dependents::default();
        dependents.set(GroupLabel(1), VrfId(0), seen(&[("10.1.2.3", None), ("10.1.2.3", None)], &[7, 7]));
        dependents.set(GroupLabel(1), VrfId(0), seen(&[("10.9.9.9", None)], &[]));
        assert!(of_route(&dependents, 0, "10.1.0.0/16").is_empty());
        dependents.remove(GroupLabel(1));
        assert!(dependents.gateways.is_empty() && dependents.labels.is_empty() && dependents.seen.is_empty());
    }
}
