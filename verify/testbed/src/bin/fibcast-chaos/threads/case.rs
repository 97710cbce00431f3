//! One case: a daemon, a fault, and what is to be seen.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_testbed::{Failure, ptrace};

use super::fault::Fault;
use crate::health;
use crate::report::Row;
use crate::subject::{Running, Setup, Subject};

/// Within this time `/healthz` is to report a fault.
const REPORTED: Duration = Duration::from_secs(3);
/// What a busy machine may add to any time.
const SLACK: Duration = Duration::from_secs(4);
/// Within this time a daemon is healthy again.
const BACK: Duration = Duration::from_secs(30);
/// Between two looks.
const TICK: Duration = Duration::from_millis(50);

/// What is expected.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// `/healthz` says this soon, and is ready again when the fault ends.
    Reported(&'static str),
    /// As before, but the daemon helps itself while the fault lasts.
    Mended(&'static str),
    /// Nothing has to be reported: it is not on the way of a route or a packet.
    Healthy,
    /// The thread of this name restarts.
    Restarted(&'static str),
    /// The process ends for its supervisor, with this in its log.
    Ends(&'static str),
}

/// A case.
#[derive(Debug)]
pub struct Case {
    pub subject: Subject,
    pub fault: Box<dyn Fault>,
    /// Further keys of `[node]`.
    pub keys: &'static str,
    pub expected: Expected,
    /// What does not work meanwhile, for the table.
    pub lost: &'static str,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.subject.program(), self.fault.name())
    }
}

/// Head of the table.
pub const HEAD: &[&str] = &["daemon", "fault", "/healthz", "after", "way out", "lost meanwhile"];

impl Case {
    /// Runs it; a fault that lasts does so for `lasting`.
    ///
    /// # Errors
    /// The daemon does not start, or the harm cannot be done.
    pub fn run(&self, programs: &Path, lasting: Duration) -> Result<Row, Failure> {
        let mut running =
            Running::start(self.subject, programs, Setup { keys: self.keys, ..Setup::default() })?;
        let begin = Instant::now();
        let harm = self.fault.strike(&running)?;
        let row = |reported: String, after: Option<Duration>, way_out: String, as_expected| {
            let after = after.map_or_else(|| "-".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
            let program = self.subject.program().to_owned();
            let cells = vec![program, self.fault.name(), reported, after, way_out, self.lost.to_owned()];
            Row { cells, as_expected }
        };
        match self.expected {
            Expected::Ends(line) => {
                let mut reported = None;
                let pid = running.process.pid();
                while !ptrace::has_ended(pid) && begin.elapsed() < lasting + BACK {
                    if let Err(text) = health::check(running.http) {
                        reported.get_or_insert((text, begin.elapsed()));
                    }
                    std::thread::sleep(TICK);
                }
                let ended = ptrace::has_ended(pid);
                drop(harm);
                let took = begin.elapsed().as_secs_f64();
                let way_out =
                    if ended { format!("the process ends after {took:.1} s") } else { "none".into() };
                let has_line = running.process.output().contains(line);
                let (reported, after) = reported.unzip();
                let reported = reported.unwrap_or_else(|| "-".into());
                Ok(row(reported, after, way_out, ended && has_line))
            }
            Expected::Restarted(thread) => {
                while health::restarts(running.http, thread) == 0 && begin.elapsed() < BACK {
                    running.process.check()?;
                    std::thread::sleep(TICK);
                }
                let restarted = health::restarts(running.http, thread) != 0;
                running.healthy(BACK)?;
                let way_out = format!("it restarts, healthy after {:.1} s", begin.elapsed().as_secs_f64());
                Ok(row("-".into(), None, way_out, restarted))
            }
            Expected::Healthy => {
                let mut reported = None;
                while begin.elapsed() < lasting && reported.is_none() {
                    reported = health::check(running.http).err();
                    std::thread::sleep(TICK);
                }
                drop(harm);
                let as_expected = reported.is_none();
                Ok(row(reported.unwrap_or_else(|| "ready".into()), None, "none needed".into(), as_expected))
            }
            Expected::Reported(text) | Expected::Mended(text) => {
                let noticed = loop {
                    match health::check(running.http) {
                        Err(reported) => break Some((reported, begin.elapsed())),
                        Ok(()) if begin.elapsed() > REPORTED + SLACK => break None,
                        Ok(()) => std::thread::sleep(TICK),
                    }
                };
                let Some((reported, after)) = noticed else {
                    return Ok(row("ready".into(), None, "-".into(), false));
                };
                let mended = matches!(self.expected, Expected::Mended(_));
                if mended {
                    running.healthy(lasting.max(BACK))?;
                } else {
                    std::thread::sleep(lasting.saturating_sub(begin.elapsed()));
                }
                let stayed = mended || health::check(running.http).is_err();
                let let_go = Instant::now();
                drop(harm);
                let way_out = if mended {
                    format!("it is replaced, healthy after {:.1} s", begin.elapsed().as_secs_f64())
                } else {
                    running.healthy(BACK)?;
                    format!("healthy {:.1} s after it runs again", let_go.elapsed().as_secs_f64())
                };
                let as_expected = stayed && reported.contains(text) && after <= REPORTED + SLACK;
                Ok(row(reported, Some(after), way_out, as_expected))
            }
        }
    }
}
