//! Safe bindings to what fibcast uses of DPDK.
//!
//! Begin with [`Eal::init`], then [`Mempool::new`], [`Port::open`] and [`Port::start`], which gives one
//! [`RxQueue`] and [`TxQueue`] handle per queue. Packets travel in a [`Burst`].
//!
//! Ownership is in the types:
//!
//! * A [`Packet`] owns its mbuf and frees it when dropped; a [`Burst`] frees all that it holds in one call.
//! * [`TxQueue::send`] takes the packets that the driver accepted out of the burst, so nothing can touch them
//!   again; the rest stays in the burst.
//! * A queue handle can move to another thread but not be copied: one owner, as DPDK demands.
//! * Handles keep the EAL alive. It is cleaned up when the last one goes, and never while an mbuf is still
//!   out: [`Eal`] says how.
//!
//! The fast path is one foreign call per burst; packet fields are read in place (`mbuf.rs`).

mod burst;
mod eal;
mod error;
mod fib;
mod log;
mod mbuf;
mod packet;
mod pool;
mod port;
mod queue;
mod stats;

pub use burst::{Burst, Deal, Drain};
pub use eal::{Eal, RegisteredThread};
pub use error::{Error, Result};
pub use fib::{Fib, Fib6, FibConfig, FibLookup};
pub use packet::Packet;
pub use pool::Mempool;
pub use port::{Port, PortConfig, PortInfo};
pub use queue::{RxQueue, TxQueue};
pub use stats::{Link, Stats};

/// The releases of DPDK that the tests are run with, oldest first.
pub use dpdk_sys::releases::TESTED as TESTED_RELEASES;

/// Bytes kept free before the data of a fresh packet, for headers that are prepended later.
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// The version of the DPDK libraries in use, for example `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a pointer to a static, NUL-terminated string; allowed before EAL initialisation.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}

/// The version in use, where it is not of a tested release.
pub fn untested_version() -> Option<String> {
    Some(version()).filter(|version| !dpdk_sys::releases::is_tested(version))
}
