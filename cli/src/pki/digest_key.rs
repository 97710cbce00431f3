//! The file of digest keys: one key a line, in hexadecimal; the first is a node's own, the others are accepted from its clients.
//!
//! A key is replaced in three steps, each of which is distributed to all nodes and reloaded there before the next: the new key behind the
//! old one, the new key first, the old key removed. Two nodes that are one step apart accept each other.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::ValueEnum;

use super::store::{PkiError, Store, error, read};

/// Name of the file.
pub const FILE: &str = "digest.key";
/// Bytes of a key.
const BYTES: usize = 32;

/// A step in the replacement of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Adds a new key, which nodes accept from then on.
    Add,
    /// Makes the new key the one that nodes use.
    Switch,
    /// Removes the old key.
    Finish,
}

/// A new random key in hexadecimal.
pub fn random() -> Result<String, PkiError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0u8; BYTES];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(|e| error(source, &e))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Does one step; returns the text for the operator.
pub fn step(store: &Store, step: Step) -> Result<String, PkiError> {
    let path = store.path(FILE);
    let text = read(&path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut keys: Vec<String> = lines.map(str::to_owned).collect();
    let refuse = |reason: &str| PkiError::File { path: path.clone(), reason: reason.to_owned() };
    let next = match (step, keys.len()) {
        (Step::Add, 1) => {
            keys.push(random()?);
            "switch"
        }
        (Step::Add, _) => return Err(refuse("expected one key, found others: switch and finish first")),
        (Step::Switch, 2) => {
            keys.swap(0, 1);
            "finish"
        }
        (Step::Switch, _) => return Err(refuse("expected two keys, found another number: add one first")),
        (Step::Finish, 2..) => {
            keys.truncate(1);
            ""
        }
        (Step::Finish, _) => return Err(refuse("expected two keys, found one: nothing to finish")),
    };
    store.replace(FILE, &(keys.join("\n") + "\n"), true)?;
    let mut text = String::new();
    let _ = writeln!(text, "{}: copy it to every node, and reload every node (SIGHUP)", path.display());
    if !next.is_empty() {
        let _ = writeln!(text, "then: fibcast pki digest-key {next}");
    }
    Ok(text)
}
