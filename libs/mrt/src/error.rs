//! Errors of an MRT file, with file, record and byte offset.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An MRT file that cannot be read completely.
#[derive(Debug, Error)]
#[error("{}: record {record}, at byte {offset}: {problem}", .file.display())]
pub struct MrtError {
    /// The file's name as given by the caller.
    pub file: PathBuf,
    /// Number of the record in the file, from 1.
    pub record: u64,
    /// Offset of the problem in bytes of MRT data, that is after decompression.
    pub offset: u64,
    /// What was expected and what was found.
    pub problem: Problem,
}

/// What is wrong at the offset that an [`MrtError`] names.
#[derive(Debug, Error)]
pub enum Problem {
    /// The operating system or the decompressor reported an error.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The file contains no record.
    #[error("expected an MRT record, found an empty file")]
    Empty,
    /// The file ends inside a record.
    #[error("the file is truncated: expected {wanted} bytes of {what}, found {found}")]
    Truncated {
        /// The truncated field or part.
        what: &'static str,
        /// Bytes that it must have.
        wanted: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A length inside a record points past the end of what holds it.
    #[error("expected {wanted} bytes of {what}, but the record has only {found} left")]
    Short {
        /// The field or part that does not fit.
        what: &'static str,
        /// Bytes that it must have.
        wanted: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// Bytes follow the end of a part.
    #[error("{found} bytes follow the end of {what}")]
    Trailing {
        /// The part.
        what: &'static str,
        /// Number of extra bytes.
        found: usize,
    },
    /// A length or count is out of range.
    #[error("expected {what} of at most {limit}, found {found}")]
    OverLimit {
        /// The field.
        what: &'static str,
        /// Largest accepted value.
        limit: u64,
        /// The value in the file.
        found: u64,
    },
    /// A record type that this reader does not know.
    #[error(
        "expected a TABLE_DUMP (12), TABLE_DUMP_V2 (13) or BGP4MP (16, 17) record, found type {kind} subtype {subtype}"
    )]
    UnknownRecord {
        /// MRT type.
        kind: u16,
        /// MRT subtype.
        subtype: u16,
    },
    /// A field has a value that the format does not allow.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the format requires.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

/// A problem and its offset, before the file's name is known.
#[derive(Debug)]
pub(super) struct At {
    pub offset: u64,
    pub problem: Problem,
}

impl At {
    pub(super) fn new(offset: u64, problem: Problem) -> Self {
        Self { offset, problem }
    }

    pub(super) fn unexpected(offset: u64, expected: &'static str, found: impl ToString) -> Self {
        Self::new(offset, Problem::Unexpected { expected, found: found.to_string() })
    }

    pub(super) fn in_file(self, file: &std::path::Path, record: u64) -> MrtError {
        MrtError { file: file.to_path_buf(), record, offset: self.offset, problem: self.problem }
    }
}
