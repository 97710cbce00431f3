//! Waits with a bound.

use std::time::{Duration, Instant};

use crate::Failure;

/// Between two looks.
const TICK: Duration = Duration::from_millis(20);

/// Waits until something is true; says how long that took.
///
/// # Errors
/// It took longer than `within`, or looking failed.
pub fn until<E: From<Failure>>(
    what: &str,
    within: Duration,
    done: impl FnMut() -> Result<bool, E>,
) -> Result<Duration, E> {
    until_every(TICK, what, within, done)
}

/// The same with another time between two looks, which is how exact the answer is.
///
/// # Errors
/// As [`until`].
pub fn until_every<E: From<Failure>>(
    tick: Duration,
    what: &str,
    within: Duration,
    mut done: impl FnMut() -> Result<bool, E>,
) -> Result<Duration, E> {
    let begin = Instant::now();
    while !done()? {
        if begin.elapsed() > within {
            return Err(Failure::Late { what: what.to_owned(), within }.into());
        }
        std::thread::sleep(tick);
    }
    Ok(begin.elapsed())
}

/// The same for tests.
///
/// # Panics
/// It took longer.
#[track_caller]
#[allow(clippy::panic, reason = "a test ends where it stands")]
pub fn eventually(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) -> Duration {
    match until(what, Duration::from_secs(seconds), || Ok::<_, Failure>(condition())) {
        Ok(took) => took,
        Err(failure) => panic!("{failure}"),
    }
}

/// Looks for so many seconds whether something stays true.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn always(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        assert!(condition(), "no longer after {:?}: {what}", begin.elapsed());
        std::thread::sleep(TICK);
    }
}
