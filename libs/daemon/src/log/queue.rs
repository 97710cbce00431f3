//! A bounded queue of lines before a slow writer. Whoever has a line never waits; lines that do not fit are lost and counted.
//!
//! `tracing-appender` has such a writer, but bounds the number of lines instead of their bytes, and says nothing in the log about lost ones.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

thread_local! {
    /// Whether this is the thread that writes: there is always room for its word about lost lines.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// Handle to the queue.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// There are lines to write, or all are written.
    changed: Condvar,
    most: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The thread writes what it took.
    writing: bool,
}

impl Queue {
    /// Holds up to `most` bytes, and starts the thread that passes them to `write`, which returns false if they are lost.
    pub fn start(most: usize, mut write: impl FnMut(&[u8]) -> bool + Send + 'static) -> Self {
        let (waiting, changed, lost) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { waiting, changed, most, lost });
        let here = shared.clone();
        // Without the thread all lines are lost and counted.
        let _ = std::thread::Builder::new().name("log".into()).spawn(move || here.run(&mut write));
        Self { shared }
    }

    /// Takes a line with its end, or loses it.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.shared.waiting();
        if waiting.lines.len() + line.len() > self.shared.most && !WRITES.get() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        self.shared.changed.notify_all();
    }

    /// Lines lost since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Waits until all is written, at most for `time`.
    pub fn flush(&self, time: Duration) -> bool {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let waited = self.shared.changed.wait_timeout_while(self.shared.waiting(), time, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, write: &mut dyn FnMut(&[u8]) -> bool) {
        WRITES.set(true);
        let mut reported = 0;
        let mut lines = Vec::new();
        loop {
            let waiting = self.changed.wait_while(self.waiting(), |waiting| waiting.lines.is_empty());
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.lines, &mut lines);
            waiting.writing = true;
            drop(waiting);
            if write(&lines) {
                // Somebody reads again: now it can be reported.
                let lost = self.lost.load(Ordering::Relaxed);
                if lost > reported {
                    tracing::warn!(
                        "{} lines of this log are lost: nobody read it for a while",
                        lost - reported
                    );
                    reported = lost;
                }
            } else {
                let gone = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.lost.fetch_add(gone, Ordering::Relaxed);
            }
            lines.clear();
            self.waiting().writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(10);

    /// A writer that waits for a word before each piece, and shows it then.
    #[allow(clippy::type_complexity)]
    fn slow() -> (Box<dyn FnMut(&[u8]) -> bool + Send>, Sender<bool>, Receiver<Vec<u8>>) {
        let (go, gone) = channel();
        let (show, shown) = channel();
        let write = move |lines: &[u8]| {
            let fine = gone.recv().unwrap_or(true);
            let _ = show.send(lines.to_vec());
            fine
        };
        (Box::new(write), go, shown)
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_does_not_fit_is_counted() {
        let (write, go, shown) = slow();
        let queue = Queue::start(1000, write);
        for n in 0..1000 {
            queue.push(format!("line {n:3}\n").as_bytes());
        }
        assert!(!queue.flush(Duration::from_millis(50)));
        // The first piece is on its way, and 1000 bytes wait.
        assert!(queue.lost() >= 1000 - 2 * 1000 / 9 - 1, "{}", queue.lost());
        let mut written = Vec::new();
        while (written.len() as u64 / 9) + queue.lost() < 1000 {
            go.send(true).unwrap();
            written.extend(shown.recv_timeout(LONG).unwrap());
        }
        assert!(queue.flush(LONG));
        assert!(String::from_utf8(written).unwrap().starts_with("line   0\nline   1\n"));
        // There is room again.
        let lost = queue.lost();
        queue.push(b"more\n");
        go.send(true).unwrap();
        assert_eq!(shown.recv_timeout(LONG).unwrap(), b"more\n");
        assert_eq!(queue.lost(), lost);
    }

    #[test]
    fn lines_to_a_reader_that_is_gone_are_lost() {
        let (write, go, shown) = slow();
        let queue = Queue::start(1000, write);
        queue.push(b"one\n");
        go.send(false).unwrap();
        shown.recv_timeout(LONG).unwrap();
        assert!(queue.flush(LONG));
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn a_line_longer_than_the_queue_is_lost() {
        let queue = Queue::start(10, |_| true);
        queue.push(&[b'x'; 11]);
        assert_eq!(queue.lost(), 1);
    }
}
