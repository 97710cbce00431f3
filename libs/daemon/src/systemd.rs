//! What systemd hears of a daemon (`Type=notify`, sd_notify(3)): started, stopping, reloading, and that all threads make progress.
//!
//! The protocol is a datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names. Without systemd the variable is not set, and
//! nothing is sent. "Started" means that the daemon serves; whether its table is complete depends on other machines, and is told by
//! `/healthz`: systemd would kill a daemon whose servers are away.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Tells that the daemon serves.
pub fn ready() {
    send(&format!("READY=1\nSTATUS=started\nMAINPID={}\n", std::process::id()));
}

/// Tells that it ends.
pub fn stopping() {
    send("STOPPING=1\nSTATUS=stopping\n");
}

/// Shows a line in `systemctl status`.
pub fn status(text: &str) {
    send(&format!("STATUS={}\n", text.replace('\n', " ")));
}

/// Tells that the configuration is read again during `reload`.
pub fn reloading<T>(reload: impl FnOnce() -> T) -> T {
    // CLOCK_MONOTONIC in microseconds, which systemd compares with the time of its signal.
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let us = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    send(&format!("RELOADING=1\nMONOTONIC_USEC={us}\n"));
    let outcome = reload();
    send("READY=1\n");
    outcome
}

/// systemd's watchdog, fed at half of its period (`WatchdogSec=`).
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    /// The watchdog of this process, if systemd has one for it.
    pub fn new(now: Instant) -> Watchdog {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let of_this = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number("WATCHDOG_USEC").filter(|us| *us != 0 && of_this);
        Watchdog { every: every.map(|us| Duration::from_micros(us / 2)), due: now }
    }

    /// All threads are well.
    pub fn feed(&mut self, now: Instant) {
        if let Some(every) = self.every.filter(|_| now >= self.due) {
            send("WATCHDOG=1\n");
            self.due = now + every;
        }
    }
}

fn send(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    if let Err(error) = deliver(path, text) {
        tracing::debug!("sd_notify: {error}");
    }
}

fn deliver(path: OsString, text: &str) -> io::Result<()> {
    // An abstract address begins with '@'.
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read must not stop a thread.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(|_| ())
}
