//! Assembles what the active server sends: sketches until they are decoded, batches until their Commit.

use std::collections::HashSet;

use crate::change::{Change, ChangeRef};
use crate::codec::Decoder;
use crate::digest::DigestKey;
use crate::frame::{Frame, MAX_WANT, Mode};
use crate::mutation::{Mutation, on};
use crate::outbox::Outbox;
use crate::sketch::{RootDigest, SYMBOLS, SketchDecoder, Symbol, sketch_id};
use crate::table::{Commit, Table, TableError};
use crate::wire::ProtocolError;

/// Most records of a batch or copy: a server that never finishes must not fill the memory.
const MAX_RECORDS: u64 = 1 << 24;
/// Bytes of a piece of a batch that is not decoded yet.
const PIECE: usize = 256 * 1024;

/// A batch before its Commit.
#[derive(Debug)]
pub(super) struct Incoming {
    pub mode: Mode,
    pub from: u64,
    records: Records,
    /// Most bytes of memory.
    limit: usize,
}

#[derive(Debug)]
enum Records {
    /// A snapshot.
    Copy(Box<Copying>),
    /// Of the other modes: bodies of frames, decoded when the batch is applied.
    Encoded(Bodies),
}

/// Bodies of Records frames in order, in pieces.
#[derive(Debug, Default)]
struct Bodies(Vec<Vec<u8>>);

impl Bodies {
    fn push(&mut self, body: &[u8]) {
        match self.0.last_mut().filter(|last| last.len() + body.len() <= PIECE) {
            Some(last) => last.extend_from_slice(body),
            None => self.0.push(body.to_vec()),
        }
    }

    fn memory_bytes(&self) -> usize {
        self.0.iter().map(Vec::capacity).sum()
    }
}

/// A new copy under construction.
#[derive(Debug)]
struct Copying {
    table: Table,
    decoder: Decoder,
    /// Routes decoded.
    routes: u64,
    /// What follows once the table has half of the memory: an encoded route takes a fraction of it.
    rest: Bodies,
}

/// Why a complete batch was not applied.
#[derive(Debug)]
pub(super) enum CommitError {
    Table(TableError),
    Protocol(ProtocolError),
}

impl From<TableError> for CommitError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<ProtocolError> for CommitError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// State of the active server.
#[derive(Debug)]
pub(super) struct Intake {
    /// Most bytes of memory of a batch.
    limit: usize,
    batch: Option<Incoming>,
    sketch: SketchDecoder,
    /// Identities that only our table has, once the sketch is decoded.
    ours: HashSet<u64>,
    decoded: bool,
}

/// A batch is complete, or there was none to send.
#[derive(Debug)]
pub(super) struct End {
    pub epoch: u64,
    pub serial: u64,
    pub digest: RootDigest,
    pub batch: Option<Incoming>,
}

impl Intake {
    /// An intake of batches of up to `limit` bytes of memory before their Commit.
    pub fn new(limit: usize) -> Self {
        let sketch = SketchDecoder::new();
        Self { limit, batch: None, sketch, ours: HashSet::new(), decoded: false }
    }

    /// Bytes of memory of the batch before its Commit.
    pub fn pending_bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, Incoming::memory_bytes)
    }

    /// Handles a data frame of the active server.
    pub fn data(
        &mut self,
        out: &mut Outbox,
        frame: Frame<'_>,
        table: &Table,
    ) -> Result<Option<End>, ProtocolError> {
        match frame {
            Frame::Begin { mode, from } => {
                self.batch = Some(Incoming::new(mode, from, self.limit, table.digest_key()));
            }
            Frame::Records(body) => {
                let batch = self.batch.as_mut().ok_or_else(|| unexpected("Records", "no batch"))?;
                batch.records(body)?;
            }
            Frame::Commit { epoch, serial, digest, .. } => {
                let batch = self.batch.take().ok_or_else(|| unexpected("Commit", "no batch"))?;
                return Ok(Some(End { epoch, serial, digest, batch: Some(batch) }));
            }
            Frame::Equal { epoch, serial } => {
                return Ok(Some(End { epoch, serial, digest: table.digest(), batch: None }));
            }
            Frame::Symbols { first, symbols, .. } => self.symbols(out, first, &symbols, table)?,
            other => return Err(unexpected(other.name(), "active")),
        }
        Ok(None)
    }

    /// The identities that only our table had when the sketch was decoded.
    pub fn take_ours(&mut self) -> HashSet<u64> {
        std::mem::take(&mut self.ours)
    }

    fn symbols(
        &mut self,
        out: &mut Outbox,
        first: u64,
        symbols: &[Symbol],
        table: &Table,
    ) -> Result<(), ProtocolError> {
        if self.decoded {
            return Ok(());
        }
        // An answer without symbols, or the first ones again, would cause the same request for ever.
        if symbols.is_empty()
            || first != self.sketch.len() as u64
            || self.sketch.len() + symbols.len() > SYMBOLS
        {
            let (at, n) = (self.sketch.len(), symbols.len());
            return Err(refused(format!("Symbols: expected the ones from {at}, found {n} from {first}")));
        }
        for (theirs, ours) in symbols.iter().zip(table.sketch().symbols_from(self.sketch.len())) {
            self.sketch.push(*theirs, ours);
        }
        self.sketch.peel();
        if !self.sketch.is_done() {
            let len = self.sketch.len();
            let next = if len < 1024 { len * 3 / 2 } else { len * 5 / 4 };
            // Beyond the last stored symbol the server answers with a copy.
            let until = if len >= SYMBOLS { SYMBOLS + 1 } else { next.min(SYMBOLS) } as u64;
            out.frame(&Frame::More { until });
            return Ok(());
        }
        self.decoded = true;
        let difference = self.sketch.difference();
        self.sketch = SketchDecoder::new();
        self.ours = difference.ours.into_iter().collect();
        let mut rest = difference.theirs.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_WANT));
            out.frame(&Frame::Want { last: later.is_empty(), ids: now.to_vec() });
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }
}

impl Incoming {
    fn new(mode: Mode, from: u64, limit: usize, digest_key: DigestKey) -> Self {
        let records = match mode {
            Mode::Snapshot => Records::Copy(Box::new(Copying {
                table: Table::new(0).with_digest_key(digest_key),
                decoder: Decoder::new(),
                routes: 0,
                rest: Bodies::default(),
            })),
            Mode::Changes | Mode::Reconcile => Records::Encoded(Bodies::default()),
        };
        Self { mode, from, records, limit }
    }

    /// Routes of a full copy.
    pub fn copied(&self) -> u64 {
        match &self.records {
            Records::Copy(copy) => copy.routes,
            Records::Encoded(_) => 0,
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.records {
            Records::Encoded(bodies) => bodies.memory_bytes(),
            Records::Copy(copy) => copy.memory_bytes(),
        }
    }

    fn records(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        if self.memory_bytes() + body.len() > self.limit {
            return Err(ProtocolError::Budget(format!(
                "a batch before its Commit takes more than {} bytes of memory (node.limits.pending_bytes)",
                self.limit
            )));
        }
        match &mut self.records {
            Records::Encoded(bodies) => bodies.push(body),
            Records::Copy(copy) if copy.rest.0.is_empty() && copy.memory_bytes() < self.limit / 2 => {
                return copy.decode(body);
            }
            Records::Copy(copy) => copy.rest.push(body),
        }
        Ok(())
    }

    /// Decodes what was only kept so far. Call it before [`Self::copied`] and [`Self::commit`].
    pub fn complete(&mut self) -> Result<(), ProtocolError> {
        if let Records::Copy(copy) = &mut self.records {
            let rest = std::mem::take(&mut copy.rest);
            rest.0.into_iter().try_for_each(|bodies| copy.decode(&bodies))?;
        }
        Ok(())
    }

    /// Applies the whole batch, or nothing. `ours` are identities that only our table has. None if nothing changed.
    pub fn commit(
        self,
        table: &mut Table,
        ours: &HashSet<u64>,
        digest: RootDigest,
    ) -> Result<Option<Commit>, CommitError> {
        match self.records {
            Records::Encoded(bodies) => apply(&bodies, table, ours, digest),
            Records::Copy(copy) => Ok(replace(copy.table, table, digest)?),
        }
    }
}

impl Copying {
    fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.decoder.memory_bytes() + self.rest.memory_bytes()
    }

    fn decode(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        let Self { table, decoder, routes, .. } = self;
        if table.len() > MAX_RECORDS {
            return Err(refused(format!("snapshot: expected at most {MAX_RECORDS} records, found more")));
        }
        let mut transaction = table.begin();
        let added = decoder.decode(body, |change| {
            *routes += u64::from(change.is_route());
            transaction.push(change).map_err(CommitError::Table)
        });
        match added.and_then(|()| Ok(transaction.commit()?)) {
            Ok(_) => Ok(()),
            Err(CommitError::Table(error)) => Err(refused(format!("snapshot: {error}"))),
            Err(CommitError::Protocol(error)) => Err(error),
        }
    }
}

fn apply(
    records: &Bodies,
    table: &mut Table,
    ours: &HashSet<u64>,
    digest: RootDigest,
) -> Result<Option<Commit>, CommitError> {
    // Records that only we have are deleted, unless the batch has a newer value for the key.
    let gone = if on(Mutation::KeepOwnRecords) { Vec::new() } else { table.find_ids(ours) };
    let half = on(Mutation::PublishHalf).then(|| number_of(records) / 2).filter(|half| *half > 0);
    let mut transaction = table.begin();
    if half.is_none() {
        gone.iter().try_for_each(|(_, key, _)| transaction.push(ChangeRef::delete(key)))?;
    }
    let mut count = 0;
    let mut decoder = Decoder::new();
    let mut take = |change: ChangeRef<'_>| {
        count += 1;
        if count > MAX_RECORDS {
            return Err(refused(format!("batch: expected at most {MAX_RECORDS} records, found more")).into());
        }
        if half.is_none_or(|half| count <= half) {
            transaction.push(change)?;
        }
        Ok::<(), CommitError>(())
    };
    records.0.iter().try_for_each(|bodies| decoder.decode(bodies, &mut take))?;
    Ok(if half.is_some() { transaction.commit()? } else { transaction.commit_expecting(digest)? })
}

fn number_of(records: &Bodies) -> u64 {
    let (mut count, mut decoder) = (0, Decoder::new());
    for bodies in &records.0 {
        let _ = decoder.decode(bodies, |_| {
            count += 1;
            Ok::<(), ProtocolError>(())
        });
    }
    count
}

/// Makes the table equal to a copy: one commit of the difference.
fn replace(copy: Table, table: &mut Table, digest: RootDigest) -> Result<Option<Commit>, TableError> {
    let found = copy.digest();
    if found != digest {
        return Err(TableError::Digest { expected: digest, found });
    }
    if table.serial() == 0 {
        return Ok((copy.serial() > 0).then(|| table.adopt(copy)));
    }
    let (theirs, ours) = difference(&copy, table);
    let gone = table.find_ids(&ours);
    let mut transaction = table.begin();
    transaction.push_all(gone.into_iter().map(|(_, key, _)| Change::Delete(key)))?;
    transaction
        .push_all(copy.find_ids(&theirs).into_iter().map(|(_, key, value)| Change::Put(key, value)))?;
    transaction.commit_expecting(digest)
}

/// Records that only one of the two tables has, as sketches name them. Whole identities are compared: their upper halves, which are short
/// enough to find two equal ones among very many records, only select what is deleted and written again.
fn difference(a: &Table, b: &Table) -> (HashSet<u64>, HashSet<u64>) {
    let sorted = |table: &Table| {
        let mut ids = Vec::with_capacity(table.len() as usize);
        table.each_id(|_, id| ids.push(id));
        ids.sort_unstable();
        ids
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut only_a, mut only_b) = (HashSet::new(), HashSet::new());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), y) if y.is_none_or(|y| x < y) => {
                only_a.insert(sketch_id(**x));
                a.next();
            }
            (_, Some(y)) => {
                only_b.insert(sketch_id(**y));
                b.next();
            }
            (_, None) => return (only_a, only_b),
        }
    }
}

pub(super) fn refused(text: String) -> ProtocolError {
    ProtocolError::Refused(text)
}

pub(super) fn unexpected(frame: &'static str, state: &'static str) -> ProtocolError {
    ProtocolError::Unexpected { frame, state }
}
