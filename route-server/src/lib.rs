//! The route server: sources, RIB, best path selection and fan-out of one routing table.
//!
//! | module, in the order of a route change | role |
//! |---|---|
//! | [`source`] | threads that read routes (FPM, netlink, MRT, text) and send batches |
//! | [`filter`] | import filter of the configuration |
//! | [`rib`] | routes of an origin, best path selection |
//! | [`engine`] | all origins, own and remote; readiness; loss of an origin |
//! | [`sources`] | the threads of sources, at the start and by reloads |
//! | [`run`] | the engine in the event loop of `fibcast-sync-agent` |
//! | [`kv`] | opaque records, identical on all servers |
//! | [`config`] | `route-server.toml` |
//! | [`operator`] | answers to `fibcast show` |
//!
//! It serves the tables `fib` (best paths, for agents), `rib` (the catalog of origins) and `rib/…` (the routes of one origin, for other
//! route servers).
//!
//! May depend on `sync-proto`, `sync-agent`'s event loop, `control` and `daemon`. Start with [`rib`], then [`engine`].

pub mod config;
pub mod engine;
mod filter;
mod kv;
mod operator;
pub mod rib;
pub mod run;
pub mod source;
pub mod sources;
