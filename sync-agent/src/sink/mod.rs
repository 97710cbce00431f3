//! The receiver of the agent's table: each batch as a whole, with retries while it is busy.

mod progress;

use fibcast_sync_proto::Batch;
pub use fibcast_sync_proto::agent::SinkError;

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

    /// The serial of the table that packets are forwarded by, if that may be behind what was accepted. None: by all that was accepted.
    fn installed(&self) -> Option<u64> {
        None
    }

    /// `wake` is to be called from now on, from any thread, when [`Sink::installed`] has changed.
    fn on_installed(&mut self, _wake: Wake) {}
}

/// For relays: accepts everything and keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn apply(&mut self, _: &Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}
