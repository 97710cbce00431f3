//! Errors, with the operation, the device and DPDK's own message.

use std::ffi::{CStr, CString};

use crate::log;

/// Result of an operation on DPDK.
pub type Result<T> = std::result::Result<T, Error>;

/// Why DPDK or this wrapper refused an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// DPDK returned an error.
    #[error("cannot {operation} {subject}: {reason} (errno {errno}){}", quoted(log))]
    Call {
        /// The operation as a verb: `probe`, `start`.
        operation: &'static str,
        /// The device, pool or argument that it concerned.
        subject: String,
        /// The positive errno.
        errno: i32,
        /// DPDK's text for it.
        reason: String,
        /// DPDK's log messages during the operation, oldest first.
        log: Vec<String>,
    },
    /// EAL can be initialised only once per process, even after cleanup.
    #[error("EAL was already initialised in this process")]
    AlreadyInitialised,
    /// Another [`Port`](crate::Port) has opened this device.
    #[error("device {0} is already open in this process")]
    DeviceInUse(String),
    /// The device was probed but has no Ethernet port.
    #[error("device {0} was probed but has no Ethernet port")]
    NoPort(String),
    /// A string with a NUL byte cannot be passed to DPDK.
    #[error("{0:?} holds a NUL byte")]
    NulByte(String),
    /// A port cannot be stopped while one of its queue handles exists.
    #[error("port {0} still has queue handles in use")]
    QueuesInUse(String),
    /// The port must be stopped for this operation, or is started already.
    #[error("port {0} is already started")]
    AlreadyStarted(String),
    /// Devices cannot reach the packet buffers by DMA.
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
    /// A value is outside the range that the device or DPDK allows.
    #[error("{subject}: {what} is {found}, expected {expected}")]
    OutOfRange {
        /// The device or pool.
        subject: String,
        /// Which setting.
        what: &'static str,
        /// The requested value.
        found: u64,
        /// The allowed range.
        expected: String,
    },
}

impl Error {
    /// From the negative errno that most functions return, or from `rte_errno` where that is -1 or 0.
    pub(crate) fn call(operation: &'static str, subject: impl Into<String>, returned: i32) -> Self {
        let errno = if returned < -1 { -returned } else { last_errno() };
        Self::Call { operation, subject: subject.into(), errno, reason: text(errno), log: log::complaints() }
    }

    /// From `rte_errno` alone.
    pub(crate) fn last(operation: &'static str, subject: impl Into<String>) -> Self {
        Self::call(operation, subject, 0)
    }
}

fn quoted(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("; EAL log: {}", log.join("; ")) }
}

/// `Ok` for zero and above, otherwise the error.
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
