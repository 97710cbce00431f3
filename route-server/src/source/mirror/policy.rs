//! Which routes of a routing daemon or a kernel a source takes.

use std::collections::BTreeMap;

use fibcast_netlink::Route;

/// Most next hops of a route.
pub const MAX_HOPS: usize = 256;

/// `RTPROT_KERNEL`: zebra writes it for its kernel, connected and local routes.
pub const KERNEL: u8 = 2;

/// Why a route is not taken. A route that was taken before in another form is withdrawn then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Its table is not configured.
    Table,
    /// Its protocol is not configured.
    Protocol,
    /// It is of the sender's kernel, and the sender does not tell when it is gone.
    Kernel,
    /// It is not for forwarding: `local`, `broadcast`, …
    Kind,
    /// It applies to one type of service only.
    Tos,
    /// It applies to packets from one prefix only.
    Source,
    /// It has an interface and no gateway, and the interface is not in `ports`.
    NoGateway,
    /// Its gateway is link-local, and the interface is not in `ports`.
    LinkLocal,
    /// IPv4 over IPv6 without next-hop objects: the IPv6 address is missing.
    Unnumbered,
    /// Its packets are to be encapsulated.
    Encapsulated,
    /// It has more than [`MAX_HOPS`] next hops.
    TooManyHops,
}

impl Skip {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Skip; 11] = [
        Skip::Table,
        Skip::Protocol,
        Skip::Kernel,
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
            Skip::Kernel => "skipped_kernel",
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

/// The configured policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Accepted tables, by number on the sender's host, with their VRFs.
    pub vrfs: BTreeMap<u32, u32>,
    /// Accepted protocols (`rtm_protocol`); empty: any.
    pub protocols: Vec<u8>,
    /// Routes of protocol [`KERNEL`] are not accepted.
    pub without_kernel: bool,
    /// Interfaces, by name on this host or by index on the sender's, with the port of NIC hosts that each stands for.
    pub ports: BTreeMap<String, String>,
}

impl Policy {
    /// The VRF of a table.
    ///
    /// # Errors
    /// [`Skip`] if the table is not configured.
    pub fn vrf(&self, table: u32) -> Result<u32, Skip> {
        self.vrfs.get(&table).copied().ok_or(Skip::Table)
    }

    /// Checks that a route applies to all packets to its prefix.
    ///
    /// # Errors
    /// [`Skip`] if it applies to some only.
    pub fn all_packets(&self, route: &Route) -> Result<(), Skip> {
        match (route.tos, route.source) {
            (0, 0) => Ok(()),
            (0, _) => Err(Skip::Source),
            _ => Err(Skip::Tos),
        }
    }

    /// Checks a route's protocol.
    ///
    /// # Errors
    /// [`Skip`] if it is not accepted.
    pub fn protocol(&self, protocol: u8) -> Result<(), Skip> {
        let wanted = self.protocols.is_empty() || self.protocols.contains(&protocol);
        match wanted {
            true if self.without_kernel && protocol == KERNEL => Err(Skip::Kernel),
            true => Ok(()),
            false => Err(Skip::Protocol),
        }
    }
}
