//! Logging: `tracing` to standard error, one line per event. `FIBCAST_LOG` sets the level: off, error, warn, info (the default), debug or
//! trace.

use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging; later calls have no effect.
pub fn start() {
    let wanted = std::env::var("FIBCAST_LOG").ok();
    let level = wanted.as_deref().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
