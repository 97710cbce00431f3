//! Checks of the whole network: after each step, and at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use fibcast_sync_proto::agent::FAILED;
use fibcast_sync_proto::origins::table_name;
use fibcast_sync_proto::relay::HOLD;
use fibcast_sync_proto::server::Tables;
use fibcast_sync_proto::{Key, OriginId, Value};

use crate::agent::Agent;
use crate::connection::Connection;
use crate::invariants::{Rule, Violation, part_of, sound};
use crate::network::Network;
use crate::node::{Kind, Running};
use crate::route_server::RouteServer;

/// A client that can be in sync with a server is so after this time.
const TO_SYNC: Duration = Duration::from_secs(22);
/// More than three missed heartbeats of 300 ms, and some for delays.
const TO_NOTICE: Duration = Duration::from_millis(1_800);
/// A server without progress is left within this time, its heartbeats and the delays included.
const TO_LEAVE: Duration = Duration::from_millis(5_500);
/// A node's timer is handled within this time.
const TO_WAKE: Duration = Duration::from_millis(200);
/// The network comes to rest within this time after the last fault.
const TO_REST: Duration = Duration::from_secs(120);
/// A description of an origin reaches all nodes within this time.
const BOUND: Duration = Duration::from_secs(3);
/// A connection attempt that a dead host swallowed lasts so long, with the pause after it; nobody is heard before the next one.
const ATTEMPT: Duration = Duration::from_secs(6);
/// How long rest is observed.
const REST: Duration = Duration::from_secs(8);

impl Network {
    /// After each step.
    ///
    /// # Errors
    /// The violated rule.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_ghosts()?;
        for n in 0..self.nodes.len() {
            let Some(running) = self.nodes.get(n).and_then(|node| node.running.as_ref()) else { continue };
            self.check_silence(n, running)?;
            self.check_memory(n, running)?;
            if let Some(agent) = running.role().agent() {
                self.check_use(n, running)?;
                self.check_lag(n, running)?;
                self.check_word(n, running.role())?;
                self.check_sink(n, agent)?;
            }
        }
        Ok(())
    }

    /// No client uses a server from which nothing has arrived for long.
    fn check_silence(&self, n: usize, running: &Running) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        for (slot, client) in running.clients().iter().enumerate() {
            let Some(server) = client.active().and_then(|link| node.server_of(slot, link)) else { continue };
            let cut = self.paths.get(&(n, server)).and_then(|p| p.cut_down);
            let off = self.nodes.get(server).filter(|s| s.running.is_none()).map(|s| s.trouble);
            let stopped = self.nodes.get(server).filter(|s| s.paused_until > self.now).map(|s| s.trouble);
            let Some(since) = [cut, off, stopped].into_iter().flatten().min() else { continue };
            // What was sent before is still on its way, for long on a slow path.
            let last = self.connections.values().filter(|_| cut.is_none());
            let last = last.filter(|c| (c.client, c.slot, c.server) == (n, slot, server) && c.client_open);
            let arrival = last.map(|c| c.down.latest).max().unwrap_or_default();
            // A client that was paused, or whose clock jumped, does not blame the server.
            let since = since.max(arrival).max(node.trouble).max(node.paused_until);
            if since + TO_NOTICE < self.now {
                let text = format!(
                    "{} still uses {}, from which nothing can have come since {since:?}",
                    node.name,
                    self.name(server)
                );
                return Err(Violation::new(Rule::SilenceIsNoticed, text));
            }
        }
        Ok(())
    }

    /// No client stays with a server that announces commits and sends none, if another one is capable.
    fn check_lag(&self, n: usize, running: &Running) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        for (slot, client) in running.clients().iter().enumerate() {
            let Some(active) = client.active() else { continue };
            let Some(server) = node.server_of(slot, active) else { continue };
            let gray = self.nodes.get(server).and_then(|server| server.gray_since);
            let behind = node.logs.get(slot).and_then(|log| log.behind_since);
            let path = self.paths.get(&(n, server)).filter(|path| path.is_whole());
            let (Some(gray), Some(behind), Some(path)) = (gray, behind, path) else { continue };
            let since = gray.max(behind).max(path.trouble).max(node.trouble).max(node.paused_until);
            let other = client.links().into_iter().enumerate().find(|(link, status)| {
                let well = node.server_of(slot, *link).and_then(|server| self.capable_since(n, server));
                *link != active
                    && status.state == "standby"
                    && status.ready
                    && !status.avoided
                    && well.is_some_and(|well| well + TO_LEAVE < self.now)
            });
            if let Some((_, other)) = other.filter(|_| since + TO_LEAVE < self.now) {
                let text = format!(
                    "{} stays with {}, which has announced more than it sent since {since:?}, though {:?} is capable",
                    node.name,
                    self.name(server),
                    other.name
                );
                return Err(Violation::new(Rule::LagShrinks, text));
            }
        }
        Ok(())
    }

    /// The state that a relay reports: ready only in sync and shortly after, stale whenever it is not in sync.
    fn check_word(&self, n: usize, role: &Kind) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        let Some(since) = node.alone_since else { return Ok(()) };
        let late = since.max(node.paused_until) + HOLD + TO_WAKE < self.now;
        let (ready, stale) = (role.is_ready(), role.is_stale("fib"));
        if !stale || (ready && late) {
            let text = format!(
                "{} is not in sync since {since:?} and says: ready {ready}, stale {stale}",
                node.name
            );
            return Err(Violation::new(Rule::TrueWord, text));
        }
        Ok(())
    }

    /// The sink matches the table, is empty after the expiry without a capable server, and never lacks something for long.
    fn check_sink(&self, n: usize, agent: &Agent) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        let wrong = |what: String| {
            Err(Violation::new(Rule::SinkFollows, format!("the sink of {} {what}", node.name)))
        };
        let well_since = agent.sink.trouble.as_ref().map_or(Duration::ZERO, |(until, _)| *until);
        let since = agent.behind_since.map(|since| since.max(well_since).max(node.paused_until));
        if since.is_some_and(|since| since + FAILED + TO_WAKE < self.now) {
            return wrong(format!("has lacked something since {since:?}, though it accepts batches"));
        }
        let over = node.stale_since.zip(node.expire).map(|(since, expire)| since + expire);
        let local = node.local(self.now);
        if !agent.core.is_delivered() {
            return Ok(());
        }
        if over.is_none_or(|over| local < over) {
            let table: BTreeMap<Key, Value> = agent.core.table().iter().collect();
            return if table == agent.sink.records {
                Ok(())
            } else {
                wrong("does not match its table".into())
            };
        }
        let late = over.is_some_and(|over| over.max(node.local(node.paused_until)) + TO_WAKE < local);
        if late && !agent.sink.records.is_empty() {
            return wrong(format!(
                "forwards by {} records that expired at {over:?}",
                agent.sink.records.len()
            ));
        }
        Ok(())
    }

    /// A client with a long capable server is in sync, and has a table if the server has one.
    fn check_use(&self, n: usize, running: &Running) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        // A view of a table that remembers little is recreated at each large batch, and its clients reconnect.
        if self.ledger.parts.len() > 1 && self.settings.tombstones < 1_000 {
            return Ok(());
        }
        for (client, servers) in running.clients().iter().zip(&node.upstream) {
            // If siblings serve each other, a capable one may be one whose table comes from here.
            let all_calm = servers.iter().all(|&s| {
                self.paths.get(&(n, s)).is_some_and(|p| p.is_whole() && p.trouble + TO_SYNC < self.now)
            });
            let good = servers.iter().find(|&&s| {
                self.capable_since(n, s).is_some_and(|since| since + TO_SYNC < self.now)
                    && (!self.settings.siblings || self.is_route_server(s))
            });
            let Some(&good) = good.filter(|_| all_calm) else { continue };
            // How long it may stay with a server that sends no data is for another rule.
            let active = client.active().and_then(|link| self.nodes.get(*servers.get(link)?));
            if active.is_some_and(|server| server.gray_since.is_some()) {
                continue;
            }
            let server = self.nodes.get(good).and_then(|s| s.running.as_ref());
            let has = server.is_some_and(|s| !s.role().fib().is_empty());
            // Between the loss of one server and the sync with the next there is a moment.
            let moment = servers.iter().filter_map(|&s| self.nodes.get(s)).any(|s| {
                s.running.is_none()
                    || s.trouble + TO_SYNC > self.now
                    || s.ready_since.is_none_or(|r| r + TO_SYNC > self.now)
            });
            if moment {
                continue;
            }
            if !client.is_synced()
                || (has
                    && node.subset.is_all()
                    && running.role().fib().is_empty()
                    && server.is_some_and(|s| s.role().fib().serial() < 2))
            {
                let links: Vec<String> = client
                    .links()
                    .iter()
                    .map(|l| format!("{:?} {} {:?}", l.name, l.state, l.last_error))
                    .collect();
                let text = format!(
                    "{} is not in sync with a server, though {} has long been capable: {}",
                    node.name,
                    self.name(good),
                    links.join(", ")
                );
                return Err(Violation::new(Rule::CapableIsUsed, text));
            }
        }
        Ok(())
    }

    /// Checks the sizes of session queues and remembered deletions.
    fn check_memory(&self, n: usize, running: &Running) -> Result<(), Violation> {
        let limits = self.settings.limits;
        let fib = running.role().fib();
        // One batch or answer to a sketch beyond the limit; heartbeats up to twice the limit; symbols.
        let most = 4 * limits.queue as u64
            + 160 * (limits.shared as u64).min(2 * fib.len() + 100)
            + 100 * fib.len()
            + 64 * 1024;
        for session in running.server().sessions() {
            if session.queued_bytes > most {
                let text = format!(
                    "{} holds {} bytes for {}, expected at most {most}",
                    self.name(n),
                    session.queued_bytes,
                    session.name
                );
                return Err(Violation::new(Rule::Memory, text));
            }
        }
        if let Some(agent) = running.role().agent() {
            let remembered = (fib.count_since(0, usize::MAX) as u64).saturating_sub(fib.len());
            let most = self.settings.tombstones as u64 + agent.largest;
            if remembered > most {
                let text =
                    format!("{} remembers {remembered} deletions, expected at most {most}", self.name(n));
                return Err(Violation::new(Rule::Memory, text));
            }
        }
        Ok(())
    }

    /// Waits for the network to come to rest without the nodes that are down, and compares everything with the model.
    ///
    /// # Errors
    /// The violated rule.
    pub fn rest(&mut self, down: &[usize]) -> Result<(), Violation> {
        self.heal(down)?;
        self.note(self.now, format_args!("no more faults; down: {down:?}"));
        let end = self.now + TO_REST;
        loop {
            self.run_until(self.now + Duration::from_secs(1))?;
            self.check()?;
            match self.at_rest(down) {
                Ok(()) => break,
                Err(violation) if self.now >= end => return Err(violation),
                Err(_) => {}
            }
        }
        self.note(self.now, format_args!("at rest"));
        let before = self.movements();
        self.run_until(self.now + REST)?;
        self.check()?;
        self.at_rest(down)?;
        let after = self.movements();
        if before != after {
            let text =
                format!("serials, failovers, data frames were {before:?} at rest and are {after:?} now");
            return Err(Violation::new(Rule::RestIsQuiet, text));
        }
        Ok(())
    }

    /// What must not change at rest: serials and failovers by node, and data frames.
    fn movements(&self) -> (Vec<(u64, u64)>, u64) {
        let of = |running: &Running| {
            let failovers = running.clients().iter().map(|c| c.counters().failovers).sum();
            (running.role().fib().serial(), failovers)
        };
        let nodes = self.nodes.iter().filter_map(|n| n.running.as_ref()).map(of).collect();
        // Leases are refreshed all the time.
        let catalog = |c: &Connection| self.nodes.get(c.client).is_some_and(|node| node.is_catalog(c.slot));
        let others = self.connections.values().filter(|c| !catalog(c));
        (nodes, others.map(|c| c.observer.data_frames).sum::<u64>() + self.past_data)
    }

    /// Nodes that are down, and those that are disconnected by that.
    fn stranded(&self, down: &[usize]) -> Vec<usize> {
        let mut gone = down.to_vec();
        loop {
            let more = (0..self.nodes.len()).find(|n| {
                let node = self.nodes.get(*n).filter(|node| node.tier > 1);
                !gone.contains(n) && node.is_some_and(|node| node.servers.iter().all(|s| gone.contains(s)))
            });
            match more {
                Some(n) => gone.push(n),
                None => return gone,
            }
        }
    }

    fn at_rest(&self, down: &[usize]) -> Result<(), Violation> {
        let stranded = self.stranded(down);
        for n in (0..self.nodes.len()).filter(|n| !stranded.contains(n)) {
            let Some(node) = self.nodes.get(n) else { continue };
            let Some(running) = &node.running else { continue };
            if node.paused_until > self.now {
                return Err(Violation::new(Rule::RestIsQuiet, format!("{} is still paused", node.name)));
            }
            let fib = running.role().fib();
            let found: BTreeMap<Key, Value> = fib.iter().collect();
            let island = self.island(n, &stranded);
            let expected =
                self.model.forwarding(|home| island.contains(&home), |home| self.name(home).to_owned());
            let whole = expected.iter().map(|(key, value)| (key.clone(), value.clone()));
            let part = part_of(whole, &node.subset);
            if found != part {
                return Err(Violation::new(Rule::RestIsModel, self.compare(n, &found, &part)));
            }
            if let Kind::RouteServer(rs) = running.role() {
                self.no_ghosts(n, rs, &island)?;
            }
            sound(&node.name, fib)?;
            let sources_done = match running.role() {
                Kind::RouteServer(rs) => rs.feed.is_empty() && rs.readiness() == (true, true),
                Kind::Agent(agent) => {
                    agent.core.relay().is_ready()
                        && !agent.core.relay().is_stale()
                        && agent.core.is_delivered()
                }
            };
            if !sources_done {
                let text = format!("{} is not ready", node.name);
                return Err(Violation::new(Rule::RestIsModel, text));
            }
            self.all_acknowledged(n, running)?;
            self.best_in_use(n, running, &stranded)?;
            self.sessions_match(n, running)?;
        }
        Ok(())
    }

    /// The route servers that know of each other, including the one from which a node's table comes.
    fn island(&self, n: usize, down: &[usize]) -> Vec<usize> {
        let mut at = n;
        // An agent has the table of the first of its servers that is up; no chain is longer than the number of nodes.
        for _ in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(at).filter(|node| node.tier > 1) else { break };
            let first = node.servers.iter().find(|server| !down.contains(server));
            at = first.copied().unwrap_or(at);
        }
        let mut island = vec![at];
        let mut next = 0;
        while let Some(&at) = island.get(next) {
            next += 1;
            let Some(node) = self.nodes.get(at) else { continue };
            for &peer in &node.servers {
                if !down.contains(&peer) && !island.contains(&peer) {
                    island.push(peer);
                }
            }
        }
        island
    }

    /// At rest a route server knows exactly the protocols of all servers of its island.
    fn no_ghosts(&self, n: usize, rs: &RouteServer, island: &[usize]) -> Result<(), Violation> {
        let local = self.nodes.get(n).map_or(self.now, |node| node.local(self.now));
        let origins = rs.engine.origin_status(local);
        let known = origins.iter().filter(|origin| origin.state != "expired");
        let mut found: Vec<String> = known
            .map(|o| format!("{} of {}: {}, eligible {}", o.name, o.server, o.state, o.eligibility))
            .collect();
        let alive = self.model.protocols.iter().filter(|p| island.contains(&p.home));
        let mut expected: Vec<String> = alive
            .map(|p| {
                let state = if p.stale { "stale" } else { "live" };
                format!("{} of {}: {state}, eligible {state}", p.name, self.name(p.home))
            })
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        if found == expected {
            return Ok(());
        }
        let text = format!(
            "{} knows at rest [{}], expected [{}]",
            self.name(n),
            found.join("; "),
            expected.join("; ")
        );
        Err(Violation::new(Rule::NoGhosts, text))
    }

    /// No route server uses a protocol whose server has been dead for longer than lease and hold time, unless the route servers had other
    /// faults since.
    fn check_ghosts(&self) -> Result<(), Violation> {
        let servers =
            || (0..self.nodes.len()).filter(|&n| self.nodes.get(n).is_some_and(|node| node.tier == 1));
        let mut calm =
            servers().filter_map(|n| self.nodes.get(n)).map(|node| node.trouble.max(node.paused_until));
        let since = calm.try_fold(Duration::ZERO, |latest, at| Some(latest.max(at)));
        let ways =
            self.paths.iter().filter(|((client, _), _)| self.nodes.get(*client).is_some_and(|c| c.tier == 1));
        let Some(mut since) = since else { return Ok(()) };
        for (_, path) in ways {
            if !path.is_whole() {
                return Ok(());
            }
            since = since.max(path.trouble);
        }
        let Some(plan) = self.nodes.first().and_then(|node| node.plan.as_ref()) else { return Ok(()) };
        if self.now < since + ATTEMPT + plan.lease + plan.hold + BOUND {
            return Ok(());
        }
        for n in servers() {
            let running = self.nodes.get(n).and_then(|node| node.running.as_ref());
            let Some(Kind::RouteServer(rs)) = running.map(|running| running.role()) else { continue };
            let local = self.nodes.get(n).map_or(self.now, |node| node.local(self.now));
            let dead = |server: &str| self.nodes.iter().any(|node| node.name == server && !node.up);
            let ghost =
                rs.engine.origin_status(local).into_iter().find(|o| dead(&o.server) && o.state != "expired");
            if let Some(o) = ghost {
                let text = format!(
                    "{} takes {} of {} for {}, though nothing but its death has happened since {since:?}",
                    self.name(n),
                    o.name,
                    o.server,
                    o.state
                );
                return Err(Violation::new(Rule::NoGhosts, text));
            }
        }
        Ok(())
    }

    /// Every agent uses the first of its servers that is up, and every route server all of its peers.
    fn best_in_use(&self, n: usize, running: &Running, stranded: &[usize]) -> Result<(), Violation> {
        let Some(node) = self.nodes.get(n) else { return Ok(()) };
        for (slot, (client, servers)) in running.clients().iter().zip(&node.upstream).enumerate() {
            // An origin's routes may come by any path, but from its own server if that is a peer.
            if node.tier == 1 && !node.is_catalog(slot) {
                let table = node.tables.get(slot).map_or("?", String::as_str);
                let first = servers.first().filter(|home| self.is_home_of(**home, table));
                let wrong_way =
                    first.is_some_and(|home| !stranded.contains(home) && client.active() != Some(0));
                if !servers.is_empty() && (!client.is_synced() || wrong_way) {
                    let text = format!("{} gets {table} from {:?} at rest", node.name, client.active());
                    return Err(Violation::new(Rule::FailBack, text));
                }
                continue;
            }
            // A route server whose peer is down has none for that one.
            if servers.iter().all(|s| stranded.contains(s)) {
                continue;
            }
            let best = servers.iter().position(|s| !stranded.contains(s));
            if client.active() != best || !client.is_synced() {
                let text = format!(
                    "{} uses {:?} of its servers at rest, expected {best:?} in sync",
                    node.name,
                    client.active()
                );
                return Err(Violation::new(Rule::FailBack, text));
            }
        }
        Ok(())
    }

    /// Whether a table holds the routes of a protocol of this route server.
    fn is_home_of(&self, n: usize, table: &str) -> bool {
        let id = |name: &str| OriginId::instance(self.name(n), name);
        self.model.protocols.iter().any(|p| p.home == n && table_name(id(&p.name)) == table)
    }

    fn sessions_match(&self, n: usize, running: &Running) -> Result<(), Violation> {
        let sessions = running.server().sessions().len();
        let open =
            self.connections.values().filter(|c| c.server == n && c.server_open && c.client_open && !c.void);
        let open = open.count();
        if sessions != open {
            let text = format!("{} has {sessions} sessions at rest for {open} connections", self.name(n));
            return Err(Violation::new(Rule::NoLeak, text));
        }
        Ok(())
    }

    fn compare(&self, n: usize, found: &BTreeMap<Key, Value>, expected: &BTreeMap<Key, Value>) -> String {
        let ghosts = found.keys().filter(|k| !expected.contains_key(k)).count();
        let missing = expected.keys().filter(|k| !found.contains_key(k)).count();
        let other = expected.iter().filter(|(k, v)| found.get(k).is_some_and(|f| f != *v)).count();
        let example = expected
            .iter()
            .find(|(k, v)| found.get(k) != Some(v))
            .map(|(k, _)| k)
            .or_else(|| found.keys().find(|k| !expected.contains_key(k)));
        format!(
            "{} at rest: {ghosts} ghosts, {missing} missing, {other} different, of {} expected; for example {example:?}",
            self.name(n),
            expected.len()
        )
    }
}
