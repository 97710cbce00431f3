//! Connections to servers: opens them when a client machine asks, and moves bytes.
//!
//! A name is looked up on a thread of its own, because the resolver may block for seconds.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use fibcast_sync_proto::client::{Action, Client, ClientEvent, LinkId};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::socket::{self, Flow};
use super::{Host, READ_BUDGET, ShellState, ShellWaker, WRITE_BUDGET};

/// A client by the order in which it was added.
pub type ClientId = usize;

/// The same failure of a server is logged again after this time.
const REPEAT: Duration = Duration::from_secs(60);

/// A client machine and the addresses of its servers.
#[derive(Debug)]
pub struct ClientSlot {
    /// The machine.
    pub machine: Client,
    /// As configured, in the order of the machine's servers.
    pub addresses: Vec<String>,
    /// Last failure that was logged per server, and when.
    logged: HashMap<LinkId, (String, Duration)>,
}

impl ClientSlot {
    pub(super) fn new(machine: Client, addresses: Vec<String>) -> Self {
        Self { machine, addresses, logged: HashMap::new() }
    }

    /// The configured address of a server.
    pub fn address(&self, link: LinkId) -> &str {
        self.addresses.get(link).map_or("?", String::as_str)
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    client: ClientId,
    link: LinkId,
    connected: bool,
    readable: bool,
    writable: bool,
}

type Found = (ClientId, LinkId, Result<SocketAddr, String>);

/// All outgoing connections.
#[derive(Debug)]
pub(super) struct Links {
    all: HashMap<Token, Connection>,
    buffer: Vec<u8>,
    waker: ShellWaker,
    found: (Sender<Found>, Receiver<Found>),
}

impl Links {
    pub fn new(waker: ShellWaker) -> Self {
        Self { all: HashMap::new(), buffer: vec![0; 64 * 1024], waker, found: channel() }
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
        while let Ok((client, link, found)) = self.found.1.try_recv() {
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
                    Action::Connect(link) => self.resolve(client, link, slot.address(link)),
                    Action::Disconnect(link) => {
                        self.all.retain(|_, c| (c.client, c.link) != (client, link));
                    }
                }
            }
            while let Some(slot) = state.clients.get_mut(client) {
                let Some(event) = slot.machine.poll_event() else { break };
                slot.log(started.elapsed(), &event);
                host.client_event(started.elapsed(), client, &event, state);
            }
        }
    }

    fn resolve(&self, client: ClientId, link: LinkId, address: &str) {
        let sender = self.found.0.clone();
        let waker = self.waker.clone();
        let answer = move |found| {
            let _ = sender.send((client, link, found));
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
        self.all.retain(|_, c| (c.client, c.link) != (client, link));
        let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
        let token = Token(*next_token);
        *next_token += 1;
        registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| e.to_string())?;
        let connection =
            Connection { stream, client, link, connected: false, readable: false, writable: false };
        self.all.insert(token, connection);
        Ok(())
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
                match connected(&c.stream) {
                    Ok(true) => {
                        c.connected = true;
                        c.readable = true;
                        let _ = c.stream.set_nodelay(true);
                        slot.machine.handle_connected(started.elapsed(), c.link);
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
            let (machine, link) = (&mut slot.machine, c.link);
            let table = host.client_table(c.client);
            let flow = socket::read(&mut c.stream, &mut self.buffer, READ_BUDGET, |bytes| {
                machine.handle_bytes(started.elapsed(), link, bytes, table);
                true
            });
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
                let bytes = slot.machine.transmit(c.link);
                if bytes.is_empty() {
                    break;
                }
                match socket::write(&mut c.stream, bytes) {
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
        }
    }
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
