//! `[log]`: what is logged, in which form, and where.

use std::path::PathBuf;

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::config::{ConfigError, Loaded};

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

    /// What a reload cannot take over, and whether it differs in a new version: everything but the level.
    pub fn fixed(&self, new: &Self) -> [(&'static str, bool); 3] {
        let Self { level: _, format, target, path } = self;
        [
            ("log.format", *format != new.format),
            ("log.target", *target != new.target),
            ("log.path", *path != new.path),
        ]
    }
}

/// Reads levels.
///
/// # Errors
/// What was expected and what was found.
pub(super) fn directives(text: &str) -> Result<Targets, String> {
    let levels = "expected off, error, warn, info, debug or trace, or MODULE=LEVEL,…";
    // To the parser a word that is no level is a module of which everything is logged: a misspelt level.
    let plain = |word: &str| !word.contains('=') && word.trim().parse::<LevelFilter>().is_err();
    if let Some(word) = text.split(',').find(|word| plain(word)) {
        return Err(format!("{levels}; found {word:?}"));
    }
    text.parse().map_err(|_| format!("{levels}; found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        log: LogKeys,
    }

    fn check(text: &str) -> Result<(), String> {
        let loaded =
            parse::<File>("x.toml".as_ref(), format!("[log]\n{text}\n")).map_err(|e| e.to_string())?;
        loaded.value.log.check(&loaded).map_err(|error| error.to_string())
    }

    #[test]
    fn good_keys_are_fine() {
        for good in [
            "",
            "level = \"debug\"\nformat = \"json\"\ntarget = \"journald\"",
            "level = \"warn,fibcast_sync_proto=trace\"",
            "target = \"file\"\npath = \"/var/log/fibcast/a.log\"",
        ] {
            check(good).unwrap();
        }
    }

    #[test]
    fn bad_keys_are_named_with_their_line() {
        for (bad, reason) in [
            ("level = \"loud\"", "x.toml:2: log.level: expected off, error, warn"),
            ("level = \"info,fibcast=loud\"", "x.toml:2: log.level: expected off, error, warn"),
            ("format = \"xml\"", "x.toml:2: log.format: unknown variant `xml`"),
            ("target = \"file\"", "log.path: missing: the file of target"),
            ("target = \"file\"\npath = \"a.log\"", "x.toml:3: log.path: expected an absolute path"),
            ("path = \"/a.log\"", "x.toml:2: log.path: has no effect without target"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn a_reload_takes_over_a_level_only() {
        let of = |text: &str| parse::<File>("x.toml".as_ref(), text.to_owned()).unwrap().value.log;
        let fixed = |new: &str| of("").fixed(&of(new)).map(|(_, differs)| differs);
        assert_eq!(fixed("[log]\nlevel = \"debug\"\n"), [false; 3]);
        assert_eq!(fixed("[log]\nformat = \"json\"\ntarget = \"journald\"\n"), [true, true, false]);
    }
}
