//! The host's own routes: addresses of ports and loopback, connected subnets, `[[static_route]]`. They take precedence over routes from servers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Instant;

use fibcast_fib::{Change, Fib, Group, GroupLabel, NextHop, PortId, Special, VrfId};
use ipnet::IpNet;

use super::{Batch, PortSetup};
use crate::pipeline::port::{edges, subnet_router_anycast};

/// What labels of own groups begin with: another one in each run of the program. Labels from servers are hashes under a constant, which whoever
/// announces routes has some choice of; without knowing these bits one of 2^40 groups has them.
static OWN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0) & OWN_MASK);
const OWN_MASK: u64 = 0xffff_ffff_ff00_0000;

/// Whether a label belongs to one of the host's own groups.
pub(super) fn is_own(label: GroupLabel) -> bool {
    label.0 & OWN_MASK == *OWN
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// VRF.
    pub vrf: VrfId,
    /// Destination prefix.
    pub prefix: IpNet,
    /// Next hops, or how packets are dropped.
    pub group: Group,
}

/// The host's own routes.
#[derive(Debug)]
pub struct OwnRoutes {
    /// The changes that put the initial routes into an empty table.
    pub changes: Vec<Change>,
    /// Routes that can be removed, with their groups: neither addresses nor subnets of ports.
    prefixes: HashMap<(VrfId, IpNet), Option<GroupLabel>>,
    /// When each of the host's routes was made or last changed.
    since: HashMap<(VrfId, IpNet), Instant>,
    /// Groups created so far.
    groups: u64,
    /// Server routes that are overridden by own routes.
    shadowed: HashMap<(VrfId, IpNet), GroupLabel>,
}

/// Why a route cannot be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// There is no such route.
    #[error("vrf {}: this host has no route of its own to {prefix}", vrf.0)]
    Unknown {
        /// VRF.
        vrf: VrfId,
        /// Destination.
        prefix: IpNet,
    },
    /// It follows from a port's address.
    #[error("vrf {}: {prefix} belongs to an address of a port and cannot be removed by itself", vrf.0)]
    OfPort {
        /// VRF.
        vrf: VrfId,
        /// Destination.
        prefix: IpNet,
    },
}

impl OwnRoutes {
    /// In order of precedence: a local address before a subnet, a subnet before a static route to the same prefix.
    pub fn new(ports: &[PortSetup], routes: &[StaticRoute]) -> OwnRoutes {
        let mut own = OwnRoutes {
            changes: Vec::new(),
            prefixes: HashMap::new(),
            since: HashMap::new(),
            groups: 0,
            shadowed: HashMap::new(),
        };
        let local = own.group(Group::Special(Special::Local));
        let blackhole = own.group(Group::Special(Special::Blackhole));
        for port in ports {
            let loopback = port.loopback.iter().copied();
            for address in port.addresses.iter().map(IpNet::addr).chain(loopback) {
                own.announce(port.vrf, IpNet::from(address), local);
            }
            for address in &port.addresses {
                if let Some(anycast) = subnet_router_anycast(address) {
                    own.announce(port.vrf, IpNet::from(IpAddr::V6(anycast)), local);
                }
            }
        }
        for (port_index, port) in ports.iter().enumerate() {
            let next_hop = NextHop::connected(PortId(port_index as u16));
            let Ok(group) = Group::one(next_hop) else { continue };
            let connected = own.group(group);
            for address in &port.addresses {
                if let IpNet::V4(v4) = address {
                    // RFC 1812 §4.2.2.11, §5.3.5.2: directed broadcasts are not forwarded.
                    for edge in edges(v4).into_iter().flatten() {
                        own.announce(port.vrf, IpNet::from(edge), blackhole);
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

    /// Adds a route or changes its group; `before` is the server's group that it overrides.
    pub fn add(&mut self, route: &StaticRoute, before: Option<GroupLabel>) -> Vec<Change> {
        let (label, put) = self.made(route.group.clone());
        let key = (route.vrf, route.prefix);
        let old = self.prefixes.insert(key, Some(label)).flatten();
        self.since.insert(key, Instant::now());
        if let Some(before) = before {
            self.shadowed.entry(key).or_insert(before);
        }
        let mut changes = vec![put, Change::Announce { vrf: route.vrf, prefix: route.prefix, label }];
        changes.extend(old.map(|label| Change::DeleteGroup { label }));
        changes
    }

    /// Removes a route. A server's route to the same prefix is used again.
    ///
    /// # Errors
    /// [`RemoveError`] if there is no such route, or it follows from a port's address.
    pub fn remove(&mut self, vrf: VrfId, prefix: IpNet) -> Result<Vec<Change>, RemoveError> {
        let key = (vrf, prefix);
        let label = match self.prefixes.get(&key) {
            None => return Err(RemoveError::Unknown { vrf, prefix }),
            Some(None) => return Err(RemoveError::OfPort { vrf, prefix }),
            Some(Some(label)) => *label,
        };
        self.prefixes.remove(&key);
        self.since.remove(&key);
        let server = match self.shadowed.remove(&key) {
            Some(label) => Change::Announce { vrf, prefix, label },
            None => Change::Withdraw { vrf, prefix },
        };
        Ok(vec![server, Change::DeleteGroup { label }])
    }

    /// Forgets the server routes that are overridden: a batch with the whole table follows.
    pub fn forget_overridden(&mut self) {
        self.shadowed.clear();
    }

    /// The server's group of a route that the host overrides.
    pub(super) fn overridden(&self, vrf: VrfId, prefix: IpNet) -> Option<GroupLabel> {
        self.shadowed.get(&(vrf, prefix)).copied()
    }

    /// Whether a server's change is applied. Otherwise the host overrides the route, and remembers the change.
    pub fn yields_to(&mut self, change: &Change) -> bool {
        let (key, server) = match *change {
            Change::Announce { vrf, prefix, label } => ((vrf, prefix), Some(label)),
            Change::Withdraw { vrf, prefix } => ((vrf, prefix), None),
            Change::PutGroup { .. } | Change::DeleteGroup { .. } => return true,
        };
        if !self.prefixes.contains_key(&key) {
            return true;
        }
        match server {
            Some(label) => self.shadowed.insert(key, label),
            None => self.shadowed.remove(&key),
        };
        false
    }

    /// Whether the host has a route of its own to the prefix.
    pub fn contains(&self, vrf: VrfId, prefix: IpNet) -> bool {
        self.prefixes.contains_key(&(vrf, prefix))
    }

    /// When the host's own route to the prefix was made or last changed; none: it has none.
    pub fn since(&self, vrf: VrfId, prefix: IpNet) -> Option<Instant> {
        self.since.get(&(vrf, prefix)).copied()
    }

    /// Completes a batch that holds the whole table by deletions of everything that it and the host do not have.
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
        let label = GroupLabel(*OWN | self.groups & !OWN_MASK);
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
            self.since.insert((vrf, prefix), Instant::now());
            self.changes.push(Change::Announce { vrf, prefix, label });
        }
    }
}
