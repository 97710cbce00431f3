//! The agent's sink: batches of records, put into the trie's words, on their way to the control thread.

use fibcast_fib::PortId;
use fibcast_sync_agent::agent::{Sink, SinkError};
use fibcast_sync_agent::fib_changes::translate;

use super::Batch;
use super::thread::ControlHandle;
use crate::agent_guard::Term;

/// Gives the agent's batches to the control thread. While that is behind, the agent is told to come again later, with one batch that
/// covers all since the last it gave: so what waits here is bounded, and a laggard gets the net of many commits.
#[derive(Debug)]
pub struct ControlSink {
    control: ControlHandle,
    ports: Vec<String>,
    replaces: bool,
    term: Option<Term>,
}

impl ControlSink {
    /// `ports` are the names of the ports by place.
    pub fn new(control: ControlHandle, ports: Vec<String>) -> ControlSink {
        ControlSink { control, ports, replaces: false, term: None }
    }

    /// The same for one of several agents that follow each other: it gives nothing when its term is over, and its first batch holds the
    /// whole table.
    pub fn of_term(control: ControlHandle, ports: Vec<String>, term: Term) -> ControlSink {
        ControlSink { control, ports, replaces: true, term: Some(term) }
    }
}

impl Sink for ControlSink {
    fn apply(&mut self, batch: &fibcast_sync_proto::Batch<'_>) -> Result<(), SinkError> {
        // Looked at first: the agent's thread is the only one that gives batches, so there is room until it has.
        if self.control.is_full() {
            return Err(SinkError::Busy);
        }
        let port =
            |name: &str| self.ports.iter().position(|port| port == name).map(|place| PortId(place as u16));
        let mut report = |problem| tracing::warn!("{problem}; its routes say unreachable");
        let changes = batch.changes().filter_map(|change| translate(&change, &port, &mut report)).collect();
        let batch = Batch { changes, serial: batch.commit().serial, replaces: self.replaces };
        let given = match &self.term {
            Some(term) => term
                .within(|| self.control.push(batch))
                .ok_or_else(|| SinkError::Failed("another agent has taken over".to_owned()))?,
            None => self.control.push(batch),
        };
        if !given {
            return Err(SinkError::Failed("the control thread has ended".to_owned()));
        }
        self.replaces = false;
        Ok(())
    }

    fn reset(&mut self) {
        self.replaces = true;
    }
}
