//! Servers and one client on a virtual clock, joined by pipes that can be cut into portions of any size.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::time::Duration;

use fibcast_sync_proto::client::{Action, Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Served, Server, ServerEvent, SessionId, Tables};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};

pub fn label(n: u8) -> Label {
    Label::of(&GroupValue::via([192, 0, 2, n].into()))
}

pub fn group(n: u8) -> Change {
    Change::Put(Key::Group(label(n)), Value::Group(GroupValue::via([192, 0, 2, n].into())))
}

pub fn key(i: u32) -> Key {
    let prefix = ipnet::Ipv4Net::new((i << 8).into(), 24).unwrap().into();
    Key::Route { vrf: 0, prefix }
}

pub fn put(i: u32, n: u8) -> Change {
    Change::Put(key(i), Value::Route(label(n)))
}

/// A table of `n` routes over four groups.
pub fn table(epoch: u64, n: u32) -> Table {
    let mut t = Table::new(epoch);
    let groups = (0..4).map(group);
    t.commit(groups.chain((0..n).map(|i| put(i, (i % 4) as u8)))).unwrap();
    t
}

pub struct Node {
    pub server: Server,
    pub table: Table,
    pub ready: bool,
    pub path: Vec<String>,
    pub up: bool,
    pub silent: bool,
    pub log: Vec<ServerEvent>,
    session: Option<SessionId>,
}

struct Lent<'a>(&'a Table, bool, &'a [String]);

impl Tables for Lent<'_> {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: self.0, ready: self.1, path: self.2 })
    }
}

impl Node {
    pub fn new(name: &str, table: Table) -> Self {
        Self {
            server: Server::new(name),
            table,
            ready: true,
            path: Vec::new(),
            up: true,
            silent: false,
            log: Vec::new(),
            session: None,
        }
    }

    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.table.commit(changes).unwrap();
        self.server.pump(&Lent(&self.table, self.ready, &self.path));
    }
}

pub struct Net {
    pub now: Duration,
    pub nodes: Vec<Node>,
    pub client: Client,
    pub copy: Table,
    /// Bytes per delivery.
    pub portion: usize,
    pub events: Vec<ClientEvent>,
    pub to_client: Vec<u64>,
    pending_connects: VecDeque<usize>,
}

impl Net {
    pub fn new(nodes: Vec<Node>) -> Self {
        let roles = (0..nodes.len()).map(|i| if i == 0 { Role::Primary } else { Role::Secondary }).collect();
        let mut config = ClientConfig::new("nic", "fib", roles);
        config.failback = Some(Duration::from_secs(5));
        Self::with(nodes, config, Table::new(99))
    }

    pub fn with(nodes: Vec<Node>, config: ClientConfig, copy: Table) -> Self {
        let now = Duration::from_secs(1);
        let to_client = vec![0; nodes.len()];
        let client = Client::new(config, now);
        Self {
            now,
            nodes,
            client,
            copy,
            portion: usize::MAX,
            events: Vec::new(),
            to_client,
            pending_connects: VecDeque::new(),
        }
    }

    /// Moves bytes until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..10_000_000u64 {
            if !self.step() {
                return;
            }
        }
        panic!("never at rest");
    }

    /// Moves one portion each way.
    pub fn step(&mut self) -> bool {
        let mut moved = false;
        while let Some(action) = self.client.poll_action() {
            moved = true;
            match action {
                Action::Connect(i) => self.pending_connects.push_back(i),
                Action::Disconnect(i) => self.drop_session(i),
            }
        }
        while let Some(i) = self.pending_connects.pop_front() {
            if self.nodes[i].up {
                let id = self.nodes[i].server.accept(self.now);
                self.nodes[i].session = Some(id);
                self.client.handle_connected(self.now, i);
            } else {
                self.client.handle_disconnected(self.now, i, "refused", &mut self.copy);
            }
        }
        for i in 0..self.nodes.len() {
            moved |= self.carry(i);
            while let Some(e) = self.nodes[i].server.poll_event() {
                if let ServerEvent::Ended { session, .. } = &e {
                    let session = *session;
                    while self.carry(i) {}
                    if self.nodes[i].session == Some(session) {
                        self.drop_session(i);
                        self.client.handle_disconnected(self.now, i, "closed", &mut self.copy);
                    }
                }
                self.nodes[i].log.push(e);
            }
        }
        while let Some(e) = self.client.poll_event() {
            self.events.push(e);
        }
        moved
    }

    fn carry(&mut self, i: usize) -> bool {
        let node = &mut self.nodes[i];
        let Some(id) = node.session else { return false };
        if node.silent {
            return false;
        }
        let mut moved = false;
        let up = self.client.transmit(i);
        let bytes = up[..up.len().min(self.portion)].to_vec();
        if !bytes.is_empty() {
            self.client.sent(i, bytes.len());
            let lent = Lent(&node.table, node.ready, &node.path);
            node.server.handle_bytes(self.now, id, &bytes, &lent);
            moved = true;
        }
        let down = node.server.transmit(id);
        let bytes = down[..down.len().min(self.portion)].to_vec();
        if !bytes.is_empty() {
            node.server.sent(id, bytes.len());
            node.server.pump(&Lent(&node.table, node.ready, &node.path));
            self.to_client[i] += bytes.len() as u64;
            self.client.handle_bytes(self.now, i, &bytes, &mut self.copy);
            moved = true;
        }
        moved
    }

    fn drop_session(&mut self, i: usize) {
        if let Some(id) = self.nodes[i].session.take() {
            self.nodes[i].server.close(id);
        }
    }

    /// Jumps to the next wake-up, not beyond `by`.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.settle();
            let due = self
                .nodes
                .iter()
                .filter_map(|n| n.server.poll_timeout())
                .chain(self.client.poll_timeout())
                .min()
                .unwrap_or(end);
            if due >= end {
                self.now = end;
                self.wake();
                self.settle();
                return;
            }
            self.now = due.max(self.now + Duration::from_micros(1));
            self.wake();
        }
    }

    /// Calls all machines at the present time.
    pub fn wake_all(&mut self) {
        self.wake();
    }

    fn wake(&mut self) {
        for n in &mut self.nodes {
            n.server.handle_timeout(self.now, &Lent(&n.table, n.ready, &n.path));
        }
        self.client.handle_timeout(self.now, &mut self.copy);
    }

    /// TCP reset.
    pub fn kill(&mut self, i: usize) {
        self.nodes[i].up = false;
        self.drop_session(i);
        self.client.handle_disconnected(self.now, i, "reset", &mut self.copy);
        self.settle();
    }

    pub fn equal_to(&self, i: usize) -> bool {
        self.copy.digest() == self.nodes[i].table.digest()
    }
}
