//! Encoded batches.

use std::sync::Arc;

use super::room::Room;
use crate::account::SharedBytes;
use crate::change::ChangeRef;
use crate::codec::Encoder;
use crate::frame::{Frame, Mode};
use crate::mutation::{Mutation, on};
use crate::table::Table;

/// An encoded batch.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub bytes: Arc<SharedBytes>,
    pub routes: u64,
}

/// A whole batch with Begin and Commit. None if it is larger than a batch that is encoded at once.
pub(super) fn encode<'t>(
    table: &Table,
    mode: Mode,
    from: u64,
    changes: impl Iterator<Item = ChangeRef<'t>>,
    room: &Room,
) -> Option<Encoded> {
    let mut out = Vec::new();
    Frame::Begin { mode, from }.encode(&mut out);
    let mut encoder = Encoder::new();
    let mut routes = 0;
    let mut changes = changes.peekable();
    while let Some(change) = changes.next() {
        if on(Mutation::LoseLastChange) && changes.peek().is_none() {
            break;
        }
        routes += u64::from(change.is_route());
        encoder.push(change, &mut out);
        if out.len() > room.limits.batch {
            return None;
        }
    }
    encoder.flush(&mut out);
    commit(table, encoder.count()).encode(&mut out);
    Some(Encoded { bytes: room.account.share(out), routes })
}

/// The end of a batch of `count` records.
pub(super) fn commit(table: &Table, count: u64) -> Frame<'static> {
    Frame::Commit { epoch: table.epoch(), serial: table.serial(), count, digest: table.digest() }
}
