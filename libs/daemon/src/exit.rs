//! Exit codes, and the one line in which a daemon says why it ends.

use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a daemon ends with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration or the command line is wrong: exit code 2.
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    /// It could not do its work: exit code 1.
    #[error("{0}")]
    Work(String),
}

impl Failure {
    /// Failed at work.
    pub fn work(reason: impl std::fmt::Display) -> Failure {
        Failure::Work(reason.to_string())
    }

    /// 1 or 2.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 2,
            Failure::Work(_) => 1,
        }
    }
}

/// Says why, if there is something to say, and yields the exit code.
pub fn finish(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
