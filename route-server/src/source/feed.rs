//! Hands a live source's changes to the RIB without ever waiting for it.

use std::time::{Duration, Instant};

use super::outlet::{Event, Outlet, Report, RouteChange, Stopped};

/// Distance of reports.
const REPORT: Duration = Duration::from_millis(500);
/// Events handed over in one go, between two looks at the socket.
const EVENTS: usize = 16;

/// The outlet of a source that must not wait: what the channel has no room for is kept, and nothing new is made meanwhile.
pub struct Feed<'a> {
    outlet: &'a Outlet,
    waiting: Option<Event>,
    end_of_table: bool,
    busy: bool,
    reported: Report,
    report_at: Option<Instant>,
}

impl<'a> Feed<'a> {
    /// Nothing waits.
    pub fn new(outlet: &'a Outlet) -> Self {
        Self {
            outlet,
            waiting: None,
            end_of_table: false,
            busy: false,
            reported: Report::default(),
            report_at: None,
        }
    }

    /// There is more to hand over; pump again soon.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The end of the table follows the changes that are there now.
    pub fn end_of_table(&mut self) {
        self.end_of_table = true;
    }

    /// Hands over what `changes` gives, until that is empty or the channel is full.
    pub fn pump(&mut self, mut changes: impl FnMut() -> Vec<RouteChange>) -> Result<(), Stopped> {
        self.busy = true;
        for _ in 0..EVENTS {
            let event = match self.waiting.take() {
                Some(event) => event,
                None => match changes() {
                    batch if !batch.is_empty() => Event::Batch(batch),
                    _ if std::mem::take(&mut self.end_of_table) => Event::EndOfTable,
                    _ => {
                        self.busy = false;
                        return Ok(());
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

    /// Reports now and then, if there is something new.
    pub fn report(
        &mut self,
        now: Instant,
        state: &'static str,
        last_error: &Option<String>,
        counters: impl FnOnce() -> Vec<(&'static str, u64)>,
    ) -> Result<(), Stopped> {
        if self.outlet.stopped() {
            return Err(Stopped);
        }
        let changed = state != self.reported.state;
        if !changed && self.report_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.report_at = Some(now + REPORT);
        let report = Report { state, last_error: last_error.clone(), counters: counters() };
        if report != self.reported && self.outlet.try_send(Event::Report(report.clone()))?.is_none() {
            self.reported = report;
        }
        Ok(())
    }
}
