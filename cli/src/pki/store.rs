//! The CA's folder: nothing is overwritten unasked, keys are only readable by their owner, and readers never see partial files.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Default folder of the CA.
pub const FOLDER: &str = "/etc/fibcast/pki";

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error, or what was expected.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A folder with certificates and keys.
#[derive(Debug)]
pub struct Store(PathBuf);

impl Store {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn make_folder(&self) -> Result<(), PkiError> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.0).map_err(|e| error(&self.0, &e))
    }

    /// Writes a new file; `secret` ones have mode 0600 from the first byte on.
    pub fn write_new(&self, name: &str, text: &str, secret: bool) -> Result<(), PkiError> {
        let path = self.path(name);
        let mode = if secret { 0o600 } else { 0o644 };
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let mut file = opened.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                PkiError::File { path: path.clone(), reason: "already exists".into() }
            }
            _ => error(&path, &e),
        })?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| error(&path, &e))
    }

    /// Replaces a file atomically.
    pub fn replace(&self, name: &str, text: &str, secret: bool) -> Result<(), PkiError> {
        let (path, new) = (self.path(name), format!("{name}.new"));
        let _ = std::fs::remove_file(self.path(&new));
        self.write_new(&new, text, secret)?;
        std::fs::rename(self.path(&new), &path).map_err(|e| error(&path, &e))
    }
}

pub fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|e| {
        let hint =
            if e.kind() == std::io::ErrorKind::NotFound { "; make a CA with fibcast pki init" } else { "" };
        PkiError::File { path: path.to_owned(), reason: format!("{e}{hint}") }
    })
}

pub fn error(path: &Path, e: &std::io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), reason: e.to_string() }
}
