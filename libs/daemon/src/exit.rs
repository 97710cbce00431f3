//! Exit codes, and the line that says why a daemon ends.

use std::process::ExitCode;
use std::time::Duration;

use crate::config::ConfigError;
use crate::log;

/// Time for the last lines of the log to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why a daemon ends with a non-zero exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong configuration or command line: exit code 2.
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    /// Failure at run time: exit code 1.
    #[error("{0}")]
    Work(String),
}

impl Failure {
    /// A failure at run time.
    pub fn work(reason: impl std::fmt::Display) -> Failure {
        Failure::Work(reason.to_string())
    }

    /// The exit code, 1 or 2.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 2,
            Failure::Work(_) => 1,
        }
    }
}

/// Prints the reason, if there is one, waits a little for the log to be written, and returns the exit code.
pub fn finish(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::last_line(&format!("{program}: {failure}"));
            ExitCode::from(failure.code())
        }
    };
    log::flush(LAST_LINES);
    code
}

/// Ends the process with code 1 after a log line, without destructors: the thread that they would wait for may be the one that is stalled.
pub fn at_once(reason: &str) -> ! {
    tracing::error!("{reason}");
    log::flush(LAST_LINES);
    signal_hook::low_level::exit(1)
}
