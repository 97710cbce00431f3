//! Reads and writes MRT files: routing tables and updates as collectors record them (RFC 6396).
//!
//! [`Reader`] is an iterator of [`Route`]s: which prefix was announced with which next hop or withdrawn, by
//! which peer and when. It reads `TABLE_DUMP_V2` (`RIB_IPV4_UNICAST`, `RIB_IPV6_UNICAST` and their add-path
//! forms, `PEER_INDEX_TABLE`) and `BGP4MP` and `BGP4MP_ET` (`MESSAGE`, `MESSAGE_AS4`) with IPv4 and IPv6 unicast
//! routes; plain or gzip, told by content. Records that hold no unicast routes (state changes, multicast) are passed
//! over; a record of a type that it does not know, a length that leads out of its record, and a file that ends inside a
//! record are [`MrtError`]s with file and byte.
//!
//! ```no_run
//! use fibcast_mrt::{Event, Reader};
//! for route in Reader::open("rib.mrt.gz")? {
//!     let route = route?; // an error is the last item; a table that ends in one is not complete
//!     match route.event {
//!         Event::Announce { next_hop, metric } => println!("{} via {next_hop} metric {metric}", route.prefix),
//!         Event::Withdraw => println!("{} withdrawn at {} µs", route.prefix, route.time_us),
//!     }
//! }
//! # Ok::<(), fibcast_mrt::MrtError>(())
//! ```
//!
//! [`Writer`] writes the records that the reader's callers need in tests and for generated tables.
//!
//! Why not `bgpkit-parser`: it is fast (3.8 M routes/s on the same transfer file), but its iterator ends in silence where
//! a file is cut off, so that a part of a table would pass for the whole; and its errors do not say at which byte.
//!
//! Here: [`reader`](Reader) walks the file, `record` knows MRT, `bgp` knows UPDATE messages, `cursor` checks every
//! length.

mod bgp;
mod cursor;
mod error;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::net::IpAddr;

use ipnet::IpNet;

pub use error::{MrtError, Problem};
pub use reader::{MAX_RECORD_LEN, Reader};
pub use writer::Writer;

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

/// What a peer said about a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is reachable by this next hop, in place of what the peer said before.
    Announce {
        /// BGP NEXT_HOP; the global one where a link-local one is given as well. May be of the other family (RFC 8950).
        next_hop: IpAddr,
        /// MULTI_EXIT_DISC, 0 where there is none.
        metric: u32,
    },
    /// The peer does not reach it any more.
    Withdraw,
}
