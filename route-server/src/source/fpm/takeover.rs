//! Which connection speaks for zebra. No socket, no clock.
//!
//! There is at most one *session*, whose routes count, and one *newcomer*. A connection begins as a newcomer and changes nothing: it has a
//! small buffer, and must send a complete frame with a valid route or next-hop group. Then it becomes the session if there is none, or as
//! soon as the one before has ended. It never ends a session: that is alive as long as TCP says so (the owner of the sockets sets
//! keepalives, so that a host that died is noticed within [`SILENCE`]).
//!
//! A newcomer that sends rubbish is refused at once, one that sends no route within [`PROOF_TIMEOUT`] if it keeps others out, and one whose
//! predecessor lives on after [`SILENCE`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fibcast_netlink::{Messages, NextHop, Route, kind};

use super::frame::{self, LONGEST};
use super::receiver::Receiver;

/// Read buffer of the session: several of the longest frames.
const BUFFER: usize = 8 * LONGEST;
/// Most bytes that a newcomer may send before a route: neighbors and labels.
const PRELUDE: usize = 4 * LONGEST;
/// How long a newcomer that has sent no route keeps its place when another one comes.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time in which TCP notices that a peer's host is gone, see `super`; so long a newcomer waits for the end of a session.
pub const SILENCE: Duration = Duration::from_secs(12);

/// The owner's name for a connection.
pub type Id = u64;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another newcomer has the only place.
    #[error("{0} is being examined; at most one connection may wait")]
    Busy(SocketAddr),
    /// It gave way to another newcomer, or sent the beginning of a frame and no more.
    #[error("no complete frame with a route or next-hop group")]
    Silent,
    /// It does not speak FPM.
    #[error("not FPM with netlink messages (zebra's module dplane_fpm_nl)")]
    Invalid,
    /// The session is alive.
    #[error("the session of {0} is alive; only one zebra may speak for an origin")]
    Alive(SocketAddr),
}

/// What the owner must close, and why it was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The connection.
    pub id: Id,
    /// Its peer.
    pub peer: SocketAddr,
    /// Why.
    pub refusal: Refusal,
}

/// What the bytes of a connection led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays as it was.
    Open,
    /// It is the session now.
    Session,
    /// The session cannot be continued: close it.
    Broken(String),
    /// The newcomer is refused: close it.
    Refused(Refused),
}

#[derive(Debug)]
struct Connection {
    id: Id,
    peer: SocketAddr,
    since: Instant,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of frames without a route.
    prelude: usize,
    /// It has sent a valid route or group.
    proved: bool,
}

/// The connections of one source and their receiver.
#[derive(Debug)]
pub struct Takeover {
    /// What the session's frames go to.
    pub receiver: Receiver,
    session: Option<Connection>,
    newcomer: Option<Connection>,
    route: Route,
}

impl Takeover {
    /// Without connections.
    pub fn new(receiver: Receiver) -> Self {
        Self { receiver, session: None, newcomer: None, route: Route::default() }
    }

    /// The session's connection.
    pub fn session(&self) -> Option<Id> {
        self.session.as_ref().map(|session| session.id)
    }

    /// The newcomer's connection.
    pub fn newcomer(&self) -> Option<Id> {
        self.newcomer.as_ref().map(|newcomer| newcomer.id)
    }

    /// A connection of an authorized peer. Returns the newcomer that gives way to it.
    ///
    /// # Errors
    /// [`Refusal::Busy`] while another newcomer has its chance: close this one.
    pub fn enter(&mut self, now: Instant, id: Id, peer: SocketAddr) -> Result<Option<Refused>, Refusal> {
        let gives_way = |newcomer: &Connection| {
            !newcomer.proved && now.saturating_duration_since(newcomer.since) >= PROOF_TIMEOUT
        };
        if let Some(other) = self.newcomer.as_ref().filter(|other| !gives_way(other)) {
            return Err(Refusal::Busy(other.peer));
        }
        let before = self.newcomer.take().map(|other| other.refused(Refusal::Silent));
        self.newcomer = Some(Connection {
            id,
            peer,
            since: now,
            buffer: Vec::new(),
            filled: 0,
            prelude: 0,
            proved: false,
        });
        Ok(before)
    }

    /// Room for bytes of a connection; empty: it must not be read now.
    pub fn room(&mut self, id: Id) -> &mut [u8] {
        let size = if self.session() == Some(id) { BUFFER } else { LONGEST };
        let both = [&mut self.session, &mut self.newcomer];
        let Some(connection) = both.into_iter().flatten().find(|connection| connection.id == id) else {
            return &mut [];
        };
        if connection.proved && size == LONGEST {
            return &mut [];
        }
        if connection.buffer.len() < size {
            connection.buffer.resize(size, 0);
        }
        connection.buffer.get_mut(connection.filled..).unwrap_or_default()
    }

    /// `n` bytes were read into a connection's room.
    pub fn filled(&mut self, now: Instant, id: Id, n: usize) -> Outcome {
        if let Some(session) = self.session.as_mut().filter(|session| session.id == id) {
            session.filled = (session.filled + n).min(session.buffer.len());
            return self.receive(now);
        }
        let Some(newcomer) = self.newcomer.as_mut().filter(|newcomer| newcomer.id == id) else {
            return Outcome::Open;
        };
        newcomer.filled = (newcomer.filled + n).min(newcomer.buffer.len());
        match newcomer.examine(&mut self.route) {
            Ok(()) => self.promote(now),
            Err(refusal) => self.refuse(refusal).map_or(Outcome::Open, Outcome::Refused),
        }
    }

    /// A connection was closed by its peer, or is broken. Returns its peer and the bytes of an incomplete frame.
    pub fn closed(&mut self, now: Instant, id: Id) -> Option<(SocketAddr, usize)> {
        if let Some(newcomer) = self.newcomer.take_if(|newcomer| newcomer.id == id) {
            return Some((newcomer.peer, newcomer.filled));
        }
        let session = self.session.take_if(|session| session.id == id)?;
        self.receiver.disconnected(now);
        Some((session.peer, session.filled))
    }

    /// The newcomer becomes the session if it may.
    pub fn promote(&mut self, now: Instant) -> Outcome {
        if self.session.is_some() {
            return Outcome::Open;
        }
        let Some(newcomer) = self.newcomer.take_if(|newcomer| newcomer.proved) else { return Outcome::Open };
        self.receiver.connected(now, newcomer.peer.port());
        self.session = Some(newcomer);
        match self.receive(now) {
            Outcome::Open => Outcome::Session,
            other => other,
        }
    }

    /// Refuses a newcomer whose time is over.
    pub fn turn(&mut self, now: Instant) -> Option<Refused> {
        let newcomer = self.newcomer.as_ref()?;
        if now.saturating_duration_since(newcomer.since) < SILENCE {
            return None;
        }
        match &self.session {
            Some(session) if newcomer.proved => self.refuse(Refusal::Alive(session.peer)),
            // A zebra without any route has nothing to send, and keeps nobody out.
            None if newcomer.filled == 0 && newcomer.prelude == 0 => None,
            _ => self.refuse(Refusal::Silent),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Option<Refused> {
        self.newcomer.take().map(|newcomer| newcomer.refused(refusal))
    }

    /// Passes the session's complete frames to the receiver.
    fn receive(&mut self, now: Instant) -> Outcome {
        let Some(session) = &mut self.session else { return Outcome::Open };
        match self.receiver.take(session.buffer.get(..session.filled).unwrap_or_default()) {
            Ok(taken) => {
                session.consume(taken);
                Outcome::Open
            }
            Err(error) => {
                self.session = None;
                self.receiver.disconnected(now);
                Outcome::Broken(error.to_string())
            }
        }
    }
}

impl Connection {
    fn refused(self, refusal: Refusal) -> Refused {
        Refused { id: self.id, peer: self.peer, refusal }
    }

    fn consume(&mut self, taken: usize) {
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
    }

    /// Looks for a frame with a valid route or group, and drops frames without one: the receiver would ignore them.
    fn examine(&mut self, route: &mut Route) -> Result<(), Refusal> {
        while !self.proved {
            let bytes = self.buffer.get(..self.filled).unwrap_or_default();
            let Some((content, length)) = frame::first(bytes).map_err(|_| Refusal::Invalid)? else { break };
            for message in Messages::new(content) {
                let message = message.map_err(|_| Refusal::Invalid)?;
                self.proved |= match message.kind {
                    kind::NEW_ROUTE | kind::DEL_ROUTE => route.read(&message) == Ok(true),
                    kind::NEW_NEXTHOP | kind::DEL_NEXTHOP => NextHop::read(&message).is_ok(),
                    _ => false,
                };
            }
            if !self.proved {
                self.consume(length);
                self.prelude += length;
                if self.prelude > PRELUDE {
                    return Err(Refusal::Silent);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
