//! The words of the table: VRF, label, next hop, group, adjacency.

use std::net::IpAddr;

use thiserror::Error;

/// Most members that a group may have.
pub const MAX_MEMBERS: usize = 256;

/// A routing and forwarding instance; small and dense, below [`crate::Limits::max_vrfs`]. 0 is the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VrfId(pub u32);

impl VrfId {
    /// The VRF that always exists.
    pub const DEFAULT: VrfId = VrfId(0);
}

/// Identity of a group, chosen by whoever feeds the table. It survives a change of the group's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupLabel(pub u64);

/// What a lookup yields: the group's place in the generation that was asked, and in no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GroupIndex(pub u32);

impl GroupIndex {
    /// No route covers the address.
    pub const NO_ROUTE: GroupIndex = GroupIndex(0);
}

/// A port of the NIC host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// Where packets go next: a gateway, a port, or a gateway behind a port. A port alone is a connected subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Address of the gateway; none where the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Outgoing port; none where the dataplane finds it by the gateway's address.
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

/// A next hop and its share of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Where to.
    pub next_hop: NextHop,
    /// Share, relative to the other members; at least 1.
    pub weight: u16,
}

/// What happens to packets of the routes that point here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Forwarded to one of the members, chosen by weight and flow hash. Make it with [`Group::hops`].
    Hops(Box<[Member]>),
    /// Dropped in silence.
    Blackhole,
    /// Dropped with ICMP host unreachable.
    Unreachable,
    /// Dropped with ICMP administratively prohibited.
    Prohibit,
    /// For this host itself.
    Local,
}

/// Why a group cannot exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// A group of next hops needs at least one.
    #[error("expected 1 to {MAX_MEMBERS} members, found none")]
    Empty,
    /// More members than [`MAX_MEMBERS`].
    #[error("expected 1 to {MAX_MEMBERS} members, found {0}")]
    TooManyMembers(usize),
    /// A member that would never be chosen.
    #[error("member {0}: expected a weight of at least 1, found 0")]
    ZeroWeight(usize),
    /// A member with neither gateway nor port.
    #[error("member {0}: expected a gateway, a port or both, found neither")]
    EmptyNextHop(usize),
}

impl Group {
    /// A group of weighted next hops.
    pub fn hops(members: Vec<Member>) -> Result<Group, GroupError> {
        let group = Group::Hops(members.into_boxed_slice());
        group.check()?;
        Ok(group)
    }

    /// A group of one next hop.
    pub fn one(next_hop: NextHop) -> Result<Group, GroupError> {
        Group::hops(vec![Member { next_hop, weight: 1 }])
    }

    /// Whether the content obeys the limits that [`Group::hops`] states.
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

    /// The members; none for the groups that are no next hops.
    pub fn members(&self) -> &[Member] {
        match self {
            Group::Hops(members) => members,
            _ => &[],
        }
    }
}

/// Whether a next hop or neighbour can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdjacencyState {
    /// The header is right.
    Reachable,
    /// Its link-layer address is being asked for, or did not answer.
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

/// Where the packets of a group go that has one next hop and no choice to make: [`Adjacency`] in a quarter of a cache line, without a
/// step in between. Almost all groups of almost all tables are such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SingleHop {
    /// Destination MAC, then source MAC: the first 12 bytes of the frame.
    pub header: [u8; 12],
    /// Outgoing port.
    pub port: PortId,
    /// Largest IP packet on that link, in bytes; 0, which no packet fits in, where there is more to the group than this.
    pub mtu: u16,
}

impl SingleHop {
    /// No packet goes this way.
    pub(crate) const NONE: SingleHop = SingleHop { header: [0; 12], port: PortId(0), mtu: 0 };
}

impl From<&Adjacency> for SingleHop {
    #[inline]
    fn from(adjacency: &Adjacency) -> SingleHop {
        SingleHop { header: adjacency.header, port: adjacency.port, mtu: adjacency.mtu }
    }
}
