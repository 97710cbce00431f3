//! The sync protocol, sans-IO: codec, digest, table, client and server state machines, and the cores of nodes made of them.
//!
//! No socket, no clock, no thread. In reading order:
//!
//! | module | is |
//! |---|---|
//! | [`record`] | what is moved: keys and values |
//! | [`table`], [`sketch`] | one copy of it, in the order of change, and its digest |
//! | [`wire`], [`frame`], [`codec`] | how it travels |
//! | [`server`], [`client`] | one end each of a connection |
//! | [`relay`], [`origins`], [`subset`] | readiness of a copy; protocol instances and their leases; parts of a table |
//! | [`node`], [`timer`] | a server, clients and a role in one machine, which the daemons and the simulator run |
//! | [`agent`] | the role of NIC hosts and relays; that of route servers is in their crate |

pub mod agent;
pub mod client;
pub mod codec;
pub mod frame;
#[doc(hidden)]
pub mod mutation;
pub mod node;
pub mod origins;
mod outbox;
pub mod record;
pub mod relay;
pub mod server;
pub mod sketch;
pub mod subset;
pub mod table;
pub mod timer;
pub mod wire;

pub use record::{Change, GroupValue, HopValue, Key, Label, OriginId, OriginValue, Value};
pub use sketch::RootDigest;
pub use subset::{Family, PrefixRange, Subset};
pub use table::{Batch, Commit, Counts, Table, TableError};
