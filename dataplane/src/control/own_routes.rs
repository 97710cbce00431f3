//! Routes that the host has by itself: own addresses, connected subnets, `[[static_route]]`. They win over those from servers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Change, Fib, Group, GroupLabel, NextHop, PortId, VrfId};
use ipnet::{IpNet, Ipv4Net};

use super::{Batch, PortSetup};

/// High half of the labels of own groups. Labels from servers are hashes; meeting one of these would take 2^32 groups.
const OWN: u64 = 0xf1bc_a570_0000_0000;
const OWN_MASK: u64 = 0xffff_ffff_0000_0000;

/// Whether a label is one of the host's own groups.
pub(super) fn is_own(label: GroupLabel) -> bool {
    label.0 & OWN_MASK == OWN
}

/// A route of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// Routing and forwarding instance.
    pub vrf: VrfId,
    /// Destination.
    pub prefix: IpNet,
    /// Next hops, or what else becomes of packets.
    pub group: Group,
}

/// The host's own routes.
#[derive(Debug)]
pub struct OwnRoutes {
    /// What puts those of the start into an empty table.
    pub changes: Vec<Change>,
    /// With the group of those that are no address or subnet of a port, and can be taken back.
    prefixes: HashMap<(VrfId, IpNet), Option<GroupLabel>>,
    /// Groups made so far.
    groups: u64,
    /// What servers say about prefixes for which the host has a route of its own.
    shadowed: HashMap<(VrfId, IpNet), GroupLabel>,
}

/// Why a route cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// There is none.
    #[error("vrf {}: expected a route of this host's own, found none to {prefix}", vrf.0)]
    Unknown {
        /// VRF.
        vrf: VrfId,
        /// Destination.
        prefix: IpNet,
    },
    /// It follows from a port's address.
    #[error("vrf {}: {prefix} follows from an address of a port, and goes with it", vrf.0)]
    OfPort {
        /// VRF.
        vrf: VrfId,
        /// Destination.
        prefix: IpNet,
    },
}

impl OwnRoutes {
    /// In the order of precedence: an own address wins over a subnet, a subnet over a static route to the same prefix.
    pub fn new(ports: &[PortSetup], routes: &[StaticRoute]) -> OwnRoutes {
        let mut own =
            OwnRoutes { changes: Vec::new(), prefixes: HashMap::new(), groups: 0, shadowed: HashMap::new() };
        let local = own.group(Group::Local);
        let blackhole = own.group(Group::Blackhole);
        for port in ports {
            for address in &port.addresses {
                own.announce(port.vrf, IpNet::from(address.addr()), local);
            }
        }
        for (place, port) in ports.iter().enumerate() {
            let next_hop = NextHop::connected(PortId(place as u16));
            let Ok(group) = Group::one(next_hop) else { continue };
            let connected = own.group(group);
            for address in &port.addresses {
                if let IpNet::V4(v4) = address {
                    // RFC 1812 §4.2.2.11, §5.3.5.2: directed broadcasts are off.
                    for edge in edges(v4) {
                        own.announce(port.vrf, edge, blackhole);
                    }
                }
                own.announce(port.vrf, address.trunc(), connected);
            }
        }
        for route in routes {
            if !own.prefixes.contains_key(&(route.vrf, route.prefix)) {
                let changes = own.add(route, None);
                own.changes.extend(changes);
            }
        }
        own
    }

    /// Adds a route, or gives it another group; `before` is the server's group that it puts aside.
    pub fn add(&mut self, route: &StaticRoute, before: Option<GroupLabel>) -> Vec<Change> {
        let (label, put) = self.made(route.group.clone());
        let key = (route.vrf, route.prefix);
        let old = self.prefixes.insert(key, Some(label)).flatten();
        if let Some(before) = before {
            self.shadowed.entry(key).or_insert(before);
        }
        let mut changes = vec![put, Change::Announce { vrf: route.vrf, prefix: route.prefix, label }];
        changes.extend(old.map(|label| Change::DeleteGroup { label }));
        changes
    }

    /// Takes a route back: the server's to the same prefix, if there is one, is used again.
    pub fn remove(&mut self, vrf: VrfId, prefix: IpNet) -> Result<Vec<Change>, RemoveError> {
        let key = (vrf, prefix);
        let label = match self.prefixes.get(&key) {
            None => return Err(RemoveError::Unknown { vrf, prefix }),
            Some(None) => return Err(RemoveError::OfPort { vrf, prefix }),
            Some(Some(label)) => *label,
        };
        self.prefixes.remove(&key);
        let server = match self.shadowed.remove(&key) {
            Some(label) => Change::Announce { vrf, prefix, label },
            None => Change::Withdraw { vrf, prefix },
        };
        Ok(vec![server, Change::DeleteGroup { label }])
    }

    /// Takes out of a batch what the host has by itself, and remembers what it said about that.
    pub fn filter(&mut self, batch: &mut Batch) {
        if batch.replaces {
            self.shadowed.clear();
        }
        let (prefixes, shadowed) = (&self.prefixes, &mut self.shadowed);
        batch.changes.retain(|change| match change {
            Change::Announce { vrf, prefix, label } if prefixes.contains_key(&(*vrf, *prefix)) => {
                shadowed.insert((*vrf, *prefix), *label);
                false
            }
            Change::Withdraw { vrf, prefix } if prefixes.contains_key(&(*vrf, *prefix)) => {
                shadowed.remove(&(*vrf, *prefix));
                false
            }
            _ => true,
        });
    }

    /// Whether the host has this route by itself.
    pub fn contains(&self, vrf: VrfId, prefix: IpNet) -> bool {
        self.prefixes.contains_key(&(vrf, prefix))
    }

    /// Adds to a batch that holds the whole table the removal of what the table holds beside it and the host's own.
    pub fn complete(&self, batch: &mut Batch, fib: &Fib) {
        let (mut routes, mut groups) = (HashSet::new(), HashSet::new());
        for change in &batch.changes {
            match change {
                Change::Announce { vrf, prefix, .. } => _ = routes.insert((*vrf, *prefix)),
                Change::PutGroup { label, .. } => _ = groups.insert(*label),
                Change::Withdraw { .. } | Change::DeleteGroup { .. } => {}
            }
        }
        for vrf in fib.vrfs() {
            let gone = fib.routes(vrf, None).map(|(prefix, _)| Change::Withdraw { vrf, prefix });
            batch.changes.extend(gone.filter(|change| match change {
                Change::Withdraw { vrf, prefix } => {
                    !routes.contains(&(*vrf, *prefix)) && !self.contains(*vrf, *prefix)
                }
                _ => false,
            }));
        }
        let gone = fib.groups().map(|(label, ..)| label);
        let gone = gone.filter(|label| !is_own(*label) && !groups.contains(label));
        batch.changes.extend(gone.map(|label| Change::DeleteGroup { label }));
    }

    fn made(&mut self, group: Group) -> (GroupLabel, Change) {
        let label = GroupLabel(OWN | self.groups & !OWN_MASK);
        self.groups += 1;
        (label, Change::PutGroup { label, group })
    }

    fn group(&mut self, group: Group) -> GroupLabel {
        let (label, put) = self.made(group);
        self.changes.push(put);
        label
    }

    fn announce(&mut self, vrf: VrfId, prefix: IpNet, label: GroupLabel) {
        if let Entry::Vacant(vacant) = self.prefixes.entry((vrf, prefix)) {
            vacant.insert(None);
            self.changes.push(Change::Announce { vrf, prefix, label });
        }
    }
}

/// Network and broadcast address of a subnet that has them: one of two addresses or less has none (RFC 3021).
fn edges(subnet: &Ipv4Net) -> Vec<IpNet> {
    if subnet.prefix_len() > 30 {
        return Vec::new();
    }
    [subnet.network(), subnet.broadcast()].map(|address| IpNet::from(IpAddr::V4(address))).to_vec()
}
