//! What can be wrong with an MRT file, said with the file and the byte.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An MRT file that cannot be read to its end.
///
/// `offset` counts bytes of the MRT data, that is after decompression where the file is compressed.
#[derive(Debug, Error)]
#[error("{}: at byte {offset}: {problem}", .file.display())]
pub struct MrtError {
    /// The file as it was named by whoever opened it.
    pub file: PathBuf,
    /// Byte of the (decompressed) data at which the problem was seen.
    pub offset: u64,
    /// What was expected and what was found.
    pub problem: Problem,
}

/// What is wrong at the byte that an [`MrtError`] names.
#[derive(Debug, Error)]
pub enum Problem {
    /// The operating system or the decompressor refused to give data.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The file holds no record at all.
    #[error("expected an MRT record, found an empty file")]
    Empty,
    /// The file ends inside a record.
    #[error("the file is truncated: expected {wanted} bytes of {what}, found {found}")]
    Truncated {
        /// The field or part that is cut off.
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
    /// A part ended, but bytes follow.
    #[error("{found} bytes follow the end of {what}")]
    Trailing {
        /// The part that ended too early.
        what: &'static str,
        /// Bytes left over.
        found: usize,
    },
    /// A length or count is outside of its range.
    #[error("expected {what} of at most {limit}, found {found}")]
    OverLimit {
        /// The field.
        what: &'static str,
        /// Largest value that is accepted.
        limit: u64,
        /// The value in the file.
        found: u64,
    },
    /// A record of a type that holds no routes which this reader knows.
    #[error("expected a TABLE_DUMP_V2 (13) or BGP4MP (16, 17) record, found type {kind} subtype {subtype}")]
    UnknownRecord {
        /// MRT type.
        kind: u16,
        /// MRT subtype.
        subtype: u16,
    },
    /// A field has a value that the format does not allow here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the format asks for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// A problem and the byte it was seen at, before the file's name is known.
#[derive(Debug)]
pub(super) struct At {
    pub offset: u64,
    pub problem: Problem,
}

impl At {
    pub(super) fn new(offset: u64, problem: Problem) -> Self {
        Self { offset, problem }
    }

    pub(super) fn in_file(self, file: &std::path::Path) -> MrtError {
        MrtError { file: file.to_path_buf(), offset: self.offset, problem: self.problem }
    }
}
