//! Which batch all workers use: applied, published, and seen by each of them; and which routes of one that does not fit are refused.

use std::collections::{BTreeMap, VecDeque};

use fibcast_fib::{Change, Publisher};
use fibcast_sync_agent::sink::{Progress, Reason, RouteKey};

use super::Batch;
use super::own_routes::is_own;

/// Batches on their way to the workers.
#[derive(Debug, Default)]
pub(super) struct InUse {
    progress: Progress,
    /// The last applied batch.
    applied: u64,
    /// The last batch of a generation that was given to the publisher, until the publisher has made that visible.
    waiting: Option<u64>,
    /// Publications with the last batch in each.
    visible: VecDeque<(u64, u64)>,
    /// The batch whose routes are refused.
    refused: Option<u64>,
    /// None is refused any more when all workers use this batch.
    released_with: Option<u64>,
}

impl InUse {
    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// A batch was applied to the table.
    pub(super) fn apply(&mut self, batch: u64) {
        self.applied = batch;
    }

    /// The table has no room for a batch: its routes are refused. Of one that is tried again nothing needs to be told.
    pub(super) fn refuse(&mut self, batch: &Batch) {
        self.released_with = None;
        if self.refused.replace(batch.number) == Some(batch.number) {
            return;
        }
        let key = |change: &Change| match *change {
            Change::Announce { vrf, prefix, label } if !is_own(label) => Some((vrf.0, prefix)),
            _ => None,
        };
        let all: BTreeMap<RouteKey, Reason> =
            batch.changes.iter().filter_map(key).map(|key| (key, Reason::Limits)).collect();
        self.progress.refuse(|list| list.take(&all, 0));
    }

    /// Every batch so far has been applied: what was refused no longer is, once the workers use it.
    pub(super) fn release(&mut self) {
        if self.refused.take().is_some() {
            self.released_with = Some(self.applied);
        }
    }

    /// The last batch that was applied.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// The table goes to the publisher.
    pub(super) fn publish(&mut self) {
        self.waiting = Some(self.applied);
    }

    /// Reports what all workers have seen by now. Call it often.
    pub(super) fn follow(&mut self, publisher: &Publisher) {
        if let Some(batch) = self.waiting.filter(|_| !publisher.is_deferred()) {
            self.visible.push_back((publisher.sequence(), batch));
            self.waiting = None;
        }
        if self.visible.is_empty() {
            return;
        }
        let seen = publisher.seen();
        let mut reached = None;
        while let Some(&(_, batch)) = self.visible.front().filter(|(sequence, _)| *sequence <= seen) {
            reached = Some(batch);
            self.visible.pop_front();
        }
        if let Some(batch) = reached {
            self.progress.reach(batch);
            if self.released_with.take_if(|with| *with <= batch).is_some() {
                self.progress.refuse(|list| list.take(&BTreeMap::new(), 0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fibcast_fib::{Fib, Group, GroupLabel, Limits, Special};
    use fibcast_sync_agent::sink::Installed;

    use super::*;

    #[test]
    fn a_batch_is_in_use_once_the_slowest_worker_has_seen_its_generation() {
        let mut fib = Fib::new(Limits::default());
        let mut publisher = Publisher::new(fib.generation()).with_retired_bytes(0);
        let (mut fast, mut slow) = (publisher.register("fast"), publisher.register("slow"));
        let mut in_use = InUse::default();
        let mut installed = Installed::new(in_use.progress());
        (1..=3).for_each(|serial| {
            let batch = installed.begin();
            installed.accepted(batch, serial * 10);
        });
        let mut step = |batch: Option<u64>, publisher: &mut Publisher| {
            if let Some(batch) = batch {
                in_use.apply(batch);
                in_use.publish();
                let (label, group) = (GroupLabel(batch), Group::Special(Special::Blackhole));
                fib.apply(&[Change::PutGroup { label, group }], batch).unwrap();
                publisher.publish(fib.generation());
            }
            publisher.collect();
            in_use.follow(publisher);
            installed.serial()
        };
        fast.burst();
        slow.burst();
        assert_eq!(step(Some(1), &mut publisher), 0);
        fast.burst();
        assert_eq!(step(None, &mut publisher), 0, "the slow one is at the generation before");
        // Deferred: the slow worker holds as many generations as may be retired.
        assert_eq!(step(Some(2), &mut publisher), 0);
        fast.burst();
        slow.burst();
        assert_eq!(step(None, &mut publisher), 10, "visible now, but not seen");
        fast.burst();
        assert_eq!(step(None, &mut publisher), 10);
        // A worker that sleeps holds nothing, and uses the newest when it wakes up.
        slow.idle();
        assert_eq!(step(None, &mut publisher), 20);
    }
}
