//! The shell around the cores of `sync-proto`: sockets, clock, checkpoint and sinks.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | [`agent`] | the agent: start with [`agent::Agent::spawn`] |
//! | [`shell`] | the event loop of all daemons |
//! | [`checkpoint`] | the table on disk |
//! | [`kernel`] | the sink of hosts without DPDK |
//! | [`fib_changes`] | records as changes of the forwarding table |

pub mod agent;
pub mod checkpoint;
pub mod fib_changes;
pub mod kernel;
pub mod shell;
