//! The reload of a daemon: its configuration file is read again, by SIGHUP and by an operator's command alike, and taken over whole or not
//! at all.
//!
//! A daemon has one [`Reload`]. It compares the file with the version in force; the daemon says what it cannot change at work ([`refuse`]),
//! reads everything that the file names, and only then puts anything in force.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use fibcast_control::about::RunningConfig;
use serde::de::DeserializeOwned;

use crate::config::{Loaded, load};
use crate::exit::Failure;
use crate::{signals, systemd};

/// How long an operator's reload waits for an earlier one.
const EARLIER: Duration = Duration::from_secs(1);
/// How often it looks.
const AGAIN: Duration = Duration::from_millis(10);

/// What was done, a line for each change; or why nothing has changed.
pub type Outcome = Result<Vec<String>, String>;

type Work = dyn FnMut() -> Outcome + Send;

/// The reload of this daemon. Clones are the same one.
#[derive(Clone)]
pub struct Reload {
    work: Arc<Mutex<Work>>,
    /// Apart from the work, which may wait for files.
    running: Arc<Mutex<RunningConfig>>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    /// The reload of a daemon that runs by the file `in_force`. `take` gets a new version of it and the one in force; after an error nothing may
    /// have changed. Both run on the thread of whoever asks, never on that of a protocol.
    pub fn new<T: DeserializeOwned + Send + 'static>(
        mut in_force: Loaded<T>,
        mut take: impl FnMut(&Loaded<T>, &Loaded<T>) -> Outcome + Send + 'static,
    ) -> Self {
        let running = Arc::new(Mutex::new(in_force.running()));
        let shown = running.clone();
        let work = move || {
            let new: Loaded<T> = load(in_force.path()).map_err(|error| error.to_string())?;
            let done = take(&new, &in_force)?;
            let changed = new.differences(&in_force).into_iter().map(|key| format!("{key}: changed"));
            let lines = changed.chain(done).collect();
            in_force = new;
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = in_force.running();
            Ok(lines)
        };
        Self { work: Arc::new(Mutex::new(work)), running }
    }

    /// The configuration that the daemon runs by.
    pub fn running(&self) -> RunningConfig {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads, one at a time; the outcome is logged as well. One that is at work is waited for, but not for long: its files may never come.
    ///
    /// # Errors
    /// The text for the operator: why nothing has changed.
    pub fn run(&self) -> Result<String, String> {
        let begin = Instant::now();
        loop {
            match self.work.try_lock() {
                Ok(work) => return locked(work),
                Err(TryLockError::Poisoned(poisoned)) => return locked(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if begin.elapsed() < EARLIER => thread::sleep(AGAIN),
                Err(TryLockError::WouldBlock) => {
                    return Err("nothing has changed: an earlier reload has not ended, because a file that it reads does not come; \
                                try again when it has"
                        .to_owned());
                }
            }
        }
    }

    /// Reloads at each SIGHUP. One that comes while another reload is at work is done after it.
    ///
    /// # Errors
    /// [`Failure`] if the signal cannot be handled.
    pub fn on_hangup(&self) -> Result<(), Failure> {
        let reload = self.clone();
        signals::on_hangup(move || drop(locked(reload.work.lock().unwrap_or_else(PoisonError::into_inner))))
            .map_err(|error| Failure::work(format!("signals: {error}")))
    }
}

/// The reload of whoever has the lock.
fn locked(mut work: MutexGuard<'_, Work>) -> Result<String, String> {
    match systemd::reloading(|| catch_unwind(AssertUnwindSafe(&mut *work))) {
        Ok(Ok(lines)) => {
            tracing::info!("reloaded: {}", lines.join("; "));
            Ok(lines.join("\n"))
        }
        Ok(Err(reason)) => {
            tracing::error!("cannot reload, nothing has changed: {reason}");
            Err(format!("nothing has changed: {reason}"))
        }
        Err(_) => Err("the reload made a thread panic, see the log; restart the daemon".to_owned()),
    }
}

/// Refuses a new version of a file with changes that need a restart. `fixed` has the keys of which the daemon can change nothing at work, with
/// whether they mean something else than before.
///
/// # Errors
/// The changed keys, each with file and line.
pub fn refuse<T: DeserializeOwned>(
    new: &Loaded<T>,
    before: &Loaded<T>,
    fixed: &[(&str, bool)],
) -> Result<(), String> {
    let all = new.differences(before);
    let mut named = Vec::new();
    for (key, _) in fixed.iter().filter(|(_, differs)| *differs) {
        let those: Vec<String> =
            all.iter().filter(|difference| difference.is_within(key)).map(ToString::to_string).collect();
        // Always found: it means something else because it says something else.
        named.extend(if those.is_empty() { vec![(*key).to_owned()] } else { those });
    }
    match named.len() {
        0 => Ok(()),
        1 => Err(format!("{} needs a restart", named.concat())),
        _ => Err(format!("these changes need a restart: {}", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn write(path: &std::path::Path, text: &str) -> Loaded<toml::Table> {
        std::fs::write(path, text).unwrap();
        load(path).unwrap()
    }

    #[test]
    fn a_file_is_compared_with_the_last_one_that_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let reload = Reload::new(write(&path, "a = 1\nb = 1\n"), |new, before| {
            refuse(new, before, &[("b", new.value["b"] != before.value["b"])])?;
            Ok(vec!["done".to_owned()])
        });
        let run = || reload.run().map_err(|e| e.replace(&format!("{}/", folder.path().display()), ""));
        assert_eq!(run().unwrap(), "done");
        write(&path, "a = 2\nb = 2\n");
        assert_eq!(run().unwrap_err(), "nothing has changed: x.toml:2: b needs a restart");
        write(&path, "a = 2\nb = 1\n");
        assert_eq!(
            run().unwrap().replace(&folder.path().display().to_string(), ""),
            "/x.toml:1: a: changed\ndone"
        );
        assert_eq!(run().unwrap(), "done", "nothing to tell a second time");
        std::fs::write(&path, "a = \n").unwrap();
        assert!(run().unwrap_err().starts_with("nothing has changed: x.toml:1: "));
    }

    #[test]
    fn a_reload_whose_files_do_not_come_refuses_further_ones_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (arrive, files) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        let reload = Reload::new(write(&folder.path().join("x.toml"), "a = 1\n"), move |_, _| {
            begun.send(()).unwrap();
            files.recv().unwrap();
            Ok(Vec::new())
        });
        thread::scope(|scope| {
            let first = scope.spawn(|| reload.run());
            begins.recv().unwrap();
            let error = reload.run().unwrap_err();
            assert!(error.starts_with("nothing has changed: an earlier reload has not ended"), "{error}");
            arrive.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap(), "");
            arrive.send(()).unwrap();
            assert_eq!(reload.run().unwrap(), "");
        });
    }

    #[test]
    fn a_panic_is_told_and_the_next_reload_works() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = true;
        let reload = Reload::new(write(&folder.path().join("x.toml"), "a = 1\n"), move |_, _| {
            assert!(!std::mem::take(&mut first), "on purpose");
            Ok(Vec::new())
        });
        assert!(reload.run().unwrap_err().contains("panic"));
        assert_eq!(reload.run().unwrap(), "");
    }
}
