//! The shell around the cores of `sync-proto`: sockets, clock, checkpoint and sinks.
//!
//! [`shell`] is the event loop that all daemons share; [`agent`] runs the core of an agent with a sink in it;
//! [`checkpoint`] keeps its table for the next start; [`config`] is the file of `fibcast-agent`, [`digest_key`] that of its digest keys;
//! [`protection`] is what secures a node, reloaded as one;
//! [`acknowledge`] is `[acknowledge]` of relays and route servers; [`sink`] says what a sink is;
//! [`kernel`] is the sink of hosts without DPDK; [`fib_changes`] puts records into the words of the forwarding trie. Begin with [`agent::Agent::spawn`].

pub mod acknowledge;
pub mod agent;
pub mod checkpoint;
pub mod config;
pub mod digest_key;
pub mod fib_changes;
pub mod kernel;
pub mod protection;
pub mod shell;
pub mod sink;
