//! A source that announces its whole table again, after a panic or for new rules: the idea of Enhanced Route Refresh (RFC 7313). Its routes
//! stay meanwhile, routes that it announces as they were change nothing, and those that it has not announced by the end are withdrawn, a
//! slice at each turn.

use std::collections::HashSet;

use fibcast_sync_proto::{Key, Table};
use ipnet::IpNet;

use super::{Engine, EngineError, SLICE, rib_error};
use crate::rib::commit_source;
use crate::source::RouteChange;

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The end of the table of a thread that does not know what was announced before it started.
    EndOfTable,
    /// The source's report that it has announced everything that it was asked for.
    Refreshed,
}

/// The routes announced so far.
#[derive(Debug)]
pub(super) struct Refresh {
    until: Until,
    announced: HashSet<(u32, IpNet)>,
    /// All is announced, and the table is swept up to this key.
    swept: Option<Option<Key>>,
}

impl Refresh {
    pub fn new(until: Until) -> Self {
        Self { until, announced: HashSet::new(), swept: None }
    }

    /// Whether this ends it.
    pub fn waits_for(&self, until: Until) -> bool {
        self.until == until && self.swept.is_none()
    }

    /// Notes changes that were let in.
    pub fn note(&mut self, batch: &[RouteChange]) {
        for change in batch {
            let key = (change.vrf, change.prefix);
            _ = if change.path.is_some() { self.announced.insert(key) } else { self.announced.remove(&key) };
        }
    }

    /// Whether a route was announced.
    pub fn has(&self, vrf: u32, prefix: IpNet) -> bool {
        self.announced.contains(&(vrf, prefix))
    }

    /// Number of routes announced.
    pub fn routes(&self) -> u64 {
        self.announced.len() as u64
    }

    /// Whether all is announced, and the rest is being withdrawn.
    pub fn is_sweeping(&self) -> bool {
        self.swept.is_some()
    }

    /// All is announced.
    pub fn end(&mut self) {
        self.swept.get_or_insert(None);
    }

    /// Withdrawals of what was not announced, among the next keys of the table. The second value is false at the end of the table.
    fn sweep(&mut self, table: &Table) -> (Vec<RouteChange>, bool) {
        let Some(after) = &mut self.swept else { return (Vec::new(), true) };
        let page = table.page(after.as_ref(), SLICE, |key| matches!(key, Key::RibRoute { .. }));
        let route = |(key, _): &(Key, _)| match key {
            Key::RibRoute { vrf, prefix, .. } => Some((*vrf, *prefix)),
            _ => None,
        };
        let gone = page.records.iter().filter_map(route).filter(|route| !self.announced.contains(route));
        let gone = gone.map(|(vrf, prefix)| RouteChange { vrf, prefix, path: None }).collect();
        *after = page.next;
        (gone, after.is_some())
    }
}

impl Engine {
    /// Whether routes that were not announced again are being withdrawn.
    pub(super) fn sweeps(&self) -> bool {
        self.sources.iter().any(|s| s.refresh.as_ref().is_some_and(Refresh::is_sweeping))
    }

    /// Withdraws a slice of what sources have not announced again.
    pub(super) fn withdraw_unrefreshed(&mut self) -> Result<(), EngineError> {
        let mut gone: Vec<RouteChange> = Vec::new();
        for source in &mut self.sources {
            let Some(refresh) = source.refresh.as_mut().filter(|r| r.is_sweeping()) else { continue };
            let (withdrawn, more) = refresh.sweep(&source.table);
            if !more {
                source.refresh = None;
            }
            source.changes += withdrawn.len() as u64;
            commit_source(&mut source.table, source.id, source.distance, &withdrawn).map_err(rib_error)?;
            gone.extend(withdrawn);
        }
        self.select(gone.into_iter().map(|change| (change.vrf, change.prefix)))
    }
}
