//! What a reader gives.

use std::net::IpAddr;

use ipnet::IpNet;

/// One prefix, announced or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// When, in microseconds since 1970. Whole seconds except in `BGP4MP_ET`.
    pub time_us: u64,
    /// The BGP peer that the collector had this from.
    pub peer: IpAddr,
    /// The prefix, host bits cleared.
    pub prefix: IpNet,
    /// What happened to it.
    pub event: Event,
}

/// What a peer announces or withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is reachable by this next hop, in place of what the peer announced before.
    Announce {
        /// BGP NEXT_HOP; the global one where a link-local one is given as well. May be of the other family (RFC 8950).
        next_hop: IpAddr,
        /// MULTI_EXIT_DISC, 0 where there is none.
        metric: u32,
    },
    /// The peer does not reach it any more.
    Withdraw,
}
