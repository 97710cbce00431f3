//! New rules for the sources of this server, all at once.

use std::time::Duration;

use fibcast_sync_proto::ages::Ages;

use super::liveness::Liveness;
use super::refresh::{Refresh, Until};
use super::{Engine, EngineError, Reported, Source, rib_error};
use crate::filter::{Filter, Gate};

/// The thread of a source that is removed.
const NO_THREAD: usize = usize::MAX;

/// The rules of one source.
#[derive(Debug)]
pub struct SourceRules {
    /// Name of the protocol instance. A new one is added; all others of the engine's stay as they are.
    pub origin: String,
    /// Kind of the source.
    pub kind: &'static str,
    /// Administrative distance.
    pub distance: u8,
    /// What is let in.
    pub(crate) filter: Filter,
    /// Number of the thread whose events count from now on.
    pub thread: usize,
    /// It announces its whole table again, until this; none: nothing changes for its routes.
    pub again: Option<Until>,
}

impl Engine {
    /// Puts rules in force, and removes the sources of the origins `gone`. What a source does not announce again is withdrawn at the end of its table;
    /// of one that is removed, everything.
    ///
    /// # Errors
    /// The catalog refuses a new origin.
    pub fn reload(
        &mut self,
        now: Duration,
        rules: Vec<SourceRules>,
        gone: &[String],
    ) -> Result<(), EngineError> {
        for source in self.sources.iter_mut().filter(|source| gone.contains(&source.name)) {
            source.removed = Some(now);
            (source.thread, source.whole) = (NO_THREAD, true);
            source.refresh.insert(Refresh::new(Until::EndOfTable)).end();
            self.origins.remove(source.id).map_err(rib_error)?;
        }
        for rules in rules {
            match self.sources.iter_mut().find(|source| source.name == rules.origin) {
                Some(source) => {
                    if source.removed.take().is_some() {
                        (source.whole, source.end_of_table) = (false, false);
                        self.origins.add(now, &source.name, self.lease).map_err(rib_error)?;
                    }
                    source.follow(rules);
                }
                None => self.add_source(now, rules)?,
            }
        }
        Ok(())
    }

    /// Forgets removed sources when the other servers have done so. Until then their tables are served, without routes.
    pub(super) fn forget_removed(&mut self, now: Duration) {
        let after = self.lease + self.hold;
        let over = |source: &Source| source.removed.is_some_and(|since| now >= since + after);
        self.sources.retain(|source| !over(source) || !source.table.is_empty());
    }

    /// Whether the events of the thread with this number count.
    pub fn follows(&self, thread: usize) -> bool {
        self.sources.iter().any(|source| source.thread == thread)
    }

    /// Adds a source, whose table is empty and not complete.
    pub(super) fn add_source(&mut self, now: Duration, rules: SourceRules) -> Result<(), EngineError> {
        let id = self.origins.add(now, &rules.origin, self.lease).map_err(rib_error)?;
        let table = self.new_table();
        self.sources.push(Source {
            id,
            thread: rules.thread,
            name: rules.origin,
            kind: rules.kind,
            distance: rules.distance,
            table,
            ages: Ages::default(),
            gate: Gate::new(rules.filter),
            changes: 0,
            end_of_table: false,
            whole: false,
            finished: false,
            error: None,
            report: None,
            reported: Reported::default(),
            refresh: None,
            removed: None,
            liveness: Liveness::default(),
        });
        Ok(())
    }
}

impl Source {
    fn follow(&mut self, rules: SourceRules) {
        self.distance = rules.distance;
        let replaced = std::mem::replace(&mut self.thread, rules.thread) != rules.thread;
        if replaced {
            (self.finished, self.report) = (false, None);
        }
        if let Some(until) = rules.again {
            // One that the limit stopped is heard again, and so is one that failed and has a new thread.
            self.error = None;
            self.gate.follow(rules.filter);
            // One that has just restarted after a panic knows its whole table at the end of that only.
            let restarted = self.refresh.as_ref().is_some_and(|r| r.waits_for(Until::EndOfTable));
            self.refresh = Some(Refresh::new(if restarted { Until::EndOfTable } else { until }));
        }
    }
}
