//! The core of a node, without sockets, clock or threads: sessions, clients, and a role that owns their tables.
//!
//! [`Node`] combines the server state machine, a client state machine for each table that it gets from others, and a [`NodeRole`]: an agent
//! ([`crate::agent::AgentCore`]) or a route server. Daemons and simulator run the same `Node`; they add sockets and a clock.
//!
//! The owner
//! 1. passes input: bytes, opened and closed connections, and [`Node::handle_timeout`] when [`Node::next_timeout`] is due;
//! 2. passes input to the role alone ([`Node::role_mut`]): routes of a source, an operator's command;
//! 3. calls [`Node::advance`] once after any number of those;
//! 4. takes output: [`Node::poll_output`], [`Node::poll_session_event`], and the bytes for clients ([`Node::server`]) and for servers
//!    ([`Node::client`]).
//!
//! `now` is the time since a fixed instant, and never goes back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::client::{Action, Client, ClientConfig, ClientEvent, LinkId};
use crate::digest::DigestKeys;
use crate::refusal::Refusals;
use crate::server::{Limits, Permit, Server, ServerEvent, SessionId, SessionReport, Tables};
use crate::table::Table;
use crate::wire::ProtocolError;

/// A client state machine by its index. The configured clients come first, those that the role requested follow.
pub type ClientId = usize;

/// A server by its index in the owner's list of servers.
pub type ServerIndex = usize;

/// The part that makes a node an agent or a route server. It owns the tables that clients fill and sessions serve.
pub trait NodeRole: Tables {
    /// The table that a client fills.
    fn client_table(&mut self, client: ClientId) -> &mut Table;

    /// Handles a client event: a commit, another active server, a lost connection.
    fn handle_client_event(&mut self, now: Duration, client: ClientId, event: &ClientEvent);

    /// Processes what the clients have become, and what is due by `now`.
    fn advance(&mut self, now: Duration, clients: &[Client]) -> News;

    /// Handles a report about a client downstream.
    fn handle_session(&mut self, _now: Duration, _report: &SessionReport) {}

    /// Up to this serial of a client's table everything is installed, here and downstream; none: nothing is.
    fn installed(&self, _client: ClientId) -> Option<u64> {
        None
    }

    /// The routes of a client's table that are not forwarded by, here or downstream; it is asked after [`NodeRole::installed`].
    /// None while that is not known, because clients downstream may not have connected since the start.
    fn refused(&self, _client: ClientId) -> Option<&Refusals> {
        None
    }

    /// The next client to open or close.
    fn poll_request(&mut self) -> Option<ClientRequest> {
        None
    }

    /// Time at which [`NodeRole::advance`] must be called, if nothing else happens.
    fn next_timeout(&self) -> Option<Duration> {
        None
    }
}

/// News for the clients downstream, to be announced at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// A served table has a new commit.
    pub changed: bool,
    /// Readiness or path of a served table changed.
    pub announce: bool,
}

/// A client to open in place of an earlier one, whose connections are closed. One without servers is only closed.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// An index in use, or the next one.
    pub client: ClientId,
    /// Its configuration.
    pub config: ClientConfig,
    /// The owner's index of each configured server.
    pub servers: Vec<ServerIndex>,
}

/// Requests and events for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The client is new: close the connections of an earlier one with this index.
    Opened(ClientId),
    /// Open a connection.
    Connect {
        /// The client.
        client: ClientId,
        /// Its link.
        link: LinkId,
        /// The server.
        server: ServerIndex,
    },
    /// Close the connection if it is open. No [`Node::handle_disconnected`] is needed.
    Disconnect {
        /// The client.
        client: ClientId,
        /// Its link.
        link: LinkId,
    },
    /// A client event. The role has handled it already.
    Event(ClientId, ClientEvent),
}

/// Checks that the name which a node claims is in its certificate.
///
/// # Errors
/// The claimed name and the names in the certificate, as text.
pub fn is_named(names: &[String], name: &str) -> Result<(), String> {
    if names.iter().any(|n| n == name) {
        return Ok(());
    }
    Err(format!("it calls itself {name}, but its certificate is for {}", names.join(", ")))
}

/// The core of a node; see the module's documentation.
#[derive(Debug)]
pub struct Node<R> {
    server: Server,
    clients: Vec<Client>,
    /// The servers of each client's links.
    upstream: Vec<Vec<ServerIndex>>,
    /// Names in the certificates of servers that have one.
    names: HashMap<(ClientId, LinkId), Vec<String>>,
    role: R,
    outputs: VecDeque<Output>,
    /// Most bytes of memory of all clients' batches before their Commits.
    pending: usize,
}

impl<R: NodeRole> Node<R> {
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
            pending: usize::MAX,
        };
        for (client, (config, servers)) in clients.into_iter().enumerate() {
            node.open(now, ClientRequest { client, config, servers });
        }
        node
    }

    /// The same with other limits for sessions.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.server = self.server.with_limits(limits);
        self
    }

    /// The same with a limit on the memory of what servers have sent and not committed, in bytes for all clients.
    #[must_use]
    pub fn with_pending(mut self, bytes: usize) -> Self {
        self.pending = bytes;
        self
    }

    /// The same with these digest keys, of which the first is that of the role's tables.
    #[must_use]
    pub fn with_digest_keys(mut self, keys: DigestKeys) -> Self {
        self.server.set_digest_keys(keys);
        self
    }

    /// Replaces the digest keys; clients register again. The owner rekeys the role's tables.
    pub fn set_digest_keys(&mut self, keys: DigestKeys) {
        self.server.set_digest_keys(keys);
    }

    /// The role.
    pub fn role(&self) -> &R {
        &self.role
    }

    /// The role, for input to it alone.
    pub fn role_mut(&mut self) -> &mut R {
        &mut self.role
    }

    /// The role, at the end of the node.
    pub fn into_role(self) -> R {
        self.role
    }

    /// The sessions.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// All clients.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// A client.
    pub fn client(&self, client: ClientId) -> Option<&Client> {
        self.clients.get(client)
    }

    /// The servers of a client's links.
    pub fn upstream(&self, client: ClientId) -> &[ServerIndex] {
        self.upstream.get(client).map_or(&[], Vec::as_slice)
    }

    /// A connection was accepted.
    pub fn handle_accepted(&mut self, now: Duration) -> SessionId {
        self.server.accept(now)
    }

    /// The same for a client with limited permission.
    pub fn handle_accepted_with(&mut self, now: Duration, permit: Option<Box<dyn Permit>>) -> SessionId {
        self.server.accept_with(now, permit)
    }

    /// Ends a session for a reason beyond the protocol, with a last frame to its client.
    pub fn end_session(&mut self, session: SessionId, error: ProtocolError) {
        self.server.end(session, error);
    }

    /// Replaces the limits of sessions.
    pub fn set_limits(&mut self, limits: Limits) {
        self.server.set_limits(limits);
    }

    /// Handles bytes received from a session.
    pub fn handle_session_bytes(&mut self, now: Duration, session: SessionId, bytes: &[u8]) {
        self.server.handle_bytes(now, session, bytes, &self.role);
    }

    /// A session's connection was closed. Causes no event.
    pub fn handle_session_closed(&mut self, session: SessionId) {
        self.server.close(session);
    }

    /// Confirms that `n` bytes were sent to a session. Call [`Node::fill_sessions`] once after any number of those.
    pub fn sent_to_session(&mut self, session: SessionId, n: usize) {
        self.server.sent(session, n);
    }

    /// Refills the queues of sessions.
    pub fn fill_sessions(&mut self) {
        self.server.pump(&self.role);
    }

    /// A link's connection is open. `names` are those in the server's certificate; none on plain TCP, where a server may claim any name.
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

    /// Handles bytes received from a server.
    pub fn handle_link_bytes(&mut self, now: Duration, client: ClientId, link: LinkId, bytes: &[u8]) {
        self.with_client(now, client, |machine, table| machine.handle_bytes(now, link, bytes, table));
        self.check_pending(now, client);
    }

    /// Ends the connection that holds most, if all together hold too much.
    fn check_pending(&mut self, now: Duration, client: ClientId) {
        let share = self.pending / self.clients.len().max(1);
        // Only a client beyond its share can have brought the sum above the limit.
        if self.client(client).is_none_or(|machine| machine.pending_bytes() <= share)
            || self.clients.iter().map(Client::pending_bytes).sum::<usize>() <= self.pending
        {
            return;
        }
        let heaviest = self.clients.iter().enumerate().max_by_key(|(_, machine)| machine.pending_bytes());
        let Some((client, link)) = heaviest.and_then(|(id, machine)| Some((id, machine.heaviest_link()?)))
        else {
            return;
        };
        let reason = format!(
            "batches before their Commits take more than {} bytes of memory (node.limits.pending_bytes)",
            self.pending
        );
        self.outputs.push_back(Output::Disconnect { client, link });
        self.handle_disconnected(now, client, link, &reason);
    }

    /// A link's connection ended, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Duration, client: ClientId, link: LinkId, reason: &str) {
        self.with_client(now, client, |machine, table| machine.handle_disconnected(now, link, reason, table));
    }

    /// Confirms that `n` bytes were sent to a server.
    pub fn sent_to_server(&mut self, client: ClientId, link: LinkId, n: usize) {
        if let Some(machine) = self.clients.get_mut(client) {
            machine.sent(link, n);
        }
    }

    /// Handles due heartbeats, silence and reconnections of sessions and clients.
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

    /// Lets the role process all input, opens and closes clients as it requests, and passes new data to sessions.
    pub fn advance(&mut self, now: Duration) {
        self.open_requested(now);
        while let Some(report) = self.server.poll_report() {
            self.role.handle_session(now, &report);
        }
        let news = self.role.advance(now, &self.clients);
        self.open_requested(now);
        if news.announce {
            self.server.announce(&self.role);
        }
        if news.changed {
            self.server.pump(&self.role);
        }
        for (client, machine) in self.clients.iter_mut().enumerate() {
            machine.handle_installed(now, self.role.installed(client), self.role.refused(client));
        }
    }

    /// The next request or event.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next session event.
    pub fn poll_session_event(&mut self) -> Option<ServerEvent> {
        self.server.poll_event()
    }

    /// Time at which [`Node::handle_timeout`] and [`Node::advance`] must be called, if nothing else happens.
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
        // Requests of an earlier client with this index are void.
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

    /// Collects a client's requests and events.
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
                // Its events follow in this loop.
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
