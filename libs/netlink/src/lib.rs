//! Routes as the kernel and zebra say them: rtnetlink messages, read without a copy and written, and the socket to the kernel.
//!
//! [`Messages`] cuts a buffer into messages, [`Attributes`] a message into attributes; both check every length before they look at
//! a byte, and say at which byte of the buffer something is wrong ([`Malformed`]). [`Route`] is `RTM_NEWROUTE`/`RTM_DELROUTE`, [`NextHop`]
//! `RTM_NEWNEXTHOP`/`RTM_DELNEXTHOP` (`linux/rtnetlink.h`, `linux/nexthop.h`; RFC 3549 for the shape). [`Writer`] makes messages, [`Socket`]
//! carries them. Sources of a route server read with it, the kernel sink of an agent writes.
//!
//! Own views in place of `netlink-packet-route`: that crate makes a vector of owned attributes for each message, and fails the whole
//! message at an attribute it does not know the size of, while a full table is a million messages with four attributes of interest.
//! A route is read into a [`Route`] that is used again for the next. The socket is of `netlink-sys`; `netlink-proto` would hide the
//! kernel's word that messages were lost (`ENOBUFS`), on which everything here depends.

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

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct Malformed {
    /// Where, from the beginning of the buffer.
    pub at: usize,
    /// What was expected.
    pub reason: &'static str,
}

/// `RTM_*` and `NLMSG_*` numbers.
pub mod kind {
    /// Nothing.
    pub const NOOP: u16 = 1;
    /// An error or an acknowledgement.
    pub const ERROR: u16 = 2;
    /// The end of a dump.
    pub const DONE: u16 = 3;
    /// Data were lost.
    pub const OVERRUN: u16 = 4;
    /// A link is there or changed.
    pub const NEW_LINK: u16 = 16;
    /// A link is gone.
    pub const DEL_LINK: u16 = 17;
    /// An address is there.
    pub const NEW_ADDRESS: u16 = 20;
    /// An address is gone.
    pub const DEL_ADDRESS: u16 = 21;
    /// A route is there or changed.
    pub const NEW_ROUTE: u16 = 24;
    /// A route is gone.
    pub const DEL_ROUTE: u16 = 25;
    /// Asks for routes.
    pub const GET_ROUTE: u16 = 26;
    /// A next-hop object is there or changed.
    pub const NEW_NEXTHOP: u16 = 104;
    /// A next-hop object is gone.
    pub const DEL_NEXTHOP: u16 = 105;
    /// Asks for next-hop objects.
    pub const GET_NEXTHOP: u16 = 106;
}

/// Little pieces in the byte order of the host, as netlink has them.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
