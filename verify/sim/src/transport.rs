//! Connections in operation: opened, transferred in portions, closed and lost.

use std::time::Duration;

use crate::connection::{Connection, Way};
use crate::invariants::{Rule, Violation};
use crate::network::{Event, Network};
use crate::node::{Kind, Running};

/// Seen by a reader when the other side closed the connection.
pub const CLOSED: &str = "connection closed by peer";
/// Seen by a reader when the other side's system does not know the connection any more.
pub const RESET: &str = "connection reset";
/// Seen by a client if nothing listens.
pub const REFUSED: &str = "connection refused";

impl Network {
    /// A client opens a connection.
    pub(crate) fn connect(&mut self, client: usize, slot: usize, link: usize) {
        self.hang_up(client, slot, link);
        let Some(server) = self.nodes.get(client).and_then(|n| n.server_of(slot, link)) else { return };
        let id = self.connection_id();
        self.connections.insert(id, Connection::new(client, slot, link, server));
        self.links.insert((client, slot, link), id);
        let at = self.now + self.delay(client, server);
        self.at(at, Event::Arrive(id));
    }

    /// A client closes a connection.
    pub(crate) fn hang_up(&mut self, client: usize, slot: usize, link: usize) {
        let Some(id) = self.links.remove(&(client, slot, link)) else { return };
        let abrupt = self.rng.percent(50);
        let Some(server) = self.connections.get(&id).map(|c| c.server) else { return };
        let at = self.now + self.delay(client, server);
        if let Some(c) = self.connections.get_mut(&id) {
            c.client_open = false;
            c.down.clear();
            if abrupt {
                c.up.clear();
            }
            c.up.end = Some((at.max(c.up.latest), CLOSED));
        }
        self.settle_connection(id);
        self.look(id, Way::Up);
    }

    /// Forgets a connection without ends.
    pub(crate) fn settle_connection(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(|c| !c.client_open && !c.server_open) {
            self.forget_connection(id);
        }
    }

    fn forget_connection(&mut self, id: u64) {
        let Some(c) = self.connections.remove(&id) else { return };
        // Leases are refreshed all the time.
        if !self.nodes.get(c.client).is_some_and(|node| node.is_catalog(c.slot)) {
            self.past_data += c.observer.data_frames;
        }
    }

    /// Queues an event for the content of a pipe.
    pub(crate) fn look(&mut self, id: u64, way: Way) {
        let now = self.now;
        let Some(pipe) = self.connections.get_mut(&id).map(|c| c.pipe(way)) else { return };
        let Some(due) = pipe.due().filter(|_| !pipe.scheduled) else { return };
        pipe.scheduled = true;
        self.at(due.max(now), Event::Pipe(id, way));
    }

    pub(crate) fn arrive(&mut self, id: u64) -> Result<(), Violation> {
        let now = self.now;
        let Some((client, server)) =
            self.connections.get(&id).filter(|c| c.client_open).map(|c| (c.client, c.server))
        else {
            self.forget_connection(id);
            return Ok(());
        };
        let cut = self.paths.get(&(client, server)).is_some_and(|p| p.cut_up.is_some());
        let back = now + self.delay(client, server);
        let Some(node) = self.nodes.get_mut(server) else { return Ok(()) };
        if cut || node.host_off {
            return Ok(());
        }
        if node.paused_until > now {
            let at = node.paused_until;
            self.at(at, Event::Arrive(id));
            return Ok(());
        }
        let local = node.local(now);
        let Some(running) = &mut node.running else {
            self.at(back, Event::Answer(id, false));
            return Ok(());
        };
        let session = running.handle_accepted(local);
        if let Some(c) = self.connections.get_mut(&id) {
            c.session = Some(session);
            c.server_open = true;
            c.down.latest = back + Duration::from_micros(1);
        }
        self.at(back, Event::Answer(id, true));
        self.turn(server)
    }

    pub(crate) fn answer(&mut self, id: u64, connected: bool) -> Result<(), Violation> {
        let now = self.now;
        let Some((n, slot, link, server)) =
            self.connections.get(&id).filter(|c| c.client_open).map(|c| (c.client, c.slot, c.link, c.server))
        else {
            return Ok(());
        };
        if self.paths.get(&(n, server)).is_some_and(|p| p.cut_down.is_some()) {
            return Ok(());
        }
        let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
        if node.paused_until > now {
            let at = node.paused_until;
            self.at(at, Event::Answer(id, connected));
            return Ok(());
        }
        let local = node.local(now);
        let Some(running) = &mut node.running else { return Ok(()) };
        if connected {
            running.handle_connected(local, slot, link, None);
            if let Some(c) = self.connections.get_mut(&id) {
                c.connected = true;
            }
            self.turn(n)
        } else {
            self.client_end(id, REFUSED)
        }
    }

    /// The client's end sees the loss of the connection.
    pub(crate) fn client_end(&mut self, id: u64, reason: &str) -> Result<(), Violation> {
        let now = self.now;
        let Some(c) = self.connections.get_mut(&id).filter(|c| c.client_open) else { return Ok(()) };
        c.client_open = false;
        c.up.clear();
        c.down.clear();
        let (n, slot, link) = (c.client, c.slot, c.link);
        self.links.remove(&(n, slot, link));
        self.settle_connection(id);
        let Some(node) = self.nodes.get_mut(n) else { return Ok(()) };
        let local = node.local(now);
        let Some(running) = &mut node.running else { return Ok(()) };
        running.handle_disconnected(local, slot, link, reason);
        self.turn(n)
    }

    /// The server's end sees the loss of the connection.
    pub(crate) fn server_end(&mut self, id: u64) {
        let Some(c) = self.connections.get_mut(&id).filter(|c| c.server_open) else { return };
        c.server_open = false;
        c.up.clear();
        c.down.clear();
        let (n, session) = (c.server, c.session);
        self.settle_connection(id);
        if let (Some(running), Some(session)) =
            (self.nodes.get_mut(n).and_then(|n| n.running.as_mut()), session)
        {
            running.handle_session_closed(session);
        }
    }

    /// Reads a portion of the arrived bytes.
    pub(crate) fn pipe(&mut self, id: u64, way: Way) -> Result<(), Violation> {
        let now = self.now;
        let Some(c) = self.connections.get_mut(&id) else { return Ok(()) };
        let (client, server, slot, link) = (c.client, c.server, c.slot, c.link);
        let (open, connected, session) =
            (if way == Way::Up { c.server_open } else { c.client_open }, c.connected, c.session);
        let void = c.void;
        let pipe = c.pipe(way);
        pipe.scheduled = false;
        if void || !open {
            pipe.clear();
            return Ok(());
        }
        let (reader, writer) = if way == Way::Up { (server, client) } else { (client, server) };
        let path = self.paths.get(&(client, server)).cloned().unwrap_or_default();
        if path.cut(way).is_some() {
            return Ok(());
        }
        let Some(due) = pipe.due() else { return Ok(()) };
        let paused = self.nodes.get(reader).map_or(Duration::ZERO, |n| n.paused_until);
        // The answer to the connection attempt comes first; if it was lost, only after the client's timeout.
        let due = if way == Way::Down && !connected { due.max(now + Duration::from_millis(1)) } else { due };
        if due.max(paused) > now {
            pipe.scheduled = true;
            self.at(due.max(paused), Event::Pipe(id, way));
            return Ok(());
        }
        if pipe.is_drained() {
            let reason = pipe.end.map_or(CLOSED, |(_, reason)| reason);
            if way == Way::Up {
                self.server_end(id);
                return self.turn(server);
            }
            return self.client_end(id, reason);
        }
        let mut limit = pipe.next_len();
        if self.rng.percent(self.settings.portions) {
            limit = self.rng.skewed(1, limit as u64) as usize;
        }
        let mut pause = self.rng.below(50);
        if let Some(rate) = path.slow {
            (limit, pause) = (limit.min(rate), 10_000);
        }
        let Some(c) = self.connections.get_mut(&id) else { return Ok(()) };
        let bytes = c.pipe(way).read(now, limit);
        if way == Way::Up {
            c.observer.to_server(&bytes);
        }
        let pipe = c.pipe(way);
        if let Some(due) = pipe.due() {
            pipe.scheduled = true;
            self.at(due.max(now + Duration::from_micros(pause)), Event::Pipe(id, way));
        }
        let Some(node) = self.nodes.get_mut(reader) else { return Ok(()) };
        let local = node.local(now);
        let Some(running) = &mut node.running else { return Ok(()) };
        match (way, session) {
            (Way::Up, Some(session)) => running.handle_session_bytes(local, session, &bytes),
            (Way::Up, None) => {}
            (Way::Down, _) => running.handle_link_bytes(local, slot, link, &bytes),
        }
        self.turn(reader)?;
        // Room for the writer.
        self.flush(writer)
    }

    /// Writes a node's output to its connections, as far as there is room.
    pub(crate) fn flush(&mut self, n: usize) -> Result<(), Violation> {
        let Some(mut running) = self.nodes.get_mut(n).and_then(|node| node.running.take()) else {
            return Ok(());
        };
        let result = self.flush_running(n, &mut running);
        if let Some(node) = self.nodes.get_mut(n) {
            node.running = Some(running);
        }
        result
    }

    pub(crate) fn flush_running(&mut self, n: usize, running: &mut Running) -> Result<(), Violation> {
        let own = |c: &Connection| c.client == n || c.server == n;
        let ids: Vec<u64> = self.connections.iter().filter(|(_, c)| own(c)).map(|(&id, _)| id).collect();
        let mut moved = true;
        while moved {
            moved = false;
            for &id in &ids {
                self.write(id, n, running, Way::Up)?;
                moved |= self.write(id, n, running, Way::Down)?;
            }
            if moved {
                // Room in the queues: they are refilled.
                running.fill_sessions();
            }
        }
        for id in ids {
            self.finish_session(id, n, running);
        }
        Ok(())
    }

    fn write(&mut self, id: u64, n: usize, running: &mut Running, way: Way) -> Result<bool, Violation> {
        let Some(c) = self.connections.get_mut(&id) else { return Ok(false) };
        let session = c.session.unwrap_or_default();
        let ours = match way {
            Way::Up => c.client == n && c.client_open && c.connected,
            Way::Down => c.server == n && c.server_open,
        };
        if !ours {
            return Ok(false);
        }
        let (client, server, slot, link) = (c.client, c.server, c.slot, c.link);
        let mut any = false;
        loop {
            let bytes = match way {
                Way::Up => running.client(slot).map_or(&[][..], |c| c.transmit(link)),
                Way::Down => running.server().transmit(session),
            };
            let Some(c) = self.connections.get_mut(&id) else { return Ok(any) };
            let room = self.settings.room.saturating_sub(c.pipe(way).buffered);
            let mut limit = bytes.len().min(room);
            if limit == 0 {
                break;
            }
            if self.rng.percent(self.settings.portions) {
                limit = self.rng.skewed(1, limit as u64) as usize;
            }
            let portion = bytes.get(..limit).unwrap_or_default().to_vec();
            let at = self.now + self.delay(client, server);
            let Some(c) = self.connections.get_mut(&id) else { return Ok(any) };
            if !c.void {
                c.pipe(way).send(at, &portion);
            }
            match way {
                Way::Up => running.sent_to_server(slot, link, limit),
                Way::Down => {
                    running.sent_to_session(session, limit);
                    let seen = c.observer.to_client(&portion);
                    seen.map_err(|text| {
                        Violation::new(
                            Rule::NoEmptyMessage,
                            format!("{} to {}: {text}", self.name(server), self.name(client)),
                        )
                    })?;
                }
            }
            any = true;
        }
        self.look(id, way);
        Ok(any)
    }

    /// Closes a session that the server ended and whose last frame is sent.
    fn finish_session(&mut self, id: u64, n: usize, running: &mut Running) {
        let Some(c) = self.connections.get(&id).filter(|c| c.server == n && c.server_open && c.ending) else {
            return;
        };
        let (client, server, session) = (c.client, c.server, c.session.unwrap_or_default());
        if !running.server().transmit(session).is_empty() {
            return;
        }
        running.handle_session_closed(session);
        let at = self.now + self.delay(client, server);
        if let Some(c) = self.connections.get_mut(&id) {
            c.server_open = false;
            c.up.clear();
            c.down.end = Some((at.max(c.down.latest), CLOSED));
        }
        self.settle_connection(id);
        self.look(id, Way::Down);
    }

    /// Connections of a process or host after its end. `notified`: the other systems get a reset.
    pub(crate) fn drop_connections(&mut self, n: usize, notified: bool) {
        let own = |c: &Connection| c.client == n || c.server == n;
        let ids: Vec<u64> = self.connections.iter().filter(|(_, c)| own(c)).map(|(&id, _)| id).collect();
        for id in ids {
            let Some((client, server)) = self.connections.get(&id).map(|c| (c.client, c.server)) else {
                continue;
            };
            let at = self.now + self.delay(client, server);
            let Some(c) = self.connections.get_mut(&id) else { continue };
            c.up.clear();
            c.down.clear();
            c.void |= !notified;
            let way = if c.client == n {
                c.client_open = false;
                self.links.remove(&(c.client, c.slot, c.link));
                Way::Up
            } else {
                c.server_open = false;
                Way::Down
            };
            if notified {
                c.pipe(way).end = Some((at, RESET));
            }
            self.settle_connection(id);
            self.look(id, way);
        }
    }

    /// A TCP reset. An end without a reset keeps a dead connection.
    pub(crate) fn reset(&mut self, id: u64, tell_client: bool, tell_server: bool) -> Result<(), Violation> {
        let now = self.now;
        let Some(c) = self.connections.get_mut(&id) else { return Ok(()) };
        c.up.clear();
        c.down.clear();
        c.void |= !(tell_client && tell_server);
        let (client, server) = (c.client, c.server);
        if let Some(path) = self.paths.get_mut(&(client, server)) {
            path.trouble = now;
        }
        if tell_server {
            self.server_end(id);
            self.turn(server)?;
        }
        if tell_client {
            self.client_end(id, RESET)?;
        }
        Ok(())
    }

    /// Whether a node is a route server.
    pub(crate) fn is_route_server(&self, n: usize) -> bool {
        let running = self.nodes.get(n).and_then(|node| node.running.as_ref());
        running.is_some_and(|running| matches!(running.role(), Kind::RouteServer(_)))
    }
}
