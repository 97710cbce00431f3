//! The `fpm` source: FRR's zebra connects and sends its table (module `dplane_fpm_nl`; FRR 8.4 and later).
//!
//! zebra connects to us. [`frame`] splits its stream into frames, [`Receiver`] applies their messages to a
//! [`Mirror`](super::mirror::Mirror); this file is the thread with the sockets. It reads whenever data is available, even while the RIB is
//! busy: a zebra whose buffer stays full for 15 s resets the session. A frame is applied as a whole before changes are passed on, because
//! FRR 8.4 replaces a route by a withdrawal and an announcement in one frame.
//!
//! FPM has no authentication, so a connection has to pass three doors before it changes anything: its owner must be allowed ([`admission`]),
//! it must send a valid route, and no other session may be alive ([`takeover`]).
//!
//! With `[acknowledge]` zebra is told which of its routes all required hosts forward by (`echo`, `answers`), for `bgp suppress-fib-pending`.
//!
//! Bad input: a frame with another version, type or length, or a message that exceeds its frame, ends the session, with source and byte
//! offset in the log; zebra reconnects after 3 s and sends everything again. A message with invalid attributes is skipped, counted as
//! `messages_malformed` and logged. A route that cannot be used (see [`Skip`](super::mirror::Skip)) is skipped and counted by reason; an
//! earlier route to its prefix is withdrawn.

pub mod admission;
mod answers;
mod echo;
pub mod frame;
mod interfaces;
#[cfg(test)]
mod later_frr;
mod receiver;
mod sentinel;
#[cfg(test)]
mod sockets;
pub mod takeover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fibcast_daemon::listener::{self, ACCEPT_TURN, Accepted, Acceptor, Bounds, Counters};
use fibcast_daemon::log::LimitedLog;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

pub use admission::Admission;
use answers::Answers;
use interfaces::Interfaces;
pub use receiver::{FpmError, Receiver, Rules, Turn};
pub use sentinel::Sentinel;
use takeover::{Id, Outcome, Refusal, Refused, Takeover};

use super::acknowledgement::Acknowledgements;
use super::feed::Feed;
use super::mirror::How;
use super::outlet::{BATCH, End, Order, Outlet, Report};

/// The session's and the newcomer's.
const PLACES: Bounds = Bounds { connections: 2, per_address: 2, half_open: 1 };
/// Bytes read before changes are passed to the RIB.
const PORTION: usize = 2 << 20;
/// Longest wait before the thread checks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Wait while the RIB is busy.
const BUSY: Duration = Duration::from_millis(2);

/// Options of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FpmOptions {
    /// Name of the protocol instance, for the log.
    pub origin: String,
    /// Listen address for zebra.
    pub listen: SocketAddr,
    /// Who may connect.
    pub admission: Admission,
    /// Rules for its routes.
    pub rules: Rules,
}

/// Opens the listening socket.
///
/// # Errors
/// The system's error, with the address.
pub(super) fn listen(options: &FpmOptions) -> std::io::Result<TcpListener> {
    let named = |e: std::io::Error| {
        std::io::Error::new(e.kind(), format!("cannot listen on {}: {e}", options.listen))
    };
    let listener = TcpListener::bind(options.listen).map_err(named)?;
    listener.set_nonblocking(true).map_err(named)?;
    Ok(listener)
}

/// Follows zebra. `restarted`: the RIB has routes of an earlier run that panicked.
pub(super) fn run(
    options: &FpmOptions,
    listener: TcpListener,
    restarted: bool,
    outlet: &Outlet,
) -> Result<(), End> {
    tracing::info!("source {:?}: waiting for zebra on {}", options.origin, options.listen);
    if options.rules.how == How::Quiet {
        tracing::warn!(
            "source {:?}: end_of_table = \"quiet\" ignores sentinels, so what a restarted zebra does not announce again stays for ever; \
             \"sentinel\" with fibcast-sentinel withdraws it",
            options.origin
        );
    }
    let mut receiver = Receiver::new(&options.origin, options.rules.clone());
    if outlet.acknowledgements().is_some() {
        receiver = receiver.with_echo();
    }
    if restarted {
        receiver.restarted();
    }
    // A zebra elsewhere has interfaces of its own.
    let interfaces = options.listen.ip().to_canonical().is_loopback().then(Interfaces::open).transpose();
    let interfaces = interfaces.unwrap_or_else(|error| {
        tracing::warn!(
            "source {:?}: interfaces cannot be followed, so dead next hops stay until zebra says so: {error}",
            options.origin
        );
        None
    });
    let counters = Counters::named("fpm");
    FpmServer {
        options,
        listener,
        interfaces,
        places: listener::Admission::new(PLACES, counters.clone()),
        acceptor: Acceptor::new(counters),
        start: Instant::now(),
        streams: BTreeMap::new(),
        next_id: 0,
        takeover: Takeover::new(receiver),
        outlet,
        acknowledgements: outlet.acknowledgements(),
        out: Answers::default(),
        feed: Feed::new(outlet),
        last_error: None,
        log: LimitedLog::default(),
        refused: [0; REASONS.len()],
    }
    .serve()
}

/// Reasons of refused connections, as counters.
const REASONS: [&str; 4] =
    ["refused_unauthorized", "refused_invalid", "refused_waiting_limit", "refused_session_alive"];
const UNAUTHORIZED: usize = 0;

struct FpmServer<'a> {
    options: &'a FpmOptions,
    listener: TcpListener,
    interfaces: Option<Interfaces>,
    acceptor: Acceptor,
    /// Those of `streams`, for status and metrics: `takeover` decides who has one.
    places: listener::Admission<Id>,
    start: Instant,
    /// The session's and the newcomer's.
    streams: BTreeMap<Id, TcpStream>,
    next_id: Id,
    takeover: Takeover,
    outlet: &'a Outlet,
    feed: Feed<'a>,
    acknowledgements: Option<&'a Acknowledgements>,
    out: Answers,
    last_error: Option<String>,
    log: LimitedLog,
    refused: [u64; REASONS.len()],
}

impl FpmServer<'_> {
    fn serve(mut self) -> Result<(), End> {
        loop {
            // More may wait in the socket; the table has not ended then. The session goes first: its end makes way for a newcomer.
            let drained = self.read_session();
            if let Some(interfaces) = &mut self.interfaces
                && let Err(error) = interfaces.follow(self.takeover.receiver.mirror_mut())
            {
                self.problem(format!("reading interfaces, again in the next turn: {error}"));
            }
            self.accept();
            self.read_newcomer();
            if let Some(complaint) = self.takeover.receiver.poll_complaint() {
                let source = format!("source {:?}", self.options.origin);
                self.log.warn(self.start.elapsed(), &source, &complaint);
            }
            self.obey();
            let now = Instant::now();
            if let Some(refused) = self.takeover.turn(now) {
                self.refuse(refused);
            }
            match drained.then(|| self.takeover.receiver.turn(now)) {
                Some(Turn::Complete) => self.feed.end_of_table(),
                Some(Turn::Ready) => self.feed.quiet(),
                Some(Turn::Nothing) | None => {}
            }
            let receiver = &mut self.takeover.receiver;
            self.feed.pump(|| receiver.changes(now, BATCH))?;
            self.answer();
            self.report(now)?;
            self.wait()?;
        }
    }

    /// Does what a reload orders.
    fn obey(&mut self) {
        while let Some(order) = self.outlet.poll_order() {
            let receiver = &mut self.takeover.receiver;
            match order {
                Order::Refresh => {
                    receiver.mirror_mut().announce_again();
                    self.feed.refreshed(receiver.state() == "live");
                }
                Order::Policy(policy) => {
                    receiver.follow(policy);
                    // Nothing else makes zebra send its table again.
                    if let Some(id) = self.takeover.session() {
                        self.close(id, "closed by a reload: zebra connects and sends its table again");
                    }
                }
            }
        }
    }

    /// Passes on what the owner of the RIB says about routes. Never waits for zebra.
    fn answer(&mut self) {
        let Some(acknowledgements) = self.acknowledgements else { return };
        acknowledgements.clear();
        while let Some(acknowledgement) = acknowledgements.poll() {
            self.takeover.receiver.acknowledge(&acknowledgement);
        }
        let session = self.takeover.session();
        // While the RIB is busy it has not heard of all changes, which void acknowledgements.
        let stream = session.filter(|_| !self.feed.is_busy()).and_then(|id| self.streams.get_mut(&id));
        self.out.write(session, stream, &mut self.takeover.receiver);
    }

    fn report(&mut self, now: Instant) -> Result<(), End> {
        let (refused, receiver, last_error) = (self.refused, &self.takeover.receiver, &self.last_error);
        let report = || {
            let mut counters = receiver.counters();
            counters.push(("connections_refused", refused.iter().sum()));
            counters.extend(REASONS.iter().copied().zip(refused));
            Report {
                state: receiver.state(),
                live: receiver.state() == "live",
                end_of_table: receiver.end_of_table(),
                last_error: last_error.clone(),
                counters,
            }
        };
        Ok(self.feed.report(now, report, receiver.state())?)
    }

    fn wait(&mut self) -> Result<(), End> {
        let nap = if self.feed.is_busy() { BUSY } else { NAP };
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
        let paused = self.acceptor.paused_until(self.start.elapsed()).is_some();
        let full = self.takeover.newcomer().is_some_and(|id| self.takeover.room(id).is_empty());
        let mut fds: Vec<PollFd<'_>> =
            self.interfaces.iter().map(|interfaces| PollFd::new(interfaces, PollFlags::IN)).collect();
        if !paused {
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        for (id, stream) in &self.streams {
            if !(full && self.takeover.newcomer() == Some(*id)) {
                let out = self.out.waits_for(*id);
                let flags = if out { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                fds.push(PollFd::new(stream, flags));
            }
        }
        fds.extend(self.acknowledgements.map(|from| PollFd::new(from, PollFlags::IN)));
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(End::Failed(format!("poll: {error}"))),
        }
    }

    fn accept(&mut self) {
        // A flood of connections must not keep the session from being read.
        for _ in 0..ACCEPT_TURN {
            let listener = &self.listener;
            match self.acceptor.accept(self.start.elapsed(), || listener.accept()) {
                Accepted::Connection((stream, peer)) => {
                    if let Err((reason, error)) = self.admit(stream, peer) {
                        self.count_refused(reason, peer, &error);
                    }
                }
                Accepted::Empty | Accepted::Later(_) => return,
            }
        }
    }

    /// Makes a connection the newcomer if it may be. An error has the reason's index and text.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Result<(), (usize, String)> {
        let unauthorized = |error: String| (UNAUTHORIZED, error);
        let local = stream.local_addr().map_err(|e| unauthorized(e.to_string()))?;
        let who = self.options.admission.check(peer, local).map_err(|e| unauthorized(e.to_string()))?;
        prepare(&stream).map_err(|e| unauthorized(e.to_string()))?;
        let id = self.next_id;
        let before = self.takeover.enter(Instant::now(), id, peer).map_err(|refusal| {
            self.places.turn_away();
            (reason(refusal), format!("{refusal} ({who})"))
        })?;
        if let Some(before) = before {
            self.places.give_way(before.id);
            self.refuse(before);
        }
        // There is room: the place before is free, and a session has another one.
        let _ = self.places.enter(id, peer.ip());
        self.next_id += 1;
        self.streams.insert(id, stream);
        tracing::debug!("source {:?}: {peer} ({who}) connected", self.options.origin);
        Ok(())
    }

    /// Reads available data of the session, up to a portion. True: nothing more is available.
    fn read_session(&mut self) -> bool {
        let mut read = 0;
        while read < PORTION {
            let Some(id) = self.takeover.session() else { return true };
            match self.read(id) {
                Some(n) => read += n,
                None => return true,
            }
        }
        false
    }

    /// Reads what the newcomer may send.
    fn read_newcomer(&mut self) {
        while let Some(id) = self.takeover.newcomer() {
            // It may be the session after this; the rest is read in the next turn.
            if self.read(id).is_none() {
                break;
            }
        }
        // The session may have ended since the newcomer was read.
        if let Some(id) = self.takeover.newcomer() {
            let outcome = self.takeover.promote(Instant::now());
            self.handle(id, outcome);
        }
    }

    /// Reads once; returns the number of bytes, or none if nothing is available or the connection is closed.
    fn read(&mut self, id: Id) -> Option<usize> {
        let stream = self.streams.get_mut(&id)?;
        let room = self.takeover.room(id);
        if room.is_empty() {
            // Whether a newcomer is gone must be known nevertheless.
            let gone =
                matches!(stream.peek(&mut [0; 1]), Ok(0)) || stream.take_error().ok().flatten().is_some();
            if gone {
                self.close(id, "connection closed");
            }
            return None;
        }
        match stream.read(room) {
            Ok(0) => {
                self.close(id, "connection closed");
                None
            }
            Ok(n) => {
                let outcome = self.takeover.filled(Instant::now(), id, n);
                self.handle(id, outcome);
                Some(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(0),
            Err(error) => {
                self.close(id, &error.to_string());
                None
            }
        }
    }

    fn handle(&mut self, id: Id, outcome: Outcome) {
        match outcome {
            Outcome::Open => {}
            Outcome::Session => {
                self.places.establish(id);
                let peer = self.streams.get(&id).and_then(|stream| stream.peer_addr().ok());
                let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
                tracing::info!("source {:?}: zebra connected from {peer}", self.options.origin);
            }
            Outcome::Broken(reason) => {
                let stream = self.forget(id);
                let peer = stream.and_then(|stream| stream.peer_addr().ok());
                self.problem(format!("{}: {reason}", peer.map(|p| p.to_string()).unwrap_or_default()));
            }
            Outcome::Refused(refused) => self.refuse(refused),
        }
    }

    fn forget(&mut self, id: Id) -> Option<TcpStream> {
        self.places.leave(id);
        self.streams.remove(&id)
    }

    fn close(&mut self, id: Id, reason: &str) {
        self.forget(id);
        match self.takeover.closed(Instant::now(), id) {
            Some((peer, 0)) => self.problem(format!("{peer}: {reason}")),
            Some((peer, cut)) => self.problem(format!("{peer}: {reason} within a frame after {cut} bytes")),
            None => {}
        }
    }

    fn refuse(&mut self, refused: Refused) {
        self.forget(refused.id);
        self.count_refused(reason(refused.refusal), refused.peer, &refused.refusal.to_string());
    }

    /// A flood of connections must fill no log.
    fn count_refused(&mut self, reason: usize, peer: SocketAddr, error: &str) {
        if let Some(count) = self.refused.get_mut(reason) {
            *count += 1;
        }
        let source = format!("source {:?}: {peer}", self.options.origin);
        self.log.warn(self.start.elapsed(), &source, &format!("connection refused: {error}"));
        self.last_error = Some(format!("{peer}: connection refused: {error}"));
    }

    fn problem(&mut self, reason: String) {
        self.log.warn(self.start.elapsed(), &format!("source {:?}", self.options.origin), &reason);
        self.last_error = Some(reason);
    }
}

fn reason(refusal: Refusal) -> usize {
    match refusal {
        Refusal::Invalid => 1,
        Refusal::Busy(_) | Refusal::Silent => 2,
        Refusal::Alive(_) => 3,
    }
}

/// A zebra whose host died never closes its connection: it is found dead after 5 + 3 × 2 s, less than [`takeover::SILENCE`].
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(2))?;
    Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
}
