//! The bounded listener: what everything that accepts connections has in common.
//!
//! Three parts without threads, for an event loop or a thread that blocks in `accept`:
//!
//! * [`Admission`] decides who has a place: bounds of connections in all, of one source, and of half-open ones. A half-open connection gives
//!   way to a newcomer when a bound is reached, so strangers who connect and say nothing cannot keep others out;
//! * [`Acceptor`] survives the end of file descriptors: it keeps one in reserve, pauses instead of spinning, and logs once;
//! * [`Counters`] of both, which status and metrics read.
//!
//! What is logged of strangers goes through [`LimitedLog`](crate::log::LimitedLog), so that they cannot fill a disk.
//!
//! The owner of the sockets bounds bytes and time: what a connection may send and hold, and how long each of its phases may take.

mod acceptor;
mod admission;
mod counters;

pub use acceptor::{ACCEPT_TURN, Accepted, Acceptor, ROOM};
pub use admission::{Admission, Bounds, Full, Source};
pub use counters::{Counters, all};
