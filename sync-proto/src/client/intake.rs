//! Handles what servers send: greetings and states of all, batches and sketches of the active one.

use std::time::Duration;

use super::incoming::{CommitError, End, refused, unexpected};
use super::link::Phase;
use super::{Client, ClientEvent, How, LinkId};
use crate::frame::{Frame, Mode, State};
use crate::table::{Table, TableError};
use crate::wire::ProtocolError;

/// Mismatches are forgotten after this time without one. A successful resync alone does not reset them: a server whose commits match their
/// digests, but whose heartbeats announce another one, would keep its client busy forever.
const MEND: Duration = Duration::from_secs(60);

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
        self.equals.clear();
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
        let ours = intake.take_ours();
        let (mut copied, mut commit) = (0, None);
        let how = match end.batch {
            None => How::Equal,
            Some(mut batch) => {
                batch.complete()?;
                let how = match batch.mode {
                    Mode::Changes => How::Changes,
                    Mode::Snapshot => How::Snapshot,
                    Mode::Reconcile => How::Reconcile,
                };
                if how == How::Changes && self.base != Some((end.epoch, batch.from)) {
                    return Err(refused(format!(
                        "batch: expected changes since the serial that we are at, found since {}",
                        batch.from
                    )));
                }
                copied = batch.copied();
                commit = match batch.commit(table, &ours, end.digest) {
                    Ok(commit) => commit,
                    Err(CommitError::Table(
                        reason @ (TableError::Digest { .. } | TableError::MissingGroup { .. }),
                    )) => {
                        if let Phase::Active { synced, .. } = &mut link.phase {
                            *synced = !first;
                        }
                        return self.mismatch(now, id, &reason);
                    }
                    Err(CommitError::Table(other)) => return Err(refused(other.to_string())),
                    Err(CommitError::Protocol(error)) => return Err(error),
                };
                how
            }
        };
        // What was learned over an earlier connection is void: views of a restarted server may have serials of another life.
        if first {
            self.equals.clear();
        }
        self.base = Some((end.epoch, end.serial));
        self.equals.push(table.serial(), end.serial);
        self.counters.routes_copied += copied;
        let changed = commit.map_or(0, |commit| commit.routes);
        self.counters.routes_applied += changed;
        self.events.extend(commit.map(ClientEvent::Committed));
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
