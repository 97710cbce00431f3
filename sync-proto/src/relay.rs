//! Readiness of a node that relays a table, as announced to the tier below.
//!
//! A relay is *ready* while it is in sync with a capable server, and for [`HOLD`] after it lost one. It keeps serving its copy in any case,
//! and is *stale* as soon as it is not in sync, or its server reports so. Before its first sync it is never ready. Staleness is for
//! operators: no node decides by it.
//!
//! This cannot oscillate. Readiness ends only after a full [`HOLD`] out of sync, and returns only on a sync with a capable server. A
//! server's readiness depends on its own servers alone, never on its clients, and paths are free of loops, so a change at the top makes
//! each node below change at most once. A client that leaves an unready relay fails back only after the failback time of uninterrupted
//! readiness, which is longer than [`HOLD`]. A failover above takes less than [`HOLD`], so the tier below does not see it.

use std::time::Duration;

use crate::client::Client;
use crate::mutation::{Mutation, on};

/// How long a relay that lost its servers stays ready.
pub const HOLD: Duration = Duration::from_secs(2);

/// Readiness and path of a relayed table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relay {
    ready: bool,
    synced: bool,
    stale: bool,
    lost_at: Option<Duration>,
    path: Vec<String>,
}

impl Relay {
    /// Evaluates the client that fills the table. True if the tier below needs an announcement.
    pub fn watch(&mut self, now: Duration, client: &Client) -> bool {
        let moved = self.update(now, client.is_synced(), client.path());
        std::mem::replace(&mut self.stale, client.is_stale()) != self.stale || moved
    }

    /// The same with the client's state as arguments. A path is only adopted from a server that the table is in sync with.
    pub fn update(&mut self, now: Duration, synced: bool, path: Vec<String>) -> bool {
        self.synced = synced;
        if synced {
            self.lost_at = None;
        } else {
            self.lost_at.get_or_insert(now);
        }
        let held = self.lost_at.is_none_or(|at| now < at + HOLD);
        let ready = synced || (self.ready && (held || on(Mutation::StayReady)));
        let moved = synced && path != self.path;
        if moved {
            self.path = path;
        }
        std::mem::replace(&mut self.ready, ready) != ready || moved
    }

    /// What clients are sent.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the table has no capable source at the moment.
    pub fn is_stale(&self) -> bool {
        !self.synced || self.stale
    }

    /// The nodes that the table comes through, nearest last.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// Time at which [`Self::watch`] may have another result without input.
    pub fn due(&self) -> Option<Duration> {
        self.lost_at.filter(|_| self.ready).map(|at| at + HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_short_loss_is_not_seen_below_and_a_long_one_once() {
        let mut r = Relay::default();
        let path = || vec!["a".to_owned()];
        assert!(!r.update(s(1.0), false, Vec::new()) && !r.is_ready());
        assert!(r.update(s(2.0), true, path()) && r.is_ready() && !r.is_stale());
        assert!(!r.update(s(3.0), false, path()));
        assert!(r.is_stale() && r.is_ready() && r.due() == Some(s(5.0)));
        assert!(!r.update(s(4.9), true, path()));
        assert!(!r.update(s(6.0), false, path()));
        assert!(r.update(s(8.0), false, path()) && !r.is_ready() && r.due().is_none());
        assert!(!r.update(s(99.0), false, path()));
        assert_eq!(r.path(), ["a"]);
    }

    #[test]
    fn another_way_to_the_same_table_is_told() {
        let mut r = Relay::default();
        r.update(s(1.0), true, vec!["a".into()]);
        assert!(r.update(s(2.0), true, vec!["x".into(), "b".into()]));
        assert_eq!(r.path(), ["x", "b"]);
    }
}
