//! `[log]`: what is logged, in which form, and where.

use std::path::PathBuf;

use serde::Deserialize;
use tracing_subscriber::filter::Targets;

use crate::config::{ConfigError, Difference, Loaded};

/// `[log]` of a daemon's file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogKeys {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; also for single modules, `info,fibcast_sync_proto=debug`.
    pub level: String,
    /// Form of a line.
    pub format: Format,
    /// Where the lines go.
    pub target: Target,
    /// The file of `target = "file"`.
    pub path: Option<PathBuf>,
}

/// Form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Time, level and message for people.
    #[default]
    Text,
    /// One JSON object: `timestamp`, `level`, `target` (the module), `message`, and an event's fields.
    Json,
}

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Standard error, with priorities where systemd reads it.
    #[default]
    Stderr,
    /// The socket of systemd-journald, however the daemon was started.
    Journald,
    /// A file, which is opened again after somebody has renamed or removed it (logrotate).
    File,
}

impl Default for LogKeys {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Text, target: Target::Stderr, path: None }
    }
}

impl LogKeys {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: String| Err(loaded.error(&["log".into(), key.into()], reason));
        if let Err(reason) = directives(&self.level) {
            return wrong("level", reason);
        }
        match (self.target, &self.path) {
            (Target::File, None) => wrong("path", "missing: the file of target = \"file\"".into()),
            (Target::File, Some(path)) if !path.is_absolute() => {
                wrong("path", format!("expected an absolute path, found {}", path.display()))
            }
            (Target::Stderr | Target::Journald, Some(_)) => {
                wrong("path", "has no effect without target = \"file\"".into())
            }
            _ => Ok(()),
        }
    }

    /// What a reload cannot take over: everything but the level.
    ///
    /// # Errors
    /// The changed keys, each with file and line.
    pub fn may_reload(&self, new: &Self, differences: &[Difference]) -> Result<(), String> {
        let Self { level: _, format, target, path } = self;
        let keys = [
            ("log.format", *format != new.format),
            ("log.target", *target != new.target),
            ("log.path", *path != new.path),
        ];
        let fixed: Vec<_> = keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
        let within = |difference: &&Difference| fixed.iter().any(|key| difference.is_within(key));
        let named: Vec<_> = differences.iter().filter(within).map(ToString::to_string).collect();
        if fixed.is_empty() { Ok(()) } else { Err(named.join(", ")) }
    }
}

/// Reads levels.
///
/// # Errors
/// What was expected and what was found.
pub(super) fn directives(text: &str) -> Result<Targets, String> {
    let levels = "expected off, error, warn, info, debug or trace, or MODULE=LEVEL,…";
    // To the parser a word that is no level is a module of which everything is logged: a misspelt level.
    let plain = |word: &str| !word.contains('=') && word.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_err();
    if let Some(word) = text.split(',').find(|word| plain(word)) {
        return Err(format!("{levels}; found {word:?}"));
    }
    text.parse().map_err(|_| format!("{levels}; found {text:?}"))
}
