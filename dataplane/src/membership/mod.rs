//! Membership of the router's ports in multicast groups, told to the link by IGMP and MLD.
//!
//! A snooping switch with a querier passes a group only to those that report it (RFC 4541). Without reports it would stop to pass neighbor
//! solicitations for the router's addresses. [`Membership`] is the whole of it, one [`listener::Listener`] for each port and family: a
//! sans-IO machine of which the control thread owns one. With a TAP interface, the kernel reports groups of its own by the same port;
//! [`Station::is_member`] tells which of them it must not leave.
//!
//! Calls: [`start`](Membership::start) when a link is up for the first time and [`restart`](Membership::restart) when it is up again,
//! [`addresses_changed`](Membership::addresses_changed), and [`handle`](Membership::handle) for received queries; then
//! [`poll`](Membership::poll) for the frames that are due.

pub mod listener;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ipnet::IpNet;

use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::membership::{Query, Record};
use crate::packet::{igmp, ipv4, ipv6, mld, nd};
use crate::pipeline::port::subnet_router_anycast;
use listener::{Listener, Report};

/// Most records in a report: they fit into the smallest MTU of IPv6.
const RECORDS: usize = 48;
/// RFC 4291 §2.8, RFC 1812 §2.2.6: a router is a member of the group of all routers.
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);

/// What of a port decides its groups and its reports.
#[derive(Debug, Clone, Copy)]
pub struct Station<'a> {
    /// MAC address.
    pub mac: Mac,
    /// Addresses with their subnets.
    pub addresses: &'a [IpNet],
    /// Addresses of the router that every port answers for.
    pub loopback: &'a [IpAddr],
}

/// The groups of one port.
#[derive(Debug)]
struct Link {
    started: bool,
    mac: Mac,
    /// Source of IGMP reports. RFC 3376 §4.2.13: an address of the port, or 0.0.0.0.
    source: Ipv4Addr,
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

impl Station<'_> {
    fn addresses_v4(self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpNet::V4(v4) => Some(v4.addr()),
            IpNet::V6(_) => None,
        })
    }

    /// The groups that the router itself is a member of. RFC 4291 §2.8: those of solicited nodes, for each unicast and anycast address; all
    /// routers. The groups of
    /// all nodes and all systems are never reported (RFC 3810 §6, RFC 3376 §6).
    fn groups_v6(self) -> impl Iterator<Item = Ipv6Addr> {
        let own = self.addresses.iter().map(IpNet::addr).chain(self.loopback.iter().copied());
        let own = own.filter_map(|address| match address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        });
        let anycast = self.addresses.iter().filter_map(subnet_router_anycast);
        let addresses = own.chain(anycast).chain([self.mac.link_local()]);
        // Several addresses may have one group.
        let groups: BTreeSet<Ipv6Addr> = addresses.map(nd::solicited_node).chain([ALL_ROUTERS_V6]).collect();
        groups.into_iter()
    }

    /// The same for IPv4, if the port has an address.
    fn groups_v4(self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses_v4().next().map(|_| ALL_ROUTERS_V4).into_iter()
    }

    /// Whether the router itself is a member of this group.
    pub fn is_member(self, group: IpAddr) -> bool {
        match group {
            IpAddr::V4(group) => self.groups_v4().any(|own| own == group),
            IpAddr::V6(group) => self.groups_v6().any(|own| own == group),
        }
    }
}

impl Membership {
    /// For ports with these MAC addresses, whose links are not up yet.
    pub fn new(macs: impl Iterator<Item = Mac>) -> Membership {
        let link = |(port_index, mac): (usize, Mac)| {
            let [a, b, c, d, e, f] = mac.0;
            // Sub-interfaces share the MAC address of their parent.
            let seed = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) ^ (port_index as u64) << 48;
            let (v4, v6) = (Listener::new(seed), Listener::new(!seed));
            Link { started: false, mac, source: Ipv4Addr::UNSPECIFIED, v4, v6 }
        };
        Membership { links: macs.enumerate().map(link).collect(), next: None }
    }

    /// The link of a port is up for the first time.
    pub fn start(&mut self, port_index: usize, station: Station<'_>, now: Instant) {
        if let Some(link) = self.links.get_mut(port_index)
            && !std::mem::replace(&mut link.started, true)
        {
            self.addresses_changed(port_index, station, now);
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
    pub fn addresses_changed(&mut self, port_index: usize, station: Station<'_>, now: Instant) {
        if let Some(link) = self.links.get_mut(port_index).filter(|link| link.started) {
            link.source = station.addresses_v4().next().unwrap_or(Ipv4Addr::UNSPECIFIED);
            link.v4.set_groups(station.groups_v4().map(IpAddr::V4), now);
            link.v6.set_groups(station.groups_v6().map(IpAddr::V6), now);
            self.next = Some(now);
        }
    }

    /// Takes a received frame; returns whether it was a query.
    pub fn handle(&mut self, frame: &[u8], port_index: u16, now: Instant) -> bool {
        let Some((query, is_v4)) = query(frame) else { return false };
        if let Some(link) = self.links.get_mut(usize::from(port_index)) {
            let listener = if is_v4 { &mut link.v4 } else { &mut link.v6 };
            listener.handle_query(&query, now);
            self.next = self.next.into_iter().chain(listener.next()).min();
        }
        true
    }

    /// The frames that are due, each with the index of its port.
    pub fn poll(&mut self, now: Instant) -> Vec<(u16, Vec<u8>)> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for (port_index, link) in self.links.iter_mut().enumerate() {
            let reports = link.v4.poll(now).into_iter().chain(link.v6.poll(now));
            for report in reports {
                frames.extend(link.build(&report).into_iter().map(|frame| (port_index as u16, frame)));
            }
        }
        self.next = self.links.iter().flat_map(|link| [link.v4.next(), link.v6.next()]).flatten().min();
        frames
    }
}

impl Link {
    /// The frames of a report.
    fn build(&self, report: &Report) -> Vec<Vec<u8>> {
        let (mac, own_v4, own_v6) = (self.mac, self.source, self.mac.link_local());
        match report {
            Report::Records(records) => records
                .chunks(RECORDS)
                .filter_map(|records| of_records(mac, own_v4, own_v6, records))
                .collect(),
            Report::Old(version, IpAddr::V4(group)) => vec![igmp::old_report(mac, own_v4, *version, *group)],
            Report::Old(_, IpAddr::V6(group)) => vec![mld::old_report(mac, own_v6, *group)],
            Report::Leave(IpAddr::V4(group)) => vec![igmp::leave(mac, own_v4, *group)],
            Report::Leave(IpAddr::V6(group)) => vec![mld::done(mac, own_v6, *group)],
        }
    }
}

fn query(frame: &[u8]) -> Option<(Query, bool)> {
    let frame = Frame::new_checked(frame).ok()?;
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).ok()?;
            igmp::query(&header).map(|query| (query, true))
        }
        ethernet::IPV6 => {
            let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
            mld::query(&header).map(|query| (query, false))
        }
        _ => None,
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
