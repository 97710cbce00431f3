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
        refused: Refused::default(),
        kernel: None,
        forwarding: None,
    }
}

/// Resident memory of this process in bytes, 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * 4096
}
