//! What servers send: greetings and states of all, batches and sketches of the active one.

use std::collections::HashSet;
use std::time::Duration;

use super::link::Phase;
use super::{Client, ClientEvent, How, LinkId};
use crate::codec;
use crate::frame::{Frame, MAX_WANT, Mode, State};
use crate::mutation::{Mutation, on};
use crate::record::{Change, Key};
use crate::sketch::{RootDigest, SYMBOLS, SketchDecoder, Symbol};
use crate::table::{Table, TableError};
use crate::wire::ProtocolError;

/// Most changes of a batch before its Commit, or records of a copy.
const MAX_PENDING: usize = 1 << 24;

/// Mismatches are forgotten after this time without one. A successful resync alone does not reset them: a server whose commits match their
/// digests, but whose heartbeats announce another one, would keep its client busy forever.
const MEND: Duration = Duration::from_secs(60);

/// An incomplete batch.
#[derive(Debug)]
struct Incoming {
    mode: Mode,
    from: u64,
    decoder: codec::Decoder,
    /// Of a snapshot: the new copy under construction.
    copy: Option<Table>,
    /// Of the other modes: changes until Commit.
    pending: Vec<Change>,
    routes: u64,
}

/// State of the active server.
#[derive(Debug, Default)]
pub(super) struct Intake {
    batch: Option<Incoming>,
    sketch: SketchDecoder,
    /// Identities that only our table has, once the sketch is decoded.
    ours: HashSet<u64>,
    decoded: bool,
}

impl Client {
    pub(super) fn handle_frame(
        &mut self,
        now: Duration,
        id: LinkId,
        frame: Frame<'_>,
        table: &mut Table,
    ) -> Result<(), ProtocolError> {
        let Some(link) = self.links.get_mut(id) else { return Ok(()) };
        match frame {
            Frame::Error { text } => return Err(ProtocolError::Peer(text)),
            Frame::Hello { name } if matches!(link.phase, Phase::Greeting { .. }) => {
                if name == self.config.name {
                    return Err(refused(format!("node {name} is its own server")));
                }
                link.name = Some(name);
                return Ok(());
            }
            Frame::Welcome(state) => {
                let state = self.check_path(id, state)?;
                let Some(link) = self.links.get_mut(id) else { return Ok(()) };
                link.set_state(now, state);
                match link.phase {
                    Phase::Greeting { .. } => {
                        link.phase = Phase::Standby;
                        link.pause = Duration::ZERO;
                        link.start_heartbeats(now, self.config.heartbeat);
                        let name = link.name.clone().unwrap_or_default();
                        self.events.push_back(ClientEvent::Registered { link: id, name });
                    }
                    Phase::Stopping { .. } => {
                        link.phase = Phase::Standby;
                        if self.active == Some(id) {
                            self.activate(now, id, table);
                        }
                    }
                    _ => return Err(unexpected("Welcome", "active")),
                }
                return Ok(());
            }
            Frame::Heartbeat(state) if link.is_registered() => {
                return state.map_or(Ok(()), |state| self.heartbeat(now, id, state, table));
            }
            _ => {}
        }
        match &mut link.phase {
            // Data that was in flight when the server was deactivated.
            Phase::Stopping { .. } => Ok(()),
            Phase::Active { intake, progress, .. } => {
                *progress = now;
                intake.data(&mut link.out, frame, table)?.map_or(Ok(()), |end| self.end(now, id, end, table))
            }
            Phase::Standby => Err(unexpected(frame.name(), "standby")),
            _ => Err(unexpected(frame.name(), "greeting")),
        }
    }

    /// Refuses a server whose table comes through this node, or treats it as not ready.
    fn check_path(&self, id: LinkId, mut state: State) -> Result<State, ProtocolError> {
        if !state.path.contains(&self.config.name) {
            return Ok(state);
        }
        if self.config.allow_loops {
            state.ready = false;
            return Ok(state);
        }
        let server = self.links.get(id).and_then(|l| l.name.as_deref()).unwrap_or("?");
        let path = state.path.join(" > ");
        Err(refused(format!("loop: the table of {server} comes through {}: {path}", self.config.name)))
    }

    fn heartbeat(
        &mut self,
        now: Duration,
        id: LinkId,
        state: State,
        table: &Table,
    ) -> Result<(), ProtocolError> {
        let state = self.check_path(id, state)?;
        let wrong = self.active == Some(id)
            && self.base == Some((state.epoch, state.serial))
            && state.digest != table.digest()
            && self.links.get(id).is_some_and(|l| matches!(l.phase, Phase::Active { synced: true, .. }));
        let digest = state.digest;
        if let Some(link) = self.links.get_mut(id) {
            link.set_state(now, state);
        }
        if wrong {
            let reason = TableError::Digest { expected: digest, found: table.digest() };
            return self.mismatch(now, id, &reason);
        }
        Ok(())
    }

    /// Compares again with the active server. After two failures it requests a copy, after three it drops the server so that another one is
    /// activated.
    fn mismatch(&mut self, now: Duration, id: LinkId, reason: &TableError) -> Result<(), ProtocolError> {
        self.counters.digest_mismatches += 1;
        if now > self.mismatch_at + MEND {
            self.mismatches = 0;
        }
        self.mismatches += 1;
        self.mismatch_at = now;
        self.base = None;
        self.events.push_back(ClientEvent::Mismatch { link: id, reason: reason.to_string() });
        if self.mismatches > 3 {
            self.mismatches = 0;
            return Err(refused(format!("its table does not lead to its digest: {reason}")));
        }
        if let Some(link) = self.links.get_mut(id) {
            link.out.frame(&Frame::Deactivate);
            link.phase = Phase::Stopping { since: now };
        }
        Ok(())
    }

    /// The server states that the table now equals its own at some serial.
    fn end(&mut self, now: Duration, id: LinkId, end: End, table: &mut Table) -> Result<(), ProtocolError> {
        let Some(link) = self.links.get_mut(id) else { return Ok(()) };
        let Phase::Active { synced, asked, intake, .. } = &mut link.phase else { return Ok(()) };
        let (asked, first) = (*asked, !std::mem::replace(synced, true));
        let ours = std::mem::take(&mut intake.ours);
        let before = table.serial();
        let mut copied = 0;
        let how = match end.batch {
            None => How::Equal,
            Some(batch) => {
                let how = match batch.mode {
                    Mode::Changes => How::Changes,
                    Mode::Snapshot => How::Snapshot,
                    Mode::Reconcile => How::Reconcile,
                };
                if how == How::Snapshot {
                    copied = batch.routes;
                }
                if how == How::Changes && self.base != Some((end.epoch, batch.from)) {
                    return Err(refused(format!(
                        "batch: expected changes since the serial that we are at, found since {}",
                        batch.from
                    )));
                }
                match commit(table, batch, &ours, end.digest) {
                    Ok(()) => {}
                    Err(reason @ (TableError::Digest { .. } | TableError::MissingGroup { .. })) => {
                        if let Phase::Active { synced, .. } = &mut link.phase {
                            *synced = !first;
                        }
                        return self.mismatch(now, id, &reason);
                    }
                    Err(other) => return Err(refused(other.to_string())),
                }
                how
            }
        };
        self.base = Some((end.epoch, end.serial));
        self.counters.routes_copied += copied;
        let mut changed = 0;
        if table.serial() != before {
            changed = match table.changes_since(before) {
                Some(batch) => {
                    self.events.push_back(ClientEvent::Committed(batch.commit()));
                    if before == 0 {
                        table.counts().routes()
                    } else {
                        batch.changes().filter(|c| is_route(c.key())).count() as u64
                    }
                }
                None => 0,
            };
            self.counters.routes_applied += changed;
        }
        if first {
            let took = now.saturating_sub(self.lost_at.take().unwrap_or(asked));
            if self.last_active.is_some_and(|last| last != id) {
                self.counters.failovers += 1;
                self.counters.last_failover = Some(took);
                self.counters.last_failover_routes_copied = copied;
                self.counters.routes_differing = changed;
            }
            self.last_active = Some(id);
            self.events.push_back(ClientEvent::Activated { link: id, how, took, differing: changed });
        }
        Ok(())
    }
}

/// A batch is complete, or there was none to send.
#[derive(Debug)]
pub(super) struct End {
    epoch: u64,
    serial: u64,
    digest: RootDigest,
    batch: Option<Incoming>,
}

impl Intake {
    /// Handles a data frame of the active server.
    fn data(
        &mut self,
        out: &mut crate::outbox::Outbox,
        frame: Frame<'_>,
        table: &Table,
    ) -> Result<Option<End>, ProtocolError> {
        match frame {
            Frame::Begin { mode, from } => {
                let copy = (mode == Mode::Snapshot).then(|| Table::new(0));
                let decoder = codec::Decoder::new();
                self.batch = Some(Incoming { mode, from, decoder, copy, pending: Vec::new(), routes: 0 });
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

    fn symbols(
        &mut self,
        out: &mut crate::outbox::Outbox,
        first: u64,
        symbols: &[Symbol],
        table: &Table,
    ) -> Result<(), ProtocolError> {
        if self.decoded {
            return Ok(());
        }
        if first == 0 {
            self.sketch = SketchDecoder::new();
        }
        if first != self.sketch.len() as u64 || self.sketch.len() + symbols.len() > SYMBOLS {
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
    fn records(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        let mut routes = 0;
        let mut changes = Vec::new();
        let target = if self.copy.is_some() { &mut changes } else { &mut self.pending };
        self.decoder.decode(body, |change| {
            routes += u64::from(is_route(change.key()));
            target.push(change);
        })?;
        self.routes += routes;
        if self.pending.len() > MAX_PENDING {
            return Err(refused(format!("batch: expected at most {MAX_PENDING} changes, found more")));
        }
        if let Some(copy) = &mut self.copy {
            // A server that never finishes must not fill the memory.
            if copy.len() > MAX_PENDING as u64 {
                return Err(refused(format!("snapshot: expected at most {MAX_PENDING} records, found more")));
            }
            copy.commit(changes).map_err(|e| refused(format!("snapshot: {e}")))?;
        }
        Ok(())
    }
}

/// Applies a whole batch, or nothing.
fn commit(
    table: &mut Table,
    batch: Incoming,
    ours: &HashSet<u64>,
    digest: RootDigest,
) -> Result<(), TableError> {
    let Some(copy) = batch.copy else {
        // Records that only we have are deleted, unless the batch has a newer value for the key.
        let keep = on(Mutation::KeepOwnRecords);
        if on(Mutation::PublishHalf) && batch.pending.len() > 1 {
            let half = batch.pending.len() / 2;
            return table.commit(batch.pending.into_iter().take(half)).map(|_| ());
        }
        let gone: Vec<Change> = table
            .find_ids(ours)
            .into_iter()
            .filter(|_| !keep)
            .map(|(_, key, _)| Change::Delete(key))
            .collect();
        return table.commit_expecting(gone.into_iter().chain(batch.pending), digest).map(|_| ());
    };
    let found = copy.digest();
    if found != digest {
        return Err(TableError::Digest { expected: digest, found });
    }
    if table.serial() == 0 {
        table.adopt(copy);
        return Ok(());
    }
    let (theirs, ours) = difference(&copy, table);
    let gone: Vec<Change> =
        table.find_ids(&ours).into_iter().map(|(_, key, _)| Change::Delete(key)).collect();
    let new = copy.find_ids(&theirs).into_iter().map(|(_, key, value)| Change::Put(key, value));
    table.commit_expecting(gone.into_iter().chain(new), digest).map(|_| ())
}

/// Identities that only one of the two tables has.
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
                only_a.insert(**x);
                a.next();
            }
            (_, Some(y)) => {
                only_b.insert(**y);
                b.next();
            }
            (_, None) => return (only_a, only_b),
        }
    }
}

fn is_route(key: &Key) -> bool {
    matches!(key, Key::Route { .. } | Key::RibRoute { .. })
}

fn refused(text: String) -> ProtocolError {
    ProtocolError::Refused(text)
}

fn unexpected(frame: &'static str, state: &'static str) -> ProtocolError {
    ProtocolError::Unexpected { frame, state }
}
