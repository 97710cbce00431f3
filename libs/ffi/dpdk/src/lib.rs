//! Safe wrapper of the parts of DPDK that fibcast uses.
//!
//! | module | holds |
//! |---|---|
//! | `eal`, `error`, `log` | [`Eal`]: start here. Errors carry DPDK's own messages |
//! | `pool`, `mbuf`, `packet` | [`Mempool`] and the [`Packet`]s from it |
//! | `port`, `stats` | [`Port::open`], [`Port::start`], counters and link state |
//! | `queue`, `burst` | [`RxQueue`], [`TxQueue`]: receive and send a [`Burst`] |
//! | `tsc` | the time-stamp counter |
//! | `fib` | `rte_fib`, for benchmarks |
//!
//! ```no_run
//! use dpdk::{Burst, Eal, Mempool, Port, PortConfig};
//!
//! let eal = Eal::init(["--no-pci", "--in-memory", "-l", "0"])?;
//! let pool = Mempool::new(&eal, "p0", 8_191, 256, 2_048, None)?;
//! let mut port = Port::open(&eal, "net_null0")?;
//! let (mut rx, mut tx) = port.start(&PortConfig::default(), &[pool])?;
//! let mut burst: Burst<32> = Burst::new();
//! rx[0].receive(&mut burst);
//! tx[0].send(&mut burst); // what the driver did not take stays in the burst
//! # Ok::<(), dpdk::Error>(())
//! ```
//!
//! Ownership is expressed by types:
//!
//! * A [`Packet`] owns its mbuf and frees it when dropped; a [`Burst`] frees all of its packets in one call.
//! * [`TxQueue::send`] removes the packets that the driver accepted from the burst; the rest stays in the burst.
//! * A queue handle can move to another thread but cannot be copied: one owner, as DPDK requires.
//! * Handles keep the EAL alive. It is cleaned up with the last one, and never while an mbuf is outside its pool ([`Eal`]).
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
mod tsc;

pub use burst::{Burst, Deal, Drain};
pub use eal::{Eal, RegisteredThread};
pub use error::{Error, Result};
pub use fib::{Fib, Fib6, FibConfig, FibLookup};
pub use packet::Packet;
pub use pool::{HEADROOM, Mempool};
pub use port::{Port, PortConfig, PortInfo};
pub use queue::{RxQueue, TxQueue};
pub use stats::{Link, Stats};
pub use tsc::ticks;

/// DPDK releases that the tests run with, oldest first.
pub use dpdk_sys::releases::TESTED as TESTED_RELEASES;

/// The version of the DPDK libraries in use, for example `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a pointer to a static, NUL-terminated string; allowed before EAL initialisation.
    unsafe { std::ffi::CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}

/// Version in use, if it is not a tested release.
pub fn untested_version() -> Option<String> {
    Some(version()).filter(|version| !dpdk_sys::releases::is_tested(version))
}
