//! What a reader gives.

use std::net::IpAddr;

use ipnet::IpNet;

/// One entry of a file: a route, or the end of a peer's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A prefix, announced or withdrawn.
    Route(Route),
    /// The session with this peer has ended, so it reaches none of its prefixes any more (RFC 4271 §8.2.2).
    SessionEnd {
        /// When, in microseconds since 1970.
        time_us: u64,
        /// The BGP peer.
        peer: IpAddr,
    },
}

/// One prefix, announced or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// When, in microseconds since 1970. Whole seconds except in `BGP4MP_ET`.
    pub time_us: u64,
    /// The BGP peer that the collector had this from.
    pub peer: IpAddr,
    /// Identifier of the path among those that the peer has for the prefix (RFC 7911); none without additional paths.
    pub path_id: Option<u32>,
    /// The prefix, host bits cleared.
    pub prefix: IpNet,
    /// What happened to it.
    pub event: Event,
}

/// What a peer announces or withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is reachable by this next hop, in place of what the peer announced before with the same path identifier.
    Announce {
        /// BGP NEXT_HOP; the global one where a link-local one is given as well. May be of the other family (RFC 8950), and the unspecified
        /// address for a route of the collector itself.
        next_hop: IpAddr,
        /// MULTI_EXIT_DISC, 0 where there is none.
        metric: u32,
        /// Length of the AS_PATH as best-path selection counts it (RFC 4271 §9.1.2.2, RFC 5065 §5.3): an AS_SET is 1, confederation
        /// segments are 0.
        as_path_len: u32,
    },
    /// The peer does not reach it any more.
    Withdraw,
}

/// What a reader found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records, with those below.
    pub records: u64,
    /// Records that were skipped because they cannot be decoded ([`BadRecords::Skip`](crate::BadRecords::Skip)).
    pub bad: u64,
    /// Records of a kind that has no unicast routes of peers: indexes, state changes, multicast, OSPF, messages that the collector sent.
    pub without_routes: u64,
    /// Entries of tables without a next hop: routes of the collector's host, which are passed over.
    pub without_next_hop: u64,
    /// Records with path identifiers that their type does not announce, or without those that it does.
    pub misdeclared_paths: u64,
}
