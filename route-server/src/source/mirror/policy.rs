//! Which routes of a routing daemon or a kernel a source takes.

use std::collections::BTreeMap;

use fibcast_netlink::Route;

/// Next hops that one route may have.
pub const MAX_HOPS: usize = 256;

/// Why a route is not taken. A route that was taken before in another form is withdrawn then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Its table is none of the configured ones.
    Table,
    /// Its protocol is none of the configured ones.
    Protocol,
    /// It is not for forwarding: `local`, `broadcast`, …
    Kind,
    /// It is for one type of service only.
    Tos,
    /// It is for packets from one prefix only.
    Source,
    /// It names an interface and no gateway, and the interface is none of `ports`.
    NoGateway,
    /// Its gateway is a link-local address, and the interface is none of `ports`.
    LinkLocal,
    /// IPv4 over IPv6 without next-hop objects: the sender does not say the IPv6 address.
    Unnumbered,
    /// Its packets are to be wrapped.
    Encapsulated,
    /// It has more than [`MAX_HOPS`] next hops.
    TooManyHops,
}

impl Skip {
    /// All of them, in the order of their numbers.
    pub const ALL: [Skip; 10] = [
        Skip::Table,
        Skip::Protocol,
        Skip::Kind,
        Skip::Tos,
        Skip::Source,
        Skip::NoGateway,
        Skip::LinkLocal,
        Skip::Unnumbered,
        Skip::Encapsulated,
        Skip::TooManyHops,
    ];

    /// Its name in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Skip::Table => "skipped_table",
            Skip::Protocol => "skipped_protocol",
            Skip::Kind => "skipped_kind",
            Skip::Tos => "skipped_tos",
            Skip::Source => "skipped_source",
            Skip::NoGateway => "skipped_no_gateway",
            Skip::LinkLocal => "skipped_link_local",
            Skip::Unnumbered => "skipped_unnumbered",
            Skip::Encapsulated => "skipped_encapsulated",
            Skip::TooManyHops => "skipped_too_many_hops",
        }
    }
}

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Tables, by their number on the sender's host, and the routing instance of each.
    pub vrfs: BTreeMap<u32, u32>,
    /// Protocols by their number (`rtm_protocol`); empty: any.
    pub protocols: Vec<u8>,
    /// Interfaces, by name on this host or by number on the sender's, and the port of NIC hosts that each stands for.
    pub ports: BTreeMap<String, String>,
}

impl Policy {
    /// The routing instance of a table.
    pub fn vrf(&self, table: u32) -> Result<u32, Skip> {
        self.vrfs.get(&table).copied().ok_or(Skip::Table)
    }

    /// Whether a route is for all packets to its prefix.
    pub fn all_packets(&self, route: &Route) -> Result<(), Skip> {
        match (route.tos, route.source) {
            (0, 0) => Ok(()),
            (0, _) => Err(Skip::Source),
            _ => Err(Skip::Tos),
        }
    }

    /// Whether routes of a protocol are wanted.
    pub fn protocol(&self, protocol: u8) -> Result<(), Skip> {
        let wanted = self.protocols.is_empty() || self.protocols.contains(&protocol);
        if wanted { Ok(()) } else { Err(Skip::Protocol) }
    }
}
