//! Gives an interface its MAC address, MTU, addresses and the routes of what the host sends from them.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Tap;
use crate::netlink::{Message, Socket};

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

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What exists already is as good as made.
fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Sets the interface up and brings it up.
pub fn apply(tap: &Tap, setup: &Setup) -> io::Result<()> {
    let socket = Socket::open()?;
    let link = |flags: u32, change: u32| {
        let mut fixed = vec![0; 4];
        fixed.extend(tap.index().to_ne_bytes());
        fixed.extend(flags.to_ne_bytes());
        fixed.extend(change.to_ne_bytes());
        Message::new(libc::RTM_NEWLINK, 0, &fixed)
    };
    let message = link(0, 0).attribute(libc::IFLA_ADDRESS, &setup.mac);
    socket.ask(message.attribute(libc::IFLA_MTU, &u32::from(setup.mtu).to_ne_bytes()))?;
    let up = libc::IFF_UP as u32;
    socket.ask(link(up, up))?;
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    for address in &setup.addresses {
        let own = octets(address.addr());
        // No duplicate address detection: the router does that, on the wire.
        let mut fixed = vec![family(address.addr()), address.prefix_len(), libc::IFA_F_NODAD as u8, 0];
        fixed.extend(tap.index().to_ne_bytes());
        let message = Message::new(libc::RTM_NEWADDR, flags, &fixed);
        made(socket.ask(message.attribute(libc::IFA_LOCAL, &own).attribute(libc::IFA_ADDRESS, &own)))?;
    }
    for family in families(setup) {
        let fixed = route_header(family, 0, 0);
        let message = Message::new(libc::RTM_NEWROUTE, flags, &fixed);
        let message = message.attribute(libc::RTA_OIF, &tap.index().to_ne_bytes());
        made(socket.ask(message.attribute(libc::RTA_TABLE, &setup.table.to_ne_bytes())))?;
    }
    rules(&socket, setup, libc::RTM_NEWRULE, flags)
}

/// Takes back what does not go away with the interface.
pub fn take_back(setup: &Setup) -> io::Result<()> {
    rules(&Socket::open()?, setup, libc::RTM_DELRULE, 0)
}

/// What is sent from one of the addresses asks the table.
fn rules(socket: &Socket, setup: &Setup, kind: u16, flags: i32) -> io::Result<()> {
    for address in &setup.addresses {
        let own = octets(address.addr());
        let fixed = route_header(family(address.addr()), 0, (own.len() * 8) as u8);
        let message = Message::new(kind, flags, &fixed);
        let message = message.attribute(FRA_SRC, &own);
        made(socket.ask(message.attribute(FRA_TABLE, &setup.table.to_ne_bytes())))?;
    }
    Ok(())
}

/// linux/fib_rules.h.
const FRA_SRC: u16 = 2;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;

fn families(setup: &Setup) -> Vec<u8> {
    let mut all: Vec<u8> = setup.addresses.iter().map(|address| family(address.addr())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// `struct rtmsg`, and `struct fib_rule_hdr`, whose last field of note is the action where a route has its type.
fn route_header(family: u8, destination: u8, source: u8) -> Vec<u8> {
    // A unicast route and "look into a table" are both 1.
    let kind = FR_ACT_TO_TBL;
    vec![family, destination, source, 0, 0, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, kind, 0, 0, 0, 0]
}
