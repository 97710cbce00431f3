//! The dataplane of a NIC host: packet pipeline, neighbor tables and poll-mode workers.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | [`pipeline`] | the path of a packet, one file per stage. Start here |
//! | [`packet`] | protocol headers: parsed and built |
//! | [`io`] | packet I/O: on plain memory and on DPDK |
//! | [`worker`] | poll-mode threads that run the pipeline, and their idle policies |
//! | [`neighbor`] | ARP and ND as a state machine |
//! | [`membership`] | IGMP and MLD as a state machine |
//! | [`control`] | the thread that owns table, publisher and neighbors |
//! | [`agent_guard`] | supervisor of the agent |
//! | [`exception_path`] | TAP interfaces of ports in the kernel |
//! | [`capture`] | packet captures |
//! | [`reason`], [`counters`], [`used`] | drop reasons, counters, use of neighbors |
//! | [`config`](mod@config) | `dataplane.toml` |
//! | [`memory`], [`preflight`] | memory that the ports need, and checks of the machine |
//! | `router` | ports, workers and control side assembled on DPDK (feature `dpdk`) |

pub mod agent_guard;
pub mod capture;
pub mod config;
pub mod control;
pub mod counters;
pub mod exception_path;
pub mod io;
pub mod membership;
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
