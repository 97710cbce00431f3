//! The agent's sink: translates batches of records and passes them to the control thread.

use fibcast_fib::{Change, GroupLabel, PortId, VrfId};
use fibcast_sync_agent::agent::{Sink, SinkError, TablePart};
use fibcast_sync_agent::fib_changes::translate;
use fibcast_sync_agent::sink::{Installed, Refusals, Wake};
use fibcast_sync_proto::{ChangeRef, Key};

use super::Batch;
use super::refused::RefusedRoutes;
use super::scrub::{self, Place};
use super::thread::ControlHandle;
use crate::agent_guard::FencingToken;

/// Passes the agent's batches to the control thread. While that is busy, the agent is asked to retry later with one batch of everything
/// since the last accepted one. So memory here is bounded, and a slow sink gets the net of many commits.
#[derive(Debug)]
pub struct ControlSink {
    control: ControlHandle,
    ports: Vec<String>,
    replaces: bool,
    token: Option<FencingToken>,
    installed: Installed,
    refused: RefusedRoutes,
}

impl ControlSink {
    /// `ports` are the port names by port index.
    pub fn new(control: ControlHandle, ports: Vec<String>) -> ControlSink {
        let installed = Installed::new(control.in_use().clone());
        let refused = RefusedRoutes::default();
        ControlSink { control, ports, replaces: false, token: None, installed, refused }
    }

    /// The sink of one in a sequence of agents: it passes nothing on once its token is void, and its first batch holds the whole table.
    pub fn fenced(control: ControlHandle, ports: Vec<String>, token: FencingToken) -> ControlSink {
        ControlSink { replaces: true, token: Some(token), ..ControlSink::new(control, ports) }
    }
}

impl Sink for ControlSink {
    fn apply(&mut self, batch: &fibcast_sync_proto::Batch<'_>) -> Result<(), SinkError> {
        // Checked first: the agent's thread is the only sender, so there is room until it has sent.
        if self.control.is_full() {
            return Err(SinkError::Busy);
        }
        let (serial, number) = (batch.serial(), self.installed.begin());
        let mut refused = std::mem::take(&mut self.refused);
        refused.begin(self.replaces, serial);
        let mut changes = Vec::new();
        for change in batch.changes() {
            let mut problem = None;
            let translated = translate(change, &|name| self.port(name), &mut |error| {
                tracing::warn!("{error}; its routes use their other next hops, or become unreachable");
                problem = Some(error);
            });
            refused.note(change, translated.as_ref(), problem.as_ref(), serial);
            changes.extend(translated);
        }
        refused.end(batch.table());
        self.refused = refused;
        let batch = Batch { changes, serial, number, replaces: self.replaces };
        let given = match &self.token {
            Some(token) => token
                .within(|| self.control.push(batch))
                .ok_or_else(|| SinkError::Failed("another agent has taken over".to_owned()))?,
            None => self.control.push(batch),
        };
        if !given {
            return Err(SinkError::Failed("the control thread has ended".to_owned()));
        }
        self.installed.accepted(number, serial);
        self.replaces = false;
        Ok(())
    }

    fn reset(&mut self) {
        self.replaces = true;
        self.installed.forget();
    }

    fn installed(&self) -> Option<u64> {
        Some(self.installed.serial())
    }

    fn refusals(&mut self, known: u64) -> Option<Refusals> {
        self.refused.list(&self.installed, known)
    }

    fn on_installed(&mut self, wake: Wake) {
        self.installed.on_change(wake);
    }

    fn can_compare(&self) -> bool {
        true
    }

    fn compare(&mut self, part: &TablePart) -> Result<(), SinkError> {
        if self.control.is_full() || self.replaces {
            return Err(SinkError::Busy);
        }
        let place = |key: &Key| match key {
            Key::Group(label) => Place::Group(GroupLabel(label.0)),
            Key::Route { vrf, prefix } => Place::Route(VrfId(*vrf), *prefix),
            _ => Place::End,
        };
        let (mut groups, mut routes) = (Vec::new(), Vec::new());
        for (key, value) in &part.records {
            let port = |name: &str| self.port(name);
            // Problems were reported with the batch.
            let change = ChangeRef::put(key, value).and_then(|change| translate(change, &port, &mut |_| ()));
            match change {
                Some(Change::PutGroup { label, group }) => groups.push((label, group)),
                Some(Change::Announce { vrf, prefix, label }) => routes.push((vrf, prefix, label)),
                _ => {}
            }
        }
        let part = scrub::TablePart {
            after: part.after.as_ref().map_or(Place::Start, place),
            until: part.until.as_ref().map_or(Place::End, place),
            groups,
            routes,
        };
        let given = match &self.token {
            Some(token) => token.within(|| self.control.compare(part)).unwrap_or(false),
            None => self.control.compare(part),
        };
        if given { Ok(()) } else { Err(SinkError::Failed("the control thread has ended".to_owned())) }
    }
}

impl ControlSink {
    fn port(&self, name: &str) -> Option<PortId> {
        self.ports.iter().position(|port| port == name).map(|port_index| PortId(port_index as u16))
    }
}
