//! An agent's core beside one server: what its sink gets, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{group, put, table};
use fibcast_sync_proto::acknowledge::Policy;
use fibcast_sync_proto::agent::{AgentConfig, AgentCore, AgentEvent, SinkError};
use fibcast_sync_proto::client::{Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::frame::Role as ServerRole;
use fibcast_sync_proto::node::{ClientId, News, Node, NodeRole, Output};
use fibcast_sync_proto::refusal::{Reason, Refusals, RouteKey};
use fibcast_sync_proto::server::{Served, SessionChange, SessionId, SessionReport, Tables};
use fibcast_sync_proto::{Change, Key, Table};

const EXPIRE: Duration = Duration::from_secs(10);

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A server's table that the test writes.
struct Written {
    table: Table,
    ready: bool,
    heard: Vec<SessionChange>,
}

impl Tables for Written {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: &self.table, ready: self.ready, path: &[] })
    }
}

impl NodeRole for Written {
    fn client_table(&mut self, _: ClientId) -> &mut Table {
        &mut self.table
    }

    fn handle_client_event(&mut self, _: Duration, _: ClientId, _: &ClientEvent) {}

    fn handle_session(&mut self, _: Duration, report: &SessionReport) {
        self.heard.push(report.change.clone());
    }

    fn advance(&mut self, _: Duration, _: &[Client]) -> News {
        News { changed: true, announce: true }
    }
}

/// An agent and its server.
struct Pair {
    now: Duration,
    agent: Node<AgentCore>,
    server: Node<Written>,
    session: Option<SessionId>,
    /// Names in the server's certificate.
    names: Option<Vec<String>>,
    server_is_up: bool,
    connections: u32,
}

fn config() -> AgentConfig {
    let client = ClientConfig::new("nh", "fib", vec![ServerRole::Primary]);
    AgentConfig { client, serves: true, expire: Some(EXPIRE), acknowledge: None }
}

fn node(now: Duration, core: AgentCore) -> Node<AgentCore> {
    let upstream = core.config().upstream();
    Node::new("nh", now, core, [upstream])
}

impl Pair {
    fn new() -> Self {
        let now = s(1.0);
        let agent = node(now, AgentCore::new(config(), Table::new(7)));
        let server =
            Node::new("rs", now, Written { table: table(5, 100), ready: true, heard: Vec::new() }, []);
        Self { now, agent, server, session: None, names: None, server_is_up: true, connections: 0 }
    }

    /// Lets time pass, a tenth of a second at a time.
    fn run(&mut self, seconds: f64) {
        let end = self.now + s(seconds);
        while self.now < end {
            self.now += s(0.1);
            self.agent.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            for _ in 0..20 {
                self.agent.advance(self.now);
                self.server.advance(self.now);
                self.carry();
            }
        }
    }

    fn carry(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Connect { client, link, .. } if self.server_is_up => {
                    self.connections += 1;
                    self.session = Some(self.server.handle_accepted(self.now));
                    self.agent.handle_connected(self.now, client, link, self.names.clone());
                }
                Output::Connect { client, link, .. } => {
                    self.agent.handle_disconnected(self.now, client, link, "refused");
                }
                Output::Opened(_) | Output::Disconnect { .. } => self.hang_up(),
                Output::Event(..) => {}
            }
        }
        let Some(session) = self.session else { return };
        let up = self.agent.client(0).unwrap().transmit(0).to_vec();
        self.agent.sent_to_server(0, 0, up.len());
        self.server.handle_session_bytes(self.now, session, &up);
        let down = self.server.server().transmit(session).to_vec();
        self.server.sent_to_session(session, down.len());
        self.agent.handle_link_bytes(self.now, 0, 0, &down);
    }

    fn hang_up(&mut self) {
        if let Some(session) = self.session.take() {
            self.server.handle_session_closed(session);
        }
    }

    fn kill_server(&mut self) {
        self.server_is_up = false;
        self.hang_up();
        self.agent.handle_disconnected(self.now, 0, 0, "reset");
    }

    /// What the sink is given now: whether it replaces what there was, and how many changes; the sink takes it.
    fn deliver(&mut self) -> Option<(bool, usize)> {
        self.deliver_with(Ok(()))
    }

    fn deliver_with(&mut self, outcome: Result<(), SinkError>) -> Option<(bool, usize)> {
        let now = self.now;
        let core = self.agent.role_mut();
        let next = core.poll_sink(now)?;
        let given = (next.replaces, next.batch.changes().count());
        core.handle_sink(now, outcome);
        Some(given)
    }

    fn events(&mut self) -> Vec<AgentEvent> {
        std::iter::from_fn(|| self.agent.role_mut().poll_event()).collect()
    }

    /// What the server has heard about the agent since the last call.
    fn heard(&mut self) -> Vec<SessionChange> {
        self.run(0.1);
        std::mem::take(&mut self.server.role_mut().heard)
    }

    fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.server.role_mut().table.commit(changes).unwrap();
        self.run(0.1);
    }
}

#[test]
fn a_sink_that_fails_is_asked_again_with_everything_since_the_last_batch_it_took() {
    let mut pair = Pair::new();
    pair.run(1.0);
    assert_eq!(pair.deliver(), Some((false, 104)));
    assert_eq!(pair.deliver(), None);
    pair.commit([put(200, 1)]);
    let failed = || Err(SinkError::Failed("no memory".into()));
    assert_eq!(pair.deliver_with(failed()), Some((false, 1)));
    pair.commit([put(201, 1)]);
    assert_eq!(pair.deliver(), None, "it is left alone for a while");
    pair.run(0.3);
    assert_eq!(pair.deliver_with(failed()), Some((false, 2)));
    let serial = pair.agent.role().table().serial() - 1;
    let failed = AgentEvent::SinkFailed { serial, reason: "no memory".into() };
    assert_eq!(pair.events(), [failed], "the same reason is reported once");
    pair.run(0.3);
    assert_eq!(pair.deliver(), Some((false, 2)));
    assert!(pair.agent.role().is_delivered());
}

#[test]
fn resync_opens_new_connections_and_gives_the_sink_everything() {
    let mut pair = Pair::new();
    pair.run(1.0);
    pair.deliver();
    let (connections, serial) = (pair.connections, pair.agent.role().table().serial());
    pair.agent.role_mut().handle_resync();
    pair.run(1.0);
    assert_eq!(pair.connections, connections + 1);
    assert!(pair.agent.client(0).unwrap().is_synced());
    assert_eq!(pair.agent.role().table().serial(), serial, "the table was the server's, and is not copied");
    assert_eq!(pair.deliver(), Some((true, 104)));
}

#[test]
fn an_expired_table_is_taken_from_the_sink_and_given_back_by_a_capable_server_even_after_a_panic() {
    let mut pair = Pair::new();
    pair.run(1.0);
    pair.deliver();
    pair.kill_server();
    pair.run(EXPIRE.as_secs_f64() - 1.0);
    assert_eq!((pair.deliver(), pair.events()), (None, vec![]));
    pair.run(2.0);
    assert_eq!(pair.deliver(), Some((true, 0)));
    assert_eq!(pair.events(), [AgentEvent::Expired(EXPIRE)]);
    assert_eq!(pair.agent.role().table().len(), 104, "the tier below decides for itself");

    let spare = node(pair.now, AgentCore::new(config(), Table::new(1)));
    let (core, torn) = std::mem::replace(&mut pair.agent, spare).into_role().restart(8);
    assert!(!torn);
    pair.agent = node(pair.now, core);
    pair.run(1.0);
    assert_eq!(pair.deliver(), None, "the sink stays empty");
    pair.server_is_up = true;
    pair.run(3.0);
    assert_eq!(pair.events(), [AgentEvent::Recovered]);
    assert_eq!(pair.deliver(), Some((true, 104)));
}

#[test]
fn deletions_that_the_sink_lacks_are_not_forgotten() {
    let mut pair = Pair::new();
    let small = Table::new(7).with_tombstone_limit(0);
    pair.agent = node(pair.now, AgentCore::new(config(), small));
    pair.run(1.0);
    pair.deliver();
    for i in 0..50 {
        pair.commit([Change::Delete(put(i, 0).key().clone())]);
    }
    assert_eq!(pair.deliver(), Some((false, 50)));
    assert_eq!(pair.events(), []);
    pair.commit([group(9), put(300, 9)]);
    assert_eq!(pair.deliver(), Some((false, 2)));
    assert!(!pair.agent.role().table().remembers(1), "those that it has taken are");
}

#[test]
fn a_sink_gets_everything_again_from_a_table_that_has_forgotten_deletions() {
    let mut pair = Pair::new();
    let small = Table::new(7).with_tombstone_limit(0);
    pair.agent = node(pair.now, AgentCore::new(config(), small));
    pair.run(1.0);
    pair.deliver();
    for i in 0..10 {
        pair.commit([Change::Delete(put(i, 0).key().clone())]);
        pair.deliver();
    }
    assert!(!pair.agent.role().table().remembers(1));
    pair.agent.role_mut().handle_resync();
    pair.run(1.0);
    assert_eq!(pair.events(), []);
    let (replaces, count) = pair.deliver().expect("all of the table");
    assert!(replaces && count >= 94, "{count}");
    assert!(pair.agent.role().is_delivered());
}

#[test]
fn a_server_that_is_not_named_in_its_certificate_is_left() {
    let mut pair = Pair::new();
    pair.names = Some(vec!["rs-x".into()]);
    pair.run(1.0);
    assert!(!pair.agent.client(0).unwrap().is_synced());
    let error = pair.agent.client(0).unwrap().links()[0].last_error.clone();
    assert_eq!(error.as_deref(), Some("it calls itself rs, but its certificate is for rs-x"));
    pair.names = Some(vec!["rs-x".into(), "rs".into()]);
    pair.run(3.0);
    assert!(pair.agent.client(0).unwrap().is_synced());
}

#[test]
fn the_server_hears_what_the_sink_forwards_by_and_no_more() {
    use SessionChange::{Activated, Closed, Installed};
    let mut pair = Pair::new();
    assert_eq!(pair.heard(), [Activated { empty: true }]);
    pair.deliver();
    assert_eq!(pair.heard(), [Installed(1)], "a sink that says nothing forwards by what it has taken");
    pair.agent.role_mut().handle_forwarding(Some(1));
    pair.commit([put(200, 1)]);
    pair.commit([put(201, 1)]);
    pair.deliver();
    assert_eq!(pair.heard(), [], "it has the batch, but no worker uses it yet");
    let serial = pair.agent.role().table().serial();
    pair.agent.role_mut().handle_forwarding(Some(serial - 1));
    assert_eq!(pair.heard(), [Installed(2)]);
    pair.agent.role_mut().handle_forwarding(Some(serial));
    assert_eq!(pair.heard(), [Installed(3)]);
    assert_eq!(pair.heard(), []);
    // A new connection to the same table: the server has to be told again.
    pair.kill_server();
    assert_eq!(pair.heard(), [Closed]);
    pair.server_is_up = true;
    pair.run(1.0);
    assert_eq!(pair.heard(), [Activated { empty: false }, Installed(3)]);
}

#[test]
fn a_sink_that_was_emptied_or_starts_over_is_not_taken_for_installed() {
    let mut pair = Pair::new();
    pair.run(0.5);
    pair.deliver();
    pair.kill_server();
    pair.run(EXPIRE.as_secs_f64() + 1.0);
    pair.deliver();
    assert_eq!(pair.agent.role().sink_installed(), None);
    pair.server_is_up = true;
    pair.run(3.0);
    pair.heard();
    assert_eq!(pair.agent.role().sink_installed(), Some(0), "the sink is to get everything");
    pair.deliver();
    assert_eq!(pair.heard(), [SessionChange::Installed(1)]);
}

#[test]
fn a_sink_that_is_emptied_while_its_server_is_connected_takes_back_what_it_reported() {
    let mut pair = Pair::new();
    pair.run(0.5);
    pair.deliver();
    pair.heard();
    // The server answers and is no longer ready, as a relay that has lost its own servers.
    pair.server.role_mut().ready = false;
    pair.run(EXPIRE.as_secs_f64() + 1.0);
    pair.deliver();
    assert_eq!(pair.agent.role().sink_installed(), None);
    assert_eq!(pair.heard(), [SessionChange::Installed(0)]);
    pair.server.role_mut().ready = true;
    pair.run(3.0);
    pair.deliver();
    assert_eq!(pair.heard().last(), Some(&SessionChange::Installed(1)));
}

#[test]
fn serials_of_a_servers_former_life_are_not_reported_though_epoch_and_table_are_equal() {
    let mut pair = Pair::new();
    pair.run(0.5);
    pair.commit([put(200, 1)]);
    pair.commit([Change::Delete(put(200, 1).key().clone())]);
    pair.deliver();
    assert_eq!(pair.heard().last(), Some(&SessionChange::Installed(3)));
    pair.kill_server();
    pair.server.role_mut().table = table(5, 100);
    pair.server_is_up = true;
    pair.run(1.0);
    assert!(pair.agent.client(0).unwrap().is_synced());
    assert_eq!(pair.heard().last(), Some(&SessionChange::Installed(1)));
}

fn refused(routes: &[u32]) -> BTreeMap<RouteKey, Reason> {
    let key = |n: &u32| match put(*n, 1).key() {
        Key::Route { vrf, prefix } => (*vrf, *prefix),
        other => panic!("{other:?} is no route"),
    };
    routes.iter().map(|n| (key(n), Reason::Kernel)).collect()
}

#[test]
fn the_server_hears_what_the_sink_refuses_before_the_serial_and_all_of_it_after_a_new_connection() {
    use SessionChange::{Activated, Closed, Installed, Refused};
    let mut pair = Pair::new();
    let mut list = Refusals::default();
    let routes = |list: &[u32], reason: Option<Reason>| -> Vec<_> {
        refused(list).into_keys().map(|key| (key, reason)).collect()
    };
    let mut refuse = |pair: &mut Pair, which: &[u32], more: u64| {
        list.take(&refused(which), more);
        pair.agent.role_mut().handle_refusals(list.clone());
    };
    pair.heard();
    pair.deliver();
    refuse(&mut pair, &[200, 201], 0);
    let first = Refused { whole: true, more: 0, routes: routes(&[200, 201], Some(Reason::Kernel)) };
    assert_eq!(pair.heard(), [first, Installed(1)]);
    pair.commit([put(202, 1)]);
    pair.deliver();
    refuse(&mut pair, &[201, 202], 0);
    let gone = routes(&[200], None);
    let news = [gone, routes(&[202], Some(Reason::Kernel))].concat();
    assert_eq!(pair.heard(), [Refused { whole: false, more: 0, routes: news }, Installed(2)]);
    // More than are named: nothing else counts as installed.
    pair.commit([put(203, 1)]);
    pair.deliver();
    refuse(&mut pair, &[201, 202], 5);
    assert_eq!(pair.heard(), [Refused { whole: false, more: 5, routes: Vec::new() }]);
    refuse(&mut pair, &[201, 202], 0);
    assert_eq!(pair.heard(), [Refused { whole: false, more: 0, routes: Vec::new() }, Installed(3)]);
    pair.kill_server();
    pair.server_is_up = true;
    pair.run(1.0);
    let again = Refused { whole: true, more: 0, routes: routes(&[201, 202], Some(Reason::Kernel)) };
    assert_eq!(pair.heard(), [Closed, Activated { empty: false }, again, Installed(3)]);
}

#[test]
fn a_relay_tells_what_its_sink_and_its_clients_refuse_as_one_list() {
    let policy = Policy { timeout: None, ..Policy::default() };
    let mut pair = Pair::new();
    let core = AgentCore::new(AgentConfig { acknowledge: Some(policy), ..config() }, Table::new(7));
    pair.agent = node(pair.now, core);
    pair.run(10.0);
    pair.deliver();
    let report = |change| SessionReport {
        session: 99,
        table: "fib".into(),
        name: "below".into(),
        role: ServerRole::Primary,
        change,
    };
    let now = pair.now;
    let below = |pair: &mut Pair, change| pair.agent.role_mut().handle_session(now, &report(change));
    below(&mut pair, SessionChange::Activated { empty: false });
    let routes = refused(&[200, 201]).into_iter().map(|(key, reason)| (key, Some(reason))).collect();
    below(&mut pair, SessionChange::Refused { whole: true, more: 0, routes });
    below(&mut pair, SessionChange::Installed(1));
    let mut own = Refusals::default();
    own.take(&refused(&[201, 202]), 0);
    pair.agent.role_mut().handle_refusals(own);
    pair.run(0.5);
    let told: BTreeMap<_, _> = pair
        .heard()
        .into_iter()
        .flat_map(|change| match change {
            SessionChange::Refused { routes, .. } => routes,
            _ => Vec::new(),
        })
        .collect();
    assert!(told.into_keys().eq(refused(&[200, 201, 202]).into_keys()));
}

#[test]
fn after_its_start_a_relay_names_no_refused_routes_until_its_clients_had_time_to_come_back() {
    let policy = Policy { timeout: None, ..Policy::default() };
    let grace = policy.grace.as_secs_f64();
    let mut pair = Pair::new();
    let core = AgentCore::new(AgentConfig { acknowledge: Some(policy), ..config() }, Table::new(7));
    pair.agent = node(pair.now, core);
    pair.run(1.0);
    pair.deliver();
    let mut own = Refusals::default();
    own.take(&refused(&[201]), 0);
    pair.agent.role_mut().handle_refusals(own);
    pair.heard();
    // A list without what its clients refuse would end what it said of them before its restart.
    pair.run(grace - 2.0);
    assert_eq!(pair.heard(), []);
    pair.run(2.0);
    let routes = refused(&[201]).into_iter().map(|(key, reason)| (key, Some(reason))).collect();
    let list = SessionChange::Refused { whole: true, more: 0, routes };
    assert_eq!(pair.heard(), [list, SessionChange::Installed(1)]);
}
