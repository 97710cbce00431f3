//! The core of a node, without sockets, clock or threads: sessions, clients, and a role that owns their tables.
//!
//! [`Node`] joins the server machine, one client machine for each table that it gets from others, and a [`Role`]: an agent
//! ([`crate::agent::AgentCore`]) or a route server. The daemons and the simulator run the same `Node`; they add sockets and a clock.
//!
//! The owner
//! 1. gives input: bytes, connections that came and went, and [`Node::handle_timeout`] when [`Node::next_timeout`] is due;
//! 2. gives the role what concerns it alone ([`Node::role_mut`]): routes of a source, an operator's command;
//! 3. calls [`Node::advance`] once after any number of those;
//! 4. takes output: [`Node::poll_output`], [`Node::poll_session_event`], and the bytes that wait for clients ([`Node::server`]) and for
//!    servers ([`Node::client`]).
//!
//! `now` is the time since any fixed instant and never goes back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::client::{Action, Client, ClientConfig, ClientEvent, LinkId};
use crate::server::{Limits, Server, ServerEvent, SessionId, Tables};
use crate::table::Table;

/// A client machine by its index. The clients of a node's configuration come first, those that its role asked for follow.
pub type ClientId = usize;

/// A server by its index in the owner's list of servers.
pub type ServerIndex = usize;

/// What makes a node an agent or a route server: it owns the tables that clients fill and sessions serve.
pub trait Role: Tables {
    /// The table that a client fills.
    fn client_table(&mut self, client: ClientId) -> &mut Table;

    /// Something happened to a client: a commit, another server in use, a connection lost.
    fn handle_client_event(&mut self, now: Duration, client: ClientId, event: &ClientEvent);

    /// Follows what the clients have become, and does what is due by `now`.
    fn advance(&mut self, now: Duration, clients: &[Client]) -> News;

    /// The next client to open or to close.
    fn poll_request(&mut self) -> Option<ClientRequest> {
        None
    }

    /// When [`Role::advance`] has to be called again, if nothing else happens.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

/// What a role's clients downstream are to learn at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// A served table has a new commit.
    pub changed: bool,
    /// Readiness or path of a served table changed.
    pub announce: bool,
}

/// A client to open in place of an earlier one, whose connections end. One without servers is closed.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// An index in use, or the next one.
    pub client: ClientId,
    /// What it is.
    pub config: ClientConfig,
    /// Where each of the configuration's servers is to be found.
    pub servers: Vec<ServerIndex>,
}

/// What the owner is to do or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The client is new: connections of an earlier one of this index are to be closed.
    Opened(ClientId),
    /// Open a connection.
    Connect {
        /// For this client.
        client: ClientId,
        /// And this of its links.
        link: LinkId,
        /// To this server.
        server: ServerIndex,
    },
    /// Close the connection, if it is open. No [`Node::handle_disconnected`] is needed.
    Disconnect {
        /// The client.
        client: ClientId,
        /// Its link.
        link: LinkId,
    },
    /// Something happened to a client. The role has heard it already.
    Event(ClientId, ClientEvent),
}

/// Whether a node's own word about its name is backed by the names in its certificate.
///
/// # Errors
/// Says which name it gave and which ones it has.
pub fn is_named(names: &[String], name: &str) -> Result<(), String> {
    if names.iter().any(|n| n == name) {
        return Ok(());
    }
    Err(format!("it calls itself {name}, but its certificate is for {}", names.join(", ")))
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Node<R> {
    server: Server,
    clients: Vec<Client>,
    /// Of each client, where its links lead.
    upstream: Vec<Vec<ServerIndex>>,
    /// Names in the certificates of servers that have one.
    names: HashMap<(ClientId, LinkId), Vec<String>>,
    role: R,
    outputs: VecDeque<Output>,
}

impl<R: Role> Node<R> {
    /// A node with the clients of its configuration, each with its servers.
    pub fn new(
        name: &str,
        now: Duration,
        role: R,
        clients: impl IntoIterator<Item = (ClientConfig, Vec<ServerIndex>)>,
    ) -> Self {
        let mut node = Self {
            server: Server::new(name),
            clients: Vec::new(),
            upstream: Vec::new(),
            names: HashMap::new(),
            role,
            outputs: VecDeque::new(),
        };
        for (client, (config, servers)) in clients.into_iter().enumerate() {
            node.open(now, ClientRequest { client, config, servers });
        }
        node
    }

    /// Same, with other limits on what sessions hold.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.server = self.server.with_limits(limits);
        self
    }

    /// The role.
    pub fn role(&self) -> &R {
        &self.role
    }

    /// The role, for input that concerns it alone.
    pub fn role_mut(&mut self) -> &mut R {
        &mut self.role
    }

    /// The role, when the node is no more.
    pub fn into_role(self) -> R {
        self.role
    }

    /// The sessions, to read.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// All clients, to read.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// A client, to read.
    pub fn client(&self, client: ClientId) -> Option<&Client> {
        self.clients.get(client)
    }

    /// Where a client's links lead.
    pub fn upstream(&self, client: ClientId) -> &[ServerIndex] {
        self.upstream.get(client).map_or(&[], Vec::as_slice)
    }

    /// A connection came in.
    pub fn handle_accepted(&mut self, now: Duration) -> SessionId {
        self.server.accept(now)
    }

    /// Bytes of a session came in.
    pub fn handle_session_bytes(&mut self, now: Duration, session: SessionId, bytes: &[u8]) {
        self.server.handle_bytes(now, session, bytes, &self.role);
    }

    /// A session's connection is gone. Makes no event.
    pub fn handle_session_closed(&mut self, session: SessionId) {
        self.server.close(session);
    }

    /// So many bytes of a session were sent. Call [`Node::fill_sessions`] once after any number of those.
    pub fn sent_to_session(&mut self, session: SessionId, n: usize) {
        self.server.sent(session, n);
    }

    /// There is room in the queues of sessions: those that are behind get more.
    pub fn fill_sessions(&mut self) {
        self.server.pump(&self.role);
    }

    /// A link's connection is open. `names`: those in the server's certificate; none on plain TCP, where a server may call itself as it
    /// likes.
    pub fn handle_connected(
        &mut self,
        now: Duration,
        client: ClientId,
        link: LinkId,
        names: Option<Vec<String>>,
    ) {
        match names {
            Some(names) => self.names.insert((client, link), names),
            None => self.names.remove(&(client, link)),
        };
        self.with_client(now, client, |machine, _| machine.handle_connected(now, link));
    }

    /// Bytes from a server came in.
    pub fn handle_link_bytes(&mut self, now: Duration, client: ClientId, link: LinkId, bytes: &[u8]) {
        self.with_client(now, client, |machine, table| machine.handle_bytes(now, link, bytes, table));
    }

    /// A link's connection is gone, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Duration, client: ClientId, link: LinkId, reason: &str) {
        self.with_client(now, client, |machine, table| machine.handle_disconnected(now, link, reason, table));
    }

    /// So many bytes for a server were sent.
    pub fn sent_to_server(&mut self, client: ClientId, link: LinkId, n: usize) {
        if let Some(machine) = self.clients.get_mut(client) {
            machine.sent(link, n);
        }
    }

    /// Heartbeats, silence and reconnections of sessions and clients that are due.
    pub fn handle_timeout(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(self.server.poll_timeout()) {
            self.server.handle_timeout(now, &self.role);
        }
        for client in 0..self.clients.len() {
            if due(self.clients.get(client).and_then(Client::poll_timeout)) {
                self.with_client(now, client, |machine, table| machine.handle_timeout(now, table));
            }
        }
    }

    /// Lets the role follow all input, opens and closes clients as it asks, and gives sessions what is new.
    pub fn advance(&mut self, now: Duration) {
        self.open_requested(now);
        let news = self.role.advance(now, &self.clients);
        self.open_requested(now);
        if news.announce {
            self.server.announce(&self.role);
        }
        if news.changed {
            self.server.pump(&self.role);
        }
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What happened to a session.
    pub fn poll_session_event(&mut self) -> Option<ServerEvent> {
        self.server.poll_event()
    }

    /// When [`Node::handle_timeout`] and [`Node::advance`] have to be called, if nothing else happens.
    pub fn next_timeout(&self) -> Option<Duration> {
        let clients = self.clients.iter().filter_map(Client::poll_timeout);
        clients.chain(self.server.poll_timeout()).chain(self.role.next_timeout()).min()
    }

    fn open_requested(&mut self, now: Duration) {
        while let Some(request) = self.role.poll_request() {
            self.open(now, request);
        }
    }

    fn open(&mut self, now: Duration, request: ClientRequest) {
        let ClientRequest { client, config, servers } = request;
        let machine = Client::new(config, now);
        match (self.clients.get_mut(client), self.upstream.get_mut(client)) {
            (Some(old), Some(upstream)) => (*old, *upstream) = (machine, servers),
            _ => {
                self.clients.push(machine);
                self.upstream.push(servers);
            }
        }
        self.names.retain(|(of, _), _| *of != client);
        // What an earlier client of this index wanted is no longer wanted.
        self.outputs.retain(|output| match output {
            Output::Connect { client: of, .. } | Output::Disconnect { client: of, .. } => *of != client,
            Output::Opened(_) | Output::Event(..) => true,
        });
        self.outputs.push_back(Output::Opened(client));
        self.collect(now, client);
    }

    fn with_client(&mut self, now: Duration, client: ClientId, input: impl FnOnce(&mut Client, &mut Table)) {
        let Some(machine) = self.clients.get_mut(client) else { return };
        input(machine, self.role.client_table(client));
        self.collect(now, client);
    }

    /// Takes what a client wants and says.
    fn collect(&mut self, now: Duration, client: ClientId) {
        while let Some(action) = self.clients.get_mut(client).and_then(Client::poll_action) {
            self.outputs.push_back(match action {
                Action::Disconnect(link) => Output::Disconnect { client, link },
                Action::Connect(link) => {
                    let Some(&server) = self.upstream(client).get(link) else { continue };
                    Output::Connect { client, link, server }
                }
            });
        }
        while let Some(event) = self.clients.get_mut(client).and_then(Client::poll_event) {
            if let ClientEvent::Registered { link, name } = &event
                && let Some(names) = self.names.get(&(client, *link))
                && let Err(reason) = is_named(names, name)
            {
                let link = *link;
                self.outputs.push_back(Output::Disconnect { client, link });
                // Its events are the next ones of this loop.
                if let Some(machine) = self.clients.get_mut(client) {
                    machine.handle_disconnected(now, link, &reason, self.role.client_table(client));
                }
                continue;
            }
            self.role.handle_client_event(now, client, &event);
            self.outputs.push_back(Output::Event(client, event));
        }
    }
}
