//! DPDK's log: each line becomes a `tracing` event, and the errors logged during a failed call become part of its error.
//!
//! DPDK logs on the calling thread. So the messages of a failed call are those that this thread logged since [`forget`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::c_char;
use std::time::{Duration, Instant};

use dpdk_sys as sys;

/// Most messages kept for an error: a driver's reason comes first, and everyone above it adds a line.
const KEPT: usize = 8;
/// Older messages belong to an operation that finally succeeded.
const FRESH: Duration = Duration::from_secs(5);

/// rte_log.h.
const ERR: u32 = 4;
const WARNING: u32 = 5;
const NOTICE: u32 = 6;
const INFO: u32 = 7;

thread_local! {
    static THREAD_LOG: RefCell<ThreadLog> = RefCell::default();
}

/// Redirects DPDK's log. Called before EAL is initialised.
pub(crate) fn start() {
    // Without memory for the stream, DPDK logs to its default output.
    // SAFETY: `take` may be called from any thread at any time.
    unsafe { sys::fc_log_to(Some(take)) };
}

/// Discards this thread's messages before a call whose messages matter.
pub(crate) fn forget() {
    let _ = THREAD_LOG.try_with(|thread_log| thread_log.borrow_mut().complaints.clear());
}

/// Takes this thread's recent error messages, oldest first.
pub(crate) fn complaints() -> Vec<String> {
    let taken = THREAD_LOG.try_with(|thread_log| std::mem::take(&mut thread_log.borrow_mut().complaints));
    let fresh = |at: &Instant| at.elapsed() < FRESH;
    taken.unwrap_or_default().into_iter().filter(|(at, _)| fresh(at)).map(|(_, line)| line).collect()
}

/// Called by the shim with log bytes.
extern "C" fn take(level: u32, bytes: *const c_char, length: usize) {
    if bytes.is_null() {
        return;
    }
    // SAFETY: stdio hands over `length` readable bytes, and changes them only after this returned.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    let _ = THREAD_LOG.try_with(|thread_log| {
        if let Ok(mut thread_log) = thread_log.try_borrow_mut() {
            thread_log.take(level, bytes, &mut tell);
        }
    });
}

/// Log state of one thread.
#[derive(Debug, Default)]
struct ThreadLog {
    /// An incomplete line.
    begun: Vec<u8>,
    complaints: VecDeque<(Instant, String)>,
}

impl ThreadLog {
    fn take(&mut self, level: u32, bytes: &[u8], tell: &mut dyn FnMut(u32, &str)) {
        self.begun.extend_from_slice(bytes);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.line(level, String::from_utf8_lossy(&line).trim(), tell);
        }
    }

    fn line(&mut self, level: u32, line: &str, tell: &mut dyn FnMut(u32, &str)) {
        // DPDK 22.11 writes fatal messages to standard error and to the log, and reads its arguments twice.
        let again = || self.complaints.back().is_some_and(|(_, last)| last == line);
        let twice = level == sys::FC_LOG_STDERR && (line.starts_with("EAL: FATAL: ") || again());
        if line.is_empty() || twice {
            return;
        }
        tell(level, line);
        if level <= WARNING {
            if self.complaints.len() == KEPT {
                self.complaints.pop_front();
            }
            let line = line.strip_prefix("EAL: ").unwrap_or(line);
            self.complaints.push_back((Instant::now(), line.to_owned()));
        }
    }
}

fn tell(level: u32, line: &str) {
    match level {
        ..=ERR => tracing::error!("{line}"),
        WARNING => tracing::warn!("{line}"),
        NOTICE | INFO => tracing::info!("{line}"),
        _ => tracing::debug!("{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[(u32, &str)]) -> (Vec<(u32, String)>, Vec<String>) {
        let (mut thread_log, mut logged) = (ThreadLog::default(), Vec::new());
        for (level, piece) in pieces {
            thread_log
                .take(*level, piece.as_bytes(), &mut |level, line| logged.push((level, line.to_owned())));
        }
        (logged, thread_log.complaints.into_iter().map(|(_, line)| line).collect())
    }

    #[test]
    fn a_line_is_told_when_it_is_whole_and_once() {
        let (logged, complaints) =
            lines(&[(INFO, "EAL: Detected"), (INFO, " CPU\n\nEAL: more\n"), (INFO, "rest")]);
        assert_eq!(logged, [(INFO, "EAL: Detected CPU".to_owned()), (INFO, "EAL: more".to_owned())]);
        assert!(complaints.is_empty());
    }

    #[test]
    fn what_is_fatal_is_not_told_twice_and_other_words_on_standard_error_are() {
        let wrong = "fibcast: unrecognized option '--x'\n";
        let (logged, complaints) =
            lines(&[(0, wrong), (0, wrong), (0, "EAL: FATAL: Invalid\n"), (ERR, "EAL: Invalid\n")]);
        assert_eq!(logged, [(0, wrong.trim().to_owned()), (ERR, "EAL: Invalid".to_owned())]);
        assert_eq!(complaints, [wrong.trim(), "Invalid"]);
    }

    #[test]
    fn the_last_complaints_are_kept() {
        let all: Vec<String> = (0..12).map(|number| format!("EAL: {number}\n")).collect();
        let pieces: Vec<(u32, &str)> = all.iter().map(|line| (WARNING, line.as_str())).collect();
        assert_eq!(lines(&pieces).1, ["4", "5", "6", "7", "8", "9", "10", "11"]);
    }
}
