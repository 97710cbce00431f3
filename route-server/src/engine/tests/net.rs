//! Nodes of route servers connected without sockets, with a clock that the test controls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use fibcast_sync_proto::GroupValue;
use fibcast_sync_proto::node::{self, Output};
use fibcast_sync_proto::server::{ServerEvent, SessionId};

use super::super::Engine;
use fibcast_control::protocol::RouteRequest;

use crate::config::{Checked, Config, SourcePlan};
use crate::source::{Event, Group, Kind, Message, RouteChange, fixed};

/// The clock moves by this.
const TICK: Duration = Duration::from_millis(20);

pub struct Node {
    core: node::Node<Engine>,
    peers: Vec<usize>,
    pub up: bool,
}

impl Node {
    pub fn engine(&self) -> &Engine {
        self.core.role()
    }
}

/// By node, client and link: the server's node and session.
type Connections = BTreeMap<(usize, usize, usize), (usize, SessionId)>;

/// Name, origins with their distances, peers.
type Plan = (String, Vec<(&'static str, u8)>, Vec<usize>);

pub struct Net {
    pub nodes: Vec<Node>,
    /// What each node was made with.
    plans: Vec<Plan>,
    connections: Connections,
    cut: BTreeSet<(usize, usize)>,
    pub now: Duration,
    starts: u64,
    max_prefixes: Option<u64>,
}

fn checked(name: &str, origins: &[(&str, u8)], peers: usize, max_prefixes: Option<u64>) -> Checked {
    let mut text =
        format!("[node]\nname = \"{name}\"\n[rib]\norigin_hold_ms = 1000\nready_timeout_ms = 60000\n");
    (0..peers).for_each(|_| text.push_str("[[peer]]\naddress = \"127.0.0.1:1\"\n"));
    for (origin, _) in origins {
        let limit = max_prefixes.map(|most| format!("max_prefixes = {most}\n")).unwrap_or_default();
        text.push_str(&format!("[[source]]\norigin = \"{origin}\"\nkind = \"static\"\n{limit}"));
    }
    let config: Config = fibcast_daemon::config::parse("x".as_ref(), text).unwrap().value;
    let source = |(origin, distance): &(&str, u8)| SourcePlan {
        origin: (*origin).to_owned(),
        distance: *distance,
        kind: Kind::Static(fixed::StaticOptions { path: "x".into(), vrf: 0, allow_empty: false }),
    };
    Checked { config, sources: origins.iter().map(source).collect() }
}

impl Net {
    /// The same, with a route limit (`max_prefixes`) for each source.
    pub fn limited(origins: &[&[(&'static str, u8)]], pairs: &[(usize, usize)], max_prefixes: u64) -> Self {
        let mut net = Self::new(&[], &[]);
        net.max_prefixes = Some(max_prefixes);
        net.fill(origins, pairs);
        net
    }

    /// Nodes `a`, `b`, … with one origin each, by name and distance, and pairs that are registered with each other.
    pub fn new(origins: &[&[(&'static str, u8)]], pairs: &[(usize, usize)]) -> Self {
        let mut net = Net {
            nodes: Vec::new(),
            plans: Vec::new(),
            connections: BTreeMap::new(),
            cut: BTreeSet::new(),
            now: Duration::from_secs(1),
            starts: 0,
            max_prefixes: None,
        };
        net.fill(origins, pairs);
        net
    }

    fn fill(&mut self, origins: &[&[(&'static str, u8)]], pairs: &[(usize, usize)]) {
        let net = self;
        for (n, origins) in origins.iter().enumerate() {
            let both = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
            let peers: Vec<usize> = both.filter(|(a, _)| *a == n).map(|(_, b)| b).collect();
            let name = char::from(b'a' + n as u8).to_string();
            net.plans.push((name, origins.to_vec(), peers));
            let node = net.make(n);
            net.nodes.push(node);
        }
    }

    pub fn engine(&mut self, n: usize) -> &mut Engine {
        self.nodes[n].core.role_mut()
    }

    fn make(&mut self, n: usize) -> Node {
        self.starts += 1;
        let (name, origins, peers) = &self.plans[n];
        let engine = Engine::new(
            &checked(name, origins, peers.len(), self.max_prefixes),
            1000 * self.starts,
            self.now,
        )
        .unwrap();
        let upstream = engine.upstream();
        let core = node::Node::new(name, self.now, engine, upstream);
        Node { core, peers: peers.clone(), up: true }
    }

    pub fn say(&mut self, n: usize, source: usize, event: Event) {
        let now = self.now;
        self.nodes[n].core.role_mut().handle_source(now, Message { source, event }).unwrap();
    }

    pub fn announce(&mut self, n: usize, source: usize, prefix: &str, via: &str) {
        let path = Some((Group::new(GroupValue::via(via.parse::<IpAddr>().unwrap())), 0));
        let change = RouteChange { vrf: 0, prefix: prefix.parse().unwrap(), path };
        self.say(n, source, Event::Batch(vec![change]));
    }

    pub fn withdraw(&mut self, n: usize, source: usize, prefix: &str) {
        let change = RouteChange { vrf: 0, prefix: prefix.parse().unwrap(), path: None };
        self.say(n, source, Event::Batch(vec![change]));
    }

    /// A source's thread panicked and restarts.
    pub fn restart_source(&mut self, n: usize, source: usize) {
        self.say(n, source, Event::Restarted("its thread panicked: index 9".into()));
    }

    /// All sources of a node have reached the end of their tables.
    pub fn end_of_table(&mut self, n: usize) {
        (0..self.plans[n].1.len()).for_each(|source| self.say(n, source, Event::EndOfTable));
    }

    /// Cuts the link between two nodes; both see it.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
        self.reset(|client, server| (client, server) == (a, b) || (client, server) == (b, a));
    }

    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// The process is gone, and its neighbors see it.
    pub fn kill(&mut self, n: usize) {
        self.nodes[n].up = false;
        self.reset(|client, server| client == n || server == n);
    }

    pub fn restart(&mut self, n: usize) {
        self.nodes[n] = self.make(n);
    }

    fn reset(&mut self, which: impl Fn(usize, usize) -> bool) {
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|((client, ..), (server, _))| which(*client, *server))
            .map(|(at, to)| (*at, *to))
            .collect();
        for (at, (server, session)) in gone {
            self.connections.remove(&at);
            self.nodes[server].core.handle_session_closed(session);
            self.disconnected(at, "reset");
        }
    }

    fn disconnected(&mut self, (n, client, link): (usize, usize, usize), reason: &str) {
        self.nodes[n].core.handle_disconnected(self.now, client, link, reason);
    }

    /// Advances the clock.
    pub fn run(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.now += TICK;
            self.settle();
        }
    }

    /// Transfers all pending bytes.
    pub fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for n in 0..self.nodes.len() {
                if self.nodes[n].up {
                    moved |= self.turn(n);
                }
            }
            moved |= self.carry();
        }
    }

    fn turn(&mut self, n: usize) -> bool {
        let now = self.now;
        self.nodes[n].core.handle_timeout(now);
        let mut moved = self.outputs(n);
        let core = &mut self.nodes[n].core;
        core.advance(now);
        while core.next_timeout().is_some_and(|at| at <= now) {
            core.handle_timeout(now);
            core.advance(now);
        }
        assert!(core.role_mut().take_failure().is_none());
        core.fill_sessions();
        moved |= self.outputs(n);
        let core = &mut self.nodes[n].core;
        let events: Vec<ServerEvent> = std::iter::from_fn(|| core.poll_session_event()).collect();
        for event in events {
            let ServerEvent::Ended { session, .. } = event else { continue };
            moved = true;
            self.carry();
            self.nodes[n].core.handle_session_closed(session);
            let at = self.connections.iter().find(|(_, to)| **to == (n, session)).map(|(at, _)| *at);
            if let Some(at) = at {
                self.connections.remove(&at);
                self.disconnected(at, "closed");
            }
        }
        moved
    }

    fn outputs(&mut self, n: usize) -> bool {
        let mut moved = false;
        while let Some(output) = self.nodes[n].core.poll_output() {
            moved = true;
            match output {
                Output::Opened(client) => self.hang_up(|at| (at.0, at.1) == (n, client)),
                Output::Disconnect { client, link } => self.hang_up(|at| at == (n, client, link)),
                Output::Event(..) => {}
                Output::Connect { client, link, server } => {
                    let to = self.nodes[n].peers[server];
                    if !self.nodes[to].up || self.cut.contains(&(n, to)) {
                        self.disconnected((n, client, link), "refused");
                        continue;
                    }
                    let session = self.nodes[to].core.handle_accepted(self.now);
                    self.connections.insert((n, client, link), (to, session));
                    self.nodes[n].core.handle_connected(self.now, client, link, None);
                }
            }
        }
        moved
    }

    fn hang_up(&mut self, which: impl Fn((usize, usize, usize)) -> bool) {
        let gone: Vec<_> =
            self.connections.iter().filter(|(at, _)| which(**at)).map(|(a, t)| (*a, *t)).collect();
        for (at, (server, session)) in gone {
            self.connections.remove(&at);
            self.nodes[server].core.handle_session_closed(session);
        }
    }

    fn carry(&mut self) -> bool {
        let mut moved = false;
        let all: Vec<_> = self.connections.iter().map(|(at, to)| (*at, *to)).collect();
        for ((n, client, link), (server, session)) in all {
            let up = self.nodes[n].core.client(client).unwrap().transmit(link).to_vec();
            if !up.is_empty() {
                moved = true;
                self.nodes[n].core.sent_to_server(client, link, up.len());
                self.nodes[server].core.handle_session_bytes(self.now, session, &up);
            }
            let down = self.nodes[server].core.server().transmit(session).to_vec();
            if !down.is_empty() {
                moved = true;
                self.nodes[server].core.sent_to_session(session, down.len());
                self.nodes[n].core.handle_link_bytes(self.now, client, link, &down);
            }
        }
        moved
    }

    /// A node's forwarding table as text.
    pub fn shows(&self, n: usize) -> Vec<String> {
        let list = self.nodes[n].engine().routes(self.now, &RouteRequest::default());
        let show = |r: &fibcast_control::tables::Route| {
            format!("{} via {} of {}", r.prefix, r.via.join(","), r.origin.clone().unwrap_or_default())
        };
        list.routes.iter().map(show).collect()
    }

    /// State of an origin at a node: name, state, eligibility, path.
    pub fn origin(&self, n: usize, name: &str) -> String {
        let list = self.nodes[n].engine().origin_status(self.now);
        let o = list.iter().find(|o| o.name == name).unwrap();
        format!("{} {} {} [{}]", o.name, o.state, o.eligibility, o.path.join(" "))
    }

    pub fn digests(&self) -> Vec<fibcast_sync_proto::RootDigest> {
        self.nodes.iter().filter(|node| node.up).map(|node| node.engine().fib().digest()).collect()
    }

    pub fn all_equal(&self) -> bool {
        let digests = self.digests();
        digests.iter().all(|digest| Some(digest) == digests.first())
    }
}
