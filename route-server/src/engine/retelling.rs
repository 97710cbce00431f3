//! A source that tells its whole table again: after a panic, or for new rules. Its routes stay meanwhile, routes that it tells as they were
//! change nothing, and those that it has not told by the end are withdrawn, a slice at each turn.

use std::collections::HashSet;

use fibcast_sync_proto::{Key, Table};
use ipnet::IpNet;

use super::{Engine, EngineError, SLICE, rib_error};
use crate::rib::commit_source;
use crate::source::RouteChange;

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The end of the table of a thread that knows nothing of what was told before.
    EndOfTable,
    /// The source's word that it has told everything that it was ordered to.
    Retold,
}

/// The routes told so far.
#[derive(Debug)]
pub(super) struct Retelling {
    until: Until,
    told: HashSet<(u32, IpNet)>,
    /// All is told, and the table was looked through up to this key.
    swept: Option<Option<Key>>,
}

impl Retelling {
    pub fn new(until: Until) -> Self {
        Self { until, told: HashSet::new(), swept: None }
    }

    /// Whether this ends it.
    pub fn waits_for(&self, until: Until) -> bool {
        self.until == until && self.swept.is_none()
    }

    /// Notes changes that were let in.
    pub fn hear(&mut self, batch: &[RouteChange]) {
        for change in batch {
            let key = (change.vrf, change.prefix);
            _ = if change.path.is_some() { self.told.insert(key) } else { self.told.remove(&key) };
        }
    }

    /// Whether a route was told.
    pub fn has(&self, vrf: u32, prefix: IpNet) -> bool {
        self.told.contains(&(vrf, prefix))
    }

    /// Number of routes told.
    pub fn routes(&self) -> u64 {
        self.told.len() as u64
    }

    /// Whether all is told, and what was not is being withdrawn.
    pub fn is_swept(&self) -> bool {
        self.swept.is_some()
    }

    /// All is told.
    pub fn ended(&mut self) {
        self.swept.get_or_insert(None);
    }

    /// Withdrawals of what was not told, among the next keys of the table. The second value is false at the end of the table.
    fn sweep(&mut self, table: &Table) -> (Vec<RouteChange>, bool) {
        let Some(after) = &mut self.swept else { return (Vec::new(), true) };
        let page = table.page(after.as_ref(), SLICE, |key| matches!(key, Key::RibRoute { .. }));
        let route = |(key, _): &(Key, _)| match key {
            Key::RibRoute { vrf, prefix, .. } => Some((*vrf, *prefix)),
            _ => None,
        };
        let gone = page.records.iter().filter_map(route).filter(|route| !self.told.contains(route));
        let gone = gone.map(|(vrf, prefix)| RouteChange { vrf, prefix, path: None }).collect();
        *after = page.next;
        (gone, after.is_some())
    }
}

impl Engine {
    /// Whether routes that were not told again are being withdrawn.
    pub(super) fn sweeps(&self) -> bool {
        self.sources.iter().any(|s| s.retelling.as_ref().is_some_and(Retelling::is_swept))
    }

    /// Withdraws a slice of what sources have not told again.
    pub(super) fn sweep_untold(&mut self) -> Result<(), EngineError> {
        let mut gone: Vec<RouteChange> = Vec::new();
        for source in &mut self.sources {
            let Some(retelling) = source.retelling.as_mut().filter(|r| r.is_swept()) else { continue };
            let (withdrawn, more) = retelling.sweep(&source.table);
            if !more {
                source.retelling = None;
            }
            source.changes += withdrawn.len() as u64;
            commit_source(&mut source.table, source.id, source.distance, &withdrawn).map_err(rib_error)?;
            gone.extend(withdrawn);
        }
        self.select(gone.into_iter().map(|change| (change.vrf, change.prefix)))
    }
}
