//! Compares the sink with the table, part by part: an equal digest says nothing about what forwards.

use std::time::Duration;

use fibcast_sync_proto::Key;
use fibcast_sync_proto::agent::AgentCore;

use crate::sink::{Sink, TablePart};

/// Records of a part.
const RECORDS: usize = 256;
/// Shortest interval between two parts.
const SHORTEST: Duration = Duration::from_millis(1);
/// Pause before a busy sink gets the part again.
const BUSY: Duration = Duration::from_millis(20);

/// Progress through the table.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// Time for a pass; none: off.
    pass: Option<Duration>,
    /// The last record compared.
    after: Option<Key>,
    due: Duration,
}

impl Scrub {
    pub fn every(&mut self, pass: Option<Duration>) {
        self.pass = pass;
    }

    /// Passes a due part to the sink; returns the time of the next one.
    pub fn turn(&mut self, now: Duration, agent: &AgentCore, sink: &mut dyn Sink) -> Option<Duration> {
        let pass = self.pass?;
        if now < self.due {
            return Some(self.due);
        }
        let table = agent.table();
        // An expired table is not what the sink has, and one that lacks changes would give false alarms.
        if agent.is_expired() || !agent.is_delivered() || table.serial() == 0 {
            self.due = now + BUSY;
            return Some(self.due);
        }
        let pass_on = |key: &Key| matches!(key, Key::Group(_) | Key::Route { .. });
        let page = table.page(self.after.as_ref(), RECORDS, pass_on);
        let part = TablePart { after: self.after.take(), until: page.next, records: page.records };
        self.due = match sink.compare(&part) {
            Ok(()) => {
                self.after = part.until;
                let parts = u32::try_from(table.len() / RECORDS as u64 + 1).unwrap_or(u32::MAX);
                now + (pass / parts).max(SHORTEST)
            }
            Err(_) => {
                self.after = part.after;
                now + BUSY
            }
        };
        Some(self.due)
    }
}
