//! What the kernel has on the ports' TAP interfaces besides the configuration, as last reported by the exception path.
//!
//! Workers read it only for packets to the router itself, so routes and the fast path know nothing of it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fibcast_fib::VrfId;

/// Addresses and groups of the TAP interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TapState {
    /// Addresses that are not configured: an operator or a DHCP client added them. With the index of the port, or
    /// [`LOOPBACK`](super::delivery::LOOPBACK).
    pub addresses: HashMap<(VrfId, IpAddr), u16>,
    /// Multicast groups that the kernel is a member of, with the index of the port.
    pub groups: HashSet<(u16, IpAddr)>,
}

/// The state, shared by the exception path and all workers.
pub type SharedTapState = Arc<ArcSwap<TapState>>;
