//! Reads a list of prefixes, one on each line, plain or gzip.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use ipnet::IpNet;

/// Why a list of prefixes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrefixesError {
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not a prefix.
    #[error("{path}:{line}: expected a prefix such as 192.0.2.0/24, found {found:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What was found.
        found: String,
    },
    /// The list is empty.
    #[error("{0}: expected at least one prefix, found none")]
    Empty(PathBuf),
}

/// All prefixes of a file in order, host bits cleared; empty lines are skipped, both kinds of line ends are accepted.
///
/// # Errors
/// [`PrefixesError`] if the file cannot be read, a line is not a prefix, or there is none.
pub fn read_prefixes(path: &Path) -> Result<Vec<IpNet>, PrefixesError> {
    let unreadable = |source| PrefixesError::Unreadable { path: path.to_owned(), source };
    let mut raw = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut text = String::new();
    if raw.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(raw).read_to_string(&mut text).map_err(unreadable)?;
    } else {
        raw.read_to_string(&mut text).map_err(unreadable)?;
    }
    let mut prefixes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let prefix: IpNet = line.parse().map_err(|_| PrefixesError::Line {
            path: path.to_owned(),
            line: at + 1,
            found: line.chars().take(60).collect(),
        })?;
        prefixes.push(prefix.trunc());
    }
    if prefixes.is_empty() { Err(PrefixesError::Empty(path.to_owned())) } else { Ok(prefixes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str, text: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fibcast-prefixes-{}-{name}", std::process::id()));
        File::create(&path).unwrap().write_all(text).unwrap();
        path
    }

    #[test]
    fn both_families_and_both_line_ends_are_read() {
        let path = file("good", b"192.0.2.0/24\r\n2001:db8::/32\n\n10.1.2.3/8\r\n");
        let read: Vec<String> = read_prefixes(&path).unwrap().iter().map(ToString::to_string).collect();
        std::fs::remove_file(path).unwrap();
        assert_eq!(read, ["192.0.2.0/24", "2001:db8::/32", "10.0.0.0/8"]);
    }

    #[test]
    fn a_line_that_is_no_prefix_is_named() {
        let path = file("bad", b"192.0.2.0/24\n192.0.2.0/33\n");
        let error = read_prefixes(&path).unwrap_err().to_string();
        std::fs::remove_file(path).unwrap();
        assert!(
            error.contains(":2: expected a prefix such as 192.0.2.0/24, found \"192.0.2.0/33\""),
            "{error}"
        );
    }
}
