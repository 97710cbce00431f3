//! Configures an interface: MAC address, MTU, addresses, and the routes for traffic from them.

use std::io;
use std::net::IpAddr;

use fibcast_netlink::{Address, Family, Hop, Link, PROTOCOL, Route, Rule, flag, kind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Tap;
use crate::netlink::Kernel;
use crate::rules;

/// Fails if it exists.
const CREATE: u16 = flag::CREATE | flag::EXCLUSIVE;

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

/// Configures a new interface and sets it up.
///
/// # Errors
/// The system's error, for instance without CAP_NET_ADMIN.
pub fn apply(tap: &Tap, setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    let link = Link { index: tap.index(), ..Link::default() };
    change(&mut kernel, Link { mac: Some(setup.mac), mtu: Some(setup.mtu.into()), ..link })?;
    no_autoconfiguration(tap.name());
    change(&mut kernel, Link { up: true, ..link })?;
    restore(tap, setup)
}

/// RFC 4862 §2, RFC 4861 §6.2: a router's interface is not configured by the advertisements of other routers. An operator may switch it on.
fn no_autoconfiguration(name: &str) {
    // Without IPv6 there is no such file; in a container it may be read-only.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0");
}

/// Adds addresses, routes and rules as far as they are missing: IPv6 addresses and all routes vanish when the interface is set down. Rules
/// come last: the address of an existing rule is on an existing interface.
///
/// # Errors
/// The system's error, for instance if the interface is down.
pub fn restore(tap: &Tap, setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    for address in &setup.addresses {
        // No duplicate address detection: the router does that, on the wire.
        let address = Address { interface: tap.index(), address: *address };
        made(kernel.ask(|writer, sequence| address.write(writer, CREATE, sequence)))?;
    }
    for address in &setup.addresses {
        route_from(tap, address.addr(), setup.table, &mut kernel)?;
    }
    Ok(())
}

/// Routes what the host sends from an address by the interface: a default route in its table, and a rule that uses the table.
fn route_from(tap: &Tap, address: IpAddr, table: u32, kernel: &mut Kernel) -> io::Result<()> {
    let prefix = match Family::of_address(address) {
        Family::Ipv4 => Ipv4Net::default().into(),
        Family::Ipv6 => Ipv6Net::default().into(),
    };
    let route = Route {
        prefix,
        table,
        protocol: PROTOCOL,
        // Of its own: another dataplane in this namespace may use the same table.
        metric: tap.index(),
        hops: vec![Hop::new(None, tap.index(), 1)],
        ..Route::default()
    };
    made(kernel.ask(|writer, sequence| route.write(writer, kind::NEW_ROUTE, CREATE, sequence)))?;
    let rule = rules::rule_for(address, table);
    made(kernel.ask(|writer, sequence| rule.write(writer, kind::NEW_RULE, CREATE, sequence)))
}

/// The same for an address that somebody else added to the interface.
///
/// # Errors
/// The system's error.
pub fn add_source(tap: &Tap, address: IpAddr, table: u32) -> io::Result<()> {
    route_from(tap, address, table, &mut Kernel::open()?)
}

/// Removes the rule of [`add_source`]; its route disappears with the interface.
///
/// # Errors
/// The system's error.
pub fn remove_source(address: IpAddr, table: u32) -> io::Result<()> {
    rules::delete(&rules::rule_for(address, table), &mut Kernel::open()?)
}

/// Sets only the MAC address.
///
/// # Errors
/// The system's error.
pub fn set_mac(tap: &Tap, mac: [u8; 6]) -> io::Result<()> {
    change(&mut Kernel::open()?, Link { index: tap.index(), mac: Some(mac), ..Link::default() })
}

/// Sets only the MTU.
///
/// # Errors
/// The system's error.
pub fn set_mtu(tap: &Tap, mtu: u16) -> io::Result<()> {
    change(&mut Kernel::open()?, Link { index: tap.index(), mtu: Some(mtu.into()), ..Link::default() })
}

/// Removes what does not disappear with the interface.
///
/// # Errors
/// The system's error.
pub fn take_back(setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    setup.rules().map(|rule| rules::delete(&rule, &mut kernel)).fold(Ok(()), io::Result::and)
}
