//! `RTM_NEWROUTE` and `RTM_DELROUTE`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::address;
use super::{Attribute, Attributes, Malformed, Message, u16_at, u32_at};

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

/// `RTNH_F_DEAD`: the kernel does not use this hop.
const DEAD: u8 = 1;
/// `RTM_F_CLONED`: an entry of a cache, not a route.
const CLONED: u32 = 0x200;

/// Address families of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`
    Ipv4,
    /// `AF_INET6`
    Ipv6,
}

impl Family {
    /// By its number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            2 => Some(Family::Ipv4),
            10 => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }
}

/// Routes that lead nowhere, by their `rtm_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Special {
    /// Drop silently.
    Blackhole = BLACKHOLE,
    /// Drop and say "unreachable".
    Unreachable = UNREACHABLE,
    /// Drop and say "prohibited".
    Prohibit = PROHIBIT,
}

/// A next hop as the message has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Where to send; none: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface, by its number on the host of the sender; 0: none.
    pub interface: u32,
    /// Share of flows, at least 1.
    pub weight: u16,
    /// Packets are to be wrapped (MPLS, SRv6, …).
    pub encapsulated: bool,
    /// Not in use.
    pub dead: bool,
}

impl Hop {
    const NONE: Hop = Hop { gateway: None, interface: 0, weight: 1, encapsulated: false, dead: false };
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To [`Route::hops`], which may be empty in a withdrawal.
    Hops,
    /// To a next-hop object.
    Object(u32),
    /// Nowhere.
    Special(Special),
    /// A kind of route that is not for forwarding (`local`, `broadcast`, `multicast`, …).
    Other(u8),
}

/// A route that was read; used again for the next one, so that its vector is made once.
#[derive(Debug, Clone)]
pub struct Route {
    /// Destination, without host bits.
    pub prefix: IpNet,
    /// Table, by its number on the host of the sender.
    pub table: u32,
    /// Who installed it (`rtm_protocol`).
    pub protocol: u8,
    /// Type of service that it is for; 0: any.
    pub tos: u8,
    /// Bits of the prefix that packets must come from (`RTA_SRC`); 0: from anywhere.
    pub source: u8,
    /// `RTA_PRIORITY`.
    pub metric: u32,
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
            target: Target::Hops,
            hops: Vec::new(),
        }
    }
}

impl Route {
    /// Reads a message. False: it is about another family, or not a route.
    pub fn read(&mut self, message: &Message<'_>) -> Result<bool, Malformed> {
        let body = message.body;
        let (Some(&[family, length, source, tos, table, protocol, _, kind]), Some(flags)) =
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
        (self.tos, self.source) = (tos, source);
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
            // Withdrawals of zebra have the type 0.
            (UNICAST | 0, Some(id)) => Target::Object(id),
            (UNICAST | 0, None) => Target::Hops,
            (other, _) => Target::Other(other),
        };
        if self.hops.is_empty() && (single.gateway.is_some() || single.interface != 0) {
            single.dead = flags & u32::from(DEAD) != 0;
            self.hops.push(single);
        }
        Ok(true)
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
            let mut hop =
                Hop { interface, weight: u16::from(weight) + 1, dead: flags & DEAD != 0, ..Hop::NONE };
            for attribute in Attributes::new(attributes, list.at + at + HOP_HEADER) {
                read_hop(&attribute?, &mut hop)?;
            }
            self.hops.push(hop);
            at += length.next_multiple_of(4);
        }
        Ok(())
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
