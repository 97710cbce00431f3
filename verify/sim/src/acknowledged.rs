//! What nodes acknowledge: a serial only once every node that counts forwards by it. Checked by content, not by serials.
//! And what they announce: no route that such a node refuses.

use std::collections::BTreeSet;

use fibcast_route_server::engine::Engine;
use fibcast_sync_proto::acknowledge::{Acknowledge, NodeState, Standing};
use fibcast_sync_proto::refusal::RouteKey;
use fibcast_sync_proto::{Change, Key, OriginId, Table};

use crate::agent::Agent;
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
            let Some((client, agent)) = self.counting(n, state) else { continue };
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
                // Of routes that it refuses the server knows that it does.
                let refused = route_key(&key).is_some_and(|key| machine.refused().contains_key(&key));
                if !refused && agent.sink.forwards(&key) != Some(&value) {
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

    /// The agent behind a node that counts, if what it says can be taken at its word.
    fn counting(&self, n: usize, state: &NodeState) -> Option<(usize, &Agent)> {
        let session = state.session().filter(|_| state.standing == Standing::Counts)?;
        // A node that has left since, or whose sink was damaged by a fault, says nothing of what it reported before.
        let connection = self.connections.values().find(|c| c.server == n && c.session == Some(session));
        let connection = connection.filter(|c| !c.void)?;
        let client = connection.client;
        let agent = self.nodes.get(client).and_then(|node| node.running.as_ref())?;
        // It has moved, and this server does not know yet.
        let active = agent.client(0).and_then(|client| client.active());
        if active.and_then(|link| self.nodes.get(client)?.server_of(0, link)) != Some(n) {
            return None;
        }
        let agent = agent.role().agent().filter(|agent| !agent.sink.damaged)?;
        // It has taken back its report, which is on its way.
        (!(agent.core.is_expired() && connection.up.due().is_some())).then_some((client, agent))
    }

    /// Checks what a route server tells its sources: no route is installed that a node refuses which claims to have installed it.
    pub(crate) fn check_announced(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        let Kind::RouteServer(rs) = running.role_mut() else { return Ok(()) };
        let mut announced = Vec::new();
        for thread in 0..self.model.protocols.len() {
            while let Some(told) = rs.engine.poll_acknowledged(thread) {
                let routes = told.routes.iter().filter(|route| !route.failed);
                announced.extend(routes.map(|route| Key::Route { vrf: route.vrf, prefix: route.prefix }));
            }
        }
        let engine = &rs.engine;
        for key in announced.iter().filter(|key| engine.fib().get(key).is_some()) {
            if let Some(who) = self.refuser(n, engine.hosts(), engine.fib(), key) {
                let text = format!("{} announces {key:?}, which {who} refuses", self.name(n));
                return Err(Violation::new(Rule::RefusedIsNotAnnounced, text));
            }
        }
        Ok(())
    }

    /// A node that counts, claims to have installed a route, and refused it when it got it.
    fn refuser(&self, n: usize, machine: &Acknowledge, table: &Table, key: &Key) -> Option<&str> {
        let at = table.changed_at(key).filter(|at| *at <= machine.acknowledged())?;
        machine.nodes().filter(|(_, state)| state.installed.is_some_and(|to| to >= at)).find_map(
            |(_, state)| {
                let (client, agent) = self.counting(n, state)?;
                if agent.sink.refused.get(key) == Some(&true) {
                    return Some(self.name(client));
                }
                self.refuser(client, agent.core.acknowledge()?, agent.core.table(), key)
            },
        )
    }

    /// At rest a server, or a relay that waits for its clients, knows what those that count refuse, for themselves and those below, and no more.
    fn knows_refused(&self, n: usize, machine: &Acknowledge) -> Result<(), Violation> {
        let mut expected = BTreeSet::new();
        for (_, agent) in machine.nodes().filter_map(|(_, state)| self.counting(n, state)) {
            expected.extend(agent.sink.refused.keys().filter_map(route_key));
            expected.extend(agent.core.acknowledge().into_iter().flat_map(|below| below.refused().keys()));
        }
        self.same_refused(n, "its clients refuse", machine.refused().keys(), &expected)
    }

    fn same_refused<'k>(
        &self,
        n: usize,
        what: &str,
        found: impl Iterator<Item = &'k RouteKey>,
        expected: &BTreeSet<RouteKey>,
    ) -> Result<(), Violation> {
        let found: BTreeSet<RouteKey> = found.copied().collect();
        if found == *expected {
            return Ok(());
        }
        let example = found.symmetric_difference(expected).next();
        let text = format!(
            "{} knows {} refused routes at rest, where {what} {}; for example {example:?}",
            self.name(n),
            found.len(),
            expected.len()
        );
        Err(Violation::new(Rule::RestIsAcknowledged, text))
    }

    /// With all route servers up, the one with a protocol knows what hosts refuse at any of them.
    fn knows_refused_elsewhere(&self, n: usize, engine: &Engine) -> Result<(), Violation> {
        let mut expected: BTreeSet<RouteKey> = engine.hosts().refused().keys().copied().collect();
        for node in self.nodes.iter().filter(|node| node.tier == 1 && node.name != self.name(n)) {
            let Some(Kind::RouteServer(other)) = node.running.as_ref().map(Running::role) else {
                return Ok(());
            };
            expected.extend(other.engine.hosts().refused().keys());
        }
        let own = self.model.protocols.iter().filter(|p| p.home == n);
        for id in own.map(|p| OriginId::instance(self.name(n), &p.name)) {
            let found = engine.refused_of(id).into_iter().flat_map(|list| list.iter().map(|(key, _)| key));
            self.same_refused(n, "hosts of all servers refuse", found, &expected)?;
        }
        Ok(())
    }

    /// At rest a route server has acknowledged everything, to its own sources and to other servers.
    pub(crate) fn all_acknowledged(&self, n: usize, running: &Running) -> Result<(), Violation> {
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
                self.knows_refused(n, engine.hosts())?;
                self.knows_refused_elsewhere(n, engine)?;
                ("a route server", engine.hosts().acknowledged(), engine.fib().serial())
            }
            Kind::Agent(agent) => match agent.core.acknowledge() {
                Some(machine) => {
                    self.knows_refused(n, machine)?;
                    ("a relay", machine.acknowledged(), agent.core.table().serial())
                }
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

fn route_key(key: &Key) -> Option<RouteKey> {
    match key {
        Key::Route { vrf, prefix } => Some((*vrf, *prefix)),
        _ => None,
    }
}
