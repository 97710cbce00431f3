//! Membership of the router's ports in multicast groups, told to the link by IGMP and MLD.
//!
//! A snooping switch with a querier passes a group only to those that report it (RFC 4541). Without reports it would stop to pass neighbor
//! solicitations for the router's addresses. [`Membership`] is the whole of it, one [`listener::Listener`] for each port and family: a
//! sans-IO machine of which the control thread owns one. With a TAP interface, the kernel reports groups of its own by the same port;
//! [`keeps`] tells which of them it must not leave.
//!
//! Calls: [`start`](Membership::start) when a link is up for the first time and [`restart`](Membership::restart) when it is up again,
//! [`addresses_changed`](Membership::addresses_changed), and [`handle`](Membership::handle) for received queries; then
//! [`poll`](Membership::poll) for the frames that are due.

pub mod listener;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ipnet::IpNet;

use crate::control::PortSetup;
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::membership::{Query, Record};
use crate::packet::{igmp, ipv4, ipv6, mld, nd};
use listener::{Listener, Report};

/// Most records in a report: they fit into the smallest MTU of IPv6.
const RECORDS: usize = 48;
/// RFC 4291 §2.8, RFC 1812 §2.2.6: a router is a member of the group of all routers.
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

/// The groups of one port.
#[derive(Debug)]
struct Link {
    started: bool,
    v4: Listener,
    v6: Listener,
}

/// The groups of all ports; see the module's documentation.
#[derive(Debug)]
pub struct Membership {
    links: Vec<Link>,
    /// When the earliest report is due.
    next: Option<Instant>,
}

/// The groups that the router itself is a member of on a port. RFC 4291 §2.8: those of solicited nodes, for each address; all routers. The
/// groups of all nodes and all systems are never reported (RFC 3810 §6, RFC 3376 §6).
fn groups(port: &PortSetup) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let own = port.addresses.iter().map(IpNet::addr);
    let v6 = own.clone().filter_map(|address| match address {
        IpAddr::V6(v6) => Some(nd::solicited_node(v6)),
        IpAddr::V4(_) => None,
    });
    let v6 = v6.chain([nd::solicited_node(port.mac.link_local()), ALL_ROUTERS_V6]);
    let v4 = own.clone().any(|address| address.is_ipv4()).then_some(ALL_ROUTERS_V4.into());
    (v4.into_iter().collect(), v6.map(IpAddr::V6).collect())
}

/// Whether the router itself is a member of a group on a port.
pub fn keeps(port: &PortSetup, group: IpAddr) -> bool {
    let (v4, v6) = groups(port);
    if group.is_ipv4() { v4.contains(&group) } else { v6.contains(&group) }
}

impl Membership {
    /// For these ports, whose links are not up yet.
    pub fn new(ports: &[PortSetup]) -> Membership {
        let link = |port: &PortSetup| {
            let [a, b, c, d, e, f] = port.mac.0;
            let seed =
                u64::from_be_bytes([0, 0, a, b, c, d, e, f]) ^ u64::from(port.link.vlan.unwrap_or(0)) << 48;
            Link { started: false, v4: Listener::new(seed), v6: Listener::new(!seed) }
        };
        Membership { links: ports.iter().map(link).collect(), next: None }
    }

    /// The link of a port is up for the first time.
    pub fn start(&mut self, port_index: usize, port: &PortSetup, now: Instant) {
        if let Some(link) = self.links.get_mut(port_index)
            && !std::mem::replace(&mut link.started, true)
        {
            self.addresses_changed(port_index, port, now);
        }
    }

    /// The link of a port is up again.
    pub fn restart(&mut self, port_index: usize, now: Instant) {
        if let Some(link) = self.links.get_mut(port_index) {
            link.v4.restart(now);
            link.v6.restart(now);
            self.next = Some(now);
        }
    }

    /// A port has other addresses than before.
    pub fn addresses_changed(&mut self, port_index: usize, port: &PortSetup, now: Instant) {
        if let Some(link) = self.links.get_mut(port_index).filter(|link| link.started) {
            let (v4, v6) = groups(port);
            link.v4.set_groups(v4, now);
            link.v6.set_groups(v6, now);
            self.next = Some(now);
        }
    }

    /// Takes a received frame; returns whether it was a query.
    pub fn handle(&mut self, frame: &[u8], port_index: u16, now: Instant) -> bool {
        let Some((query, is_v4)) = query(frame) else { return false };
        if let Some(link) = self.links.get_mut(usize::from(port_index)) {
            let listener = if is_v4 { &mut link.v4 } else { &mut link.v6 };
            listener.handle_query(&query, now);
            let next = listener.next();
            self.next = self.next.into_iter().chain(next).min();
        }
        true
    }

    /// The frames that are due, each with the index of its port.
    pub fn poll(&mut self, ports: &[PortSetup], now: Instant) -> Vec<(u16, Vec<u8>)> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for (port_index, (link, port)) in self.links.iter_mut().zip(ports).enumerate() {
            let reports = link.v4.poll(now).into_iter().chain(link.v6.poll(now));
            let built = reports.flat_map(|report| build(&report, port));
            frames.extend(built.map(|frame| (port_index as u16, frame)));
        }
        self.next = self.links.iter().flat_map(|link| [link.v4.next(), link.v6.next()]).flatten().min();
        frames
    }
}

fn query(frame: &[u8]) -> Option<(Query, bool)> {
    let frame = Frame::new_checked(frame).ok()?;
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let header = ipv4::Header::new_checked(bytes, bytes.len()).ok()?;
            igmp::query(&header).map(|query| (query, true))
        }
        ethernet::IPV6 => {
            let header = ipv6::Header::new_checked(bytes, bytes.len()).ok()?;
            mld::query(&header).map(|query| (query, false))
        }
        _ => None,
    }
}

/// The frames of a report.
fn build(report: &Report, port: &PortSetup) -> Vec<Vec<u8>> {
    let (mac, own_v4, own_v6) = (port.mac, address_v4(port), port.mac.link_local());
    match report {
        Report::Records(records) => {
            records.chunks(RECORDS).filter_map(|records| of_records(mac, own_v4, own_v6, records)).collect()
        }
        Report::Old(version, IpAddr::V4(group)) => vec![igmp::old_report(mac, own_v4, *version, *group)],
        Report::Old(_, IpAddr::V6(group)) => vec![mld::old_report(mac, own_v6, *group)],
        Report::Leave(IpAddr::V4(group)) => vec![igmp::leave(mac, own_v4, *group)],
        Report::Leave(IpAddr::V6(group)) => vec![mld::done(mac, own_v6, *group)],
    }
}

/// The records of one report are of one family.
fn of_records(mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr, records: &[(Record, IpAddr)]) -> Option<Vec<u8>> {
    let of_v4 = |&(record, group): &(Record, IpAddr)| match group {
        IpAddr::V4(group) => Some((record, group)),
        IpAddr::V6(_) => None,
    };
    let of_v6 = |&(record, group): &(Record, IpAddr)| match group {
        IpAddr::V6(group) => Some((record, group)),
        IpAddr::V4(_) => None,
    };
    if records.first()?.1.is_ipv4() {
        Some(igmp::report(mac, v4, &records.iter().filter_map(of_v4).collect::<Vec<_>>()))
    } else {
        Some(mld::report(mac, v6, &records.iter().filter_map(of_v6).collect::<Vec<_>>()))
    }
}

/// RFC 3376 §4.2.13: a report has an address of the port as its source, or 0.0.0.0.
fn address_v4(port: &PortSetup) -> Ipv4Addr {
    let first = port.addresses.iter().find_map(|address| match address.addr() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    first.unwrap_or(Ipv4Addr::UNSPECIFIED)
}
