//! What becomes of a peer's origins: live, stale, expired, live again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fibcast_sync_proto::mutation::{Mutation, on};
use fibcast_sync_proto::{Change, Key, OriginId, OriginValue, Table, Value};
use ipnet::IpNet;

use super::queue::Work;
use super::{Engine, EngineError, SLICE};

/// Commits of the own table whose prefixes are looked at first when a peer is lost: about the last second at the usual pace.
const RECENT_COMMITS: u64 = 1024;
/// The sweep over a lost peer's routes begins after this: clients that also lost that peer come over now, and go first.
const SWEEP_AFTER: Duration = Duration::from_millis(200);

/// Where a peer's copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Never in sync: what came so far is a part.
    Waiting,
    /// In sync.
    Live,
    /// The connection is lost; the routes are ranked after all others.
    Stale {
        /// When it was lost.
        since: Instant,
    },
    /// The hold time is over; the routes are withdrawn.
    Expired,
}

/// A route server that this one is registered with.
#[derive(Debug)]
pub(super) struct Peer {
    pub address: String,
    pub phase: Phase,
    pub synced_once: bool,
    pub origins: BTreeMap<OriginId, OriginValue>,
    /// What came before the first time in sync: with it there is no need to walk the copy.
    first: Vec<(u32, IpNet)>,
}

impl Peer {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            phase: Phase::Waiting,
            synced_once: false,
            origins: BTreeMap::new(),
            first: Vec::new(),
        }
    }

    /// Whether its routes take part in the selection.
    pub(super) fn counts(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Stale { .. })
    }
}

impl Engine {
    /// The copy of peer `at` changed by one committed batch, given by what is in it.
    pub fn peer_changed(
        &mut self,
        at: usize,
        changes: impl IntoIterator<Item = Change>,
        copies: &[&Table],
    ) -> Result<(), EngineError> {
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        let (mut prefixes, mut opaque) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Put(Key::Opaque(key), Value::Opaque(value)) => opaque.push((key, value)),
                Change::Put(Key::Origin(id), Value::Origin(value)) => {
                    peer.origins.insert(id, value);
                }
                // The routes of an origin that is gone go with it, one by one, in the same batch.
                Change::Delete(Key::Origin(id)) => {
                    peer.origins.remove(&id);
                }
                change => {
                    if let Key::RibRoute { vrf, prefix, .. } = change.key() {
                        prefixes.push((*vrf, *prefix));
                    }
                }
            }
        }
        crate::kv::merge(&mut self.own, &mut self.fib, opaque)
            .map_err(|error| EngineError::Table { table: "rib", error })?;
        if peer.phase == Phase::Waiting {
            peer.first.append(&mut prefixes);
        }
        // An expired peer's routes are looked at again when it is in sync.
        if !peer.counts() || prefixes.is_empty() {
            return Ok(());
        }
        if prefixes.len() <= SLICE && self.queue.is_empty() {
            return self.select(copies, prefixes);
        }
        self.push(Work::List(prefixes.into_iter()));
        Ok(())
    }

    /// The copy of peer `at` is that of a ready server, whole and up to date.
    pub fn peer_in_sync(&mut self, at: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        if peer.phase == Phase::Live {
            return;
        }
        tracing::info!("peer {}: in sync, {} origins", peer.address, peer.origins.len());
        peer.phase = Phase::Live;
        peer.synced_once = true;
        let first = std::mem::take(&mut peer.first);
        self.queue.forget_sweep(at);
        let work = if first.is_empty() { Work::sweep(at, now) } else { Work::List(first.into_iter()) };
        self.push(work);
    }

    /// The connection to peer `at` is lost.
    pub fn peer_lost(&mut self, at: usize, now: Instant, copies: &[&Table]) -> Result<(), EngineError> {
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        if peer.phase != Phase::Live {
            return Ok(());
        }
        tracing::warn!(
            "peer {}: lost; its routes are stale, and go after {} ms",
            peer.address,
            self.hold.as_millis()
        );
        peer.phase = Phase::Stale { since: now };
        self.queue.forget_sweep(at);
        self.push(Work::sweep(at, now + SWEEP_AFTER));
        let since = self.own.serial().saturating_sub(RECENT_COMMITS);
        let recent: Vec<_> = match self.own.changes_since(since.max(self.own.horizon())) {
            Some(batch) if batch.commit().count <= 16 * SLICE as u64 => batch
                .changes()
                .filter_map(|change| match change.key() {
                    Key::RibRoute { vrf, prefix, .. } => Some((*vrf, *prefix)),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        self.select(copies, recent)
    }

    /// Withdraws the routes of peers whose hold time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for at in 0..self.peers.len() {
            let Some(peer) = self.peers.get_mut(at) else { continue };
            let Phase::Stale { since } = peer.phase else { continue };
            if now < since + self.hold || on(Mutation::KeepDeadOrigin) {
                continue;
            }
            tracing::warn!("peer {}: its routes are withdrawn", peer.address);
            peer.phase = Phase::Expired;
            self.queue.forget_sweep(at);
            self.push(Work::sweep(at, now));
        }
    }
}
