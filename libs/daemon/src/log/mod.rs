//! Logging: `tracing` to standard error, journald or a file, one line per event, as `[log]` says ([`LogKeys`]). `FIBCAST_LOG` and `RUST_LOG` in
//! the environment override the level, in that order.
//!
//! No thread waits for whoever reads the log: lines go through a bounded queue (`queue`), a thread writes them (`destination`), and what does
//! not fit is lost, counted and reported later. If systemd reads, lines begin with their priority instead of a time (sd-daemon(3)).
//! [`LimitedLog`] passes a few lines per second and counts the rest. `json` is the other form of a line.

mod destination;
mod json;
mod limited;
mod queue;
mod section;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{ConfigError, Loaded};
use destination::{Journal, LogFile};
pub use limited::LimitedLog;
use queue::Queue;
pub use section::{Format, LogKeys, Target};

/// Bytes that wait to be written.
const QUEUE: usize = 256 * 1024;

/// A process has one log.
static OUTPUT: OnceLock<Output> = OnceLock::new();
/// The level in force, which a reload changes.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Where lines go, and in which form.
struct Output {
    queue: Queue,
    /// Lines begin with their priority.
    priorities: bool,
    format: Format,
}

impl Output {
    /// Text to standard error.
    fn stderr(format: Format) -> Self {
        let queue = Queue::start(QUEUE, destination::write_stderr);
        Self { queue, priorities: is_journal(), format }
    }

    fn open(keys: &LogKeys) -> io::Result<Self> {
        let format = keys.format;
        Ok(match (keys.target, &keys.path) {
            (Target::File, Some(path)) => {
                let mut file = LogFile::open(path)?;
                let queue = Queue::start(QUEUE, move |lines| file.write(lines));
                Self { queue, priorities: false, format }
            }
            (Target::Journald, _) => {
                let journal = Journal::open()?;
                let queue = Queue::start(QUEUE, move |lines| journal.write(lines));
                Self { queue, priorities: true, format }
            }
            (Target::Stderr | Target::File, _) => Self::stderr(format),
        })
    }
}

fn output() -> &'static Output {
    OUTPUT.get_or_init(|| Output::stderr(Format::Text))
}

/// Starts logging to standard error without a `[log]`, also of panics; later calls have no effect.
pub fn start() {
    begin(&LogKeys::default());
}

/// Starts logging as `[log]` says. Before the first line is written, and before other threads run.
///
/// # Errors
/// The file cannot be opened, or nobody listens for the journal.
pub fn start_with<T>(keys: &LogKeys, loaded: &Loaded<T>) -> Result<(), ConfigError> {
    let opened = Output::open(keys).map_err(|error| {
        let (key, what) = match keys.target {
            Target::File => ("path", "cannot write to the file"),
            Target::Journald => ("target", "cannot reach journald; on a machine without it use \"stderr\""),
            Target::Stderr => ("target", "cannot log"),
        };
        loaded.error(&["log".into(), key.into()], format!("{what} ({error})"))
    })?;
    // An output is there already only in a program that started to log twice.
    let _ = OUTPUT.set(opened);
    begin(keys);
    Ok(())
}

fn begin(keys: &LogKeys) {
    let (wanted, complaint) = wanted(keys, |name| std::env::var(name).ok());
    let (filter, handle) = reload::Layer::new(wanted);
    let form = fmt::layer().with_target(false).with_writer(Lines);
    let form: Box<dyn Layer<_> + Send + Sync> = match (keys.format, output().priorities) {
        (Format::Json, _) => form.with_ansi(false).event_format(json::Json).boxed(),
        (Format::Text, true) => form.without_time().with_level(false).with_ansi(false).boxed(),
        (Format::Text, false) => {
            form.with_ansi(keys.target == Target::Stderr && io::stderr().is_terminal()).boxed()
        }
    };
    // The level is the inner layer: its handle names the type below it.
    if tracing_subscriber::registry().with(filter).with(form).try_init().is_ok() {
        let _ = LEVEL.set(handle);
        std::panic::set_hook(Box::new(log_panic));
        if let Some(complaint) = complaint {
            tracing::warn!("{complaint}");
        }
    }
}

/// Puts the level of a new version of `[log]` in force. What a reload says about it, if there is something to say.
pub fn take_over(keys: &LogKeys) -> Option<String> {
    let overriding = variable(|name| std::env::var(name).ok());
    let (wanted, complaint) = wanted(keys, |name| std::env::var(name).ok());
    LEVEL.get()?.reload(wanted).ok()?;
    complaint.or_else(|| {
        overriding.map(|(name, text)| format!("log level: {text:?}, from {name} of the environment"))
    })
}

/// The variable of the environment that overrides the level.
fn variable(environment: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    ["FIBCAST_LOG", "RUST_LOG"].into_iter().find_map(|name| Some((name, environment(name)?)))
}

/// The level, and what is wrong with the environment.
fn wanted(keys: &LogKeys, environment: impl Fn(&str) -> Option<String>) -> (Targets, Option<String>) {
    let configured =
        || section::directives(&keys.level).unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    match variable(environment).map(|(name, text)| (name, section::directives(&text))) {
        None => (configured(), None),
        Some((_, Ok(levels))) => (levels, None),
        Some((name, Err(reason))) => (configured(), Some(format!("{name} is ignored: {reason}"))),
    }
}

/// Writes a line that belongs to no level, after all before it.
pub(crate) fn last_line(line: &str) {
    match output().format {
        Format::Text => Lines.line(Level::ERROR, line),
        Format::Json => Lines.line(Level::ERROR, &json::line("error", line)),
    }
}

/// Waits until all lines are written. False if that took longer than `time`, because nobody reads.
pub fn flush(time: Duration) -> bool {
    OUTPUT.get().is_none_or(|output| output.queue.flush(time))
}

/// Lines lost so far.
pub fn lines_dropped() -> u64 {
    OUTPUT.get().map_or(0, |output| output.queue.lost())
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
struct Lines;

impl Lines {
    /// One event. A line break inside is no beginning of another event: peers have a say in some texts.
    fn line(&self, level: Level, text: &str) {
        let begin = if output().priorities { priority(level) } else { "" };
        let mut line = String::with_capacity(text.len() + 8);
        for (number, part) in text.trim_end_matches('\n').split('\n').enumerate() {
            line += begin;
            if number > 0 {
                line += "    ";
            }
            line += part;
            line.push('\n');
        }
        output().queue.push(line.as_bytes());
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

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { level: Level::INFO }
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> Line {
        Line { level: *event.level() }
    }
}

/// Takes the text of one event, which arrives in one piece.
struct Line {
    level: Level,
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Lines.line(self.level, &String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_the_level_and_nonsense_in_it_is_told() {
        let keys = LogKeys { level: "warn".into(), ..LogKeys::default() };
        let by = |variables: &[(&str, &str)]| {
            wanted(&keys, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        let passes = |levels: &Targets, level| levels.would_enable("fibcast_daemon", &level);
        let (levels, complaint) = by(&[]);
        assert!(passes(&levels, Level::WARN) && !passes(&levels, Level::INFO) && complaint.is_none());
        let (levels, _) = by(&[("RUST_LOG", "info,fibcast_daemon=debug")]);
        assert!(passes(&levels, Level::DEBUG) && !passes(&levels, Level::TRACE));
        let (levels, _) = by(&[("RUST_LOG", "off"), ("FIBCAST_LOG", "trace")]);
        assert!(passes(&levels, Level::TRACE));
        let (levels, complaint) = by(&[("RUST_LOG", "loud")]);
        assert!(passes(&levels, Level::WARN) && !passes(&levels, Level::INFO));
        assert!(complaint.unwrap().starts_with("RUST_LOG is ignored: expected off"));
    }
}
