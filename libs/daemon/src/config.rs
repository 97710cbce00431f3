//! Configuration files: TOML into types, with errors that name file, line and key.
//!
//! Types derive `Deserialize` with `deny_unknown_fields`. What types cannot express (two primaries, a duplicate address) is checked
//! afterwards and reported by [`Loaded::error`], which finds the line of a key.

mod differences;
mod shown;

use fibcast_control::about::RunningConfig;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

pub use differences::Difference;

/// An error of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot read the configuration: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// The content is invalid.
    #[error("{path}:{line}: {}{reason}", key_prefix(key))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Key in dotted form, `port[1].mtu`; empty if no single key is wrong.
        key: String,
        /// What was expected and what was found.
        reason: String,
    },
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// A configuration with its source text.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    path: PathBuf,
    text: String,
}

/// One step of a key's path: a table key or an array index.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A table key.
    Key(&'a str),
    /// An array index, from 0.
    At(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Step::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Step::At(index)
    }
}

/// Reads and parses a file.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read, or its content is invalid.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Loaded<T>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
    parse(path, text)
}

/// Parses a text as the content of `path`.
///
/// # Errors
/// [`ConfigError`] if the text is invalid.
pub fn parse<T: DeserializeOwned>(path: &Path, text: String) -> Result<Loaded<T>, ConfigError> {
    let invalid = |key: String, error: &toml::de::Error| ConfigError::Invalid {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line_of(&text, span.start)),
        key,
        reason: error.message().trim_end().replace('\n', "; "),
    };
    let document = toml::Deserializer::parse(&text).map_err(|error| invalid(String::new(), &error))?;
    match serde_path_to_error::deserialize(document) {
        Ok(value) => Ok(Loaded { value, path: path.to_owned(), text }),
        Err(error) => {
            let key = match error.path().to_string() {
                root if root == "." => String::new(),
                key => key,
            };
            Err(invalid(key, error.inner()))
        }
    }
}

impl<T> Loaded<T> {
    /// An error about a key with a valid type but an unusable value.
    pub fn error(&self, key: &[Step<'_>], reason: impl Into<String>) -> ConfigError {
        let line = self.offset_of(key).map_or(1, |offset| line_of(&self.text, offset));
        ConfigError::Invalid { path: self.path.clone(), line, key: dotted(key), reason: reason.into() }
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It as operators see it.
    pub fn running(&self) -> RunningConfig {
        let toml = shown::without_comments(&self.text);
        // A file that was loaded is TOML.
        let config = toml::from_str(&toml).unwrap_or_default();
        RunningConfig { path: self.path.display().to_string(), toml, config, ..RunningConfig::default() }
    }

    /// Offset of a key in the text, or of the innermost existing part of its path.
    fn offset_of(&self, key: &[Step<'_>]) -> Option<usize> {
        let document = toml_edit::Document::parse(self.text.as_str()).ok()?;
        let mut item = document.as_item();
        let mut offset = None;
        for step in key {
            let next = match *step {
                Step::Key(name) => {
                    let table = item.as_table_like()?;
                    let found = table.get_key_value(name);
                    if let Some((key, _)) = found {
                        offset = key.span().map(|span| span.start).or(offset);
                    }
                    found.map(|(_, item)| item)
                }
                Step::At(index) => item.get(index),
            };
            let Some(next) = next else { break };
            item = next;
            if !matches!(step, Step::Key(_)) {
                offset = item.span().map(|span| span.start).or(offset);
            }
        }
        offset
    }
}

/// A key's path as text, `port[1].mtu`.
fn dotted(key: &[Step<'_>]) -> String {
    let mut name = String::new();
    for step in key {
        match step {
            Step::Key(key) if name.is_empty() => name.push_str(key),
            Step::Key(key) => {
                name.push('.');
                name.push_str(key);
            }
            Step::At(index) => name.push_str(&format!("[{index}]")),
        }
    }
    name
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        node: Node,
        #[serde(default)]
        port: Vec<Port>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Node {
        name: String,
        listen: Option<std::net::SocketAddr>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Port {
        mtu: u16,
    }

    fn error(text: &str) -> String {
        parse::<Sample>("x.toml".as_ref(), text.to_owned()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_right_ones() {
        let text = error("[node]\nname = \"a\"\nlisten_to = 3\n");
        assert!(text.starts_with("x.toml:3: node.listen_to: unknown field"), "{text}");
        assert!(text.contains("`listen`"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_named_with_what_was_expected() {
        let text = error("[node]\nname = \"a\"\n[[port]]\nmtu = 1500\n[[port]]\nmtu = \"big\"\n");
        assert!(
            text.starts_with("x.toml:6: port[1].mtu: invalid type: string \"big\", expected u16"),
            "{text}"
        );
    }

    #[test]
    fn a_value_that_does_not_parse_is_named() {
        let text = error("[node]\nname = \"a\"\nlisten = \"nowhere\"\n");
        assert!(text.starts_with("x.toml:3: node.listen: "), "{text}");
    }

    #[test]
    fn a_missing_key_is_named() {
        let text = error("[node]\n");
        assert!(text.starts_with("x.toml:1: node: missing field `name`"), "{text}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let text = error("[node]\nname = \"a\"\nlisten = \n");
        assert!(text.starts_with("x.toml:3: "), "{text}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = load::<Sample>("/nonexistent/x.toml".as_ref()).unwrap_err().to_string();
        assert!(text.starts_with("/nonexistent/x.toml: cannot read the configuration"), "{text}");
    }

    #[test]
    fn a_later_check_finds_the_line_of_its_key_again() {
        let text = "[node]\nname = \"a\"\n\n[[port]]\nmtu = 1500\n\n[[port]]\nmtu = 60\n";
        let loaded = parse::<Sample>("x.toml".as_ref(), text.to_owned()).unwrap();
        assert_eq!(loaded.value.node.listen, None);
        assert_eq!((loaded.value.node.name.as_str(), loaded.value.port[1].mtu), ("a", 60));
        let error =
            loaded.error(&["port".into(), 1.into(), "mtu".into()], "expected at least 1280, found 60");
        assert_eq!(error.to_string(), "x.toml:8: port[1].mtu: expected at least 1280, found 60");
        let absent = loaded.error(&["node".into(), "listen".into()], "missing");
        assert_eq!(absent.to_string(), "x.toml:1: node.listen: missing");
    }
}
