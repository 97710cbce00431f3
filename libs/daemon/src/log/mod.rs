//! Logging: `tracing` to standard error, one line per event. `FIBCAST_LOG` sets the level: off, error, warn, info (the default), debug or
//! trace.
//!
//! No thread waits for whoever reads the log: lines go through a bounded queue (`queue`), a thread writes them, and what does not fit is
//! lost, counted and reported later. If standard error is the journal of systemd, lines begin with their priority instead of a time
//! (sd-daemon(3)). [`LimitedLog`] passes a few lines per second and counts the rest.

mod limited;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::Duration;

use rustix::io::Errno;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use limited::LimitedLog;
use queue::Queue;

/// Bytes that wait to be written.
const QUEUE: usize = 256 * 1024;
/// Pause before standard error is tried again, if somebody made it non-blocking.
const FULL: Duration = Duration::from_millis(20);

/// Standard error is one for the process, and so is its queue.
static STDERR: OnceLock<Queue> = OnceLock::new();

fn stderr() -> &'static Queue {
    STDERR.get_or_init(|| Queue::start(QUEUE, write_stderr))
}

/// Starts logging, also of panics; later calls have no effect.
pub fn start() {
    let wanted = std::env::var("FIBCAST_LOG").ok();
    let level = wanted.as_deref().and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO);
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    let started = if is_journal() {
        log.without_time()
            .with_level(false)
            .with_ansi(false)
            .with_writer(Lines { priorities: true })
            .try_init()
    } else {
        log.with_ansi(io::stderr().is_terminal()).with_writer(Lines { priorities: false }).try_init()
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Writes a line that belongs to no level, after all before it.
pub(crate) fn last_line(line: &str) {
    Lines { priorities: is_journal() }.line(Level::ERROR, line);
}

/// Waits until all lines are written. False if that took longer than `time`, because nobody reads.
pub fn flush(time: Duration) -> bool {
    STDERR.get().is_none_or(|queue| queue.flush(time))
}

/// Lines lost so far.
pub fn lines_dropped() -> u64 {
    STDERR.get().map_or(0, Queue::lost)
}

/// Whether systemd connected standard error to its journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|found| stream == format!("{}:{}", found.st_dev, found.st_ino))
}

/// A panic of a thread that others survive is an event like others. The default hook would wait for who reads standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = Thread::name(&thread).unwrap_or("?");
    let payload = panic.payload();
    let reason = payload.downcast_ref::<&str>().copied();
    let reason =
        reason.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let trace = Backtrace::capture();
    let trace =
        if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
    tracing::error!("thread {thread} panicked{place}: {reason}{trace}");
}

/// Passes the lines of events to the queue.
struct Lines {
    priorities: bool,
}

impl Lines {
    /// One event. A line break inside is no beginning of another event: peers have a say in some texts.
    fn line(&self, level: Level, text: &str) {
        let begin = if self.priorities { priority(level) } else { "" };
        let mut line = String::with_capacity(text.len() + 8);
        for (number, part) in text.trim_end_matches('\n').split('\n').enumerate() {
            line += begin;
            if number > 0 {
                line += "    ";
            }
            line += part;
            line.push('\n');
        }
        stderr().push(line.as_bytes());
    }
}

/// The priority of a level for the journal.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, level: *event.level() }
    }
}

/// Takes the text of one event, which arrives in one piece.
struct Line<'a> {
    lines: &'a Lines,
    level: Level,
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.line(self.level, &String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it to standard error, however long that takes. False if it is gone.
fn write_stderr(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), bytes) {
            Ok(0) => return false,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(FULL),
            Err(_) => return false,
        }
    }
    true
}
