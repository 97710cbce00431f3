//! Whether own sources are live. The origin of one that is not is stale: its routes rank last, here and on all other servers, and stay.
//!
//! A source is live while its sender's table is complete and followed. It is not while the sender is gone or announces its table again, after a
//! failure, when its thread makes no progress, and after its route limit stopped it. A short gap is no reason to move a whole table to other
//! paths and back, so an origin turns stale after a third of its lease; its announcement reaches the other servers within the lease. It is
//! live again as soon as the source is.
//!
//! For a source that reads a file nothing more is expected: it is live unless it failed. Whether a daemon that fills a kernel table is alive
//! cannot be seen in the table: a `netlink` source is live as long as the kernel answers.

use std::time::Duration;

use super::queue::Work;
use super::{Engine, EngineError, Source, rib_error};

/// What is known of a source's liveness.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Its thread makes no progress.
    stalled: bool,
    /// Time since which it has not been live.
    since: Option<Duration>,
    /// Its origin is announced as stale.
    pub(super) stale: bool,
}

impl Source {
    /// Why it is not live; none: it is.
    fn not_live(&self) -> Option<&str> {
        match &self.report {
            _ if self.gate.is_stopped() => Some("stopped by max_prefixes"),
            _ if self.error.is_some() => Some("failed"),
            _ if self.liveness.stalled => Some("its thread makes no progress"),
            Some(report) if !report.live => Some(report.state),
            _ => None,
        }
    }
}

impl Engine {
    /// The thread with this number makes no progress, or does so again.
    pub fn source_stalled(&mut self, thread: usize, stalled: bool) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.thread == thread) {
            source.liveness.stalled = stalled;
        }
    }

    /// Marks origins of own sources as stale or live. Only complete tables count: others are announced as not ready.
    pub(super) fn judge_liveness(&mut self, now: Duration) -> Result<(), EngineError> {
        let grace = self.lease / 3;
        let mut changed = Vec::new();
        for source in self.sources.iter_mut().filter(|source| source.whole && source.removed.is_none()) {
            let not_live = source.not_live().map(str::to_owned);
            source.liveness.since = not_live.is_some().then(|| source.liveness.since.unwrap_or(now));
            let stale = source.liveness.since.is_some_and(|since| now >= since + grace);
            if std::mem::replace(&mut source.liveness.stale, stale) == stale {
                continue;
            }
            match not_live {
                Some(why) => tracing::warn!(
                    "source {:?} is not live ({why}): its origin is stale, and its routes rank last on all servers",
                    source.name
                ),
                None => tracing::info!("source {:?} is live: its origin is no longer stale", source.name),
            }
            changed.push((source.id, stale));
        }
        for (id, stale) in changed {
            self.origins.set_stale(now, id, stale).map_err(rib_error)?;
            self.announce = true;
            self.queue.forget_sweep(id);
            self.push(Work::sweep(id, now));
        }
        Ok(())
    }

    /// When the next source's grace ends.
    pub(super) fn liveness_due(&self) -> Option<Duration> {
        let waiting = self.sources.iter().filter(|source| source.whole && !source.liveness.stale);
        waiting.filter_map(|source| source.liveness.since).map(|since| since + self.lease / 3).min()
    }
}
