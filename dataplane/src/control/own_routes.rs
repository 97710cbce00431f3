//! Routes that the host has by itself: own addresses, connected subnets, `[[static_route]]`. They win over those from servers.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_fib::{Change, Fib, Group, GroupLabel, NextHop, PortId, VrfId};
use ipnet::{IpNet, Ipv4Net};

use super::{Batch, PortSetup};

/// High half of the labels of own groups. Labels from servers are hashes; meeting one of these would take 2^32 groups.
const OWN: u64 = 0xf1bc_a570_0000_0000;
const OWN_MASK: u64 = 0xffff_ffff_0000_0000;

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
    /// What puts them into an empty table.
    pub changes: Vec<Change>,
    prefixes: HashSet<(VrfId, IpNet)>,
}

impl OwnRoutes {
    /// In the order of precedence: an own address wins over a subnet, a subnet over a static route to the same prefix.
    pub fn new(ports: &[PortSetup], routes: &[StaticRoute]) -> OwnRoutes {
        let mut own = OwnRoutes { changes: Vec::new(), prefixes: HashSet::new() };
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
            let label = own.group(route.group.clone());
            own.announce(route.vrf, route.prefix, label);
        }
        own
    }

    /// Whether the host's own route wins over what a server says about this prefix.
    pub fn wins(&self, change: &Change) -> bool {
        match change {
            Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } => {
                self.prefixes.contains(&(*vrf, *prefix))
            }
            Change::PutGroup { .. } | Change::DeleteGroup { .. } => false,
        }
    }

    /// Whether the host has this route by itself.
    pub fn contains(&self, vrf: VrfId, prefix: IpNet) -> bool {
        self.prefixes.contains(&(vrf, prefix))
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
                Change::Withdraw { vrf, prefix } => !routes.contains(&(*vrf, *prefix)) && !self.wins(change),
                _ => false,
            }));
        }
        let gone = fib.groups().map(|(label, ..)| label);
        let gone = gone.filter(|label| label.0 & OWN_MASK != OWN && !groups.contains(label));
        batch.changes.extend(gone.map(|label| Change::DeleteGroup { label }));
    }

    fn group(&mut self, group: Group) -> GroupLabel {
        let label = GroupLabel(OWN | self.changes.len() as u64);
        self.changes.push(Change::PutGroup { label, group });
        label
    }

    fn announce(&mut self, vrf: VrfId, prefix: IpNet, label: GroupLabel) {
        if self.prefixes.insert((vrf, prefix)) {
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
