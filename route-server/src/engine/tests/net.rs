//! Engines joined by the production sync machines, without sockets and with a clock that the test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_sync_proto::GroupValue;
use fibcast_sync_proto::client::{Action, Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Server, ServerEvent, SessionId};

use super::super::{Engine, Request, client_for};
use crate::config::{Checked, Config, SourcePlan};
use crate::source::{Event, Group, Kind, Message, RouteChange, fixed};

/// The clock moves by this.
const TICK: Duration = Duration::from_millis(20);

pub struct Node {
    pub name: String,
    pub engine: Engine,
    server: Server,
    /// Each client with its servers, by node.
    clients: Vec<(Client, Vec<usize>)>,
    peers: Vec<usize>,
    pub up: bool,
}

/// By node, place and link of the client: the server's node and session.
type Connections = BTreeMap<(usize, usize, usize), (usize, SessionId)>;

/// Name, origins with their distances, peers.
type Plan = (String, Vec<(&'static str, u8)>, Vec<usize>);

pub struct Net {
    pub nodes: Vec<Node>,
    /// What each node was made with.
    plans: Vec<Plan>,
    connections: Connections,
    cut: BTreeSet<(usize, usize)>,
    base: Instant,
    pub now: Duration,
    starts: u64,
}

pub fn checked(name: &str, origins: &[(&str, u8)], peers: usize) -> Checked {
    let mut text =
        format!("[node]\nname = \"{name}\"\n[rib]\norigin_hold_ms = 1000\nready_timeout_ms = 60000\n");
    (0..peers).for_each(|_| text.push_str("[[peer]]\naddress = \"127.0.0.1:1\"\n"));
    let config: Config = fibcast_daemon::config::parse("x".as_ref(), text).unwrap().value;
    let source = |(origin, distance): &(&str, u8)| SourcePlan {
        origin: (*origin).to_owned(),
        distance: *distance,
        kind: Kind::Static(fixed::Options { path: "x".into(), vrf: 0 }),
    };
    Checked { config, sources: origins.iter().map(source).collect() }
}

impl Net {
    /// Nodes `a`, `b`, … with one origin each, by name and distance, and pairs that are registered with each other.
    pub fn new(origins: &[&[(&'static str, u8)]], pairs: &[(usize, usize)]) -> Self {
        let mut net = Net {
            nodes: Vec::new(),
            plans: Vec::new(),
            connections: BTreeMap::new(),
            cut: BTreeSet::new(),
            base: Instant::now(),
            now: Duration::from_secs(1),
            starts: 0,
        };
        for (n, origins) in origins.iter().enumerate() {
            let both = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
            let peers: Vec<usize> = both.filter(|(a, _)| *a == n).map(|(_, b)| b).collect();
            let name = char::from(b'a' + n as u8).to_string();
            net.plans.push((name, origins.to_vec(), peers));
            let node = net.make(n);
            net.nodes.push(node);
        }
        net
    }

    fn make(&mut self, n: usize) -> Node {
        self.starts += 1;
        let (name, origins, peers) = &self.plans[n];
        let engine =
            Engine::new(&checked(name, origins, peers.len()), 1000 * self.starts, self.base + self.now)
                .unwrap();
        let client = |peer: &usize| {
            let config = ClientConfig::new(name, "rib", vec![Role::Primary]);
            (Client::new(config, self.now), vec![*peer])
        };
        let clients = peers.iter().map(client).collect();
        let server = Server::new(name.as_str());
        Node { name: name.clone(), engine, server, clients, peers: peers.clone(), up: true }
    }

    pub fn say(&mut self, n: usize, source: usize, event: Event) {
        let at = self.base + self.now;
        self.nodes[n].engine.source_said(at, Message { source, event }).unwrap();
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

    /// All sources of a node have handed over what they have.
    pub fn end_of_table(&mut self, n: usize) {
        (0..self.plans[n].1.len()).for_each(|source| self.say(n, source, Event::EndOfTable));
    }

    /// Nothing gets through between two nodes, and both are told.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
        self.reset(|client, server| (client, server) == (a, b) || (client, server) == (b, a));
    }

    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// The process is gone, and its neighbours are told.
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
            self.nodes[server].server.close(session);
            self.disconnected(at, "reset");
        }
    }

    fn disconnected(&mut self, (n, place, link): (usize, usize, usize), reason: &str) {
        let node = &mut self.nodes[n];
        let table = node.engine.client_table(place);
        node.clients[place].0.handle_disconnected(self.now, link, reason, table);
    }

    /// Lets time pass.
    pub fn run(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.now += TICK;
            self.settle();
        }
    }

    /// Moves all bytes there are.
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
        let (now, instant) = (self.now, self.base + self.now);
        let node = &mut self.nodes[n];
        if node.server.poll_timeout().is_some_and(|at| at <= now) {
            node.server.handle_timeout(now, &node.engine);
        }
        let mut moved = false;
        for place in 0..self.nodes[n].clients.len() {
            let node = &mut self.nodes[n];
            if node.clients[place].0.poll_timeout().is_some_and(|at| at <= now) {
                node.clients[place].0.handle_timeout(now, node.engine.client_table(place));
            }
            while let Some(action) = self.nodes[n].clients[place].0.poll_action() {
                moved = true;
                self.act(n, place, action);
            }
            let node = &mut self.nodes[n];
            while let Some(event) = node.clients[place].0.poll_event() {
                node.engine.client_event(instant, place, &event).unwrap();
            }
            node.engine.watch(instant, place, &node.clients[place].0);
        }
        let node = &mut self.nodes[n];
        while node.engine.turn(instant).unwrap() {}
        while let Some(request) = self.nodes[n].engine.poll_request() {
            moved = true;
            self.change_client(n, request);
        }
        let node = &mut self.nodes[n];
        if node.engine.take_announcement() {
            node.server.announce(&node.engine);
        }
        node.server.pump(&node.engine);
        let mut ended = Vec::new();
        while let Some(event) = node.server.poll_event() {
            if let ServerEvent::Ended { session, .. } = event {
                ended.push(session);
            }
        }
        for session in ended {
            moved = true;
            self.carry();
            self.nodes[n].server.close(session);
            let at = self.connections.iter().find(|(_, to)| **to == (n, session)).map(|(at, _)| *at);
            if let Some(at) = at {
                self.connections.remove(&at);
                self.disconnected(at, "closed");
            }
        }
        moved
    }

    fn act(&mut self, n: usize, place: usize, action: Action) {
        match action {
            Action::Connect(link) => {
                let to = self.nodes[n].clients[place].1[link];
                if !self.nodes[to].up || self.cut.contains(&(n, to)) {
                    return self.disconnected((n, place, link), "refused");
                }
                let session = self.nodes[to].server.accept(self.now);
                self.connections.insert((n, place, link), (to, session));
                self.nodes[n].clients[place].0.handle_connected(self.now, link);
            }
            Action::Disconnect(link) => self.hang_up(n, place, Some(link)),
        }
    }

    fn hang_up(&mut self, n: usize, place: usize, link: Option<usize>) {
        let own = |at: &(usize, usize, usize)| at.0 == n && at.1 == place && link.is_none_or(|l| l == at.2);
        let gone: Vec<_> = self.connections.iter().filter(|(at, _)| own(at)).map(|(a, t)| (*a, *t)).collect();
        for (at, (server, session)) in gone {
            self.connections.remove(&at);
            self.nodes[server].server.close(session);
        }
    }

    fn change_client(&mut self, n: usize, request: Request) {
        let node = &self.nodes[n];
        let (place, client) = match request {
            Request::Close(place) => (place, (ClientConfig::new("", "", Vec::new()), Vec::new())),
            Request::Open { place, table, peers, prefers_first } => {
                let like = ClientConfig::new(&node.name, "", Vec::new());
                let (config, peers) = client_for(&like, table, &peers, prefers_first);
                (place, (config, peers.into_iter().map(|peer| node.peers[peer]).collect()))
            }
        };
        self.hang_up(n, place, None);
        let client = (Client::new(client.0, self.now), client.1);
        let clients = &mut self.nodes[n].clients;
        match clients.get_mut(place) {
            Some(old) => *old = client,
            None => clients.push(client),
        }
    }

    fn carry(&mut self) -> bool {
        let mut moved = false;
        let all: Vec<_> = self.connections.iter().map(|(at, to)| (*at, *to)).collect();
        for ((n, place, link), (server, session)) in all {
            let bytes = self.nodes[n].clients[place].0.transmit(link).to_vec();
            if !bytes.is_empty() {
                moved = true;
                self.nodes[n].clients[place].0.sent(link, bytes.len());
                let to = &mut self.nodes[server];
                to.server.handle_bytes(self.now, session, &bytes, &to.engine);
            }
            let bytes = self.nodes[server].server.transmit(session).to_vec();
            if !bytes.is_empty() {
                moved = true;
                self.nodes[server].server.sent(session, bytes.len());
                let node = &mut self.nodes[n];
                let table = node.engine.client_table(place);
                node.clients[place].0.handle_bytes(self.now, link, &bytes, table);
            }
        }
        moved
    }

    /// A node's forwarding table in words.
    pub fn shows(&self, n: usize) -> Vec<String> {
        let list = self.nodes[n].engine.routes(&fibcast_control::protocol::RouteQuery::All, 100);
        let show = |r: &fibcast_control::tables::Route| {
            format!("{} via {} of {}", r.prefix, r.via.join(","), r.origin.clone().unwrap_or_default())
        };
        list.routes.iter().map(show).collect()
    }

    /// How an origin stands at a node: name, state, how it counts, path.
    pub fn origin(&self, n: usize, name: &str) -> String {
        let list = self.nodes[n].engine.origin_status(self.base + self.now);
        let o = list.iter().find(|o| o.name == name).unwrap();
        format!("{} {} {} [{}]", o.name, o.state, o.counted, o.path.join(" "))
    }

    pub fn digests(&self) -> Vec<fibcast_sync_proto::RootDigest> {
        self.nodes.iter().filter(|node| node.up).map(|node| node.engine.fib().digest()).collect()
    }

    pub fn all_equal(&self) -> bool {
        let digests = self.digests();
        digests.iter().all(|digest| Some(digest) == digests.first())
    }
}
