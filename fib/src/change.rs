//! Input and output of the table: changes, limits, the result of a batch and its errors.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::publisher::RETIRED_BYTES;
use crate::types::{Group, GroupError, GroupLabel, PortId, VrfId};

/// One change of a batch.
///
/// A batch describes end states, not steps: groups are put first, then routes move, then groups are deleted, and the last change for a key
/// wins. So the caller need not sort a batch in which a group and its routes change together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Creates a group, or replaces the content under its label without touching a route.
    PutGroup {
        /// Its identity.
        label: GroupLabel,
        /// Its content.
        group: Group,
    },
    /// Deletes a group. No route may point to it after the batch. Unknown labels are ignored.
    DeleteGroup {
        /// Its identity.
        label: GroupLabel,
    },
    /// Points a prefix to a group.
    Announce {
        /// The VRF, which must exist.
        vrf: VrfId,
        /// The prefix, without host bits.
        prefix: IpNet,
        /// The group, which must exist or be put by the same batch.
        label: GroupLabel,
    },
    /// Removes a route. Unknown prefixes, and those of VRFs that do not exist, are ignored and counted.
    Withdraw {
        /// The VRF.
        vrf: VrfId,
        /// The prefix, without host bits.
        prefix: IpNet,
    },
}

/// Address space in bytes that [`crate::Fib::new`] reserves for tries. A full Internet table uses less than 16 MiB of it.
pub const TRIE_BYTES: usize = 2 << 30;

/// Upper bounds of the table. A batch that would exceed one is refused as a whole and may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Routes of all VRFs and both families together.
    pub max_routes: usize,
    /// Groups.
    pub max_groups: usize,
    /// VRFs: every [`VrfId`] is below this number.
    pub max_vrfs: usize,
    /// Directly connected hosts (neighbors), all ports together.
    pub max_neighbors: usize,
    /// Of those, for each port, hosts that nobody has proven: a packet or another station caused them, and they never answered.
    pub max_unproven_neighbors: usize,
    /// Bytes of address space for the tries, reserved when the table is created. Memory is used only as it is needed.
    pub trie_bytes: usize,
    /// Bytes that retired generations may keep from being freed, see [`crate::Publisher::with_retired_bytes`].
    pub retired_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_routes: 8_000_000,
            max_groups: 1_000_000,
            max_vrfs: 1_024,
            max_neighbors: 1_000_000,
            max_unproven_neighbors: 4_096,
            trie_bytes: TRIE_BYTES,
            retired_bytes: RETIRED_BYTES,
        }
    }
}

/// What a batch changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Routes that are new or point to another group than before.
    pub announced: usize,
    /// Routes that were removed.
    pub withdrawn: usize,
    /// Announcements of a route that the table already held with the same group.
    pub unchanged: usize,
    /// Withdrawals of prefixes that the table did not hold.
    pub unknown: usize,
    /// Groups that are new or whose content changed.
    pub groups: usize,
    /// Groups that were deleted.
    pub groups_deleted: usize,
}

/// Why a batch was refused. The table is unchanged: a batch is applied as a whole or not at all, because half a batch is a table that no
/// server ever committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The route's VRF was never created.
    #[error("route {prefix} in vrf {}: expected an existing vrf", vrf.0)]
    UnknownVrf {
        /// The VRF that the route names.
        vrf: VrfId,
        /// The route.
        prefix: IpNet,
    },
    /// The route's group does not exist, or is deleted by the same batch.
    #[error("route {prefix} in vrf {}: expected a known group, found label {:#018x}", vrf.0, label.0)]
    UnknownLabel {
        /// The route's VRF.
        vrf: VrfId,
        /// The route.
        prefix: IpNet,
        /// The label that the route names.
        label: GroupLabel,
    },
    /// The prefix has bits set behind its length.
    #[error("route {prefix} in vrf {}: expected {}, found host bits set", vrf.0, prefix.trunc())]
    HostBits {
        /// The route's VRF.
        vrf: VrfId,
        /// The route.
        prefix: IpNet,
    },
    /// The group's content is invalid.
    #[error("group {:#018x}: {error}", label.0)]
    BadGroup {
        /// The group.
        label: GroupLabel,
        /// What is wrong with it.
        error: GroupError,
    },
    /// The group is deleted while routes still point to it.
    #[error("group {:#018x}: expected no route to point to a deleted group, found {routes}", label.0)]
    GroupInUse {
        /// The group.
        label: GroupLabel,
        /// How many routes point to it.
        routes: usize,
    },
    /// The batch would exceed [`Limits::max_routes`].
    #[error("route {prefix} in vrf {}: expected at most {limit} routes", vrf.0)]
    TooManyRoutes {
        /// VRF of the first route that does not fit.
        vrf: VrfId,
        /// The first route that does not fit.
        prefix: IpNet,
        /// The limit.
        limit: usize,
    },
    /// The batch would exceed [`Limits::max_groups`].
    #[error("group {:#018x}: expected at most {limit} groups", label.0)]
    TooManyGroups {
        /// The first group that does not fit.
        label: GroupLabel,
        /// The limit.
        limit: usize,
    },
    /// In the worst case the batch needs more trie memory than is left.
    #[error("expected {need} bytes of trie memory for the batch, found {used} of {limit} in use")]
    TrieMemory {
        /// Bytes that the batch may need.
        need: usize,
        /// Bytes in use.
        used: usize,
        /// Bytes reserved ([`Limits::trie_bytes`]).
        limit: usize,
    },
    /// The table would exceed [`Limits::max_neighbors`].
    #[error("neighbor {address} at port {}: expected at most {limit} neighbors", port.0)]
    TooManyNeighbors {
        /// The neighbor's port.
        port: PortId,
        /// The neighbor that does not fit.
        address: IpAddr,
        /// The limit.
        limit: usize,
    },
    /// The VRF's id is not below [`Limits::max_vrfs`].
    #[error("vrf {}: expected an id below {limit}", vrf.0)]
    TooManyVrfs {
        /// The VRF.
        vrf: VrfId,
        /// The limit.
        limit: usize,
    },
}

impl ApplyError {
    /// Whether the same batch may succeed later, when there is room. The caller keeps it and retries.
    pub fn is_capacity(&self) -> bool {
        matches!(
            self,
            ApplyError::TooManyRoutes { .. }
                | ApplyError::TooManyGroups { .. }
                | ApplyError::TooManyVrfs { .. }
                | ApplyError::TooManyNeighbors { .. }
                | ApplyError::TrieMemory { .. }
        )
    }
}
