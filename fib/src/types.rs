//! Basic types of the table: VRF, label, next hop, group, adjacency.

use std::net::IpAddr;

use thiserror::Error;

/// Most members of a group.
pub const MAX_MEMBERS: usize = 256;

/// Id of a VRF (virtual routing and forwarding instance, RFC 4364): a small number below [`crate::Limits::max_vrfs`]. 0 is the default VRF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VrfId(pub u32);

impl VrfId {
    /// The VRF that always exists.
    pub const DEFAULT: VrfId = VrfId(0);
}

/// Identity of a group, chosen by the caller of [`crate::Fib::apply`]. It stays the same when the group's content changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupLabel(pub u64);

/// Result of a lookup: the group's index in the generation that was asked, and in no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GroupIndex(pub u32);

impl GroupIndex {
    /// No route covers the address.
    pub const NO_ROUTE: GroupIndex = GroupIndex(0);
}

/// A port of the NIC host, by its index in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Where packets go next: a gateway, a port, or a gateway behind a port. A port alone is a connected subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Address of the gateway; none where the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Outgoing port; none if the dataplane finds it by the gateway's address.
    pub port: Option<PortId>,
}

impl NextHop {
    /// A gateway whose port the dataplane finds.
    pub fn via(gateway: IpAddr) -> Self {
        NextHop { gateway: Some(gateway), port: None }
    }

    /// A connected subnet behind `port`.
    pub fn connected(port: PortId) -> Self {
        NextHop { gateway: None, port: Some(port) }
    }
}

/// A next hop and its share of the traffic (weighted ECMP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Where its packets go.
    pub next_hop: NextHop,
    /// Weight relative to the other members; at least 1.
    pub weight: u16,
}

/// What happens to the packets of all routes that point to the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Forwarded to one of the members, selected by weight and flow hash. Construct it with [`Group::hops`].
    Hops(Box<[Member]>),
    /// Not forwarded.
    Special(Special),
}

/// What happens to packets that are not forwarded: the route types of Linux without next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Dropped silently.
    Blackhole,
    /// Dropped with ICMP host unreachable.
    Unreachable,
    /// Dropped with ICMP administratively prohibited.
    Prohibit,
    /// Delivered to this host.
    Local,
}

impl Special {
    /// Its name in `ip route`.
    pub fn name(self) -> &'static str {
        match self {
            Special::Blackhole => "blackhole",
            Special::Unreachable => "unreachable",
            Special::Prohibit => "prohibit",
            Special::Local => "local",
        }
    }
}

/// Why a group is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// A group of next hops needs at least one.
    #[error("expected 1 to {MAX_MEMBERS} members, found none")]
    Empty,
    /// More members than [`MAX_MEMBERS`].
    #[error("expected 1 to {MAX_MEMBERS} members, found {0}")]
    TooManyMembers(usize),
    /// A member with weight 0, which would never be selected.
    #[error("member {0}: expected a weight of at least 1, found 0")]
    ZeroWeight(usize),
    /// A member with neither gateway nor port.
    #[error("member {0}: expected a gateway, a port or both, found neither")]
    EmptyNextHop(usize),
}

impl Group {
    /// A group of weighted next hops.
    ///
    /// # Errors
    /// [`GroupError`] if the number of members is not 1 to [`MAX_MEMBERS`], or a member has weight 0 or neither gateway nor port.
    pub fn hops(members: Vec<Member>) -> Result<Group, GroupError> {
        let group = Group::Hops(members.into_boxed_slice());
        group.check()?;
        Ok(group)
    }

    /// A group of one next hop.
    ///
    /// # Errors
    /// [`GroupError::EmptyNextHop`] if the next hop has neither gateway nor port.
    pub fn one(next_hop: NextHop) -> Result<Group, GroupError> {
        Group::hops(vec![Member { next_hop, weight: 1 }])
    }

    /// Checks the limits that [`Group::hops`] states.
    ///
    /// # Errors
    /// [`GroupError`], as for [`Group::hops`].
    pub fn check(&self) -> Result<(), GroupError> {
        let Group::Hops(members) = self else { return Ok(()) };
        if members.is_empty() {
            return Err(GroupError::Empty);
        }
        if members.len() > MAX_MEMBERS {
            return Err(GroupError::TooManyMembers(members.len()));
        }
        for (position, member) in members.iter().enumerate() {
            if member.weight == 0 {
                return Err(GroupError::ZeroWeight(position));
            }
            if member.next_hop.gateway.is_none() && member.next_hop.port.is_none() {
                return Err(GroupError::EmptyNextHop(position));
            }
        }
        Ok(())
    }

    /// The members; empty for groups without next hops.
    pub fn members(&self) -> &[Member] {
        match self {
            Group::Hops(members) => members,
            Group::Special(_) => &[],
        }
    }
}

/// Whether packets can be sent to a next hop or neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdjacencyState {
    /// The header is valid.
    Reachable,
    /// The link-layer address is being resolved, or resolution failed (RFC 4861 §7.3.2 INCOMPLETE).
    Incomplete,
}

/// Where packets to a resolved next hop go: the port and the Ethernet addresses to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adjacency {
    /// Outgoing port.
    pub port: PortId,
    /// Whether `header` may be used.
    pub state: AdjacencyState,
    /// Destination MAC, then source MAC: the first 12 bytes of the frame.
    pub header: [u8; 12],
    /// Largest IP packet on that link, in bytes.
    pub mtu: u16,
}

/// The adjacency of a group with exactly one reachable next hop: [`Adjacency`] in a quarter of a cache line, without an indirection. Nearly
/// all groups are of this kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SingleHop {
    /// Destination MAC, then source MAC: the first 12 bytes of the frame.
    pub header: [u8; 12],
    /// Outgoing port.
    pub port: PortId,
    /// Largest IP packet on that link, in bytes; 0, which no packet fits, if the group is of another kind.
    pub mtu: u16,
}

impl SingleHop {
    /// Matches no packet.
    pub(crate) const NONE: SingleHop = SingleHop { header: [0; 12], port: PortId(0), mtu: 0 };
}

impl From<&Adjacency> for SingleHop {
    #[inline]
    fn from(adjacency: &Adjacency) -> SingleHop {
        SingleHop { header: adjacency.header, port: adjacency.port, mtu: adjacency.mtu }
    }
}
