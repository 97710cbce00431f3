//! Which routes the required nodes refuse.
//!
//! The number of counting nodes that refuse a route is kept change by change; only when a node begins or ceases to count is everything counted
//! again. A route is released only when every counting node that is here has reported what it refuses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Acknowledge, MAX_GONE, NodeState};
use crate::refusal::{LIMIT, Reason, RouteKey};

/// How many counting nodes refuse each route, and what follows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<RouteKey, (usize, Reason)>,
    refused: BTreeMap<RouteKey, Reason>,
    version: u64,
    /// Routes whose count has changed.
    touched: BTreeSet<RouteKey>,
    /// A node begins or ceases to count.
    stale: bool,
    /// Routes that were refused or released since the owner asked.
    moved: BTreeSet<RouteKey>,
}

impl Tally {
    pub fn recount(&mut self) {
        self.stale = true;
    }

    fn add(&mut self, key: RouteKey, reason: Reason) {
        let (count, known) = self.counts.entry(key).or_insert((0, reason));
        *count += 1;
        *known = reason;
        self.touched.insert(key);
    }

    fn remove(&mut self, key: RouteKey) {
        if let Some((count, _)) = self.counts.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
        self.touched.insert(key);
    }
}

/// What nodes refused that have moved to another server, and until when that holds.
#[derive(Debug, Default)]
pub(super) struct MovedAway(VecDeque<(Duration, BTreeMap<RouteKey, Reason>)>);

impl MovedAway {
    pub fn push(&mut self, until: Duration, refused: BTreeMap<RouteKey, Reason>) {
        if !refused.is_empty() {
            self.0.push_back((until, refused));
            self.0.drain(..self.0.len().saturating_sub(MAX_GONE));
        }
    }

    /// When the first ends.
    pub fn next(&self) -> Option<Duration> {
        self.0.front().map(|(until, _)| *until)
    }

    /// True if some have ended.
    pub fn expire(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0.retain(|(until, _)| now < *until);
        self.0.len() != before
    }

    fn iter(&self) -> impl Iterator<Item = (RouteKey, Reason)> {
        self.0.iter().flat_map(|(_, refused)| refused).map(|(key, reason)| (*key, *reason))
    }
}

impl NodeState {
    pub(super) fn forget_refused(&mut self) {
        self.refused.clear();
        self.more = 0;
    }

    /// Takes over what it reported. More than [`LIMIT`] routes no node may name.
    pub(super) fn hear_refused(
        &mut self,
        more: u64,
        routes: &[(RouteKey, Option<Reason>)],
        tally: &mut Tally,
    ) {
        self.more = more;
        for (key, reason) in routes {
            let before = self.refused.remove(key);
            if let Some(reason) = reason.filter(|_| self.refused.len() < LIMIT) {
                self.refused.insert(*key, reason);
            }
            // Else everything is counted again.
            if self.counts() && !tally.stale {
                before.inspect(|_| tally.remove(*key));
                if let Some(reason) = self.refused.get(key) {
                    tally.add(*key, *reason);
                }
            }
        }
    }
}

impl Acknowledge {
    /// The routes that count as refused, with a reason of one of the nodes.
    pub fn refused(&self) -> &BTreeMap<RouteKey, Reason> {
        &self.tally.refused
    }

    /// Grows with each change of [`Self::refused`].
    pub fn refused_version(&self) -> u64 {
        self.tally.version
    }

    /// Routes that were refused or released since the last call.
    pub fn take_moved(&mut self) -> BTreeSet<RouteKey> {
        std::mem::take(&mut self.tally.moved)
    }

    /// Processes what nodes reported of refused routes.
    pub(super) fn judge_refused(&mut self) {
        if !self.tally.stale && self.tally.touched.is_empty() {
            return;
        }
        let tally = &mut self.tally;
        if std::mem::take(&mut tally.stale) {
            let before = std::mem::take(&mut tally.counts);
            tally.touched.extend(before.into_keys());
            let refused = tally.refused.keys().copied().collect::<Vec<_>>();
            tally.touched.extend(refused);
            for node in self.nodes.values().filter(|node| node.counts()) {
                node.refused.iter().for_each(|(key, reason)| tally.add(*key, *reason));
            }
            self.moved_away.iter().for_each(|(key, reason)| tally.add(key, reason));
        }
        let counting = self.counting().count();
        let spare = counting - self.needed(counting);
        // One that has come back may refuse more than it did: what it installed says so only once it has spoken.
        let silent = self.counting().any(|(_, node)| node.session.is_some() && !node.heard);
        let tally = &mut self.tally;
        for key in std::mem::take(&mut tally.touched) {
            let reason =
                tally.counts.get(&key).filter(|(count, _)| *count > spare).map(|(_, reason)| *reason);
            let before = tally.refused.get(&key).copied();
            match reason {
                _ if reason == before => continue,
                Some(reason) => drop(tally.refused.insert(key, reason)),
                None if silent => {
                    tally.touched.insert(key);
                    continue;
                }
                None => drop(tally.refused.remove(&key)),
            }
            tally.version += 1;
            if reason.is_some() != before.is_some() {
                tally.moved.insert(key);
            }
        }
    }
}
