//! Routes in rtnetlink format, as used by the kernel and zebra: zero-copy parsing, writing, and the socket to the kernel.
//!
//! [`Messages`] cuts a buffer into messages, `attribute` a message into attributes; both check every length before they look at
//! a byte, and say at which byte of the buffer something is wrong ([`Malformed`]). [`Route`] is `RTM_NEWROUTE`/`RTM_DELROUTE`, [`NextHop`]
//! `RTM_NEWNEXTHOP`/`RTM_DELNEXTHOP`, [`Link`], [`Address`] and [`Rule`] are what their names say (`linux/rtnetlink.h`, `linux/nexthop.h`,
//! `linux/fib_rules.h`; RFC 3549 for the shape). Each of them has what reads a message and what writes one, into a [`Writer`]; messages are
//! made nowhere else. [`Socket`] carries them. Sources of a route server read, the kernel sink of an agent and the TAP interfaces of a
//! dataplane write.
//!
//! The sources of a route server read with it; the kernel sink of an agent writes.
//!
//! Why not `netlink-packet-route`: it builds a vector of owned attributes for each message, and fails the whole message on an attribute of
//! unknown size, while a full table is a million messages with four attributes of interest. A [`Route`] is reused for the next message. The
//! socket comes from `netlink-sys`; `netlink-proto` would hide the kernel's notice of lost messages (`ENOBUFS`), on which everything here
//! depends.

mod address;
mod attribute;
mod bytes;
pub mod kind;
mod link;
mod message;
mod nexthop;
mod owner;
pub mod protocol;
mod route;
mod rule;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

pub use address::Address;
pub use bytes::Malformed;
pub use link::Link;
pub use message::{Message, Messages};
pub use nexthop::{Definition, NextHop};
pub use owner::socket_owner;
pub use route::{Family, Hop, Route, Special, Target};
pub use rule::Rule;
pub use socket::{Dumped, Received, Socket, group};
pub use writer::{Writer, flag};

/// Who made a route or a rule (`rtm_protocol`, `FRA_PROTOCOL`): fibcast, as in `packaging/iproute2/fibcast.conf`.
pub const PROTOCOL: u8 = 217;
