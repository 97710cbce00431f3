//! Addresses that the kernel has on a TAP interface besides the configured ones: an operator or a DHCP client added them there.
//!
//! They become addresses of the port: ARP and ND are answered, packets to them are local, and their subnets are connected. They go when the
//! kernel's go. A configured address or route to the same prefix takes precedence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use fibcast_fib::{Group, NextHop, PortId, Special, VrfId};
use ipnet::IpNet;

use super::Control;
use super::memberships::station;
use super::next_hops::owned;
use super::own_routes::StaticRoute;
use crate::packet::ipv6;
use crate::pipeline::port::edges;

/// The addresses by port index, and the routes that follow from them.
#[derive(Debug, Default)]
pub(super) struct KernelAddresses {
    by_port: BTreeMap<usize, BTreeSet<IpNet>>,
    /// On the TAP interface of the loopback.
    loopback: BTreeSet<IpAddr>,
    routes: BTreeMap<(VrfId, IpNet), Group>,
}

impl Control {
    /// The kernel has these addresses on the TAP interface of a port, and no others besides the configured ones.
    pub fn set_kernel_addresses(&mut self, port_index: usize, addresses: Vec<IpNet>, now: Instant) {
        let Some(port) = self.ports.get_mut(port_index) else { return };
        let before = self.kernel_addresses.by_port.remove(&port_index).unwrap_or_default();
        port.addresses.retain(|own| !before.contains(own));
        // The link-local address that follows from the MAC address is the port's anyway.
        let others = addresses.into_iter().filter(|address| !port.owns(address.addr()));
        let after: BTreeSet<IpNet> = others.collect();
        port.addresses.extend(&after);
        if before == after {
            self.kernel_addresses.by_port.insert(port_index, after);
            return;
        }
        for gone in before.difference(&after) {
            tracing::info!("port {}: the kernel does not have {gone} any more", port.name);
            self.announcer.stop(port_index as u16, gone.addr());
        }
        for new in after.difference(&before) {
            tracing::info!("port {}: the kernel has {new} on the TAP interface", port.name);
            self.announcer.start(port_index as u16, new.addr(), now);
        }
        let vrf = port.vrf;
        before.symmetric_difference(&after).for_each(|own| self.recursion.note_subnet(vrf, own.trunc()));
        self.kernel_addresses.by_port.insert(port_index, after);
        self.route_kernel_addresses();
        self.resolve_groups();
        if let Some(port) = self.ports.get(port_index) {
            self.membership.addresses_changed(port_index, station(port), now);
        }
        self.resolve_moved(now);
    }

    /// The kernel has these addresses on the loopback's TAP interface, and no others besides the configured ones. Like those, each is one of
    /// the router itself, on every port of the default VRF, and has no subnet.
    pub fn set_kernel_loopback(&mut self, addresses: Vec<IpNet>, now: Instant) {
        let before = std::mem::take(&mut self.kernel_addresses.loopback);
        let new = |own: &IpAddr| before.contains(own) || !owned(*own, VrfId::DEFAULT, &self.ports);
        let usable = addresses.iter().map(IpNet::addr).filter(|own| !ipv6::is_link_local_v6(*own));
        let after: BTreeSet<IpAddr> = usable.filter(new).collect();
        self.kernel_addresses.loopback = after.clone();
        if before == after {
            return;
        }
        for (own, words) in before
            .difference(&after)
            .map(|own| (own, "does not have"))
            .chain(after.difference(&before).map(|own| (own, "has")))
        {
            tracing::info!("loopback: the kernel {words} {own} on the TAP interface");
        }
        for (port_index, port) in self.ports.iter_mut().enumerate() {
            if port.vrf == VrfId::DEFAULT {
                port.loopback.retain(|own| !before.contains(own));
                port.loopback.extend(&after);
                self.membership.addresses_changed(port_index, station(port), now);
            }
        }
        self.route_kernel_addresses();
        self.resolve_moved(now);
    }

    /// Adds and removes routes, so that they are those that follow from the addresses.
    fn route_kernel_addresses(&mut self) {
        let mut wanted: BTreeMap<(VrfId, IpNet), Group> = BTreeMap::new();
        let all = self.kernel_addresses.by_port.iter();
        let all: Vec<_> = all.flat_map(|(port, own)| own.iter().map(|own| (*port, *own))).collect();
        for (port_index, own) in &all {
            let Some(vrf) = self.ports.get(*port_index).map(|port| port.vrf) else { continue };
            // RFC 4291 §2.5.6: never looked up.
            if ipv6::is_link_local_v6(own.addr()) {
                continue;
            }
            wanted.insert((vrf, IpNet::from(own.addr())), Group::Special(Special::Local));
        }
        for own in &self.kernel_addresses.loopback {
            wanted.insert((VrfId::DEFAULT, IpNet::from(*own)), Group::Special(Special::Local));
        }
        for (port_index, own) in all {
            let Some(vrf) = self.ports.get(port_index).map(|port| port.vrf) else { continue };
            let Ok(connected) = Group::one(NextHop::connected(PortId(port_index as u16))) else { continue };
            if !ipv6::is_link_local_v6(own.addr()) {
                // RFC 1812 §4.2.2.11, §5.3.5.2: directed broadcasts are not forwarded.
                if let IpNet::V4(v4) = own {
                    for edge in edges(&v4).into_iter().flatten() {
                        wanted.entry((vrf, edge.into())).or_insert(Group::Special(Special::Blackhole));
                    }
                }
                wanted.entry((vrf, own.trunc())).or_insert(connected);
            }
        }
        let before = std::mem::take(&mut self.kernel_addresses.routes);
        for ((vrf, prefix), group) in &before {
            // An error: an operator removed the route meanwhile.
            if wanted.get(&(*vrf, *prefix)) != Some(group) && self.remove_route(*vrf, *prefix).is_err() {
                tracing::debug!("vrf {}: the route to {prefix} is gone already", vrf.0);
            }
        }
        for ((vrf, prefix), group) in wanted {
            let known = before.get(&(vrf, prefix)) == Some(&group);
            if known || !self.own.contains(vrf, prefix) {
                if !known {
                    self.add_route(&StaticRoute { vrf, prefix, group: group.clone() });
                }
                self.kernel_addresses.routes.insert((vrf, prefix), group);
            }
        }
    }
}
