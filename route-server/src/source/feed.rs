//! Passes a live source's changes to the RIB without ever waiting for it.

use std::time::{Duration, Instant};

use super::outlet::{Event, Outlet, Report, RouteChange, Stopped};

/// Interval of reports.
const REPORT: Duration = Duration::from_millis(500);
/// Most events in a row between two reads of the socket.
const EVENTS: usize = 16;

/// The outlet of a source that must not wait: what the channel has no room for is kept, and nothing new is produced meanwhile.
pub struct Feed<'a> {
    outlet: &'a Outlet,
    waiting: Option<Event>,
    /// The event that follows the current changes.
    then: Option<Event>,
    /// The whole table is among the current changes, and whether it is its sender's whole one.
    refreshed: Option<bool>,
    busy: bool,
    reported: Report,
    report_at: Option<Instant>,
}

impl<'a> Feed<'a> {
    /// An empty feed.
    pub fn new(outlet: &'a Outlet) -> Self {
        Self {
            outlet,
            waiting: None,
            then: None,
            refreshed: None,
            busy: false,
            reported: Report::default(),
            report_at: None,
        }
    }

    /// Whether there is more to send; pump again soon.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Marks the end of the table after the current changes.
    pub fn end_of_table(&mut self) {
        self.then = Some(Event::EndOfTable);
    }

    /// Tells after the current changes that no more routes come.
    pub fn quiet(&mut self) {
        self.then.get_or_insert(Event::Quiet);
    }

    /// Marks the end of a table that is announced again after the current changes.
    pub fn refreshed(&mut self, complete: bool) {
        self.refreshed = Some(complete);
    }

    /// Sends what `changes` returns, until that is empty or the channel is full.
    ///
    /// # Errors
    /// [`Stopped`] if the owner of the RIB is gone.
    pub fn pump(&mut self, mut changes: impl FnMut() -> Vec<RouteChange>) -> Result<(), Stopped> {
        self.busy = true;
        for _ in 0..EVENTS {
            let event = match self.waiting.take() {
                Some(event) => event,
                None => match changes() {
                    batch if !batch.is_empty() => Event::Batch(batch),
                    _ => {
                        let refreshed = self.refreshed.take().map(|complete| Event::Refreshed { complete });
                        let Some(event) = refreshed.or_else(|| self.then.take()) else {
                            self.busy = false;
                            return Ok(());
                        };
                        event
                    }
                },
            };
            if let Some(event) = self.outlet.try_send(event)? {
                self.waiting = Some(event);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends a report from time to time, if anything has changed.
    pub fn report(
        &mut self,
        now: Instant,
        report: impl FnOnce() -> Report,
        state: &'static str,
    ) -> Result<(), Stopped> {
        if self.outlet.stopped() {
            return Err(Stopped);
        }
        let changed = state != self.reported.state;
        if !changed && self.report_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.report_at = Some(now + REPORT);
        let report = report();
        if report != self.reported && self.outlet.try_send(Event::Report(report.clone()))?.is_none() {
            self.reported = report;
        }
        Ok(())
    }
}
