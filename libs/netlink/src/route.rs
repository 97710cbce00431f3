//! `RTM_NEWROUTE` and `RTM_DELROUTE`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::{Attribute, Attributes, address};
use super::bytes::{Malformed, u16_at, u32_at};
use super::kind;
use super::message::Message;
use super::writer::{Writer, flag};

/// `struct rtmsg`.
const HEADER: usize = 12;
/// `struct rtnexthop`.
const HOP_HEADER: usize = 8;

// `rtm_type`.
const UNICAST: u8 = 1;
const BLACKHOLE: u8 = 6;
const UNREACHABLE: u8 = 7;
const PROHIBIT: u8 = 8;

// Attributes.
const DESTINATION: u16 = 1;
const OUTPUT: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
const VIA: u16 = 18;
const ENCAP_TYPE: u16 = 21;
const NEXTHOP_ID: u16 = 30;

/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`: the kernel does not use this hop, or its link has no carrier.
pub(crate) const DEAD: u8 = 1 | 16;
/// `RTNH_F_ONLINK`: the gateway is on the link, whatever the addresses of the interface say.
const ONLINK: u8 = 4;
/// `RTM_F_CLONED`: a cache entry, not a route.
const CLONED: u32 = 0x200;

/// Address families of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// `AF_INET`
    Ipv4 = 2,
    /// `AF_INET6`
    Ipv6 = 10,
}

impl Family {
    /// The family with this number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            2 => Some(Family::Ipv4),
            10 => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Of an address.
    pub fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

/// Routes without next hops, with their `rtm_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Special {
    /// Drop silently.
    Blackhole = BLACKHOLE,
    /// Drop and send ICMP unreachable.
    Unreachable = UNREACHABLE,
    /// Drop and send ICMP prohibited.
    Prohibit = PROHIBIT,
}

/// A next hop of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Gateway; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface index on the sender's host; 0: none.
    pub interface: u32,
    /// Weight, at least 1.
    pub weight: u16,
    /// Packets are to be encapsulated (MPLS, SRv6, …).
    pub encapsulated: bool,
    /// Not in use.
    pub dead: bool,
    /// The gateway is on the interface's link, even if none of its subnets has it.
    pub onlink: bool,
}

impl Hop {
    const NONE: Hop = Hop::new(None, 0, 1);

    /// One in use, whose packets go out as they are.
    pub const fn new(gateway: Option<IpAddr>, interface: u32, weight: u16) -> Self {
        Hop { gateway, interface, weight, encapsulated: false, dead: false, onlink: false }
    }
}

/// Target of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The next hops in [`Route::hops`], which may be empty in a withdrawal.
    Hops,
    /// A next-hop object by id.
    Object(u32),
    /// No next hop.
    Special(Special),
    /// A route type that is not for forwarding (`local`, `broadcast`, `multicast`, …).
    Other(u8),
}

/// A route, read or to be written. One that was read is used again for the next, so that its vector is made once.
#[derive(Debug, Clone)]
pub struct Route {
    /// Destination, without host bits.
    pub prefix: IpNet,
    /// Table id on the sender's host.
    pub table: u32,
    /// Originator of the route (`rtm_protocol`).
    pub protocol: u8,
    /// Type of service that it applies to; 0: any.
    pub tos: u8,
    /// Length of the source prefix (`RTA_SRC`); 0: any source.
    pub source: u8,
    /// Metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// `rtm_scope`: 0 anywhere, 253 on the link; in a deletion 255 stands for any.
    pub scope: u8,
    /// Where it leads.
    pub target: Target,
    /// Its next hops.
    pub hops: Vec<Hop>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            prefix: IpNet::default(),
            table: 0,
            protocol: 0,
            tos: 0,
            source: 0,
            metric: 0,
            scope: 0,
            target: Target::Hops,
            hops: Vec::new(),
        }
    }
}

impl Route {
    /// Parses a message. False: it is not a route, or of another family.
    ///
    /// # Errors
    /// [`Malformed`] with the offset of what cannot be parsed.
    pub fn read(&mut self, message: &Message<'_>) -> Result<bool, Malformed> {
        let body = message.body;
        let (Some(&[family, length, source, tos, table, protocol, scope, kind]), Some(flags)) =
            (body.first_chunk::<8>(), u32_at(body, 8))
        else {
            return Err(Malformed { at: message.body_at(), reason: "expected a route header of 12 bytes" });
        };
        let Some(family) = Family::of(family) else { return Ok(false) };
        if flags & CLONED != 0 {
            return Ok(false);
        }
        if length > family.bits() {
            let at = message.body_at() + 1;
            return Err(Malformed { at, reason: "a prefix is longer than its family's addresses" });
        }
        self.hops.clear();
        (self.table, self.protocol, self.metric) = (u32::from(table), protocol, 0);
        (self.tos, self.source, self.scope) = (tos, source, scope);
        let mut destination: [u8; 16] = [0; 16];
        let mut single = Hop::NONE;
        let mut object = None;
        let attributes = body.get(HEADER..).unwrap_or_default();
        for attribute in Attributes::new(attributes, message.body_at() + HEADER) {
            let attribute = attribute?;
            match attribute.kind {
                DESTINATION => {
                    let expected = usize::from(family.bits() / 8);
                    let room = destination.get_mut(..expected).filter(|_| attribute.value.len() == expected);
                    let Some(room) = room else {
                        return Err(attribute.wrong("expected a destination of the route's family"));
                    };
                    room.copy_from_slice(attribute.value);
                }
                TABLE => self.table = attribute.number()?,
                PRIORITY => self.metric = attribute.number()?,
                MULTIPATH => self.read_hops(&attribute)?,
                NEXTHOP_ID => object = Some(attribute.number()?),
                _ => read_hop(&attribute, &mut single)?,
            }
        }
        self.prefix = prefix(family, destination, length)
            .ok_or(Malformed { at: message.body_at() + 1, reason: "expected a prefix" })?;
        self.target = match (kind, object) {
            (BLACKHOLE, _) => Target::Special(Special::Blackhole),
            (UNREACHABLE, _) => Target::Special(Special::Unreachable),
            (PROHIBIT, _) => Target::Special(Special::Prohibit),
            // zebra's withdrawals have type 0.
            (UNICAST | 0, Some(id)) => Target::Object(id),
            (UNICAST | 0, None) => Target::Hops,
            (other, _) => Target::Other(other),
        };
        if self.hops.is_empty() && (single.gateway.is_some() || single.interface != 0) {
            single.dead = flags & u32::from(DEAD) != 0;
            single.onlink = flags & u32::from(ONLINK) != 0;
            self.hops.push(single);
        }
        Ok(true)
    }

    /// Writes it as `RTM_NEWROUTE` or `RTM_DELROUTE`. What `source` says of packets' origin is not written, nor what is `encapsulated` or
    /// `dead`. A deletion without next hops matches all.
    pub fn write(&self, writer: &mut Writer, kind: u16, flags: u16, sequence: u32) {
        let family = Family::of_address(self.prefix.addr());
        let rtm_type = match self.target {
            Target::Special(special) => special as u8,
            Target::Other(other) => other,
            // In a deletion 0 matches every type.
            Target::Hops if kind == kind::DEL_ROUTE && self.hops.is_empty() => 0,
            Target::Hops | Target::Object(_) => UNICAST,
        };
        let (length, scope) = (self.prefix.prefix_len(), self.scope);
        let table = small(self.table);
        let flags_of = |hop: &Hop| if hop.onlink { ONLINK } else { 0 };
        let [a, b, c, d] = match self.hops.as_slice() {
            [hop] => u32::from(flags_of(hop)).to_ne_bytes(),
            _ => [0; 4],
        };
        let header = [family as u8, length, 0, self.tos, table, self.protocol, scope, rtm_type, a, b, c, d];
        writer.begin(kind, flags, sequence, &header);
        writer.address(DESTINATION, self.prefix.addr());
        writer.number(TABLE, self.table);
        writer.number(PRIORITY, self.metric);
        match (self.target, self.hops.as_slice()) {
            (Target::Object(id), _) => writer.number(NEXTHOP_ID, id),
            (Target::Hops, [hop]) => {
                write_gateway(writer, family, hop);
                if hop.interface != 0 {
                    writer.number(OUTPUT, hop.interface);
                }
            }
            (Target::Hops, [_, _, ..]) => {
                let list = writer.open(&MULTIPATH.to_ne_bytes());
                for hop in &self.hops {
                    let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                    let at =
                        writer.open(&[&[flags_of(hop), weight][..], &hop.interface.to_ne_bytes()].concat());
                    write_gateway(writer, family, hop);
                    writer.close(at);
                }
                writer.close(list);
            }
            (Target::Hops, []) | (Target::Special(_) | Target::Other(_), _) => {}
        }
        writer.end();
    }

    /// Writes a request for all routes of a table. The kernel picks those of one protocol; 0: all.
    pub fn dump(writer: &mut Writer, sequence: u32, family: Family, table: u32, protocol: u8) {
        let header = [family as u8, 0, 0, 0, small(table), protocol, 0, 0, 0, 0, 0, 0];
        writer.begin(kind::GET_ROUTE, flag::REQUEST | flag::DUMP, sequence, &header);
        writer.number(TABLE, table);
        writer.end();
    }

    fn read_hops(&mut self, list: &Attribute<'_>) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(rest) = list.value.get(at..).filter(|rest| !rest.is_empty()) {
            let wrong = |reason| Malformed { at: list.at + at, reason };
            let (Some(length), Some(&[_, _, flags, weight]), Some(interface)) =
                (u16_at(rest, 0), rest.first_chunk::<4>(), u32_at(rest, 4))
            else {
                return Err(wrong("expected a next hop of 8 bytes or more, found the end"));
            };
            let length = usize::from(length);
            if length < HOP_HEADER {
                return Err(wrong("a next hop is shorter than its header"));
            }
            let Some(attributes) = rest.get(HOP_HEADER..length) else {
                return Err(wrong("a next hop is longer than what holds it"));
            };
            let (dead, onlink) = (flags & DEAD != 0, flags & ONLINK != 0);
            let mut hop = Hop { interface, weight: u16::from(weight) + 1, dead, onlink, ..Hop::NONE };
            for attribute in Attributes::new(attributes, list.at + at + HOP_HEADER) {
                read_hop(&attribute?, &mut hop)?;
            }
            self.hops.push(hop);
            at += length.next_multiple_of(4);
        }
        Ok(())
    }
}

/// `rtm_table`, which has one byte; 0 where the attribute alone says the table.
fn small(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(0)
}

fn write_gateway(writer: &mut Writer, family: Family, hop: &Hop) {
    match hop.gateway {
        // RFC 8950.
        Some(IpAddr::V6(address)) if family == Family::Ipv4 => {
            let via = [&u16::from(Family::Ipv6 as u8).to_ne_bytes()[..], &address.octets()].concat();
            writer.attribute(VIA, &via);
        }
        Some(address) => writer.address(GATEWAY, address),
        None => {}
    }
}

/// Takes what an attribute says of a next hop.
fn read_hop(attribute: &Attribute<'_>, hop: &mut Hop) -> Result<(), Malformed> {
    match attribute.kind {
        OUTPUT => hop.interface = attribute.number()?,
        GATEWAY => hop.gateway = Some(attribute.address()?),
        // `struct rtvia`: family, then the address. IPv4 over IPv6 (RFC 8950).
        VIA => {
            let gateway = attribute.value.get(2..).and_then(address);
            hop.gateway = Some(gateway.ok_or_else(|| attribute.wrong("expected a family and an address"))?);
        }
        ENCAP_TYPE => hop.encapsulated = u16_at(attribute.value, 0) != Some(0),
        _ => {}
    }
    Ok(())
}

fn prefix(family: Family, bytes: [u8; 16], length: u8) -> Option<IpNet> {
    let address = match family {
        Family::Ipv4 => address(bytes.get(..4)?)?,
        Family::Ipv6 => IpAddr::from(bytes),
    };
    IpNet::new(address, length).ok().map(|net| net.trunc())
}
