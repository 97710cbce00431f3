//! `[node] digest_key`: the file with the keys of the deployment's digests.
//!
//! `fibcast pki init` creates it, and every node gets the same one. One key a line, in hexadecimal; the first is the node's own, the
//! others are accepted from clients. So a key is replaced without an outage: add the new key behind the old one on all nodes, then put
//! it first on all nodes, then remove the old one; reload after each step.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::exit::Failure;
use fibcast_daemon::sections::{Node, Tls};
use fibcast_sync_proto::digest::KEY_BYTES;
use fibcast_sync_proto::{DigestKey, DigestKeys};

/// Largest file that is read.
const MAX_FILE: u64 = 64 * 1024;
/// Most keys: the own one, and others while one is replaced.
const MAX_KEYS: usize = 4;
/// Others may neither read nor write the file, and its group may not write it.
const FORBIDDEN: u32 = 0o027;

/// A key file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node.digest_key: {path}{}: {reason}", if *line == 0 { String::new() } else { format!(":{line}") })]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1; 0 if the whole file is wrong.
    pub line: usize,
    /// What was expected and found; never the content.
    pub reason: String,
}

/// The digest keys in use, and the file that they are from. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KeyFile(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    path: Option<PathBuf>,
    keys: Mutex<DigestKeys>,
    /// Number of reloads that replaced the keys.
    version: AtomicU64,
}

impl KeyFile {
    /// Reads the file. Without one the public key of the protocol is used.
    ///
    /// # Errors
    /// [`KeyError`] if the file cannot be read, is open to others, or contains something else than keys.
    pub fn load(path: Option<&Path>) -> Result<Self, KeyError> {
        let keys = path.map_or_else(|| Ok(DigestKeys::default()), read)?;
        let path = path.map(Path::to_owned);
        Ok(Self(Arc::new(Shared { path, keys: Mutex::new(keys), version: AtomicU64::new(0) })))
    }

    /// Checks that the file can be used.
    ///
    /// # Errors
    /// [`ConfigError`] with the configuration's line.
    pub fn check<T>(node: &Node, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        Self::load(node.digest_key.as_deref()).map(|_| ()).map_err(|KeyError { path, line, reason }| {
            let line = if line == 0 { String::new() } else { format!(":{line}") };
            loaded.error(&["node".into(), "digest_key".into()], format!("{}{line}: {reason}", path.display()))
        })
    }

    /// Reads the file at a daemon's start. Logs what digests are good for.
    ///
    /// # Errors
    /// [`Failure`] if the file cannot be used.
    pub fn open(node: &Node, tls: &Tls) -> Result<Self, Failure> {
        let keys = Self::load(node.digest_key.as_deref()).map_err(Failure::work)?;
        if node.digest_key.is_some() {
            tracing::info!("digest keys: {}", keys.keys());
        } else if tls.is_on() {
            tracing::warn!(
                "node.digest_key is missing: equal digests prove equal tables against accidents, not against \
                 a peer of a routing protocol who chooses routes"
            );
        }
        Ok(keys)
    }

    /// Reads the file again; the keys in use stay until [`Self::replace`].
    ///
    /// # Errors
    /// [`KeyError`] with what is wrong with the file.
    pub fn read(&self) -> Result<DigestKeys, KeyError> {
        self.0.path.as_deref().map_or_else(|| Ok(self.keys()), read)
    }

    /// Puts keys in force. The owner of the tables notices by [`KeyFile::replaced`]. False: they are the same.
    pub fn replace(&self, keys: DigestKeys) -> bool {
        let mut current = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *current != keys;
        if differs {
            tracing::info!("reloaded the digest keys: {keys}; before: {current}");
            *current = keys;
            self.0.version.fetch_add(1, Ordering::Release);
        }
        differs
    }

    /// The keys in use.
    pub fn keys(&self) -> DigestKeys {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The new keys, if they were replaced since the last call with this `seen`, which starts at 0.
    pub fn replaced(&self, seen: &mut u64) -> Option<DigestKeys> {
        let version = self.0.version.load(Ordering::Acquire);
        (std::mem::replace(seen, version) != version).then(|| self.keys())
    }
}

fn read(path: &Path) -> Result<DigestKeys, KeyError> {
    let wrong = |line, reason: String| KeyError { path: path.to_owned(), line, reason };
    let file = File::open(path).map_err(|e| wrong(0, e.to_string()))?;
    let about = file.metadata().map_err(|e| wrong(0, e.to_string()))?;
    if !about.is_file() {
        return Err(wrong(0, "expected a file".into()));
    }
    let mode = about.permissions().mode() & 0o777;
    if mode & FORBIDDEN != 0 {
        return Err(wrong(0, format!("expected mode 0600 or 0640, found {mode:04o}: use chmod 600")));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| wrong(0, e.to_string()))?;
    parse(&text).map_err(|(line, reason)| wrong(line, reason))
}

fn parse(text: &str) -> Result<DigestKeys, (usize, String)> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = DigestKey::new(bytes(line).ok_or_else(|| {
            (at, format!("expected {} hexadecimal digits, found {} characters", 2 * KEY_BYTES, line.len()))
        })?);
        if keys.contains(&key) {
            return Err((at, "the same key twice".into()));
        }
        keys.push(key);
    }
    let mut rest = keys.into_iter();
    let own = rest.next().ok_or((0, "expected a key, found none: make one with fibcast pki init".into()))?;
    if rest.len() >= MAX_KEYS {
        return Err((0, format!("expected at most {MAX_KEYS} keys, found {}", rest.len() + 1)));
    }
    Ok(DigestKeys::new(own, rest))
}

fn bytes(line: &str) -> Option<[u8; KEY_BYTES]> {
    let digits: Vec<u8> = line.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (digits.len() == 2 * KEY_BYTES).then_some(())?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    fn write(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("digest.key");
        let _ = std::fs::remove_file(&path);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        path
    }

    fn line(digit: char) -> String {
        String::from_iter([digit; 64])
    }

    #[test]
    fn first_key_is_the_own_one_and_a_reload_takes_effect_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &format!("# deployment\n{}\n\n{}\n", line('a'), line('b')), 0o600);
        let file = KeyFile::load(Some(&path)).unwrap();
        let (a, b) = (DigestKey::new([0xaa; 32]), DigestKey::new([0xbb; 32]));
        assert_eq!(file.keys(), DigestKeys::new(a, [b]));
        let mut seen = 0;
        assert_eq!(file.replaced(&mut seen), None);
        write(folder.path(), &format!("{}\n{}\n", line('b'), line('a')), 0o640);
        assert!(file.replace(file.read().unwrap()));
        assert_eq!(file.replaced(&mut seen), Some(DigestKeys::new(b, [a])));
        assert!(!file.replace(file.read().unwrap()));
        assert_eq!(file.replaced(&mut seen), None);
        // A file that cannot be used changes nothing.
        write(folder.path(), "nonsense", 0o600);
        assert!(file.read().unwrap_err().to_string().contains("digest.key:1: expected"));
        assert_eq!((file.replaced(&mut seen), file.keys().own()), (None, b));
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_without_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &str, mode| {
            KeyFile::load(Some(&write(folder.path(), text, mode))).unwrap_err().to_string()
        };
        let e = refused(&line('a'), 0o644);
        assert!(e.contains("expected mode 0600 or 0640, found 0644: use chmod 600"), "{e}");
        let e = refused("\nabc\n", 0o600);
        assert!(e.ends_with("digest.key:2: expected 64 hexadecimal digits, found 3 characters"), "{e}");
        let e = refused(&format!("{}\n{}", line('a'), line('a')), 0o600);
        assert!(e.ends_with(":2: the same key twice"), "{e}");
        assert!(refused("# none\n", 0o600).contains("expected a key, found none"));
        let e = KeyFile::load(Some(Path::new("/nowhere/digest.key"))).unwrap_err().to_string();
        assert!(e.starts_with("node.digest_key: /nowhere/digest.key: No such file"), "{e}");
        let debug = format!("{:?}", KeyFile::load(Some(&write(folder.path(), &line('a'), 0o600))).unwrap());
        assert!(!debug.contains("aaaa") && !debug.contains("170"), "{debug}");
    }
}
