//! The `fpm` source: zebra of FRR connects here and tells its table (module `dplane_fpm_nl`; FRR 8.4 and later).
//!
//! zebra dials us, so this side listens. [`frame`] cuts its stream into frames, [`Receiver`] reads their messages into a
//! [`Mirror`](super::mirror::Mirror); this file is the thread with the sockets. It reads whenever there is something to read, also while the RIB
//! is busy: a zebra whose buffer stays full for 15 s resets the session. A frame is taken whole before anything is told, because FRR 8.4 replaces a
//! route by a withdrawal and an announcement in one frame.
//!
//! What happens to bad input: a frame of another version, type or length, or a message that leaves its frame, ends the session, with
//! the source and the byte in the log; zebra connects again after 3 s and tells everything anew. A message whose attributes are wrong is
//! skipped, counted as `messages_malformed` and logged. A route that cannot be used (see [`Skip`](super::mirror::Skip)) is skipped and counted by reason;
//! what was there before under its prefix is withdrawn.

pub mod frame;
#[cfg(test)]
mod later_frr;
mod receiver;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use receiver::{FpmError, Receiver, Rules};

use super::feed::Feed;
use super::outlet::{BATCH, End, Outlet};

/// Room for what one read may bring: several of the longest frames.
const BUFFER: usize = 8 * frame::LONGEST;
/// Bytes that are read before the RIB is told.
const PORTION: usize = 2 << 20;
/// Longest wait, after which the thread looks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Wait while the RIB is busy.
const BUSY: Duration = Duration::from_millis(2);

/// What the source is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the protocol instance, for the log.
    pub origin: String,
    /// Where zebra connects.
    pub listen: SocketAddr,
    /// Who may connect beside this host itself.
    pub allow: Vec<IpAddr>,
    /// What becomes of its routes.
    pub rules: Rules,
}

pub(super) fn run(options: &Options, outlet: &Outlet) -> Result<(), End> {
    let failed =
        |what: &str, error: std::io::Error| End::Failed(format!("{what} {}: {error}", options.listen));
    let listener = TcpListener::bind(options.listen).map_err(|e| failed("cannot listen on", e))?;
    listener.set_nonblocking(true).map_err(|e| failed("cannot listen on", e))?;
    tracing::info!("source {:?}: waiting for zebra on {}", options.origin, options.listen);
    Server {
        options,
        listener,
        session: None,
        receiver: Receiver::new(&options.origin, options.rules.clone()),
        feed: Feed::new(outlet),
        last_error: None,
        refused: 0,
    }
    .serve()
}

struct Session {
    stream: TcpStream,
    peer: SocketAddr,
    buffer: Vec<u8>,
    filled: usize,
}

struct Server<'a> {
    options: &'a Options,
    listener: TcpListener,
    session: Option<Session>,
    receiver: Receiver,
    feed: Feed<'a>,
    last_error: Option<String>,
    refused: u64,
}

impl Server<'_> {
    fn serve(mut self) -> Result<(), End> {
        loop {
            self.accept();
            // More may wait in the socket, and then the table has not ended.
            let drained = self.read();
            let now = Instant::now();
            if drained && self.receiver.turn(now) {
                self.feed.end_of_table();
            }
            let receiver = &mut self.receiver;
            self.feed.pump(|| receiver.changes(now, BATCH))?;
            let (refused, receiver) = (self.refused, &self.receiver);
            self.feed.report(now, receiver.state(), &self.last_error, || {
                let mut counters = receiver.counters();
                counters.push(("connections_refused", refused));
                counters
            })?;
            self.wait()?;
        }
    }

    fn wait(&self) -> Result<(), End> {
        let nap = if self.feed.is_busy() { BUSY } else { NAP };
        let nap = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(session) = &self.session {
            fds.push(PollFd::new(&session.stream, PollFlags::IN));
        }
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(End::Failed(format!("poll: {error}"))),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, peer)) = self.listener.accept() {
            let from = peer.ip().to_canonical();
            if !from.is_loopback() && !self.options.allow.contains(&from) {
                self.refused += 1;
                self.problem(format!("{peer}: may not connect; see `allow`"));
                continue;
            }
            if let Err(error) = stream.set_nonblocking(true) {
                self.problem(format!("{peer}: {error}"));
                continue;
            }
            // A zebra whose host died never says so.
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            let _ = rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(10));
            let _ = rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5));
            if let Some(old) = self.session.take() {
                // zebra was started again before its end was seen here.
                self.problem(format!("{}: replaced by the connection of {peer}", old.peer));
                self.receiver.disconnected(Instant::now());
            }
            tracing::info!("source {:?}: zebra connected from {peer}", self.options.origin);
            self.receiver.connected(Instant::now());
            self.session = Some(Session { stream, peer, buffer: vec![0; BUFFER], filled: 0 });
        }
    }

    /// Reads what there is, up to a portion. True: nothing more is there.
    fn read(&mut self) -> bool {
        let mut read = 0;
        while read < PORTION {
            let Some(session) = &mut self.session else { return true };
            let room = session.buffer.get_mut(session.filled..).unwrap_or_default();
            match session.stream.read(room) {
                Ok(0) => {
                    let cut = session.filled;
                    let reason = match cut {
                        0 => "connection closed".to_owned(),
                        _ => format!("connection closed within a frame, of which {cut} bytes came"),
                    };
                    self.close(&reason);
                    return true;
                }
                Ok(n) => {
                    read += n;
                    session.filled += n;
                    let bytes = session.buffer.get(..session.filled).unwrap_or_default();
                    match self.receiver.take(bytes) {
                        Ok(taken) => {
                            session.buffer.copy_within(taken..session.filled, 0);
                            session.filled -= taken;
                        }
                        Err(error) => {
                            self.close(&error.to_string());
                            return true;
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(&error.to_string());
                    return true;
                }
            }
        }
        false
    }

    fn close(&mut self, reason: &str) {
        if let Some(session) = self.session.take() {
            self.receiver.disconnected(Instant::now());
            self.problem(format!("{}: {reason}", session.peer));
        }
    }

    fn problem(&mut self, reason: String) {
        tracing::warn!("source {:?}: {reason}", self.options.origin);
        self.last_error = Some(reason);
    }
}
