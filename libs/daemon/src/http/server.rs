//! The event loop: all connections on one thread, each with a bounded share of every turn.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, getrlimit};

use super::connection::{Answer, Connection, MAX_HEAD};
use super::inquiry::{Inquiry, STATUS_TIMEOUT};
use super::pages::{self, Page};
use super::{LISTENER, WAKER};
use crate::listener::{ACCEPT_TURN, Accepted, Acceptor, Admission, Bounds, Counters, ROOM};

/// Most connections; fewer if that were more than a quarter of the files that the process may open.
const CONNECTIONS: u64 = 1024;
/// Bytes of different bodies that wait for their readers, together. The newest is always allowed.
const MAX_BODIES: usize = 16 << 20;
/// A turn without anything to do.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    http: Connection,
    /// The page that it waits for, and the end of its patience.
    awaits: Option<(Page, Duration)>,
    readable: bool,
    writable: bool,
    /// The sending side is closed.
    shut: bool,
}

#[derive(Debug)]
pub(super) struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Connections may be waiting.
    waiting: bool,
    acceptor: Acceptor,
    admission: Admission<Token>,
    peers: HashMap<Token, Peer>,
    inquiry: Inquiry,
    /// Bodies that somebody has not read completely yet, oldest first.
    bodies: Vec<Weak<[u8]>>,
    next_token: usize,
    start: Instant,
}

impl Server {
    /// # Errors
    /// The system cannot poll the listener.
    pub fn new(poll: Poll, mut listener: TcpListener, inquiry: Inquiry) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let counters = Counters::named("http");
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = CONNECTIONS.min(files / 4).max(1) as usize;
        // Each may give way at any time, so one address may have them all.
        let bounds = Bounds { connections, per_address: connections, half_open: connections };
        Ok(Self {
            poll,
            listener,
            waiting: true,
            acceptor: Acceptor::new(counters.clone()),
            admission: Admission::new(bounds, counters),
            peers: HashMap::new(),
            inquiry,
            bodies: Vec::new(),
            next_token: LISTENER.0 + 1,
            start: Instant::now(),
        })
    }

    /// Serves until `stop` is set and the loop woken.
    pub fn run(&mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(256);
        let mut wait = Duration::ZERO;
        while !stop.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return tracing::error!("http: cannot poll, and ends: {error}"),
                Ok(()) => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.waiting = true,
                    token => {
                        if let Some(peer) = self.peers.get_mut(&token) {
                            peer.readable |= event.is_readable() || event.is_error();
                            peer.writable |= event.is_writable();
                        }
                    }
                }
            }
            let short = self.accept();
            self.deliver();
            self.serve();
            // Only now: what new ones have sent with their connection is read.
            if short {
                self.relieve();
            }
            wait = self.pause();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Accepts some of the waiting connections. True if the system has no file descriptor left for others: one that waits has to make room.
    fn accept(&mut self) -> bool {
        let now = self.now();
        for _ in 0..ACCEPT_TURN {
            if !self.waiting || self.acceptor.paused_until(now).is_some() {
                return false;
            }
            match self.acceptor.accept(now, || self.listener.accept()) {
                Accepted::Connection((mut stream, address)) => {
                    let token = Token(self.next_token);
                    self.next_token += 1;
                    match self.admission.enter(token, address.ip()) {
                        Ok(victim) => self.forget(victim),
                        // The peer sees a closed connection; the counter says why.
                        Err(_) => continue,
                    }
                    let _ = stream.set_nodelay(true);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if self.poll.registry().register(&mut stream, token, interest).is_err() {
                        self.admission.leave(token);
                        continue;
                    }
                    let http = Connection::new(now);
                    let peer =
                        Peer { stream, http, awaits: None, readable: true, writable: true, shut: false };
                    self.peers.insert(token, peer);
                    // It took the last of the reserve.
                    if self.acceptor.paused_until(now).is_some() {
                        return true;
                    }
                }
                Accepted::Empty => self.waiting = false,
                Accepted::Later(_) => return true,
            }
        }
        false
    }

    /// Closes half-open connections for want of file descriptors, if there are any.
    fn relieve(&mut self) {
        for _ in 0..ROOM {
            let Some(victim) = self.admission.evict() else { return };
            self.forget(Some(victim));
            self.acceptor.relieved();
        }
    }

    fn forget(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.admission.leave(token);
            self.peers.remove(&token);
        }
    }

    /// Gives pages that were made to those who wait for them.
    fn deliver(&mut self) {
        let (now, date) = (self.now(), SystemTime::now());
        while let Some(made) = self.inquiry.poll(now) {
            for answer in [&made.health, &made.metrics, &made.status].into_iter().flatten() {
                self.bodies.push(Arc::downgrade(&answer.body));
            }
            for peer in self.peers.values_mut() {
                let Some((page, _)) = peer.awaits else { continue };
                if let Some(answer) = made.at(page) {
                    peer.awaits = None;
                    peer.http.answer(now, answer, date);
                }
            }
        }
        let overdue = |peer: &Peer| peer.awaits.is_some_and(|(_, until)| now >= until);
        for peer in self.peers.values_mut().filter(|peer| overdue(peer)) {
            peer.awaits = None;
            peer.http.answer(now, &Answer::text(503, &self.inquiry.overdue(now)), date);
        }
        self.limit_bodies();
    }

    /// Closes the connections that read the oldest bodies, if these are too many bytes.
    fn limit_bodies(&mut self) {
        self.bodies.retain(|body| body.strong_count() > 0);
        let mut held: usize = self.bodies.iter().filter_map(Weak::upgrade).map(|body| body.len()).sum();
        while held > MAX_BODIES && self.bodies.len() > 1 {
            let Some(oldest) = self.bodies.remove(0).upgrade() else { continue };
            held -= oldest.len();
            let readers = self
                .peers
                .iter()
                .filter(|(_, peer)| peer.http.body().is_some_and(|body| Arc::ptr_eq(body, &oldest)));
            let readers: Vec<Token> = readers.map(|(token, _)| *token).collect();
            for token in readers {
                self.forget(Some(token));
            }
        }
    }

    fn serve(&mut self) {
        let (now, date) = (self.now(), SystemTime::now());
        let Self { peers, inquiry, admission, .. } = self;
        let mut buffer = [0; MAX_HEAD];
        peers.retain(|token, peer| {
            peer.http.handle_timeout(now, date);
            peer.read(now, &mut buffer);
            // Pipelined requests: their number is bounded by what was read.
            loop {
                if let Some(path) = peer.http.poll_request(now, date) {
                    // Who asks something is no silent stranger: others give way first.
                    admission.renew(*token);
                    let asked = pages::page(&path).and_then(|page| {
                        inquiry.ask(now, page).map_err(|reason| Answer::text(503, &reason))?;
                        Ok(page)
                    });
                    match asked {
                        Ok(page) => peer.awaits = Some((page, now + STATUS_TIMEOUT)),
                        Err(answer) => peer.http.answer(now, &answer, date),
                    }
                }
                if !peer.write(now) {
                    break;
                }
            }
            if peer.http.is_over() {
                admission.leave(*token);
            }
            !peer.http.is_over()
        });
    }

    /// Time until the next turn.
    fn pause(&self) -> Duration {
        let now = self.now();
        let paused = self.acceptor.paused_until(now).filter(|_| self.waiting);
        if self.waiting && paused.is_none() || self.peers.values().any(Peer::has_work) {
            return Duration::ZERO;
        }
        let of_peers = self.peers.values().filter_map(|peer| match peer.awaits {
            Some((_, until)) => Some(until),
            None => peer.http.due(),
        });
        let due = of_peers.chain(paused).chain(self.inquiry.due()).min().unwrap_or(now + LONGEST);
        // Rounded up, or the loop would spin in the last millisecond.
        (due.saturating_sub(now) + Duration::from_micros(500)).min(LONGEST)
    }
}

impl Peer {
    fn has_work(&self) -> bool {
        (self.readable && self.http.room() > 0)
            || (self.writable && self.http.output().iter().any(|rest| !rest.is_empty()))
    }

    /// Reads once.
    fn read(&mut self, now: Duration, buffer: &mut [u8]) {
        let room = self.http.room();
        if !self.readable || room == 0 {
            return;
        }
        match self.stream.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => {
                self.readable = false;
                self.http.handle_end();
            }
            Ok(n) => self.http.handle_input(now, buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.http.close(),
        }
    }

    /// Writes what the system takes. True if an answer was sent completely.
    fn write(&mut self, now: Duration) -> bool {
        loop {
            let [head, body] = self.http.output();
            if !self.writable || head.is_empty() && body.is_empty() {
                return false;
            }
            match self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(n) => {
                    let whole = n == head.len() + body.len();
                    self.http.sent(now, n);
                    if self.http.is_draining() && !self.shut {
                        self.shut = true;
                        let _ = self.stream.shutdown(Shutdown::Write);
                    }
                    if whole {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.http.close();
                    return false;
                }
            }
        }
    }
}
