//! Routes as text, `PREFIX via GATEWAY`: for configurations of other programs, and for writing by hand.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// Why a file of routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not a route.
    #[error("{path}:{line}: expected a route such as 192.0.2.0/24 via 198.18.0.2, found {found:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What was found.
        found: String,
    },
}

/// Whether a file is text by its name: it ends in `.txt`.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "txt")
}

/// Writes one line.
///
/// # Errors
/// The error of the underlying writer.
pub fn write_route(out: &mut impl Write, prefix: IpNet, gateway: IpAddr) -> io::Result<()> {
    writeln!(out, "{prefix} via {gateway}")
}

/// All routes of a file in order, host bits cleared; empty lines and lines starting with `#` are skipped.
///
/// # Errors
/// [`TextError`] if the file cannot be read, or a line is not a route.
pub fn read_routes(path: &Path) -> Result<Vec<(IpNet, IpAddr)>, TextError> {
    let unreadable = |source| TextError::Unreadable { path: path.to_owned(), source };
    let mut routes = Vec::new();
    for (at, line) in BufReader::new(File::open(path).map_err(unreadable)?).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        let words = line.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        let route = words.split_once(" via ").and_then(|(prefix, gateway)| {
            Some((prefix.trim().parse::<IpNet>().ok()?.trunc(), gateway.trim().parse().ok()?))
        });
        routes.push(route.ok_or_else(|| TextError::Line {
            path: path.to_owned(),
            line: at + 1,
            found: words.chars().take(60).collect(),
        })?);
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fibcast-routes-{}-{name}.txt", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn what_is_written_is_read_again() {
        let routes = [("192.0.2.0/24", "198.18.0.2"), ("2001:db8::/32", "2001:2::5")]
            .map(|(prefix, gateway)| (prefix.parse().unwrap(), gateway.parse().unwrap()));
        let mut text = b"# by hand\n\n".to_vec();
        routes.iter().for_each(|(prefix, gateway)| write_route(&mut text, *prefix, *gateway).unwrap());
        let path = file("good", &text);
        assert!(is_text(&path) && !is_text(Path::new("table.mrt")));
        let read = read_routes(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(read, routes);
    }

    #[test]
    fn a_line_that_is_no_route_is_named() {
        for line in ["192.0.2.0/24", "192.0.2.0/24 via", "192.0.2.0/33 via 1.2.3.4", "192.0.2.0/24 blackhole"]
        {
            let path = file("bad", format!("10.0.0.0/8 via 1.2.3.4\n{line}\n").as_bytes());
            let error = read_routes(&path).unwrap_err().to_string();
            std::fs::remove_file(path).unwrap();
            assert!(error.contains(":2: expected a route such as") && error.contains(line), "{error}");
        }
    }
}
