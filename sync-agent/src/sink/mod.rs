//! The receiver of the agent's table: each batch as a whole, with retries while it is busy.

mod progress;

use std::net::SocketAddr;

pub use fibcast_sync_proto::agent::SinkError;
pub use fibcast_sync_proto::refusal::{Reason, Refusals, RouteKey};
use fibcast_sync_proto::{Batch, Key, Value};

pub use progress::{Installed, Progress, Wake};

/// Receiver of the agent's batches.
///
/// The agent calls [`Sink::apply`] on its own thread. A busy sink is retried a little later with a batch that covers everything since the
/// last accepted one, so it never misses a change and never gets one twice. [`Sink::reset`] announces a batch that replaces everything, for
/// instance after a resync or a panic during a commit.
pub trait Sink: Send {
    /// Applies a batch as a whole.
    ///
    /// # Errors
    /// [`SinkError`]: busy or failed. The agent retries in both cases.
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// The next batch replaces everything: delete what it does not name, but not before it is applied. Called again with each attempt to
    /// apply that batch.
    fn reset(&mut self) {}

    /// The table is synchronised with this server from now on. Told again and again, and before the first batch from it.
    fn synchronised_with(&mut self, _server: SocketAddr) {}

    /// The serial of the table that packets are forwarded by, if that may be behind what was accepted. None: by all that was accepted.
    fn installed(&self) -> Option<u64> {
        None
    }

    /// The routes that it does not forward by though it was given them, if their version is not `known`. Asked after [`Sink::installed`]: every
    /// refusal up to that serial must be in it.
    fn refusals(&mut self, _known: u64) -> Option<Refusals> {
        None
    }

    /// `wake` is to be called from now on, from any thread, when [`Sink::installed`] or [`Sink::refusals`] have changed.
    fn on_installed(&mut self, _wake: Wake) {}

    /// Whether the sink has lost what it was given, for instance because it was restarted. The agent asks at every turn; after "yes",
    /// the sink gets the whole table.
    fn has_lost_table(&mut self) -> bool {
        false
    }

    /// Whether [`Sink::compare`] does anything.
    fn can_compare(&self) -> bool {
        false
    }

    /// Compares what it forwards by with a part of the table, and corrects it. Called when it has accepted all changes so far.
    ///
    /// # Errors
    /// [`SinkError`]: busy or failed. The agent retries later.
    fn compare(&mut self, _: &TablePart) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A part of the table in snapshot order: all groups and forwarding routes behind `after`, up to and including `until`.
#[derive(Debug, Clone, Default)]
pub struct TablePart {
    /// Where it begins; none: at the first record.
    pub after: Option<Key>,
    /// Where it ends; none: at the last record.
    pub until: Option<Key>,
    /// The records.
    pub records: Vec<(Key, Value)>,
}

/// For relays: accepts everything and keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn apply(&mut self, _: &Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}
