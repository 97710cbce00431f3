//! A node's turn after any input: what its machines ask for, its host's rules, its sessions; and what is checked at each of these.

use std::time::Duration;

use fibcast_route_server::engine::{Request, client_for};
use fibcast_sync_proto::client::{Action, Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::origins::{CATALOG, table_name};
use fibcast_sync_proto::server::ServerEvent;
use fibcast_sync_proto::wire::ProtocolError;

use crate::invariants::{Rule, Violation, sound};
use crate::network::Network;
use crate::node::{ClientLog, Kind, Running};
use crate::transport::{CLOSED, REFUSED, RESET};

/// After a fault is over, who is not well again within this time may be given up for silence.
const AFTERMATH: Duration = Duration::from_secs(16);

impl Network {
    /// Lets a node do what follows from its input.
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
        loop {
            let mut more = false;
            for slot in 0..running.clients.len() {
                while let Some(action) = running.clients.get_mut(slot).and_then(|c| c.poll_action()) {
                    more = true;
                    match action {
                        Action::Connect(link) => self.connect(n, slot, link),
                        Action::Disconnect(link) => self.hang_up(n, slot, link),
                    }
                }
                while let Some(event) = running.clients.get_mut(slot).and_then(|c| c.poll_event()) {
                    more = true;
                    self.client_event(n, slot, &event, running)?;
                }
            }
            if !more {
                break;
            }
        }
        let (announce, changed, mut soon) = self.host_turn(n, running)?;
        soon |= self.change_clients(n, running);
        self.check_node(n, running)?;
        if announce {
            running.server.announce(running.kind.tables());
        }
        if changed {
            running.server.pump(running.kind.tables());
        }
        self.server_events(n, running)?;
        self.flush_running(n, running)?;
        self.schedule(n, running, soon);
        Ok(())
    }

    /// The host's own rules: sources and peers of a route server, sink and readiness of an agent.
    fn host_turn(&mut self, n: usize, running: &mut Running) -> Result<(bool, bool, bool), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(n) else { return Ok((false, false, false)) };
        let local = node.local(now);
        let outcome = match &mut running.kind {
            Kind::RouteServer(rs) => {
                let turn = rs
                    .turn(local, &running.clients)
                    .map_err(|e| Violation::new(Rule::NoFailure, format!("{}: {e}", node.name)))?;
                (turn.announce, turn.changed, turn.more)
            }
            Kind::Agent(agent) => {
                agent.feed().map_err(|e| Violation::new(Rule::SinkFollows, format!("{}: {e}", node.name)))?;
                let announce = running.clients.first().is_some_and(|client| agent.relay.watch(local, client));
                if running.clients.first().is_some_and(|client| client.is_synced()) {
                    node.alone_since = None;
                } else {
                    node.alone_since.get_or_insert(now);
                }
                let changed = agent.pumped != agent.table.serial();
                agent.pumped = agent.table.serial();
                (announce, changed, false)
            }
        };
        let ready = running.kind.is_ready();
        if !ready {
            node.ready_since = None;
        } else if node.ready_since.is_none() {
            node.ready_since = Some(now);
            self.note(now, format_args!("{} is ready", self.name(n)));
        }
        Ok(outcome)
    }

    /// Opens and closes clients as a route server asks.
    fn change_clients(&mut self, n: usize, running: &mut Running) -> bool {
        let mut any = false;
        while let Kind::RouteServer(rs) = &mut running.kind
            && let Some(request) = rs.engine.poll_request()
        {
            any = true;
            self.note(self.now, format_args!("{} wants of its clients: {request:?}", self.name(n)));
            let Some(node) = self.nodes.get_mut(n) else { return false };
            let local = node.local(self.now);
            let peers = node.upstream.get(..node.fixed_clients()).unwrap_or_default();
            let (slot, config, servers) = match request {
                Request::Close(slot) => (slot, ClientConfig::new("", "", Vec::new()), Vec::new()),
                Request::Open { place, table, peers: order, prefers_first } => {
                    let (config, order) = client_for(&node.client_config, table, &order, prefers_first);
                    let server = |at: usize| peers.get(at).and_then(|servers| servers.first()).copied();
                    (place, config, order.into_iter().filter_map(server).collect())
                }
            };
            let before = node.upstream.get(slot).map_or(0, Vec::len);
            (0..before).for_each(|link| self.hang_up(n, slot, link));
            let Some(node) = self.nodes.get_mut(n) else { return false };
            let Kind::RouteServer(rs) = &mut running.kind else { return false };
            let table = rs.engine.client_table(slot);
            let log = ClientLog { checked: table.serial(), digest: table.digest(), ..ClientLog::default() };
            let name = config.table.clone();
            let client = Client::new(config, local);
            if slot < running.clients.len() {
                // The slot is there: so are those of the same place in the lists beside it.
                if let Some(at) = running.clients.get_mut(slot) {
                    *at = client;
                }
                if let Some(at) = node.upstream.get_mut(slot) {
                    *at = servers;
                }
                if let Some(at) = node.tables.get_mut(slot) {
                    *at = name;
                }
                if let Some(at) = node.logs.get_mut(slot) {
                    *at = log;
                }
            } else {
                running.clients.push(client);
                node.upstream.push(servers);
                node.tables.push(name);
                node.logs.push(log);
            }
        }
        any
    }

    /// Notes what is served, and holds what clients have against it.
    fn check_node(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        match &running.kind {
            Kind::RouteServer(rs) => {
                self.ledger.record(CATALOG, rs.engine.catalog(), false)?;
                for (id, table) in rs.engine.rib_tables() {
                    self.ledger.record(&table_name(id), table, false)?;
                }
                self.ledger.record("fib", rs.engine.fib(), rs.engine.ready())?;
            }
            Kind::Agent(agent) => self.ledger.record("fib", &agent.table, false)?,
        }
        let is_agent = matches!(running.kind, Kind::Agent(_));
        for (slot, client) in running.clients.iter().enumerate() {
            let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
            let (Some(log), Some(table)) = (node.logs.get_mut(slot), running.kind.client_table(slot)) else {
                continue;
            };
            if log.checked == table.serial() {
                continue;
            }
            let same = log.digest == table.digest() && log.checked + 1 == table.serial();
            (log.checked, log.digest) = (table.serial(), table.digest());
            let who = node.name.as_str();
            if same {
                let text = format!("{who} made a commit that changed nothing, and passes it on");
                return Err(Violation::new(Rule::NoEmptyMessage, text));
            }
            sound(who, table)?;
            if is_agent {
                self.ledger.published(who, &node.subset, table)?;
            }
            if let Some(base) = client.base() {
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
                let Some(client) = running.clients.get(slot) else { return Ok(()) };
                let Some(table) = running.kind.client_table(slot) else { return Ok(()) };
                // At this moment the table is the server's, whether anything was sent or not.
                if let Some(base) = client.base() {
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
            ClientEvent::Mismatch { link, reason } => {
                let server = node.server_of(slot, *link).unwrap_or(n);
                let text =
                    format!("{who} got from {} what leads to another table: {reason}", self.name(server));
                return Err(Violation::new(Rule::NoAccusation, text));
            }
        }
        if let Kind::RouteServer(rs) = &mut running.kind {
            rs.client_event(local, slot, event)
                .map_err(|e| Violation::new(Rule::NoFailure, format!("{who}: {e}")))?;
        }
        Ok(())
    }

    /// A better server is used again only after it was capable for a while; the one in use must have been good until then.
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

    /// Whether what ended a session can be explained by a fault.
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
        // The routes of an origin that had expired here, and came back.
        if text.contains("table rib/") && text.contains("is made anew") {
            return Ok(());
        }
        // A view whose table forgot deletions that it had not seen yet.
        if text.contains("is made anew") && self.settings.tombstones < 1_000 {
            return Ok(());
        }
        let impatience = ["silent", "no data within", "no answer to Deactivate"];
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
        let mut events: Vec<ServerEvent> = std::iter::from_fn(|| running.server.poll_event()).collect();
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
