//! Opens an MRT file and iterates over its records.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::decoder::Decoder;
use super::error::{At, MrtError, Problem};
use super::input;
use super::record::{self, Header};
use super::route::{Counts, Entry, Route};

/// Longest record accepted, asked for before memory is: the index of 65,535 peers has 1.6 MB, a prefix with
/// attributes of a hundred peers some tens of kB.
const MAX_RECORD_LEN: u32 = 4 << 20;

/// What a reader does with a record that it cannot decode.
///
/// A file that is cut off or not MRT ends with an error in any case: after a wrong length nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BadRecords {
    /// End with its error: for a table, whose rest would be taken for the whole.
    #[default]
    Stop,
    /// Count it, keep the first error, and continue at the next record by this one's length.
    Skip,
}

/// Routes of an MRT file, in the file's order.
///
/// The iterator gives [`Route`]s and ends after the first error. A caller that needs the complete table must reach `None` without an error:
/// what precedes an error is an unknown part of the table. [`Reader::next_entry`] gives the ends of sessions as well.
pub struct Reader {
    input: Box<dyn BufRead + Send>,
    file: PathBuf,
    bad_records: BadRecords,
    offset: u64,
    body: Vec<u8>,
    decoder: Decoder,
    /// How many of the decoder's entries were returned.
    given: usize,
    first_bad: Option<MrtError>,
    ended: bool,
}

impl Reader {
    /// Opens `file`. Compression is detected by content, not by name.
    ///
    /// # Errors
    /// [`MrtError`] if the file cannot be opened or read.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, MrtError> {
        let path = file.as_ref();
        let input = File::open(path).map_err(|e| At::new(0, Problem::Io(e)).in_file(path, 1))?;
        Self::from_read(path, input)
    }

    /// Reads from any input; `name` is used in errors.
    ///
    /// # Errors
    /// [`MrtError`] if the input cannot be read.
    pub fn from_read(name: impl AsRef<Path>, input: impl Read + Send + 'static) -> Result<Self, MrtError> {
        let name = name.as_ref();
        Ok(Self {
            input: input::open(input).map_err(|e| At::new(0, Problem::Io(e)).in_file(name, 1))?,
            file: name.to_path_buf(),
            bad_records: BadRecords::Stop,
            offset: 0,
            body: Vec::new(),
            decoder: Decoder::default(),
            given: 0,
            first_bad: None,
            ended: false,
        })
    }

    /// Sets what to do with records that cannot be decoded.
    #[must_use]
    pub fn bad_records(mut self, bad_records: BadRecords) -> Self {
        self.bad_records = bad_records;
        self
    }

    /// The next route or end of a session; none at the end of the file and after an error.
    ///
    /// # Errors
    /// [`MrtError`] if the file cannot be read further, or at a record that cannot be decoded ([`BadRecords::Stop`]).
    pub fn next_entry(&mut self) -> Option<Result<Entry, MrtError>> {
        loop {
            if let Some(entry) = self.decoder.entries.get(self.given) {
                self.given += 1;
                return Some(Ok(*entry));
            }
            if self.ended {
                return None;
            }
            match self.record() {
                Ok(more) => self.ended = !more,
                Err(at) => {
                    self.ended = true;
                    self.decoder.entries.clear();
                    return Some(Err(at.in_file(&self.file, self.decoder.counts.records + 1)));
                }
            }
        }
    }

    /// What was found so far.
    pub fn counts(&self) -> Counts {
        self.decoder.counts
    }

    /// The error of the first record that was skipped.
    pub fn first_bad(&self) -> Option<&MrtError> {
        self.first_bad.as_ref()
    }

    /// Addresses of the peers in the last index table (TABLE_DUMP_V2).
    pub fn peers(&self) -> &[IpAddr] {
        &self.decoder.peers
    }

    /// Whether the last entry is from a table, and not from a message. The routes of one table stand side by side; a message replaces
    /// what its peer said before.
    pub fn in_table(&self) -> bool {
        self.decoder.in_table
    }

    /// Offset in the (decompressed) data of the next record.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills `to` as far as the input goes.
    fn fill(input: &mut dyn BufRead, to: &mut [u8], at: u64) -> Result<usize, At> {
        let mut have = 0;
        while let Some(free) = to.get_mut(have..).filter(|f| !f.is_empty()) {
            match input.read(free) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The decompressors' error for a truncated file.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    let e = io::Error::new(e.kind(), "the compressed file is truncated");
                    return Err(At::new(at + have as u64, Problem::Io(e)));
                }
                Err(e) => return Err(At::new(at + have as u64, Problem::Io(e))),
            }
        }
        Ok(have)
    }

    /// Reads one record. `false`: the file ended at a record boundary.
    fn record(&mut self) -> Result<bool, At> {
        self.given = 0;
        self.decoder.entries.clear();
        let at = self.offset;
        let mut bytes = [0; Header::LEN];
        match Self::fill(&mut self.input, &mut bytes, at)? {
            Header::LEN => {}
            0 if self.decoder.counts.records > 0 => return Ok(false),
            0 => return Err(At::new(at, Problem::Empty)),
            found => {
                let what = "an MRT header";
                return Err(At::new(at, Problem::Truncated { what, wanted: Header::LEN, found }));
            }
        }
        let header = Header::parse(bytes);
        if header.len > MAX_RECORD_LEN {
            let (what, limit) = ("an MRT record length", u64::from(MAX_RECORD_LEN));
            return Err(At::new(at + 8, Problem::OverLimit { what, limit, found: u64::from(header.len) }));
        }
        let wanted = header.len as usize;
        self.body.resize(wanted, 0);
        let body_at = at + Header::LEN as u64;
        let found = Self::fill(&mut self.input, &mut self.body, body_at)?;
        if found < wanted {
            let what = "an MRT record";
            return Err(At::new(body_at, Problem::Truncated { what, wanted, found }));
        }
        if let Err(error) = record::decode(&mut self.decoder, header, at, &self.body) {
            if self.bad_records == BadRecords::Stop {
                return Err(error);
            }
            self.decoder.counts.bad += 1;
            let number = self.decoder.counts.records + 1;
            self.first_bad.get_or_insert_with(|| error.in_file(&self.file, number));
        }
        self.offset = body_at + wanted as u64;
        self.decoder.counts.records += 1;
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Route, MrtError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_entry()? {
                Ok(Entry::Route(route)) => return Some(Ok(route)),
                Ok(Entry::SessionEnd { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
