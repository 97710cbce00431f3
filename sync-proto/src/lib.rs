//! The sync protocol, sans-IO: codec, digest, table, client and server state machines, and the node cores built from them.
//!
//! No sockets, no clock, no threads. What a peer can cost at most is listed in `PROTOCOL.md`, "Authority, memory and progress".
//!
//! | module, in reading order | holds |
//! |---|---|
//! | [`record`], [`change`] | the replicated data: keys and values; what a batch consists of |
//! | [`table`], [`sketch`], [`digest`] | one copy of a table in change order, its sketch and its digest |
//! | [`wire`], [`frame`], [`codec`] | encoding |
//! | [`server`], [`client`] | the two ends of a connection |
//! | [`relay`], [`origins`], [`subset`] | readiness of a copy; protocol instances and their leases; parts of a table |
//! | [`acknowledge`], [`refusal`], [`serial_map`] | what clients downstream have installed, and refuse; serials of one table in those of another |
//! | [`ages`] | when the records of a table last changed |
//! | [`node`], [`timer`] | a server, clients and a role in one state machine, which daemons and simulator run |
//! | [`agent`] | the role of NIC hosts and relays; that of route servers is in their crate |
//!
//! ```
//! use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};
//!
//! let group = GroupValue::via("192.0.2.1".parse()?);
//! let label = Label::of(&group);
//! let route = Key::Route { vrf: 0, prefix: "203.0.113.0/24".parse()? };
//!
//! let mut table = Table::new(1);
//! table.commit([
//!     Change::Put(Key::Group(label), Value::Group(group)),
//!     Change::Put(route, Value::Route(label)),
//! ])?;
//! assert_eq!((table.serial(), table.counts().routes()), (1, 1));
//! // A reader at serial 0 lacks the group and the route.
//! assert_eq!(table.changes_since(0).map(|batch| batch.changes().count()), Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
pub mod acknowledge;
pub mod agent;
pub mod ages;
pub mod change;
pub mod client;
pub mod codec;
pub mod digest;
pub mod frame;
#[doc(hidden)]
pub mod mutation;
pub mod node;
pub mod origins;
mod outbox;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod serial_map;
pub mod server;
pub mod sketch;
pub mod subset;
pub mod table;
pub mod timer;
pub mod wire;

pub use change::{Change, ChangeRef, Path};
pub use digest::{DigestKey, DigestKeys, KeyId};
pub use record::{GroupValue, HopValue, Key, Label, OriginId, OriginValue, Value};
pub use sketch::RootDigest;
pub use subset::{Family, PrefixRange, Subset};
pub use table::{Batch, Commit, Counts, Table, TableError, Transaction};
