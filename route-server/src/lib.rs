//! Sources, RIB, best path and fan-out of one routing table.
//!
//! A change's way: [`source`] threads read it (with `fibcast_mrt`, or from a text file) and hand it over in batches; [`filter`] holds back what
//! the configuration does not let in; [`rib`] commits it as a route of its origin and picks the best path; [`engine`] does so for all
//! origins, own and other servers', and decides when the server is ready and when a lost origin's routes go; [`run`] hosts the engine in
//! the event loop of `fibcast-sync-agent`, which serves the tables `fib` (best paths, for agents), `rib` (which origins there are) and
//! `rib/…` (the routes of one origin, for other route servers). [`kv`] keeps opaque records alike on all servers. [`config`] is the file
//! that says all this, [`operator`] answers `fibcast show`.
//!
//! May depend on `sync-proto`, `sync-agent`'s loop, `control` and `daemon`. Begin with [`rib`], then [`engine`].

pub mod config;
pub mod engine;
mod filter;
mod kv;
mod operator;
pub mod rib;
pub mod run;
pub mod source;
