//! What is done with the table: a sink gets each difference, whole, with retry while it is busy.

use fibcast_sync_proto::Batch;
pub use fibcast_sync_proto::agent::SinkError;

/// Where differences go.
///
/// The agent calls [`Sink::apply`] on its own thread. A sink that is busy is called again a little later with a batch
/// that covers everything since the last one it took, so that it never misses a change and never gets one twice.
/// Where a batch does not build on those before, as after a resync or after a panic in the middle of a commit, [`Sink::reset`] says so.
pub trait Sink: Send {
    /// Takes a batch as a whole, or says why not.
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// The next batch does not build on those before: forget what it does not name, but no sooner than it applies. Said again with each
    /// attempt to apply that batch.
    fn reset(&mut self) {}
}

/// For relays: takes everything, keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn apply(&mut self, _: &Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}
