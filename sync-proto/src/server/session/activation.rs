//! A client activates this server, and is brought up to date in the cheapest way.

use std::collections::HashSet;
use std::time::Duration;

use super::super::cache::Frozen;
use super::super::feed::Feed;
use super::super::types::ServerEvent;
use super::{NO_MEMORY, Session, SessionContext, SessionPhase, table_of};
use crate::frame::{Frame, MAX_SYMBOLS};
use crate::mutation::{Mutation, on};
use crate::sketch::{RootDigest, SYMBOLS};
use crate::wire::ProtocolError;

/// Symbols in the first portion, before the client requests more.
const FIRST_SYMBOLS: usize = 256;

impl Session {
    /// Selects the cheapest way from the client's state to the current table.
    pub(super) fn activate(
        &mut self,
        now: Duration,
        epoch: u64,
        serial: u64,
        digest: RootDigest,
        copy: bool,
        context: &mut SessionContext<'_>,
    ) -> Result<(), ProtocolError> {
        let table = table_of(&self.wanted, context.tables, context.views)?;
        self.fed = table.epoch();
        if copy {
            return self.copy("snapshot: asked for", context);
        }
        let how;
        // A client at our serial with another table, for whatever reason, is compared like any other.
        let same = serial != table.serial() || digest == table.digest();
        if epoch == table.epoch() && serial <= table.serial() && serial >= table.horizon() && same {
            how = "changes since its serial";
            if serial == table.serial() {
                self.out.frame(&Frame::Equal { epoch, serial });
            }
            self.phase = SessionPhase::Active(Feed::at(serial));
        } else if digest == table.digest() || on(Mutation::SkipComparison) {
            how = "equal";
            self.out.frame(&Frame::Equal { epoch: table.epoch(), serial: table.serial() });
            self.phase = SessionPhase::Active(Feed::at(table.serial()));
        } else {
            // Counts alone show a difference that symbols would not pay for.
            let (ours, theirs) = (table.len(), digest.count);
            if theirs == 0 || ours == 0 || ours.abs_diff(theirs) > (SYMBOLS / 2) as u64 {
                return self.copy("snapshot", context);
            }
            how = "sketch";
            let Some(frozen) = context.cache.frozen(&self.wanted, table, context.room) else {
                return self.copy(NO_MEMORY, context);
            };
            self.symbols_sent = 0;
            self.sketching_since = now;
            self.send_symbols(&frozen, 0, FIRST_SYMBOLS);
            let charge = context.room.account.open();
            self.phase = SessionPhase::Sketching { frozen, want: HashSet::new(), charge };
        }
        context.events.push_back(ServerEvent::Activated { session: context.id, how });
        Ok(())
    }

    pub(super) fn copy(
        &mut self,
        how: &'static str,
        context: &mut SessionContext<'_>,
    ) -> Result<(), ProtocolError> {
        let table = table_of(&self.wanted, context.tables, context.views)?;
        let feed = Feed::snapshot(&self.wanted, table, context.cache, &mut self.out, context.room);
        self.phase = SessionPhase::Active(feed);
        context.events.push_back(ServerEvent::Activated { session: context.id, how });
        Ok(())
    }

    pub(super) fn send_symbols(&mut self, frozen: &Frozen, from: usize, until: usize) {
        let until = until.min(frozen.symbols().len());
        for first in (from..until).step_by(MAX_SYMBOLS) {
            let end = (first + MAX_SYMBOLS).min(until);
            let symbols = frozen.symbols().get(first..end).unwrap_or_default().to_vec();
            let (serial, count) = (frozen.serial, frozen.count);
            self.out.frame(&Frame::Symbols { serial, count, first: first as u64, symbols });
        }
        self.symbols_sent = self.symbols_sent.max(until);
    }

    /// Sends the records that the client lacks, and the changes since the sketch.
    pub(super) fn reconcile(&mut self, context: &mut SessionContext<'_>) -> Result<(), ProtocolError> {
        let table = table_of(&self.wanted, context.tables, context.views)?;
        let SessionPhase::Sketching { frozen, want, .. } =
            std::mem::replace(&mut self.phase, SessionPhase::Standby)
        else {
            return Ok(());
        };
        let room = context.room;
        let answer = context.cache.reconciled(&self.wanted, table, frozen.serial, want, context.work, room);
        let batch = match answer {
            Ok(batch) => batch,
            Err(how) => return self.copy(how, context),
        };
        *context.passed_on += batch.routes;
        self.out.share(batch.bytes);
        let behind = u64::from(on(Mutation::WrongSerial));
        self.phase = SessionPhase::Active(Feed::at(table.serial().saturating_sub(behind)));
        Ok(())
    }
}
