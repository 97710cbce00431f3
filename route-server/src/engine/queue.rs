//! Prefixes that need a new best path selection, in slices.

use std::collections::VecDeque;
use std::time::Duration;

use fibcast_sync_proto::{Key, OriginId, Table};
use ipnet::IpNet;

/// A piece of work.
#[derive(Debug)]
pub(super) enum Work {
    /// These prefixes.
    List(std::vec::IntoIter<(u32, IpNet)>),
    /// All prefixes of an origin.
    Sweep {
        /// The origin.
        of: OriginId,
        /// The last prefix processed.
        after: Option<Key>,
        /// Not before this time.
        from: Duration,
    },
}

impl Work {
    pub(super) fn sweep(of: OriginId, from: Duration) -> Self {
        Work::Sweep { of, after: None, from }
    }
}

/// Work in order of arrival; sweeps that are not due are skipped.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Work>);

impl Queue {
    pub(super) fn push(&mut self, work: Work) {
        self.0.push_back(work);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn due(&self, now: Duration) -> Option<usize> {
        self.0.iter().position(|work| match work {
            Work::List(_) => true,
            Work::Sweep { from, .. } => *from <= now,
        })
    }

    /// Whether any work is due.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due(now).is_some()
    }

    /// When the first sweep is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let from = |work: &Work| match work {
            Work::List(_) => None,
            Work::Sweep { from, .. } => Some(*from),
        };
        self.0.iter().filter_map(from).min()
    }

    /// Whether the sweep over an origin's routes is unfinished.
    pub(super) fn is_sweeping(&self, id: OriginId) -> bool {
        self.0.iter().any(|work| matches!(work, Work::Sweep { of, .. } if *of == id))
    }

    /// Cancels the sweep over an origin's routes: a new one begins.
    pub(super) fn forget_sweep(&mut self, id: OriginId) {
        self.0.retain(|work| !matches!(work, Work::Sweep { of, .. } if *of == id));
    }

    /// Takes up to `limit` prefixes from the first due work item.
    pub(super) fn slice<'t>(
        &mut self,
        limit: usize,
        table: impl Fn(OriginId) -> Option<&'t Table>,
        now: Duration,
    ) -> Option<Vec<(u32, IpNet)>> {
        let at = self.due(now)?;
        let (prefixes, done) = match self.0.get_mut(at)? {
            Work::List(rest) => {
                let prefixes: Vec<_> = rest.by_ref().take(limit).collect();
                (prefixes, rest.len() == 0)
            }
            Work::Sweep { of, after, .. } => match table(*of) {
                Some(table) => {
                    let page = table.page(after.as_ref(), limit, |key| matches!(key, Key::RibRoute { .. }));
                    let prefix = |key: &Key| match key {
                        Key::RibRoute { vrf, prefix, .. } => Some((*vrf, *prefix)),
                        _ => None,
                    };
                    let prefixes = page.records.iter().filter_map(|(key, _)| prefix(key)).collect();
                    *after = page.next;
                    (prefixes, after.is_none())
                }
                None => (Vec::new(), true),
            },
        };
        if done {
            self.0.remove(at);
        }
        Some(prefixes)
    }
}
