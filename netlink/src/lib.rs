//! Routes in rtnetlink format, as used by the kernel and zebra: zero-copy parsing, writing, and the socket to the kernel.
//!
//! | module | holds |
//! |---|---|
//! | `message`, `attribute` | [`Messages`] of a buffer, [`Attributes`] of a message; all lengths are checked, errors carry the offset
//! ([`Malformed`]) |
//! | `route` | [`Route`]: `RTM_NEWROUTE`, `RTM_DELROUTE` (`linux/rtnetlink.h`, RFC 3549) |
//! | `nexthop` | [`NextHop`]: `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP` (`linux/nexthop.h`) |
//! | `writer` | [`Writer`] builds messages |
//! | `socket` | [`Socket`] sends and receives them |
//!
//! The sources of a route server read with it; the kernel sink of an agent writes.
//!
//! Why not `netlink-packet-route`: it builds a vector of owned attributes for each message, and fails the whole message on an attribute of
//! unknown size, while a full table is a million messages with four attributes of interest. A [`Route`] is reused for the next message. The
//! socket comes from `netlink-sys`; `netlink-proto` would hide the kernel's notice of lost messages (`ENOBUFS`), on which everything here
//! depends.

mod attribute;
mod message;
mod nexthop;
mod route;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use attribute::{Attribute, Attributes};
pub use message::{Message, Messages};
pub use nexthop::{Definition, NextHop};
pub use route::{Family, Hop, Route, Special, Target};
pub use socket::{Dumped, Received, Socket, group};
pub use writer::{Writer, flag};

/// Bytes that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct Malformed {
    /// Offset in the buffer.
    pub at: usize,
    /// What was expected.
    pub reason: &'static str,
}

/// `RTM_*` and `NLMSG_*` numbers.
pub mod kind {
    /// No operation.
    pub const NOOP: u16 = 1;
    /// An error, or an acknowledgement.
    pub const ERROR: u16 = 2;
    /// The end of a dump.
    pub const DONE: u16 = 3;
    /// Data was lost.
    pub const OVERRUN: u16 = 4;
    /// A link was added or changed.
    pub const NEW_LINK: u16 = 16;
    /// A link was removed.
    pub const DEL_LINK: u16 = 17;
    /// An address was added.
    pub const NEW_ADDRESS: u16 = 20;
    /// An address was removed.
    pub const DEL_ADDRESS: u16 = 21;
    /// A route was added or changed.
    pub const NEW_ROUTE: u16 = 24;
    /// A route was removed.
    pub const DEL_ROUTE: u16 = 25;
    /// Requests routes.
    pub const GET_ROUTE: u16 = 26;
    /// A next-hop object was added or changed.
    pub const NEW_NEXTHOP: u16 = 104;
    /// A next-hop object was removed.
    pub const DEL_NEXTHOP: u16 = 105;
    /// Requests next-hop objects.
    pub const GET_NEXTHOP: u16 = 106;
}

/// Integers in host byte order, as netlink uses it.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
