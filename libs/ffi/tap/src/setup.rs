//! Gives an interface its MAC address, MTU, addresses and the routes of what the host sends from them.

use std::io;
use std::net::IpAddr;

use fibcast_netlink::{flag, kind};
use ipnet::IpNet;

use crate::Tap;
use crate::netlink::Kernel;
use crate::rules::{Rule, octets};

/// Who made a rule or a route (`rtm_protocol`, `FRA_PROTOCOL`): fibcast, as in `packaging/iproute2/fibcast.conf`.
pub const PROTOCOL: u8 = 217;

/// What an interface is to have.
#[derive(Debug, Clone)]
pub struct Setup {
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Routing table for what the host sends from these addresses: a default route out of this interface.
    pub table: u32,
}

impl Setup {
    /// What is sent from one of the addresses asks the table.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Rule> {
        self.addresses.iter().map(|address| Rule::new(address.addr(), self.table))
    }
}

pub(crate) fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// What exists already is as good as made.
fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn link(tap: &Tap, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(tap.index().to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

/// Sets the interface up and brings it up. Rules come last: one that is there has its address on an interface that is there.
pub fn apply(tap: &Tap, setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    let mtu = u32::from(setup.mtu).to_ne_bytes();
    let attributes = [(libc::IFLA_ADDRESS, setup.mac.as_slice()), (libc::IFLA_MTU, &mtu)];
    kernel.ask(kind::NEW_LINK, 0, &link(tap, 0, 0), &attributes)?;
    let up = libc::IFF_UP as u32;
    kernel.ask(kind::NEW_LINK, 0, &link(tap, up, up), &[])?;
    let flags = flag::CREATE | flag::EXCLUSIVE;
    for address in &setup.addresses {
        let own = octets(address.addr());
        // No duplicate address detection: the router does that, on the wire.
        let mut header = vec![family(address.addr()), address.prefix_len(), libc::IFA_F_NODAD as u8, 0];
        header.extend(tap.index().to_ne_bytes());
        let attributes = [(libc::IFA_LOCAL, own.as_slice()), (libc::IFA_ADDRESS, &own)];
        made(kernel.ask(kind::NEW_ADDRESS, flags, &header, &attributes))?;
    }
    for family in families(setup) {
        // A metric of its own, so that each interface has its route: the table is not empty when one of them goes.
        let (index, table) = (tap.index().to_ne_bytes(), setup.table.to_ne_bytes());
        let attributes =
            [(libc::RTA_OIF, index.as_slice()), (libc::RTA_TABLE, &table), (libc::RTA_PRIORITY, &index)];
        made(kernel.ask(kind::NEW_ROUTE, flags, &default_route(family), &attributes))?;
    }
    for rule in setup.rules() {
        made(rule.add(&mut kernel))?;
    }
    Ok(())
}

/// Sets the MAC address alone.
pub fn set_mac(tap: &Tap, mac: [u8; 6]) -> io::Result<()> {
    Kernel::open()?.ask(kind::NEW_LINK, 0, &link(tap, 0, 0), &[(libc::IFLA_ADDRESS, &mac)])
}

/// Takes back what does not go away with the interface.
pub fn take_back(setup: &Setup) -> io::Result<()> {
    let mut kernel = Kernel::open()?;
    setup.rules().map(|rule| rule.delete(&mut kernel)).fold(Ok(()), io::Result::and)
}

fn families(setup: &Setup) -> Vec<u8> {
    let mut all: Vec<u8> = setup.addresses.iter().map(|address| family(address.addr())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// `struct rtmsg`.
fn default_route(family: u8) -> [u8; 12] {
    [family, 0, 0, 0, 0, PROTOCOL, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST, 0, 0, 0, 0]
}
