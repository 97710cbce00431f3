//! A node's turn after any input: it advances and its outputs are executed; with all checks.

use std::time::Duration;

use fibcast_sync_proto::client::ClientEvent;
use fibcast_sync_proto::node::{NodeRole, Output};
use fibcast_sync_proto::origins::{CATALOG, table_name};
use fibcast_sync_proto::server::ServerEvent;
use fibcast_sync_proto::wire::ProtocolError;

use crate::invariants::{Rule, Violation, sound};
use crate::network::Network;
use crate::node::{ClientLog, Kind, Running};
use crate::route_server::SourceEvent;
use crate::transport::{CLOSED, REFUSED, RESET};

/// A node that is not healthy again within this time after a fault may be dropped for silence.
const AFTERMATH: Duration = Duration::from_secs(16);

impl Network {
    /// Executes the consequences of a node's input.
    pub(crate) fn turn(&mut self, n: usize) -> Result<(), Violation> {
        let Some(mut running) = self.nodes.get_mut(n).and_then(|node| node.running.take()) else {
            return Ok(());
        };
        let result = self.turn_running(n, &mut running);
        if let Some(node) = self.nodes.get_mut(n) {
            node.running = Some(running);
        }
        result
    }

    fn turn_running(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        self.do_outputs(n, running)?;
        let now = self.now;
        let Some(local) = self.nodes.get(n).map(|node| node.local(now)) else { return Ok(()) };
        running.advance(local);
        self.do_outputs(n, running)?;
        self.observe(n, running)?;
        self.check_node(n, running)?;
        self.check_acknowledged(n, running)?;
        self.check_announced(n, running)?;
        self.server_events(n, running)?;
        self.flush_running(n, running)?;
        self.schedule(n, running);
        Ok(())
    }

    /// Executes a node's requests, and checks its clients' events.
    fn do_outputs(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        while let Some(output) = running.poll_output() {
            match output {
                Output::Opened(slot) => self.renew_client(n, slot, running),
                Output::Connect { client, link, .. } => self.connect(n, client, link),
                Output::Disconnect { client, link } => self.hang_up(n, client, link),
                Output::Event(slot, event) => {
                    self.client_event(n, slot, &event, running)?;
                    if matches!(event, ClientEvent::Committed(_)) {
                        self.deliver(n, running)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Delivers new data to an agent's sink.
    fn deliver(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        let Kind::Agent(agent) = running.role_mut() else { return Ok(()) };
        agent
            .deliver(now, node.local(now))
            .map_err(|e| Violation::new(Rule::SinkFollows, format!("{}: {e}", node.name)))
    }

    /// Observes a node after it has advanced: failures of a route server, sink and state of an agent, readiness.
    fn observe(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        self.deliver(n, running)?;
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
        let local = node.local(now);
        let (synced, stale) = running.client(0).map_or((false, true), |c| (c.is_synced(), c.is_stale()));
        let ready = running.role().is_ready();
        for (client, log) in running.clients().iter().zip(&mut node.logs) {
            let announced = client.active().and_then(|link| client.links().get(link)?.announced);
            let behind = match (announced, client.base()) {
                (Some((epoch, theirs)), Some((base, ours))) => base != epoch || ours < theirs,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let same = std::mem::replace(&mut log.behind, client.active()) == client.active();
            log.behind_since = behind.then(|| log.behind_since.filter(|_| same).unwrap_or(now));
        }
        match running.role_mut() {
            Kind::RouteServer(rs) => {
                if let Some(failure) = rs.engine.take_failure() {
                    return Err(Violation::new(Rule::NoFailure, format!("{}: {failure}", node.name)));
                }
                let unheard = rs.feed.iter().filter(|event| matches!(event, SourceEvent::End(_))).count();
                if ready && unheard > 0 && local < rs.ready_at {
                    let text = format!("{} reports ready before the end of {unheard} sources", node.name);
                    return Err(Violation::new(Rule::TrueWord, text));
                }
            }
            Kind::Agent(_) => {
                node.alone_since = if synced { None } else { node.alone_since.or(Some(now)) };
                node.stale_since = if stale { node.stale_since.or(Some(local)) } else { None };
            }
        }
        if !ready {
            node.ready_since = None;
        } else if node.ready_since.is_none() {
            node.ready_since = Some(now);
            self.note(now, format_args!("{} is ready", self.name(n)));
        }
        Ok(())
    }

    /// A client is new: connections of the previous one in this slot end.
    fn renew_client(&mut self, n: usize, slot: usize, running: &mut Running) {
        let before = self.nodes.get(n).and_then(|node| node.upstream.get(slot)).map_or(0, Vec::len);
        (0..before).for_each(|link| self.hang_up(n, slot, link));
        let Some(node) = self.nodes.get_mut(n) else { return };
        let table = running.role_mut().client_table(slot);
        let log = ClientLog { checked: table.serial(), digest: table.digest(), ..ClientLog::default() };
        let servers = running.upstream(slot).iter().filter_map(|&at| node.servers.get(at).copied()).collect();
        let name = running.client(slot).map_or_else(String::new, |client| client.config().table.clone());
        set(&mut node.upstream, slot, servers);
        set(&mut node.tables, slot, name.clone());
        set(&mut node.logs, slot, log);
        self.note(self.now, format_args!("{} has a new client {slot} for {name}", self.name(n)));
    }

    /// Records what is served, and checks the clients' state against it.
    fn check_node(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        match running.role() {
            Kind::RouteServer(rs) => {
                self.ledger.record(CATALOG, rs.engine.catalog(), false)?;
                for (id, table) in rs.engine.rib_tables() {
                    self.ledger.record(&table_name(id), table, false)?;
                }
                self.ledger.record("fib", rs.engine.fib(), rs.engine.ready())?;
            }
            Kind::Agent(agent) => self.ledger.record("fib", agent.core.table(), false)?,
        }
        let is_agent = running.role().agent().is_some();
        for slot in 0..running.clients().len() {
            let base = running.client(slot).and_then(|client| client.base());
            let table = &*running.role_mut().client_table(slot);
            let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
            let Some(log) = node.logs.get_mut(slot) else { continue };
            if log.checked == table.serial() {
                continue;
            }
            let same = log.digest == table.digest() && log.checked + 1 == table.serial();
            (log.checked, log.digest) = (table.serial(), table.digest());
            let who = node.name.as_str();
            if same {
                let text = format!("{who} made a commit without a change, and relays it");
                return Err(Violation::new(Rule::NoEmptyMessage, text));
            }
            sound(who, table)?;
            if is_agent {
                self.ledger.published(who, &node.subset, table)?;
            }
            if let Some(base) = base {
                let name = node.tables.get(slot).map_or("?", String::as_str);
                self.ledger.claimed(who, name, base, table)?;
            }
        }
        Ok(())
    }

    fn client_event(
        &mut self,
        n: usize,
        slot: usize,
        event: &ClientEvent,
        running: &mut Running,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
        let (local, who) = (node.local(now), node.name.clone());
        let links = node.upstream.get(slot).map_or(0, Vec::len);
        let Some(log) = node.logs.get_mut(slot) else { return Ok(()) };
        log.registered_at.resize(links, None);
        match event {
            ClientEvent::Registered { link, name } => {
                if let Some(at) = log.registered_at.get_mut(*link) {
                    *at = Some(local);
                }
                self.note(now, format_args!("{who} registered with {name}"));
            }
            ClientEvent::Lost { link, error, active } => {
                if let Some(at) = log.registered_at.get_mut(*link) {
                    *at = None;
                }
                if *active {
                    log.active = None;
                }
                let server = node.server_of(slot, *link).unwrap_or(n);
                self.note(now, format_args!("{who} lost {}: {error}", self.name(server)));
                self.judge_error(n, server, error, &who)?;
            }
            ClientEvent::Activated { link, how, took, differing } => {
                let before = log.active.replace(*link);
                let registered = log.registered_at.get(*link).copied().flatten();
                let server = node.server_of(slot, *link).unwrap_or(n);
                let failback = node.client_config.failback;
                self.note(
                    now,
                    format_args!("{who} uses {}: {how:?} in {took:?}, {differing} differ", self.name(server)),
                );
                self.judge_choice(n, slot, *link, before, registered, failback)?;
                // At this moment the table equals the server's, whether anything was sent or not.
                if let Some(base) = running.client(slot).and_then(|client| client.base()) {
                    let table = &*running.role_mut().client_table(slot);
                    let name = self.nodes.get(n).and_then(|x| x.tables.get(slot)).map_or("?", String::as_str);
                    self.ledger.claimed(&who, name, base, table)?;
                }
            }
            ClientEvent::Committed(commit) => {
                self.note(
                    now,
                    format_args!(
                        "{who} commits serial {}: {} of {}",
                        commit.serial, commit.count, commit.digest
                    ),
                );
            }
            ClientEvent::Stalled { link, behind, left } => {
                let server = node.server_of(slot, *link).unwrap_or(n);
                let server = self.name(server);
                self.note(now, format_args!("{who}: {server} is stalled, {behind:?} behind; left: {left}"));
            }
            ClientEvent::Mismatch { link, reason } => {
                let server = node.server_of(slot, *link).unwrap_or(n);
                let text = format!(
                    "{who} got a batch from {} that leads to another table: {reason}",
                    self.name(server)
                );
                return Err(Violation::new(Rule::NoAccusation, text));
            }
        }
        Ok(())
    }

    /// A preferred server is used again only after it was capable for a while; the active one must have been healthy until then.
    fn judge_choice(
        &self,
        n: usize,
        slot: usize,
        link: usize,
        before: Option<usize>,
        registered: Option<Duration>,
        failback: Option<Duration>,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        let (Some(before), Some(registered), Some(failback)) =
            (before.filter(|&b| b > link), registered, failback)
        else {
            return Ok(());
        };
        let old = node.server_of(slot, before).and_then(|old| self.capable_since(n, old));
        let old_was_good = node.tier > 1 && old.is_some_and(|since| since + failback < self.now);
        let waited = node.local(self.now).saturating_sub(registered);
        if old_was_good && waited < failback {
            let text = format!(
                "{} left a good server for a better one {waited:?} after that had registered, not after {failback:?}",
                node.name
            );
            return Err(Violation::new(Rule::FailBack, text));
        }
        Ok(())
    }

    /// Whether a fault explains the end of a session.
    fn judge_error(
        &self,
        client: usize,
        server: usize,
        error: &ProtocolError,
        who: &str,
    ) -> Result<(), Violation> {
        let text = error.to_string();
        if [CLOSED, RESET, REFUSED].contains(&text.as_str())
            || (self.settings.siblings && text.contains("loop:"))
        {
            return Ok(());
        }
        // The routes of an origin that had expired here, and returned.
        if text.contains("table rib/") && text.contains("was recreated") {
            return Ok(());
        }
        // A view whose table forgot deletions that it had not seen.
        if text.contains("was recreated") && self.settings.tombstones < 1_000 {
            return Ok(());
        }
        let impatience =
            ["silent", "no data within", "no answer to Deactivate", "took ", "did not end the comparison"];
        if impatience.iter().any(|word| text.contains(word)) || matches!(error, ProtocolError::Silent(_)) {
            return match self.calm_since(client, server) {
                Some(since) if since + AFTERMATH < self.now => {
                    let pair = format!("{} and {}", self.name(client), self.name(server));
                    let text =
                        format!("{who}: {text}, though nothing was wrong between {pair} since {since:?}");
                    Err(Violation::new(Rule::NoFalseAlarm, text))
                }
                _ => Ok(()),
            };
        }
        let pair = format!("{} as client of {}", self.name(client), self.name(server));
        Err(Violation::new(Rule::NoAccusation, format!("{who} ended a session ({pair}): {text}")))
    }

    fn server_events(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        let mut events: Vec<ServerEvent> = std::iter::from_fn(|| running.poll_session_event()).collect();
        // Sessions that end in one call come in the order of a hash map.
        events.sort_by_key(|event| match event {
            ServerEvent::Ended { session, .. } => *session,
            _ => 0,
        });
        for event in events {
            match event {
                ServerEvent::Registered { .. } => {}
                ServerEvent::Activated { session, how } => {
                    let to = self.client_of(n, session).map_or("?", |c| self.name(c)).to_owned();
                    self.note(self.now, format_args!("{} serves {to}: {how}", self.name(n)));
                }
                ServerEvent::Ended { session, error, .. } => {
                    let client = self.client_of(n, session);
                    let to = client.map_or("?", |c| self.name(c)).to_owned();
                    self.note(self.now, format_args!("{} ends {to}: {error}", self.name(n)));
                    if let Some(c) =
                        self.connections.values_mut().find(|c| c.server == n && c.session == Some(session))
                    {
                        c.ending = true;
                    }
                    if let Some(client) = client {
                        let who = self.name(n).to_owned();
                        self.judge_error(client, n, &error, &who)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn client_of(&self, n: usize, session: u64) -> Option<usize> {
        self.connections.values().find(|c| c.server == n && c.session == Some(session)).map(|c| c.client)
    }
}

/// Sets an element, growing the vector if necessary.
fn set<T>(all: &mut Vec<T>, at: usize, value: T) {
    match all.get_mut(at) {
        Some(old) => *old = value,
        None => all.push(value),
    }
}
