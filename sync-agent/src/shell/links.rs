//! Connections to servers: opens them when a client machine asks, and moves bytes.
//!
//! A name is looked up on a thread of its own, because the resolver may block for seconds.

use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::{Action, Client, ClientEvent, LinkId};
use mio::net::TcpStream;
use mio::{Registry, Token};

use super::stream::{Flow, PIECES, Stream};
use super::tls::{self, Security};
use super::{Host, READ_BUDGET, ShellState, ShellWaker, WRITE_BUDGET};

/// A client by the order in which it was added.
pub type ClientId = usize;

/// The same failure of a server is logged again after this time.
const REPEAT: Duration = Duration::from_secs(60);

/// What went over the wire to and from a server since the start, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wire {
    /// Names in its certificate; empty on plain TCP.
    pub names: Vec<String>,
    /// Bytes received, those of TLS included.
    pub received: u64,
    /// Bytes sent, those of TLS included.
    pub sent: u64,
}

/// A client machine and the addresses of its servers.
#[derive(Debug)]
pub struct ClientSlot {
    /// The machine.
    pub machine: Client,
    /// As configured, in the order of the machine's servers.
    pub addresses: Vec<String>,
    /// Each server's connection as the shell sees it, in the same order.
    pub wires: Vec<Wire>,
    /// Last failure that was logged per server, and when.
    logged: HashMap<LinkId, (String, Duration)>,
    /// Grows when the place is given to another client.
    life: u64,
}

impl ClientSlot {
    pub(super) fn new(machine: Client, addresses: Vec<String>) -> Self {
        let wires = vec![Wire::default(); addresses.len()];
        Self { machine, addresses, wires, logged: HashMap::new(), life: 0 }
    }

    /// Gives the place to another client.
    pub(super) fn replace(&mut self, machine: Client, addresses: Vec<String>) {
        *self = Self { life: self.life + 1, ..Self::new(machine, addresses) };
    }

    /// The configured address of a server.
    pub fn address(&self, link: LinkId) -> &str {
        self.addresses.get(link).map_or("?", String::as_str)
    }
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// What of its counters is in the slot's wire already.
    noted: (u64, u64),
    client: ClientId,
    link: LinkId,
    /// TCP is open.
    connected: bool,
    /// The machine has it: connected, and the TLS handshake is over.
    ready: bool,
    readable: bool,
    writable: bool,
}

/// For a client in one of its lives.
type Found = (ClientId, u64, LinkId, Result<SocketAddr, String>);

/// All outgoing connections.
#[derive(Debug)]
pub(super) struct Links {
    all: HashMap<Token, Connection>,
    buffer: Vec<u8>,
    waker: ShellWaker,
    security: Option<Arc<Security>>,
    found: (Sender<Found>, Receiver<Found>),
}

impl Links {
    pub fn new(waker: ShellWaker, security: Option<Arc<Security>>) -> Self {
        Self { all: HashMap::new(), buffer: vec![0; 64 * 1024], waker, security, found: channel() }
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

    /// Does what the machines ask for, and passes their events to the host.
    pub fn act<H: Host>(
        &mut self,
        started: Instant,
        registry: &Registry,
        state: &mut ShellState,
        host: &mut H,
        next_token: &mut usize,
    ) {
        while let Ok((client, life, link, found)) = self.found.1.try_recv() {
            if state.clients.get(client).is_none_or(|slot| slot.life != life) {
                continue;
            }
            let opened = found.and_then(|address| self.open(client, link, address, registry, next_token));
            if let Err(reason) = opened
                && let Some(slot) = state.clients.get_mut(client)
            {
                slot.machine.handle_disconnected(started.elapsed(), link, &reason, host.client_table(client));
            }
        }
        for client in 0..state.clients.len() {
            while let Some(slot) = state.clients.get_mut(client) {
                let Some(action) = slot.machine.poll_action() else { break };
                match action {
                    Action::Connect(link) => self.resolve(client, slot.life, link, slot.address(link)),
                    Action::Disconnect(link) => self.drop_link(client, link),
                }
            }
            while let Some(slot) = state.clients.get_mut(client) {
                let Some(event) = slot.machine.poll_event() else { break };
                slot.log(started.elapsed(), &event);
                if let Some(reason) = slot.forged(&event, self.security.is_some())
                    && let ClientEvent::Registered { link, .. } = event
                {
                    slot.machine.handle_disconnected(
                        started.elapsed(),
                        link,
                        &reason,
                        host.client_table(client),
                    );
                    self.drop_link(client, link);
                    continue;
                }
                host.client_event(started.elapsed(), client, &event, state);
            }
        }
    }

    /// Closes all connections of a client.
    pub fn drop_client(&mut self, client: ClientId) {
        self.all.retain(|_, c| {
            let stays = c.client != client;
            if !stays {
                c.stream.close();
            }
            stays
        });
    }

    fn resolve(&self, client: ClientId, life: u64, link: LinkId, address: &str) {
        let sender = self.found.0.clone();
        let waker = self.waker.clone();
        let answer = move |found| {
            let _ = sender.send((client, life, link, found));
            waker.wake();
        };
        if let Ok(address) = address.parse::<SocketAddr>() {
            return answer(Ok(address));
        }
        let name = address.to_owned();
        let look_up = {
            let answer = answer.clone();
            move || {
                let found = name.to_socket_addrs().map_err(|e| e.to_string());
                answer(found.and_then(|mut all| all.next().ok_or_else(|| "name has no address".into())));
            }
        };
        if let Err(e) = std::thread::Builder::new().name("resolve".into()).spawn(look_up) {
            answer(Err(e.to_string()));
        }
    }

    fn open(
        &mut self,
        client: ClientId,
        link: LinkId,
        address: SocketAddr,
        registry: &Registry,
        next_token: &mut usize,
    ) -> Result<(), String> {
        self.drop_link(client, link);
        let tls = self.security.as_ref().map(|security| security.connect()).transpose()?;
        let tcp = TcpStream::connect(address).map_err(|e| e.to_string())?;
        let mut stream = Stream::new(tcp, tls);
        let token = Token(*next_token);
        *next_token += 1;
        stream.register(registry, token).map_err(|e| e.to_string())?;
        let connection = Connection {
            stream,
            noted: (0, 0),
            client,
            link,
            connected: false,
            ready: false,
            readable: false,
            writable: false,
        };
        self.all.insert(token, connection);
        Ok(())
    }

    fn drop_link(&mut self, client: ClientId, link: LinkId) {
        self.all.retain(|_, c| {
            let stays = (c.client, c.link) != (client, link);
            if !stays {
                c.stream.close();
            }
            stays
        });
    }

    pub fn read<H: Host>(
        &mut self,
        started: Instant,
        registry: &Registry,
        state: &mut ShellState,
        host: &mut H,
        next_token: &mut usize,
    ) {
        let mut closed = Vec::new();
        for (&token, c) in &mut self.all {
            let Some(slot) = state.clients.get_mut(c.client) else { continue };
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
            if !c.ready {
                match shaken(c, self.security.as_deref()) {
                    Ok(None) => continue,
                    Ok(Some(names)) => {
                        c.ready = true;
                        if let Some(wire) = slot.wires.get_mut(c.link) {
                            wire.names = names;
                        }
                        slot.machine.handle_connected(started.elapsed(), c.link);
                    }
                    Err(reason) => {
                        closed.push((token, reason));
                        continue;
                    }
                }
            }
            let (machine, link) = (&mut slot.machine, c.link);
            let table = host.client_table(c.client);
            let (_, flow) = c.stream.read(&mut self.buffer, READ_BUDGET, |bytes| {
                machine.handle_bytes(started.elapsed(), link, bytes, table);
            });
            c.note(&mut slot.wires);
            match flow {
                Flow::More => {}
                Flow::Blocked => c.readable = false,
                Flow::Closed(reason) => closed.push((token, reason)),
            }
        }
        self.close(started, closed, state, host);
        self.act(started, registry, state, host, next_token);
    }

    fn close<H: Host>(
        &mut self,
        started: Instant,
        closed: Vec<(Token, String)>,
        state: &mut ShellState,
        host: &mut H,
    ) {
        for (token, reason) in closed {
            let Some(c) = self.all.remove(&token) else { continue };
            if let Some(slot) = state.clients.get_mut(c.client) {
                let table = host.client_table(c.client);
                slot.machine.handle_disconnected(started.elapsed(), c.link, &reason, table);
            }
        }
    }

    pub fn timers<H: Host>(
        &mut self,
        now: Duration,
        registry: &Registry,
        state: &mut ShellState,
        host: &mut H,
        next_token: &mut usize,
    ) {
        let mut due = false;
        for (client, slot) in state.clients.iter_mut().enumerate() {
            if slot.machine.poll_timeout().is_some_and(|at| at <= now) {
                slot.machine.handle_timeout(now, host.client_table(client));
                due = true;
            }
        }
        if due {
            let started = Instant::now().checked_sub(now).unwrap_or_else(Instant::now);
            self.act(started, registry, state, host, next_token);
        }
    }

    pub fn write(&mut self, state: &mut ShellState) {
        for c in self.all.values_mut().filter(|c| c.connected && c.writable) {
            let Some(slot) = state.clients.get_mut(c.client) else { continue };
            let mut total = 0;
            while total < WRITE_BUDGET {
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let mut n = 0;
                if c.ready {
                    for (to, piece) in pieces.iter_mut().zip(slot.machine.transmit_pieces(c.link)) {
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
                        slot.machine.sent(c.link, n);
                    }
                    Err(Flow::Closed(_)) => {
                        // The read side learns of it, after what the server still said.
                        c.readable = true;
                        c.writable = false;
                    }
                    Err(_) => c.writable = false,
                }
                if !c.writable {
                    break;
                }
            }
            c.note(&mut slot.wires);
        }
    }

    /// Whether a socket that takes bytes has some waiting.
    pub fn wants_write(&self, state: &ShellState) -> bool {
        self.all.values().filter(|c| c.ready && c.writable).any(|c| {
            let waiting =
                |slot: &ClientSlot| slot.machine.transmit_pieces(c.link).any(|piece| !piece.is_empty());
            c.stream.has_output() || state.clients.get(c.client).is_some_and(waiting)
        })
    }
}

impl Connection {
    /// Adds what went over the wire to the slot's counters.
    fn note(&mut self, wires: &mut [Wire]) {
        let Some(wire) = wires.get_mut(self.link) else { return };
        let (received, sent) = (self.stream.received, self.stream.sent);
        wire.received += received - self.noted.0;
        wire.sent += sent - self.noted.1;
        self.noted = (received, sent);
    }
}

/// Goes on with a handshake. The server's names once it is over.
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

/// Whether a connection that was begun is open.
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

impl ClientSlot {
    /// Why a server is not who it says, if so.
    fn forged(&self, event: &ClientEvent, secure: bool) -> Option<String> {
        let ClientEvent::Registered { link, name } = event else { return None };
        let names = self.wires.get(*link).map(|w| w.names.as_slice()).unwrap_or_default();
        tls::is_named(names, name).err().filter(|_| secure)
    }

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
            ClientEvent::Mismatch { link, reason } => {
                tracing::warn!("server {}: {reason}; comparing anew", self.address(*link));
            }
            ClientEvent::Committed(_) => {}
        }
    }
}
