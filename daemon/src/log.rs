//! The log: `tracing` to standard error, one line an event, `FIBCAST_LOG` chooses the level (default `info`).

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts it; later calls change nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("FIBCAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
