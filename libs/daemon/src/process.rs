//! What a daemon can say of itself, whatever it does.

use std::time::Duration;

use fibcast_control::status::{Kind, Refused, Status, TableStatus};

/// The status of a daemon that has run for `uptime`, with nothing in it yet.
pub fn status(name: &str, kind: Kind, uptime: Duration) -> Status {
    Status {
        name: name.to_owned(),
        kind,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: uptime.as_millis() as u64,
        resident_bytes: resident_bytes(),
        ready: false,
        stale: false,
        table: TableStatus::default(),
        sync: None,
        clients: Vec::new(),
        sources: Vec::new(),
        peers: Vec::new(),
        origins: Vec::new(),
        acknowledge: None,
        refused: Refused::default(),
        listeners: crate::listener::all(),
        log_lines_dropped: crate::log::lines_dropped(),
        certificates: Vec::new(),
        kernel: None,
        forwarding: None,
        threads: crate::threads::show(),
    }
}

/// Resident memory of this process in bytes, 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    resident_bytes_of(std::process::id())
}

/// The same of another process.
pub fn resident_bytes_of(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
