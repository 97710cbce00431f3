//! Connections to servers: opened on a client's request, and moved bytes.
//!
//! Names are resolved on a separate thread, because the resolver may block for seconds.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fibcast_sync_proto::client::{ClientEvent, LinkId};
use fibcast_sync_proto::node::{ClientId, Node, NodeRole, Output, ServerIndex};
use mio::Token;
use mio::net::TcpStream;

use super::context::{Context, Host, ShellWaker};
use super::state::{ClientLinks, Wire};
use super::stream::{Flow, PIECES, Stream, WRITE_BUDGET};
use super::tls::{End, Security};

/// Bytes read from one server before the next one has its turn: about 10 ms of decoding.
const READ_BUDGET: usize = 64 * 1024;
/// The same failure of a server is logged again after this time.
const REPEAT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// Bytes that the slot's counters already include.
    noted: (u64, u64),
    client: ClientId,
    link: LinkId,
    /// TCP is connected.
    connected: bool,
    /// Connected, and the TLS handshake is complete.
    ready: bool,
    readable: bool,
    writable: bool,
    /// The rules by which the server was admitted or judged last.
    judged: u64,
}

/// The resolved addresses of a server, for one lookup.
type Found = (ClientId, LinkId, u64, Result<Vec<SocketAddr>, String>);

/// The attempts to reach one server, whose name may have several addresses.
#[derive(Debug)]
struct Attempts {
    /// The address of the last attempt. The next round begins after it, unless the client had registered there.
    last: Option<SocketAddr>,
    /// Addresses that are left in this round.
    left: VecDeque<SocketAddr>,
}

impl Attempts {
    /// A round over the addresses in the resolver's order (RFC 6724). It begins after the one that was tried last, which may be a host that
    /// answers nothing: such an attempt ends with the client's patience instead of an error.
    fn round(last: Option<SocketAddr>, addresses: Vec<SocketAddr>) -> Self {
        let mut left = VecDeque::from(addresses);
        if let Some(at) = last.and_then(|last| left.iter().position(|address| *address == last)) {
            left.rotate_left(at + 1);
        }
        Self { last, left }
    }
}

/// All outgoing connections.
#[derive(Debug)]
pub(super) struct Links {
    all: HashMap<Token, Connection>,
    /// Addresses of the servers by index.
    servers: Vec<String>,
    buffer: Vec<u8>,
    waker: ShellWaker,
    security: Option<Arc<Security>>,
    found: (Sender<Found>, Receiver<Found>),
    attempts: HashMap<(ClientId, LinkId), Attempts>,
    /// Number of the last lookup of each server: an earlier one that answers late is outdated.
    lookups: HashMap<(ClientId, LinkId), u64>,
    last_lookup: u64,
}

impl Links {
    pub fn new(waker: ShellWaker, security: Option<Arc<Security>>) -> Self {
        Self {
            all: HashMap::new(),
            servers: Vec::new(),
            buffer: vec![0; 64 * 1024],
            waker,
            security,
            found: channel(),
            attempts: HashMap::new(),
            lookups: HashMap::new(),
            last_lookup: 0,
        }
    }

    pub fn set_servers(&mut self, addresses: Vec<String>) {
        self.servers = addresses;
    }

    pub fn mark(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(c) = self.all.get_mut(&token) {
            c.readable |= readable;
            c.writable |= writable;
        }
    }

    pub fn has_work(&self) -> bool {
        self.all.values().any(|c| c.readable && c.connected)
    }

    /// Executes the node's requests, and passes client events to the host.
    pub fn act<R: NodeRole, H: Host<R>>(&mut self, context: &mut Context<'_, R, H>) {
        while let Ok((client, link, lookup, found)) = self.found.1.try_recv() {
            if self.lookups.get(&(client, link)) != Some(&lookup) {
                continue;
            }
            self.lookups.remove(&(client, link));
            let opened = found.and_then(|addresses| {
                self.begin_round(client, link, addresses);
                self.open_next(client, link, context)
            });
            if let Err(reason) = opened {
                context.node.handle_disconnected(context.clock.now(), client, link, &reason);
            }
        }
        while let Some(output) = context.node.poll_output() {
            match output {
                Output::Opened(client) => self.renew(client, context),
                Output::Connect { client, link, server } => {
                    self.resolve(client, link, server);
                }
                Output::Disconnect { client, link } => {
                    self.lookups.remove(&(client, link));
                    self.drop_connections(|c| (c.client, c.link) == (client, link));
                }
                Output::Event(client, event) => {
                    let now = context.clock.now();
                    if let ClientEvent::Registered { link, .. } = &event {
                        // This address is a server; others of the name are tried only after a failure.
                        self.attempts.remove(&(client, *link));
                    }
                    if let Some(links) = context.state.clients.get_mut(client) {
                        links.log(now, &event);
                    }
                    context.host.client_event(now, context.node, client, &event);
                }
            }
        }
    }

    /// Forgets the connections of an earlier client with this index.
    fn renew<R: NodeRole, H>(&mut self, client: ClientId, context: &mut Context<'_, R, H>) {
        self.drop_connections(|c| c.client == client);
        self.attempts.retain(|(other, _), _| *other != client);
        self.lookups.retain(|(other, _), _| *other != client);
        let servers = context.node.upstream(client).iter();
        let addresses: Vec<String> = servers.map(|&server| self.address(server).to_owned()).collect();
        let clients = &mut context.state.clients;
        if client >= clients.len() {
            clients.resize_with(client + 1, ClientLinks::default);
        }
        if let Some(links) = clients.get_mut(client) {
            let wires = vec![Wire::default(); addresses.len()];
            *links = ClientLinks { addresses, wires, logged: HashMap::new() };
        }
    }

    fn address(&self, server: ServerIndex) -> &str {
        self.servers.get(server).map_or("?", String::as_str)
    }

    fn drop_connections(&mut self, which: impl Fn(&Connection) -> bool) {
        self.all.retain(|_, c| {
            let over = which(c);
            if over {
                c.stream.close();
            }
            !over
        });
    }

    fn resolve(&mut self, client: ClientId, link: LinkId, server: ServerIndex) {
        self.last_lookup += 1;
        let lookup = self.last_lookup;
        self.lookups.insert((client, link), lookup);
        let address = self.address(server);
        let sender = self.found.0.clone();
        let waker = self.waker.clone();
        let answer = move |found| {
            let _ = sender.send((client, link, lookup, found));
            waker.wake();
        };
        if let Ok(address) = address.parse::<SocketAddr>() {
            return answer(Ok(vec![address]));
        }
        let name = address.to_owned();
        let look_up = {
            let answer = answer.clone();
            move || {
                answer(name.to_socket_addrs().map(Iterator::collect).map_err(|e| e.to_string()));
            }
        };
        if let Err(e) = std::thread::Builder::new().name("resolve".into()).spawn(look_up) {
            answer(Err(e.to_string()));
        }
    }

    fn begin_round(&mut self, client: ClientId, link: LinkId, addresses: Vec<SocketAddr>) {
        let last = self.attempts.remove(&(client, link)).and_then(|attempts| attempts.last);
        self.attempts.insert((client, link), Attempts::round(last, addresses));
    }

    /// Opens a connection to the next address of this round for which the system tries one.
    fn open_next<R, H>(
        &mut self,
        client: ClientId,
        link: LinkId,
        context: &mut Context<'_, R, H>,
    ) -> Result<(), String> {
        let mut outcome = Err("name has no address".to_owned());
        while let Some(attempts) = self.attempts.get_mut(&(client, link))
            && let Some(address) = attempts.left.pop_front()
        {
            attempts.last = Some(address);
            outcome = self.open(client, link, address, context);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn open<R, H>(
        &mut self,
        client: ClientId,
        link: LinkId,
        address: SocketAddr,
        context: &mut Context<'_, R, H>,
    ) -> Result<(), String> {
        self.drop_connections(|c| (c.client, c.link) == (client, link));
        let tls = self.security.as_ref().map(|security| security.connect()).transpose()?;
        let tcp = TcpStream::connect(address).map_err(|e| e.to_string())?;
        let mut stream = Stream::new(tcp, tls);
        let token = context.token();
        stream.register(context.registry, token).map_err(|e| e.to_string())?;
        let connection = Connection {
            stream,
            noted: (0, 0),
            client,
            link,
            connected: false,
            ready: false,
            readable: false,
            writable: false,
            judged: self.security.as_ref().map_or(0, |security| security.generation()),
        };
        self.all.insert(token, connection);
        Ok(())
    }

    pub fn read<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Context { clock, state, node, .. } = context;
        let mut closed = Vec::new();
        for (&token, c) in &mut self.all {
            if !c.connected && (c.writable || c.readable) {
                match connected(c.stream.tcp()) {
                    Ok(true) => {
                        c.connected = true;
                        c.readable = true;
                        let _ = c.stream.tcp().set_nodelay(true);
                    }
                    Ok(false) => continue,
                    Err(reason) => {
                        closed.push((token, reason));
                        continue;
                    }
                }
            }
            if !c.connected || !c.readable {
                continue;
            }
            let Some(links) = state.clients.get_mut(c.client) else { continue };
            if !c.ready {
                match shaken(c, self.security.as_deref()) {
                    Ok(None) => continue,
                    Ok(Some(names)) => {
                        c.ready = true;
                        let secured = self.security.as_ref().map(|_| names.clone());
                        if let Some(wire) = links.wires.get_mut(c.link) {
                            wire.address = c.stream.tcp().peer_addr().ok();
                            wire.names = names;
                        }
                        node.handle_connected(clock.now(), c.client, c.link, secured);
                    }
                    Err(reason) => {
                        closed.push((token, reason));
                        continue;
                    }
                }
            }
            let (client, link) = (c.client, c.link);
            let (_, flow) = c.stream.read(&mut self.buffer, READ_BUDGET, |bytes| {
                node.handle_link_bytes(clock.now(), client, link, bytes);
            });
            c.note(&mut links.wires);
            match flow {
                Flow::More => {}
                Flow::Blocked => c.readable = false,
                Flow::Closed(reason) => closed.push((token, reason)),
            }
        }
        for (token, reason) in closed {
            let Some(c) = self.all.remove(&token) else { continue };
            let more =
                self.attempts.get(&(c.client, c.link)).is_some_and(|attempts| !attempts.left.is_empty());
            if !c.connected && more && self.open_next(c.client, c.link, context).is_ok() {
                continue;
            }
            context.node.handle_disconnected(context.clock.now(), c.client, c.link, &reason);
        }
    }

    /// Leaves servers that the rules of the last reload do not permit.
    pub fn judge<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Some(security) = &self.security else { return };
        let generation = security.generation();
        let mut refused = Vec::new();
        for (&token, c) in self.all.iter_mut().filter(|(_, c)| c.judged != generation && c.ready) {
            c.judged = generation;
            let names = c.stream.names().unwrap_or_else(|| Ok(Vec::new()));
            let trusted = security.still_trusts(c.stream.chain(), End::Server);
            if let Err(reason) = trusted.and(names).and_then(|names| security.may_serve(&names)) {
                refused.push((token, reason));
            }
        }
        for (token, reason) in refused {
            let Some(mut c) = self.all.remove(&token) else { continue };
            c.stream.close();
            let reason = format!("refused: {reason}");
            context.node.handle_disconnected(context.clock.now(), c.client, c.link, &reason);
        }
    }

    pub fn write<R: NodeRole, H>(&mut self, context: &mut Context<'_, R, H>) {
        let Context { state, node, .. } = context;
        for c in self.all.values_mut().filter(|c| c.connected && c.writable) {
            let Some(links) = state.clients.get_mut(c.client) else { continue };
            let mut total = 0;
            while total < WRITE_BUDGET {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let mut n = 0;
                if c.ready
                    && let Some(machine) = node.client(c.client)
                {
                    for (to, piece) in pieces.iter_mut().zip(machine.transmit_pieces(c.link)) {
                        *to = IoSlice::new(piece);
                        n += 1;
                    }
                }
                let wrote = match pieces.get(..n).unwrap_or_default() {
                    [] => match c.stream.flush() {
                        Flow::More => break,
                        flow => Err(flow),
                    },
                    pieces => c.stream.write(pieces),
                };
                match wrote {
                    Ok(n) => {
                        total += n;
                        node.sent_to_server(c.client, c.link, n);
                    }
                    Err(Flow::Closed(_)) => {
                        // The read side reports it, after the server's last bytes.
                        c.readable = true;
                        c.writable = false;
                    }
                    Err(_) => c.writable = false,
                }
                if !c.writable {
                    break;
                }
            }
            c.note(&mut links.wires);
        }
    }

    /// Whether any writable socket has bytes to send.
    pub fn wants_write<R: NodeRole>(&self, node: &Node<R>) -> bool {
        self.all.values().filter(|c| c.ready && c.writable).any(|c| {
            let waiting = |machine: &fibcast_sync_proto::client::Client| !machine.transmit(c.link).is_empty();
            c.stream.has_output() || node.client(c.client).is_some_and(waiting)
        })
    }
}

impl Connection {
    /// Adds transferred bytes to the slot's counters.
    fn note(&mut self, wires: &mut [Wire]) {
        let Some(wire) = wires.get_mut(self.link) else { return };
        let (received, sent) = (self.stream.received, self.stream.sent);
        wire.received += received - self.noted.0;
        wire.sent += sent - self.noted.1;
        self.noted = (received, sent);
    }
}

/// Continues a handshake. Returns the server's names once it is complete.
fn shaken(c: &mut Connection, security: Option<&Security>) -> Result<Option<Vec<String>>, String> {
    match c.stream.shake() {
        Flow::Blocked => {
            c.readable = false;
            return Ok(None);
        }
        Flow::Closed(reason) => return Err(reason),
        Flow::More => {}
    }
    let names = c.stream.names().unwrap_or_else(|| Ok(Vec::new()))?;
    if let Some(security) = security {
        security.may_serve(&names)?;
    }
    Ok(Some(names))
}

/// Whether a pending connection is established.
fn connected(stream: &TcpStream) -> Result<bool, String> {
    if let Ok(Some(e)) | Err(e) = stream.take_error() {
        return Err(e.to_string());
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotConnected => Ok(false),
        Err(e) => Err(e.to_string()),
    }
}

impl ClientLinks {
    fn log(&mut self, now: Duration, event: &ClientEvent) {
        match event {
            ClientEvent::Registered { link, name } => {
                self.logged.remove(link);
                tracing::info!("server {} ({name}): registered", self.address(*link));
            }
            ClientEvent::Lost { link, error, active } => {
                let text = error.to_string();
                let known = self.logged.get(link).is_some_and(|(old, at)| *old == text && now < *at + REPEAT);
                if !known || *active {
                    let in_use = if *active { " (it was in use)" } else { "" };
                    tracing::warn!("server {}: {text}{in_use}; retrying", self.address(*link));
                    self.logged.insert(*link, (text, now));
                }
            }
            ClientEvent::Activated { link, how, took, differing } => {
                tracing::info!(
                    "server {}: in use after {:.1} ms, {how:?}, {differing} routes differed",
                    self.address(*link),
                    took.as_secs_f64() * 1e3
                );
            }
            ClientEvent::Stalled { link, behind, left } => {
                let behind = behind.map_or("another table".into(), |behind| format!("{behind} commits more"));
                let then =
                    if *left { "another server is used" } else { "no other is capable, the table is kept" };
                tracing::warn!(
                    "server {}: stalled: it announces {behind} than we have and sends none (sync.progress_ms); {then}",
                    self.address(*link)
                );
            }
            ClientEvent::Mismatch { link, reason } => {
                tracing::warn!("server {}: {reason}; comparing the tables again", self.address(*link));
            }
            ClientEvent::Committed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_after_the_address_that_was_tried_last() {
        let all: Vec<SocketAddr> =
            ["[2001:db8::1]:7830", "192.0.2.1:7830", "192.0.2.2:7830"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(Attempts::round(None, all.clone()).left, all);
        assert_eq!(Attempts::round(Some(all[0]), all.clone()).left, [all[1], all[2], all[0]]);
        assert_eq!(Attempts::round(Some(all[2]), all.clone()).left, all);
        let gone = "198.51.100.1:1".parse().unwrap();
        assert_eq!(Attempts::round(Some(gone), all.clone()).left, all);
    }
}
