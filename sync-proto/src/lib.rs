//! The sync protocol, sans-IO: codec, digest, table, client and server state machines.
//!
//! No socket, no clock, no thread. Begin with [`record`] (what is moved), then [`table`] (one copy of it).

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
