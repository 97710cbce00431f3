//! What nodes acknowledge: a serial only once every node that counts forwards by it. Checked by content, not by serials.

use fibcast_sync_proto::acknowledge::{Acknowledge, Standing};
use fibcast_sync_proto::{Change, Table};

use crate::invariants::{Rule, Violation};
use crate::network::Network;
use crate::node::{Kind, Running};

impl Network {
    /// Checks what a node has acknowledged since the last check: each record that it names must be in the sinks of the nodes that count there,
    /// and in what relays among them have acknowledged.
    pub(crate) fn check_acknowledged(&mut self, n: usize, running: &Running) -> Result<(), Violation> {
        let (machine, table): (&Acknowledge, &Table) = match running.role() {
            Kind::RouteServer(rs) => (rs.engine.hosts(), rs.engine.fib()),
            Kind::Agent(agent) => match agent.core.acknowledge() {
                Some(machine) => (machine, agent.core.table()),
                None => return Ok(()),
            },
        };
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        let (low, high) = (node.acknowledged, machine.acknowledged());
        if high > table.serial() {
            let text = format!("{} acknowledges serial {high} of a table at {}", node.name, table.serial());
            return Err(Violation::new(Rule::AcknowledgedIsInstalled, text));
        }
        for (name, state) in machine.nodes().filter(|_| low < high) {
            let Some(session) = state.session().filter(|_| state.standing == Standing::Counts) else {
                continue;
            };
            // A node that has left since, or whose sink was damaged by a fault, says nothing of what it reported before.
            let connection = self.connections.values().find(|c| c.server == n && c.session == Some(session));
            let Some(connection) = connection.filter(|c| !c.void) else { continue };
            let client = connection.client;
            let Some(agent) = self.nodes.get(client).and_then(|node| node.running.as_ref()) else { continue };
            // It has moved, and this server does not know yet.
            let active = agent.client(0).and_then(|client| client.active());
            if active.and_then(|link| self.nodes.get(client)?.server_of(0, link)) != Some(n) {
                continue;
            }
            let Some(agent) = agent.role().agent().filter(|agent| !agent.sink.damaged) else { continue };
            // It has taken back its report, which is on its way.
            if agent.core.is_expired() && connection.up.due().is_some() {
                continue;
            }
            for (serial, change) in table.routes_between(low, high) {
                let Change::Put(key, value) = Change::from(change) else { continue };
                if !self.nodes.get(client).is_some_and(|node| node.subset.admits(&key)) {
                    continue;
                }
                let lacks = |what: &str| {
                    let text = format!(
                        "{} acknowledges serial {high}, with {key:?} of serial {serial}, which {name} {what}",
                        self.name(n)
                    );
                    Err(Violation::new(Rule::AcknowledgedIsInstalled, text))
                };
                if agent.sink.forwards(&key) != Some(&value) {
                    return lacks("does not forward by");
                }
                let relayed = agent.core.acknowledge().zip(agent.core.table().changed_at(&key));
                if relayed.is_some_and(|(below, at)| at > below.acknowledged()) {
                    return lacks("waits to see installed below it");
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(n) {
            node.acknowledged = high;
        }
        Ok(())
    }

    /// At rest a route server has acknowledged everything, to its own sources and to other servers.
    pub(crate) fn all_acknowledged(&self, running: &Running) -> Result<(), Violation> {
        let (name, acknowledged, serial) = match running.role() {
            Kind::RouteServer(rs) => {
                let engine = &rs.engine;
                let behind =
                    engine.rib_tables().find(|(id, table)| engine.installed_of(*id) < table.serial());
                if let Some((id, table)) = behind {
                    let text = format!(
                        "origin {id} is at serial {} and acknowledged up to {}",
                        table.serial(),
                        engine.installed_of(id)
                    );
                    return Err(Violation::new(Rule::RestIsAcknowledged, text));
                }
                ("a route server", engine.hosts().acknowledged(), engine.fib().serial())
            }
            Kind::Agent(agent) => match agent.core.acknowledge() {
                Some(machine) => ("a relay", machine.acknowledged(), agent.core.table().serial()),
                None => return Ok(()),
            },
        };
        if acknowledged == serial {
            return Ok(());
        }
        let text = format!("{name} is at serial {serial} and has acknowledged {acknowledged}");
        Err(Violation::new(Rule::RestIsAcknowledged, text))
    }
}
