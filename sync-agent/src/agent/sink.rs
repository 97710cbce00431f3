//! What is done with the table: a sink gets each difference, whole, with retry while it is busy.

use fibcast_sync_proto::Batch;

/// Where differences go.
///
/// The agent calls [`Sink::apply`] on its own thread. A sink that is busy is called again a little later with a batch
/// that covers everything since the last one it took, so that it never misses a change and never gets one twice.
/// After a panic of the agent's thread in the middle of a commit the table begins anew, which [`Sink::reset`] says.
pub trait Sink: Send {
    /// Takes a batch as a whole, or says why not.
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError>;

    /// The next batch does not build on those before: forget what it does not name, but no sooner than it applies.
    fn reset(&mut self) {}
}

/// Why a sink did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not now: again in a few milliseconds.
    #[error("busy")]
    Busy,
    /// It failed; the batch stays pending and is tried again.
    #[error("{0}")]
    Failed(String),
}

/// For relays: takes everything, keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn apply(&mut self, _: &Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}
