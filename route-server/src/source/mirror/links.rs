//! The interfaces of this host, as far as they decide whether a next hop is in use.
//!
//! The kernel stops using a next hop whose interface goes down, loses its carrier or its address, and tells nobody. zebra tells nothing
//! either where its routes refer to next-hop objects (seen on FRR 10.3 and 10.7). So what a next hop says is only valid together with the state
//! of its interface.
//!
//! What is not known is taken as usable: the sender is right until an event contradicts it. So an address only counts once it was seen and is gone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fibcast_netlink::{Address, Link, Message};
use ipnet::IpNet;

use super::ports::PathHop;

/// Most interfaces that are remembered after their deletion.
const MOST_DELETED: usize = 4096;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Interface {
    /// It is down, without carrier, or deleted.
    down: bool,
    deleted: bool,
    subnets: Vec<IpNet>,
    /// Subnets that it had before.
    former: Vec<IpNet>,
}

/// What was heard of interfaces; see the module's documentation.
#[derive(Debug, Default)]
pub struct Links {
    interfaces: BTreeMap<u32, Interface>,
    /// All are being read again, and what is known is not complete.
    reading: bool,
}

impl Links {
    /// A notification of the kernel, or a part of a dump: the interface whose next hops may have changed.
    pub fn hear(&mut self, message: &Message<'_>) -> Option<u32> {
        let index = self.index_of(message)?;
        let interface = self.interfaces.entry(index).or_default();
        let before = interface.clone();
        if let Some(link) = Link::read(message) {
            (interface.down, interface.deleted) = (!link.running, false);
        } else if Link::deleted(message).is_some() {
            *interface = Interface { down: true, deleted: true, ..Interface::default() };
        } else if let Some((_, subnet, present)) = Address::subnet(message) {
            interface.subnets.retain(|known| *known != subnet);
            interface.former.retain(|known| *known != subnet);
            let list = if present { &mut interface.subnets } else { &mut interface.former };
            list.push(subnet);
        }
        (!self.reading && *interface != before).then_some(index)
    }

    fn index_of(&mut self, message: &Message<'_>) -> Option<u32> {
        let link = Link::read(message).map(|link| link.index).or_else(|| Link::deleted(message));
        let index = link.or_else(|| Address::subnet(message).map(|(index, ..)| index))?;
        if self.interfaces.len() > MOST_DELETED && !self.interfaces.contains_key(&index) {
            self.interfaces.retain(|_, interface| !interface.deleted);
        }
        Some(index)
    }

    /// Messages were lost, and all interfaces and addresses are read again: what is not heard then is gone.
    pub fn read_again(&mut self) {
        self.reading = true;
        for interface in self.interfaces.values_mut() {
            (interface.down, interface.deleted) = (true, true);
            let subnets = std::mem::take(&mut interface.subnets);
            interface.former.extend(subnets);
        }
    }

    /// Whether a next hop is in use, as far as its interface decides it.
    pub fn is_alive(&self, hop: &PathHop) -> bool {
        let Some(interface) = self.interfaces.get(&hop.interface) else { return true };
        let contains = |subnets: &[IpNet], gateway: &IpAddr| subnets.iter().any(|net| net.contains(gateway));
        // No subnet has an on-link gateway, and every interface has the link-local ones.
        let lost = |gateway: &IpAddr| {
            !hop.onlink
                && contains(&interface.former, gateway)
                && !contains(&interface.subnets, gateway)
                && !matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local())
        };
        !interface.down && !hop.gateway.is_some_and(|gateway| lost(&gateway))
    }

    /// All were read: the interfaces that were heard of.
    pub fn were_read(&mut self) -> Vec<u32> {
        self.reading = false;
        self.interfaces.keys().copied().collect()
    }
}
