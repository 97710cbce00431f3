//! Configures an interface: MAC address, MTU, addresses, and the routes for traffic from them.

use std::io;

use fibcast_netlink::{Address, Family, Hop, Link, PROTOCOL, Route, Rule, flag, kind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Tap;
use crate::netlink::Kernel;
use crate::rules;

/// Configuration of an interface.
#[derive(Debug, Clone)]
pub struct Setup {
    /// MAC address.
    pub mac: [u8; 6],
    /// MTU: largest IP packet in bytes.
    pub mtu: u16,
    /// Addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Routing table for traffic from these addresses: a default route out of this interface.
    pub table: u32,
}

impl Setup {
    /// Traffic from these addresses uses the table.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Rule> {
        self.addresses.iter().map(|address| rules::rule_for(address.addr(), self.table))
    }
}

/// What exists already is as good as made.
fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn change(kernel: &mut Kernel, link: Link) -> io::Result<()> {
    kernel.ask(|writer, sequence| link.write(writer, 0, sequence))
}

/// Configures the interface and sets it up. Rules come last: the address of an existing rule is on an existing interface.
///
/// # Errors
/// The system's error, for instance without CAP_NET_ADMIN.
pub fn apply(tap: &Tap, setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    let link = Link { index: tap.index(), ..Link::default() };
    change(&mut kernel, Link { mac: Some(setup.mac), mtu: Some(setup.mtu.into()), ..link })?;
    change(&mut kernel, Link { up: true, ..link })?;
    let flags = flag::CREATE | flag::EXCLUSIVE;
    for address in &setup.addresses {
        // No duplicate address detection: the router does that, on the wire.
        let address = Address { interface: tap.index(), address: *address };
        made(kernel.ask(|writer, sequence| address.write(writer, flags, sequence)))?;
    }
    for prefix in defaults(setup) {
        let route = Route {
            prefix,
            table: setup.table,
            protocol: PROTOCOL,
            // Of its own, so that each interface has its route: the table is not empty when one of them goes.
            metric: tap.index(),
            hops: vec![Hop::new(None, tap.index(), 1)],
            ..Route::default()
        };
        made(kernel.ask(|writer, sequence| route.write(writer, kind::NEW_ROUTE, flags, sequence)))?;
    }
    for rule in setup.rules() {
        made(kernel.ask(|writer, sequence| rule.write(writer, kind::NEW_RULE, flags, sequence)))?;
    }
    Ok(())
}

/// Sets only the MAC address.
///
/// # Errors
/// The system's error.
pub fn set_mac(tap: &Tap, mac: [u8; 6]) -> io::Result<()> {
    change(&mut Kernel::open()?, Link { index: tap.index(), mac: Some(mac), ..Link::default() })
}

/// Removes what does not disappear with the interface.
///
/// # Errors
/// The system's error.
pub fn take_back(setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    setup.rules().map(|rule| rules::delete(&rule, &mut kernel)).fold(Ok(()), io::Result::and)
}

/// The default routes of the families that there are addresses of.
fn defaults(setup: &Setup) -> impl Iterator<Item = IpNet> {
    let has = |family| setup.addresses.iter().any(|a| Family::of_address(a.addr()) == family);
    let v4 = has(Family::Ipv4).then(|| Ipv4Net::default().into());
    v4.into_iter().chain(has(Family::Ipv6).then(|| Ipv6Net::default().into()))
}
