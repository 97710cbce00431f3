//! Packet pipeline, neighbours and poll-mode workers.
//!
//! * [`packet`]: packets as bytes;
//! * [`io`]: what the pipeline asks of packet I/O, on plain memory and on DPDK;
//! * [`pipeline`]: the path of a packet, one file per stage. Begin there;
//! * [`reason`], [`counters`]: why packets were dropped, and how many.

pub mod counters;
pub mod io;
pub mod packet;
pub mod pipeline;
pub mod reason;
