//! SIGTERM and SIGINT: the first stops a daemon in order, the second ends it at once. SIGHUP: reload.
//!
//! A stop has a bound, whatever hangs: threads are waited for, but not for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use crate::log;

/// Longest stop in order. More than all the waits for single threads and disks, less than systemd's TimeoutStopSec= of 90 s.
const LONGEST_STOP: Duration = Duration::from_secs(20);
/// Time for the last lines of the log to be read.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Calls `stop` at the first SIGTERM or SIGINT, on a separate thread. A second one ends the process with code 1, and so does a stop that
/// takes more than 20 s.
///
/// # Errors
/// The system's error if the handlers cannot be installed.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    on_stop_within(LONGEST_STOP, stop)
}

/// [`on_stop`] with another bound.
///
/// # Errors
/// The system's error if the handlers cannot be installed.
pub fn on_stop_within(longest: Duration, stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Registered first, so that it acts only on the second signal: the flag is still unset at the first.
        signal_hook::flag::register_conditional_shutdown(signal, 1, again.clone())?;
        signal_hook::flag::register(signal, again.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            stop();
            std::thread::sleep(longest);
            // Something hangs: the process would not be here otherwise.
            tracing::error!(
                "could not stop within {} s: ends at once, and leaves undone what is left",
                longest.as_secs()
            );
            log::flush(LAST_LINES);
            exit(1);
        }
    })?;
    Ok(())
}

/// Calls `reload` at each SIGHUP, on a separate thread.
///
/// # Errors
/// The system's error if the handler cannot be installed.
pub(crate) fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    std::thread::Builder::new().name("hangup".into()).spawn(move || {
        signals.forever().for_each(|_| reload());
    })?;
    Ok(())
}

/// Blocks until SIGTERM or SIGINT.
///
/// # Errors
/// The system's error if the handlers cannot be installed.
pub fn wait() -> io::Result<()> {
    let asked = Arc::new(AtomicBool::new(false));
    let thread = std::thread::current();
    let flag = asked.clone();
    on_stop(move || {
        flag.store(true, Ordering::Release);
        thread.unpark();
    })?;
    while !asked.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_secs(1));
    }
    Ok(())
}
