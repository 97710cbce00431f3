//! Packet pipeline, neighbours and poll-mode workers.
//!
//! * [`packet`]: packets as bytes;
//! * [`io`]: what the pipeline asks of packet I/O, on plain memory and on DPDK;
//! * [`pipeline`]: the path of a packet, one file per stage. Begin there;
//! * [`worker`]: poll-mode threads around it, and what they do when idle;
//! * [`neighbor`]: ARP and ND as a state machine;
//! * [`control`]: the thread that owns table, publisher and neighbours;
//! * [`agent_guard`]: another agent where one stands still;
//! * [`capture`]: copies of packets for an operator;
//! * [`host_path`]: TAP interfaces of ports in the kernel;
//! * [`config`](mod@config): the file `dataplane.toml`;
//! * [`memory`], [`preflight`]: what the ports want, and whether this machine has it;
//! * `router`: ports, workers and control put together on DPDK (feature `dpdk`);
//! * [`reason`], [`counters`]: why packets were dropped, and how many;
//! * [`used`]: which neighbours packets went to.

pub mod agent_guard;
pub mod capture;
pub mod config;
pub mod control;
pub mod counters;
pub mod host_path;
pub mod io;
pub mod memory;
pub mod neighbor;
pub mod packet;
pub mod pipeline;
pub mod preflight;
pub mod reason;
#[cfg(feature = "dpdk")]
pub mod router;
pub mod used;
pub mod worker;
