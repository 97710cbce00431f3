//! What can go wrong, with the operation, the device and DPDK's own words.

use std::ffi::{CStr, CString};

use crate::log;

/// The result of an operation on DPDK.
pub type Result<T> = std::result::Result<T, Error>;

/// Why DPDK, or this wrapper, refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// DPDK returned an error.
    #[error("cannot {operation} {subject}: {reason} (errno {errno}){}", quoted(said))]
    Call {
        /// What was tried, as a verb: `probe`, `start`.
        operation: &'static str,
        /// The device, pool or argument that it was tried on.
        subject: String,
        /// The positive errno.
        errno: i32,
        /// DPDK's text for it.
        reason: String,
        /// What DPDK complained about in its log meanwhile, oldest first.
        said: Vec<String>,
    },
    /// EAL can be initialised once per process, also after it was cleaned up.
    #[error("EAL was already initialised in this process")]
    AlreadyInitialised,
    /// Another [`Port`](crate::Port) has this device.
    #[error("device {0} is already open in this process")]
    DeviceInUse(String),
    /// The device was probed, and no Ethernet port came of it.
    #[error("device {0} was probed but has no Ethernet port")]
    NoPort(String),
    /// A string with a NUL byte inside cannot be handed to DPDK.
    #[error("{0:?} holds a NUL byte")]
    NulByte(String),
    /// A port cannot be stopped while a queue handle of it lives.
    #[error("port {0} still has queue handles in use")]
    QueuesInUse(String),
    /// The port must be stopped for this, or must not be started twice.
    #[error("port {0} is already started")]
    AlreadyStarted(String),
    /// Devices cannot reach packet buffers by DMA.
    #[error(
        "pool {pool}: {unreachable} of {size} buffers have no IOVA in memory that is registered with the devices, so no device could \
         read or write them"
    )]
    NoDma {
        /// The pool.
        pool: String,
        /// How many buffers have no valid IOVA.
        unreachable: u32,
        /// How many buffers the pool has.
        size: u32,
    },
    /// A number is outside of what the device or DPDK allows.
    #[error("{subject}: {what} is {found}, expected {expected}")]
    OutOfRange {
        /// The device or pool.
        subject: String,
        /// Which setting.
        what: &'static str,
        /// The value that was asked for.
        found: u64,
        /// What would be allowed.
        expected: String,
    },
}

impl Error {
    /// From the negative errno that most functions return, or from `rte_errno` where that is -1 or 0.
    pub(crate) fn call(operation: &'static str, subject: impl Into<String>, returned: i32) -> Self {
        let errno = if returned < -1 { -returned } else { last_errno() };
        Self::Call { operation, subject: subject.into(), errno, reason: text(errno), said: log::complaints() }
    }

    /// From `rte_errno` alone.
    pub(crate) fn last(operation: &'static str, subject: impl Into<String>) -> Self {
        Self::call(operation, subject, 0)
    }
}

fn quoted(said: &[String]) -> String {
    if said.is_empty() { String::new() } else { format!("; EAL said: {}", said.join("; ")) }
}

/// `Ok` for zero and above, else the error.
pub(crate) fn check(returned: i32, operation: &'static str, subject: &str) -> Result<i32> {
    if returned >= 0 { Ok(returned) } else { Err(Error::call(operation, subject, returned)) }
}

pub(crate) fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::NulByte(text.to_owned()))
}

fn last_errno() -> i32 {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::fc_errno() }
}

fn text(errno: i32) -> String {
    // SAFETY: rte_strerror returns a NUL-terminated string in a buffer of this thread, copied at once.
    unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) }.to_string_lossy().into_owned()
}
