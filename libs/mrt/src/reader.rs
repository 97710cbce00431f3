//! Opens an MRT file, plain or gzip, and iterates over its records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::error::{At, MrtError, Problem};
use super::record::{self, Header};
use super::route::Route;

/// Longest record accepted, asked for before memory is: the index of 65,535 peers has 1.6 MB, a prefix with
/// attributes of a hundred peers some tens of kB.
const MAX_RECORD_LEN: u32 = 4 << 20;

/// Bytes read from the file or the decompressor at a time.
const BUFFER_LEN: usize = 256 << 10;

/// Routes of an MRT file, in the file's order.
///
/// The iterator ends after the first error. A caller that needs the complete table must reach `None` without an error: what precedes an
/// error is an unknown part of the table.
pub struct Reader {
    input: Box<dyn BufRead + Send>,
    file: PathBuf,
    offset: u64,
    body: Vec<u8>,
    /// Routes of the last record, and how many of them were returned.
    routes: Vec<Route>,
    given: usize,
    peers: Vec<IpAddr>,
    records: u64,
    ended: bool,
}

impl Reader {
    /// Opens `file`. Compression is detected by content (the gzip magic), not by name.
    ///
    /// # Errors
    /// [`MrtError`] if the file cannot be opened or read.
    pub fn open(file: impl AsRef<Path>) -> Result<Self, MrtError> {
        let path = file.as_ref();
        let failed = |e: io::Error| At::new(0, Problem::Io(e)).in_file(path);
        let input = File::open(path).map_err(failed)?;
        Self::from_read(path, input)
    }

    /// Reads from any input; `name` is used in errors.
    ///
    /// # Errors
    /// [`MrtError`] if the input cannot be read.
    pub fn from_read(name: impl AsRef<Path>, input: impl Read + Send + 'static) -> Result<Self, MrtError> {
        let name = name.as_ref();
        let mut raw = BufReader::with_capacity(BUFFER_LEN, input);
        let magic = raw.fill_buf().map_err(|e| At::new(0, Problem::Io(e)).in_file(name))?;
        let input: Box<dyn BufRead + Send> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(BUFFER_LEN, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        Ok(Self {
            input,
            file: name.to_path_buf(),
            offset: 0,
            body: Vec::new(),
            routes: Vec::new(),
            given: 0,
            peers: Vec::new(),
            records: 0,
            ended: false,
        })
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
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
                // The decompressor's error for a truncated file.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    let e = io::Error::new(e.kind(), "the compressed file is truncated");
                    return Err(At::new(at + have as u64, Problem::Io(e)));
                }
                Err(e) => return Err(At::new(at + have as u64, Problem::Io(e))),
            }
        }
        Ok(have)
    }

    /// Reads one record's routes. `false`: the file ended at a record boundary.
    fn record(&mut self) -> Result<bool, At> {
        let at = self.offset;
        let mut bytes = [0; Header::LEN];
        match Self::fill(&mut self.input, &mut bytes, at)? {
            Header::LEN => {}
            0 if self.records > 0 => return Ok(false),
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
        record::routes(header, at, &self.body, &mut self.peers, &mut self.routes)?;
        self.offset = body_at + wanted as u64;
        self.records += 1;
        Ok(true)
    }
}

impl Iterator for Reader {
    type Item = Result<Route, MrtError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(route) = self.routes.get(self.given) {
                self.given += 1;
                return Some(Ok(*route));
            }
            if self.ended {
                return None;
            }
            self.routes.clear();
            self.given = 0;
            match self.record() {
                Ok(more) => self.ended = !more,
                Err(at) => {
                    self.ended = true;
                    // The routes of a bad record are discarded.
                    self.routes.clear();
                    return Some(Err(at.in_file(&self.file)));
                }
            }
        }
    }
}
