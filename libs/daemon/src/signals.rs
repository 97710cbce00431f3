//! SIGTERM and SIGINT: the first stops a daemon in order, the second ends it at once. SIGHUP: reload.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `stop` at the first SIGTERM or SIGINT, on a separate thread; a second one ends the process with code 1.
///
/// # Errors
/// The system's error if the handlers cannot be installed.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
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
        }
    })?;
    Ok(())
}

/// Calls `reload` at each SIGHUP, on a separate thread.
///
/// # Errors
/// The system's error if the handler cannot be installed.
pub fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    std::thread::Builder::new().name("hangup".into()).spawn(move || {
        for _ in signals.forever() {
            crate::systemd::reloading(&mut reload);
        }
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
